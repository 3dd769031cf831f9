"""Files <-> `.kmo` files: written under a temporary name in the target's folder, then renamed.

The input is never changed. Times and permission bits follow the content. When something fails, no
half-written file stays; of a damaged input, the whole blocks before the damage are kept as TARGET.partial.
What it is not: it asks no questions and prints nothing (see `cli`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from kolmo.archive.streams import Summary, compress_stream, decompress_stream
from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.codec.pipeline import Report
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT, Header
from kolmo.container.wire import Reader
from kolmo.errors import FormatError
from kolmo.predictors.base import Predictor
from kolmo.targets import Attributes, Target

SUFFIX = ".kmo"
STDIN = "(stdin)"


def compress_file(
    source: str | IO[bytes],
    target: str | IO[bytes],
    predictor: Predictor,
    *,
    block_size: int = DEFAULT_BLOCK_LIMIT,
    threads: int = 1,
    store_name: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> Summary:
    """Compress a file into a file, with its times and mode.

    Args:
        source: path of the input, or a binary stream; kept.
        target: path of the output, or a binary stream.
        predictor: codes the blocks.
        block_size: bytes of content in a block.
        threads: blocks coded at once; 0 is one for each core.
        store_name: record name, time and mode in the file; streams have none.
        force: overwrite the target.
        report: called with the raw bytes done since its last call.

    Raises:
        TargetExistsError: the target exists and `force` is not set.
        OSError: reading or writing failed; nothing half-written stays.
    """
    with _opened(source) as (stream, own), Target(target, force) as sink:
        stored = own if store_name else Attributes()
        summary = compress_stream(
            stream,
            sink.file,
            predictor,
            size=own.size,
            block_size=block_size,
            threads=threads,
            name=stored.name,
            mtime=stored.mtime,
            mode=stored.mode,
            report=report,
        )
        sink.keep(own)
    return summary


def decompress_file(
    source: str | IO[bytes],
    target: str | IO[bytes],
    *,
    threads: int = 1,
    memory_limit: int = MEMORY_LIMIT,
    size_limit: int | None = None,
    use_stored: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> Summary:
    """Decompress a file into a file: the mirror of `compress_file`.

    With `use_stored`, time and mode are those that the file records, where it does.

    Raises:
        CorruptError: the input is damaged; the message says where the whole blocks before the damage are.
        FormatError, PredictorError, MemoryLimitError, SizeLimitError: it cannot be read here.
        TargetExistsError: the target exists and `force` is not set.
        OSError: reading or writing failed; nothing half-written stays.
    """
    name = source if isinstance(source, str) else STDIN
    with _opened(source) as (stream, own), Target(target, force) as sink:
        if use_stored and stream.seekable():
            header = peek_header(stream, name)
            mtime = own.mtime if header.mtime is None else header.mtime
            own = Attributes(None, mtime, own.mode if header.mode is None else header.mode)
        try:
            summary = decompress_stream(
                stream,
                sink.file,
                name=name,
                threads=threads,
                memory_limit=memory_limit,
                size_limit=size_limit,
                report=report,
            )
        except FormatError as error:
            error.args = (f"{error}; {sink.keep_partial(own)}",)
            raise
        sink.keep(own)
    return summary


@contextmanager
def _opened(source: str | IO[bytes]) -> Iterator[tuple[IO[bytes], Attributes]]:
    """A stream to read, and its attributes as far as a header holds them (UTF-8, since 1970)."""
    if not isinstance(source, str):
        yield source, Attributes()
        return
    with open(source, "rb") as stream:
        status = os.fstat(stream.fileno())
        name: str | None = os.path.basename(source)
        try:
            source.encode("utf-8")
        except UnicodeEncodeError:
            name = None
        mtime = status.st_mtime_ns if status.st_mtime_ns >= 0 else None
        regular = stat.S_ISREG(status.st_mode)
        mode = stat.S_IMODE(status.st_mode) if regular else None
        yield stream, Attributes(name, mtime, mode, status.st_size if regular else None)


def peek_header(source: IO[bytes], name: str) -> Header:
    """The first frame's header; the file, which must seek, stays where it was.

    Raises:
        FormatError: there is none.
    """
    reader = Reader(source, name)
    try:
        return Header.read(reader)
    finally:
        reader.seek(reader.start)


def safe_name(stored: str | None) -> str | None:
    """The last component of a stored name; None where nothing usable is left."""
    name = (stored or "").replace("\\", "/").rpartition("/")[2]
    if os.name == "nt":
        name = name.rpartition(":")[2]
    if name in ("", ".", "..") or not name.isprintable():
        return None
    return name
