"""Whole contents in memory: `compress` and its mirror `decompress`.

What it is not: for contents larger than memory (see `file` and `incremental`).
"""

from __future__ import annotations

import io

from kolmo.codec.frames import decode_frames, even_blocks
from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT
from kolmo.container.wire import Reader
from kolmo.predictors.base import Predictor
from kolmo.predictors.registry import DEFAULT_LEVEL
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.streams.data import Data, bytes_of
from kolmo.streams.incremental import Compressor

SMALL = 1 << 14  # bytes of input below which starting threads is not worth it


def compress(
    data: Data,
    level: int = DEFAULT_LEVEL,
    *,
    predictor: str | Predictor | None = None,
    block_size: int | None = None,
    threads: int | None = None,
) -> bytes:
    """Compress a content into one frame.

    Args:
        data: the content.
        level: 1 (fast) to 9 (small).
        predictor: a predictor or its spec (`cm:9`), in place of the level.
        block_size: most bytes of content in a block (1 .. 2^30), 8 MiB by default; blocks are of equal size and
            coded in parallel.
        threads: that work at once, on several blocks or on an only one; by default one for each core. The bytes do
            not depend on it.

    Raises:
        LevelError, PredictorError: no such level or predictor.
        TypeError, ValueError: `data` is not bytes-like and contiguous, or another argument is of a wrong type or out
            of its limits.

    Examples:
        >>> packed = kolmo.compress(b"the same procedure as every year " * 100, level=1)
        >>> len(packed) < 100
        True
    """
    view = bytes_of(data)
    size = len(view)
    most = DEFAULT_BLOCK_LIMIT if block_size is None else block_size
    if threads is None:
        threads = 1 if size < SMALL else 0
    even = even_blocks(size, most)
    compressor = Compressor(level, predictor=predictor, block_size=even, threads=threads)
    return compressor.compress(view) + compressor.flush()


def decompress(
    data: Data,
    *,
    threads: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
    max_length: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> bytes:
    """The content of one or more frames: the mirror of `compress`.

    Args:
        data: the frames.
        threads: that work at once, on several blocks or on an only one; by default one for each core.
        memory_limit: bytes that the blocks in work may take, models included.
        max_length: the most bytes of content that the data may claim; by default what data of its size may hold
            (docs/format.md, promise 3). Set it for data from strangers.
        settings: how a predictor runs here: the device of a language model, or where its files are.

    Raises:
        FormatError: no `.kmo` data, or from a newer version.
        CorruptError: damaged; TruncatedError: it ends too early.
        PredictorError: the predictor that wrote it is missing, or another.
        MemoryLimitError: a block needs more than `memory_limit` bytes.
        SizeLimitError: the content would be larger than `max_length` bytes; nothing was decoded.

    Examples:
        >>> kolmo.decompress(kolmo.compress(b"from a stranger", level=1), max_length=1 << 20)
        b'from a stranger'
    """
    view = bytes_of(data)
    if threads is None:
        threads = 1 if len(view) < SMALL else 0
    reader = Reader(io.BytesIO(view), "input")
    frames = decode_frames(reader, threads=threads, memory_limit=memory_limit, size_limit=max_length, settings=settings)
    return b"".join(frames)
