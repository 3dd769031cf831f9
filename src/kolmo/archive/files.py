"""Files <-> `.kmo` files: written under a temporary name in the target's folder, then renamed.

The input is never changed, and removed only on request, when the output is on the disk. Owner, group, permission bits
and times follow the content; extended attributes and access control lists do not. When something fails, no half-written
file stays; of a damaged input, the whole blocks before the damage are kept as TARGET.partial.
What it is not: it asks no questions and prints nothing (see `cli`).
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import IO

from kolmo.archive.sources import open_source
from kolmo.archive.streams import Summary, compress_stream, decompress_stream
from kolmo.codec.limits import MEMORY_LIMIT
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT, Header
from kolmo.container.wire import Reader
from kolmo.errors import FormatError
from kolmo.predictors.base import Predictor
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings
from kolmo.progress import Progress
from kolmo.targets import Attributes, Target, umask

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
    remove: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Compress a file into a file, with its owner, group, mode and times.

    Args:
        source: path of the input, or a binary stream.
        target: path of the output, or a binary stream.
        predictor: codes the blocks.
        block_size: bytes of content in a block.
        threads: blocks coded at once; 0 is one for each core.
        store_name: record name, time and mode in the file; streams have none.
        force: overwrite the target.
        remove: remove the input when the output is on the disk. Inputs of streams and devices stay.
        progress: called with the raw bytes done since its last call.

    Raises:
        TargetExistsError: the target exists and `force` is not set.
        InputKeptError: the output is complete, but the input has changed meanwhile and was to be removed.
        KolmoError: the input is to be removed, and another process works on it.
        OSError: reading or writing failed; nothing half-written stays.
    """
    with open_source(source, to_remove=remove) as opened, Target(target, force, durable=remove) as sink:
        own = opened.attributes
        stored = own if store_name else Attributes()
        summary = compress_stream(
            opened.stream,
            sink.file,
            predictor,
            size=own.size,
            block_size=block_size,
            threads=threads,
            name=stored.name,
            mtime=stored.mtime,
            mode=stored.mode,
            progress=progress,
        )
        sink.keep(own)
        if remove and sink.whole:
            opened.remove()
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
    remove: bool = False,
    progress: Progress | None = None,
    settings: RunSettings = DEFAULT_SETTINGS,
) -> Summary:
    """Decompress a file into a file: the mirror of `compress_file`.

    With `use_stored`, time and mode are those that the file records, where it does; the mode less the umask.

    Raises:
        CorruptError: the input is damaged; the message says where the whole blocks before the damage are.
        FormatError, PredictorError, MemoryLimitError, SizeLimitError: it cannot be read here.
        TargetExistsError: the target exists and `force` is not set.
        InputKeptError: the output is complete, but the input has changed meanwhile and was to be removed.
        KolmoError: the input is to be removed, and another process works on it.
        OSError: reading or writing failed; nothing half-written stays.
    """
    name = source if isinstance(source, str) else STDIN
    with open_source(source, to_remove=remove) as opened, Target(target, force, durable=remove) as sink:
        stream, own = opened.stream, opened.attributes
        if use_stored and stream.seekable():
            header = peek_header(stream, name)
            if header.mtime is not None:
                own = replace(own, mtime=header.mtime, atime=header.mtime)
            if header.mode is not None:
                own = replace(own, mode=header.mode & ~umask())
        try:
            summary = decompress_stream(
                stream,
                sink.file,
                name=name,
                threads=threads,
                memory_limit=memory_limit,
                size_limit=size_limit,
                progress=progress,
                settings=settings,
            )
        except FormatError as error:
            error.args = (f"{error}; {sink.keep_partial(own)}",)
            raise
        sink.keep(own)
        if remove and sink.whole:
            opened.remove()
    return summary


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
