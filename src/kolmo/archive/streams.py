"""Binary streams <-> frames, in constant memory: `compress_stream` and its mirror `decompress_stream`.

What it is not: it creates, renames and removes no files (see `files`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from kolmo.codec.frames import FrameEncoder, decode_frames, even_blocks, make_header
from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT
from kolmo.container.wire import MAX_READ_BYTES, Reader, read_some
from kolmo.predictors.base import Predictor
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.progress import Progress


@dataclass(frozen=True)
class Summary:
    """Sizes of a finished job, in bytes."""

    raw_size: int
    packed_size: int


def compress_stream(
    source: IO[bytes],
    sink: IO[bytes],
    predictor: Predictor,
    *,
    size: int | None = None,
    block_size: int = DEFAULT_BLOCK_LIMIT,
    threads: int = 1,
    name: str | None = None,
    mtime: int | None = None,
    mode: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Compress a stream to its end into one frame.

    Args:
        source: read to its end; need not seek.
        sink: written in order; need not seek.
        predictor: codes the blocks.
        size: bytes that the stream will give, where that is known: blocks are then of equal size.
        block_size: most bytes of content in a block (1 .. 2^30).
        threads: blocks coded at once; 0 is one for each core. The bytes do not depend on it.
        name: file name to record, without folders; `mtime` (ns) and `mode` likewise.
        mtime: see name.
        mode: see name.
        progress: called with the raw bytes done since its last call.
    """
    block_size = even_blocks(size, block_size)
    header = make_header(predictor, block_size, name=name, mtime=mtime, mode=mode)
    encoder = FrameEncoder(predictor, header, threads=threads, progress=progress)
    raw_size = packed_size = 0
    try:
        for block in _blocks(source, block_size):
            raw_size += len(block)
            packed_size += _write(sink, encoder.add(block))
        packed_size += _write(sink, encoder.finish())
    finally:
        encoder.close()
    return Summary(raw_size, packed_size)


def decompress_stream(
    source: IO[bytes],
    sink: IO[bytes] | None,
    *,
    name: str = "input",
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    size_limit: int | None = None,
    progress: Progress | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Summary:
    """Decompress a stream of frames to its end; every block is checked before it is written.

    Raises:
        FormatError, CorruptError, TruncatedError: after the whole blocks before the damage were written.
        PredictorError: a frame's predictor is missing or another.
        MemoryLimitError: a block needs more than `memory_limit` bytes.
        SizeLimitError: the content is larger than `size_limit` bytes.
    """
    reader = Reader(source, name)
    raw_size = 0
    blocks = decode_frames(
        reader, threads=threads, memory_limit=memory_limit, size_limit=size_limit, progress=progress, settings=settings
    )
    try:
        for block in blocks:
            raw_size += len(block)
            if sink is not None:
                _write(sink, block)
    finally:
        blocks.close()
    return Summary(raw_size, reader.offset - reader.start)


def check_stream(
    source: IO[bytes],
    *,
    name: str = "input",
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    size_limit: int | None = None,
    progress: Progress | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Summary:
    """Decompress a stream and throw the content away. Raises what `decompress_stream` raises."""
    return decompress_stream(
        source,
        None,
        name=name,
        threads=threads,
        memory_limit=memory_limit,
        size_limit=size_limit,
        progress=progress,
        settings=settings,
    )


def _blocks(source: IO[bytes], size: int) -> Iterator[bytes]:
    """The stream in blocks of exactly `size` bytes, the last one shorter; pipes may give less at a time."""
    while True:
        pieces = []
        missing = size
        while missing and (piece := read_some(source, min(missing, MAX_READ_BYTES))):
            pieces.append(piece)
            missing -= len(piece)
        if pieces:
            yield b"".join(pieces)
        if missing:
            return


def _write(sink: IO[bytes], data: bytes) -> int:
    """Write all of `data`, to raw files too, which may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[sink.write(view) or 0 :]
    return len(data)
