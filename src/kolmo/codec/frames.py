"""A sequence of raw blocks <-> a frame's bytes: `FrameEncoder` and its mirror `decode_frames`.

Blocks are coded on several threads; the bytes do not depend on how many. What it is not: it opens no files.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from kolmo.arguments import whole_number
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.codec.limits import MEMORY_LIMIT, Place, SizeLimit, check_memory, checked_limits
from kolmo.container.frames import FrameWriter, read_frames
from kolmo.container.index import Index, read_head
from kolmo.container.structures import (
    CODED,
    DEFAULT_BLOCK_LIMIT,
    MAX_BLOCK,
    BlockHead,
    Header,
    PredictorRecord,
)
from kolmo.container.wire import Reader, digest, new_digest
from kolmo.errors import CorruptError, MissingExtraError, PredictorError
from kolmo.parallel import POLL_SECONDS, Pipeline, available_cores, ordered_map, physical_memory
from kolmo.predictors import registry
from kolmo.predictors.base import Predictor
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.progress import Progress


def make_header(
    predictor: Predictor,
    block_size: int,
    *,
    name: str | None = None,
    mtime: int | None = None,
    mode: int | None = None,
) -> Header:
    """The header of a frame of blocks of at most `block_size` bytes.

    Raises:
        ValueError: the block size is out of its limits.
    """
    if not 1 <= whole_number(block_size, "block size", 1) <= MAX_BLOCK:
        raise ValueError(f"block size {block_size}: 1 to {MAX_BLOCK} bytes are allowed")
    record = PredictorRecord(predictor.name, predictor.version, predictor.fingerprint(), predictor.parameters())
    return Header(record, name, max(block_size, DEFAULT_BLOCK_LIMIT), mtime, mode)


def even_blocks(size: int | None, block_size: int) -> int:
    """Block size at which a content of known size falls into equal blocks, so that threads end together.

    Where the size is not known, and where it fits into one block, `block_size` itself.
    """
    if size is None or not 0 < whole_number(block_size, "block size", 1) < size:
        return block_size
    return -(-size // -(-size // block_size))


class FrameEncoder:
    """Makes a frame: `add` raw blocks (within the header's limit), then `finish`; both return bytes.

    `flush`, at any time before, brings all that was added. `close` stops the threads of an encoder that is given up.
    A call that raises loses nothing and leaves nothing out: it did not take its block, the next call tries again with
    those before, and brings what was ready.
    """

    def __init__(
        self, predictor: Predictor, header: Header, *, threads: int = 1, progress: Progress | None = None
    ) -> None:
        self._predictor = predictor
        self._threads = whole_number(threads, "threads", 0) or available_cores()
        self._first: bytes | None = None  # held back until it is known whether it is the only one
        self._alone = False
        self._ready: list[bytes] = []  # made, and not yet returned
        self._writer = FrameWriter(header)
        self._pipeline = Pipeline(self._encode, threads=threads, capacity=physical_memory() // 2, progress=progress)

    def add(self, raw: bytes) -> bytes:
        """Take on the next block; returns what is ready."""
        if self._first is None:
            self._first = raw
            return b""
        self._put_first()
        self._put(raw)
        return self._take()

    def flush(self) -> bytes:
        """Wait for all blocks so far; returns the bytes that decode to them, without the frame's end."""
        self._put_first()
        self._write(self._pipeline.drain())
        self._ready.append(self._writer.flush())
        return self._take()

    def finish(self) -> bytes:
        """Wait for all blocks and end the frame."""
        self._alone = bool(self._first)
        self._put_first()
        self._write(self._pipeline.drain())
        self._ready.append(self._writer.finish())
        self.close()
        return self._take()

    def close(self) -> None:
        """Stop without ending the frame."""
        self._pipeline.close()

    def _put_first(self) -> None:
        if self._first:
            self._put(self._first)
        if self._first is not None:
            self._first = b""

    def _put(self, raw: bytes) -> None:
        weight = self._predictor.memory(len(raw)) + 2 * len(raw)
        self._write(self._pipeline.put(raw, weight))

    def _write(self, blocks: Iterator[tuple[BlockHead, bytes, bytes]]) -> None:
        for block in blocks:
            self._ready.append(self._writer.add(*block))

    def _take(self) -> bytes:
        ready = b"".join(self._ready)
        self._ready.clear()
        return ready

    def _encode(self, raw: bytes, progress: Progress) -> tuple[BlockHead, bytes, bytes]:
        threads = self._threads if self._alone or self._predictor.exclusive else 1
        with _turn(self._predictor, progress):
            kind, payload = encode_block(self._predictor, raw, progress, threads)
        return BlockHead(kind, len(raw), len(payload), digest(raw)), payload, raw


def decode_frames(
    reader: Reader,
    *,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    size_limit: int | None = None,
    progress: Progress | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Generator[bytes, None, None]:
    """The content of an input, block by block, read forward; every block matched its digest.

    Raises:
        FormatError, CorruptError, TruncatedError: after the whole blocks before the damage.
        PredictorError: a frame's predictor is missing or another.
        MemoryLimitError: a block needs more than `memory_limit` bytes.
        SizeLimitError: the content is larger than `size_limit` bytes (see `SizeLimit`); at once, before any block is
            decoded, where the reader can seek.
    """
    threads, memory_limit, size = checked_limits(threads, memory_limit, size_limit)
    return _decode(_forward_steps(reader, memory_limit, size, settings), threads, memory_limit, progress)


def decode_from(
    reader: Reader,
    index: Index,
    first: int,
    *,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    size_limit: int | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Generator[bytes, None, None]:
    """The content from block `first` of the index on, block by block. Raises what `decode_frames` raises."""
    threads, memory_limit, size = checked_limits(threads, memory_limit, size_limit)
    steps = _indexed_steps(reader, index, first, memory_limit, size, settings)
    return _decode(steps, threads, memory_limit, None)


def restore_predictor(record: PredictorRecord, name: str, settings: RunSettings = DEFAULT_SETTINGS) -> Predictor:
    """The predictor that a header names, to run as `settings` say.

    Raises:
        PredictorError: it is missing, or another; the message names the file.
        MissingExtraError: it needs an extra that is not installed; likewise.
    """
    try:
        return registry.restore(record.name, record.version, record.fingerprint, record.parameters, settings)
    except (PredictorError, MissingExtraError) as error:
        raise type(error)(f"{name}: {error}") from None


def decode_checked(
    predictor: Predictor, head: BlockHead, payload: bytes, place: Place, progress: Progress, threads: int = 1
) -> bytes:
    """Decode one block, on up to `threads` threads, and compare it with its digest.

    Raises:
        CorruptError: it is damaged.
    """
    caveat = predictor.caveat if head.kind == CODED else ""
    try:
        with _turn(predictor, progress):
            raw = decode_block(predictor, head.kind, payload, head.raw_size, progress, threads)
    except CorruptError as error:
        raise place.corrupt(f"{error}{caveat and f' ({caveat})'}") from None
    if not isinstance(raw, bytes):
        raise PredictorError(f"{place.name}: the predictor {predictor.name} decoded a {type(raw).__name__}, not bytes")
    if digest(raw) != head.digest:
        raise place.corrupt(f"its content does not match its checksum{caveat and f' ({caveat})'}")
    return raw


_turns = threading.Lock()


@contextmanager
def _turn(predictor: Predictor, progress: Progress) -> Iterator[None]:
    """An exclusive predictor's blocks go one after another, though several threads bring them."""
    if not predictor.exclusive:
        yield
        return
    while not _turns.acquire(timeout=POLL_SECONDS):
        progress(0)  # stops the wait where all work stops
    try:
        yield
    finally:
        _turns.release()


@dataclass(frozen=True)
class _Job:
    """A block to decode."""

    predictor: Predictor
    head: BlockHead
    payload: bytes
    place: Place
    threads: int = 1


@dataclass(frozen=True)
class _Begin:
    """The first block of a frame follows."""


@dataclass(frozen=True)
class _End:
    """The frame's blocks are through; `digest` is their content's."""

    digest: bytes
    place: Place


_Step = _Job | _Begin | _End


def _forward_steps(
    reader: Reader, memory_limit: int, size: SizeLimit, settings: RunSettings
) -> Iterator[tuple[_Step, int]]:
    """Read frame by frame; nothing is read of a block that the checks of its head refuse."""
    record = predictor = None
    raw_size = 0
    if size.is_given and reader.seekable:  # before any block is decoded
        for spot in Index.walk(reader).spots:
            size.check(spot.start + spot.raw_size, 0, Place(reader.name, f"block {spot.number}", spot.offset))
        reader.seek(reader.start)
    for frame in read_frames(reader):
        if predictor is None or record != frame.header.predictor:
            record = frame.header.predictor
            predictor = restore_predictor(record, reader.name, settings)
        yield _Begin(), 0
        at = reader.offset
        while head := frame.next_head():
            place = Place(reader.name, f"block {len(frame.blocks)}", at)
            raw_size += head.raw_size
            size.check(raw_size, reader.offset + head.payload_size - reader.start, place)
            need = check_memory(predictor, head, place, memory_limit)
            yield _Job(predictor, head, frame.payload(head), place), need
            at = reader.offset
        yield _End(frame.digest, Place(reader.name, "the index", at)), 0


def _indexed_steps(
    reader: Reader, index: Index, first: int, memory_limit: int, size: SizeLimit, settings: RunSettings
) -> Iterator[tuple[_Step, int]]:
    """The same from block `first` of an index on; what ended the index comes last."""
    record = predictor = None
    for spot in index.spots[first:]:
        span = spot.span
        if predictor is None or record != span.header.predictor:
            record = span.header.predictor
            predictor = restore_predictor(record, reader.name, settings)
        if spot.number == 1:
            yield _Begin(), 0
        head = read_head(reader, spot)
        place = Place(reader.name, f"block {spot.number}", spot.offset)
        size.check(spot.start + spot.raw_size, spot.offset + spot.size - reader.start, place)
        need = check_memory(predictor, head, place, memory_limit)
        yield _Job(predictor, head, reader.take(head.payload_size, place.what), place), need
        if spot.number == len(span.blocks) and span.digest is not None:
            yield _End(span.digest, Place(reader.name, "the index", spot.offset + spot.size)), 0
    if index.error:
        raise index.error


def _decode(
    steps: Iterator[tuple[_Step, int]], threads: int, memory_limit: int, progress: Progress | None
) -> Generator[bytes, None, None]:
    content = None  # of a frame read from its start
    pipeline = Pipeline(_work, threads=threads, capacity=memory_limit, progress=progress)
    for result in ordered_map(pipeline, _share_threads(steps, threads or available_cores())):
        if isinstance(result, bytes):
            if content:
                content.update(result)
            yield result
        elif isinstance(result, _Begin):
            content = new_digest()
        elif content and content.digest() != result.digest:
            raise result.place.corrupt("the whole content does not match its checksum")


def _share_threads(steps: Iterator[tuple[_Step, int]], threads: int) -> Iterator[tuple[_Step, int]]:
    """The same steps; a frame's only block, and an exclusive predictor's, get all threads. Looks one step ahead."""
    before: _Step | None = None
    held: tuple[_Step, int] | None = None
    failure: Exception | None = None
    more = True
    while more:
        ahead: tuple[_Step, int] | None = None
        try:
            ahead = next(steps)
        except StopIteration:
            more = False
        except Exception as error:  # comes after the steps before it
            failure, more = error, False
        if held:
            step, weight = held
            if isinstance(step, _Job):
                alone = not isinstance(before, _Job) and not (ahead and isinstance(ahead[0], _Job))
                if alone or step.predictor.exclusive:
                    step = replace(step, threads=threads)
            yield step, weight
            before = step
        held = ahead
    if failure:
        raise failure


def _work(step: _Step, progress: Progress) -> bytes | _Begin | _End:
    if isinstance(step, _Job):
        return decode_checked(step.predictor, step.head, step.payload, step.place, progress, step.threads)
    return step
