"""A GGUF file, shrunk without a loss and expanded to the same bytes (docs/gguf.md).

    header of safetensors, with the record | code of the rest | codes of the parts

The rest, all bytes that are not in a part, is a frame of kolmo (docs/format.md). What it is not: a checkpoint of
`kolmo.weights.format`; its tensors are not read one by one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NoReturn

from kolmo.codec.frames import FrameEncoder, decode_frames, even_blocks, make_header
from kolmo.container.structures import DEFAULT_BLOCK_LIMIT
from kolmo.container.wire import Reader
from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.parallel import Pipeline, available_cores, ordered_map
from kolmo.predictors.registry import for_level
from kolmo.progress import Phases, Progress, no_phases
from kolmo.safetensors import lay_out, read_header, read_span, reject_duplicate_keys, write_header
from kolmo.targets import Attributes, Target, check_target, is_special
from kolmo.weights.gguf import coding
from kolmo.weights.gguf.coding import Part, type_name
from kolmo.weights.gguf.layout import read_layout

VERSION = 1
KEY = "kolmo.gguf"  # key of the record among the metadata of the safetensors file
CODES = "kolmo.codes"  # name of the tensor that holds all codes
REST_LEVEL = 3  # level of compression of the rest
RECORD_KEYS = ["parts", "rest", "sha256", "size", "version"]
MAX_EXPANSION = 4096  # upper bound on decoded bytes per byte of code
FREE_BYTES = 64 << 20  # decoded size in bytes up to which MAX_EXPANSION does not apply
WORKING_BYTES = 24  # memory in bytes that one weight takes while it is coded or decoded
CAPACITY_BYTES = 1 << 30  # memory in bytes for all parts in work together; a single part may exceed it
REST = "rest"  # how reports name the bytes that are in no part


@dataclass(frozen=True)
class ShrunkGguf:
    """The record of a shrunk GGUF file.

    Attributes:
        path: of the file.
        size: of the GGUF file in bytes.
        sha256: of the GGUF file.
        rest: bytes that are in no part, and bytes of their code.
        parts: in order; codes stand in this order too.
        codes: place of the first code in the file.
    """

    path: Path
    size: int
    sha256: str
    rest: tuple[int, int]
    parts: tuple[Part, ...]
    codes: int

    @property
    def packed_size(self) -> int:
        """Bytes of the shrunk file."""
        return self.codes + self.rest[1] + sum(one.stored for one in self.parts)

    def by_type(self) -> dict[str, tuple[int, int, int]]:
        """For each type of ggml: number of weights, bytes and bytes of code; the rest last, as 0 weights."""
        totals: dict[str, Counter[str]] = {}
        for one in self.parts:
            count = totals.setdefault(type_name(one.kind), Counter())
            count.update(weights=one.weights, size=one.size, stored=one.stored)
        found = {name: (one["weights"], one["size"], one["stored"]) for name, one in totals.items()}
        return found | {REST: (0, *self.rest)}

    def lines(self) -> list[str]:
        """The table of types, for people."""
        rows = [f"{'type':<10} {'weights':>14} {'bytes':>14} {'coded':>14} {'of it':>8} {'bits':>8}"]
        for name, (weights, size, stored) in self.by_type().items():
            share = f"{100 * stored / size:.2f} %" if size else ""
            bits = f"{8 * stored / weights:.3f}" if weights else ""
            rows.append(f"{name:<10} {weights:>14} {size:>14} {stored:>14} {share:>8} {bits:>8}")
        ratio = self.size / self.packed_size
        return [*rows, f"{self.size} => {self.packed_size} bytes ({ratio:.3f} : 1), GGUF; lossless"]

    def record(self) -> dict[str, Any]:
        """The same, as JSON values."""
        types = {
            name: {"weights": weights, "size": size, "packed_size": stored}
            for name, (weights, size, stored) in self.by_type().items()
        }
        sizes = {"raw_size": self.size, "packed_size": self.packed_size}
        return {"kind": "GGUF", "lossless": True, **sizes, "sha256": self.sha256, "types": types}


def shrink(
    source: str | Path, target: str | Path, *, threads: int = 0, force: bool = False, progress: Phases | None = None
) -> ShrunkGguf:
    """Shrink a GGUF file without a loss; `expand` gives back its bytes.

    Args:
        source: the GGUF file.
        target: the file to write.
        threads: number of parts that are coded at once; 0 is one for each core.
        force: overwrite the target.
        progress: shows the phases and their bytes.

    Raises:
        FormatError, TruncatedError: the source is not a GGUF file, or ends early.
        KolmoError: the target exists or is not a plain file, or the source changed while it was read.
        OSError: reading or writing failed; no half-written file is left.

    Examples:
        >>> shrink("model.gguf", "model.gguf.kolmo").sha256  # doctest: +SKIP
        'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818'
    """
    source, path, cores = Path(source), os.fspath(target), threads or available_cores()
    phases = progress or no_phases
    _check_paths(source, path, force)
    with open(source, "rb") as file, Target(path, force) as sink:
        layout = read_layout(file, str(source))
        rest = _rest(file, source, layout.size, layout.parts)
        widest = tuple(replace(part, stored=part.size) for part in layout.parts)
        shrunk = ShrunkGguf(Path(path), layout.size, _digest(file), (len(rest), 2 * len(rest) + 4096), widest, 0)
        shrunk = replace(shrunk, codes=len(_header(shrunk)))
        sink.file.write(bytes(shrunk.codes))
        with phases("coding", layout.size) as done:
            code = _code_rest(rest, cores, done)
            sink.file.write(code)
            parts = []
            pipeline: Pipeline[Part, bytes] = Pipeline(
                lambda part, tell: _encode(source, part, tell), threads=cores, capacity=CAPACITY_BYTES, progress=done
            )
            items = ((part, WORKING_BYTES * part.weights) for part in layout.parts)
            for part, coded in zip(layout.parts, ordered_map(pipeline, items), strict=True):
                parts.append(replace(part, stored=len(coded)))
                sink.file.write(coded)
        shrunk = replace(shrunk, rest=(len(rest), len(code)), parts=tuple(parts))
        _check_expansion(path, shrunk.size, shrunk.packed_size - shrunk.codes)
        sink.file.seek(0)
        sink.file.write(_header(shrunk, shrunk.codes))
        sink.file.flush()
        with phases("comparing", layout.size) as done:
            try:
                for _ in _decoded(replace(shrunk, path=Path(sink.place)), cores, done):
                    pass
            except CorruptError:
                raise KolmoError(
                    f"{source}: does not come back the same, as it changed while it was read; leave it alone and repeat"
                ) from None
        sink.keep(Attributes())
    return shrunk


def expand(
    source: str | Path, target: str | Path, *, threads: int = 0, force: bool = False, progress: Progress | None = None
) -> int:
    """Write the GGUF file that was shrunk, the same bytes; returns its size.

    Args:
        source: a file that `shrink` wrote.
        target: the file to write.
        threads: number of parts that are decoded at once; 0 is one for each core.
        force: overwrite the target.
        progress: called with the number of bytes just decoded.

    Raises:
        CorruptError, FormatError: the file is damaged, or is not such a file.
        KolmoError: the target exists and `force` is not set, or is not a plain file.
        OSError: reading or writing failed; no half-written file is left.
    """
    shrunk, path = open_shrunk(source), os.fspath(target)
    _check_paths(shrunk.path, path, force)
    with Target(path, force) as sink:
        for data in _decoded(shrunk, threads or available_cores(), progress):
            sink.file.write(data)
        sink.keep(Attributes())
    return shrunk.size


def is_shrunk(path: str | Path) -> bool:
    """Whether a file is one that `shrink` wrote; a file that cannot be read is not."""
    try:
        return Path(path).is_file() and KEY in read_header(Path(path)).metadata
    except (KolmoError, OSError):
        return False


def open_shrunk(path: str | Path) -> ShrunkGguf:
    """The record of a file that `shrink` wrote, checked.

    Raises:
        FormatError: it is not such a file, or needs a later version of kolmo.
        CorruptError: the record contradicts itself or the file.
        OSError: the file cannot be read.
    """
    path = Path(path)
    header = read_header(path)
    if KEY not in header.metadata:
        raise FormatError(f"{path}: is not a GGUF file that kolmo shrank; shrink one without a loss")
    try:
        found = json.loads(header.metadata[KEY], object_pairs_hook=reject_duplicate_keys)
    except (ValueError, RecursionError) as error:
        _corrupt(path, f"its record is not JSON ({error})")
    version = found.get("version") if isinstance(found, dict) else None
    if type(version) is not int or version < 1:
        _corrupt(path, "its record has no version")
    if version > VERSION:
        raise FormatError(f"{path}: has version {version}, but this kolmo reads {VERSION}; install a newer one")
    if sorted(found) != RECORD_KEYS or set(header.places) != {CODES}:
        _corrupt(path, "its record or its header has other keys")
    if not isinstance(found["parts"], list) or not all(
        map(_is_sizes, [[found["size"]], found["rest"], *found["parts"]])
    ):
        _corrupt(path, "its record has something else in the place of sizes")
    if len(found["rest"]) != 2 or any(len(one) != 5 for one in found["parts"]):
        _corrupt(path, "its record has too few or too many sizes")
    place = header.places[CODES]
    parts = tuple(Part(*one) for one in found["parts"])
    shrunk = ShrunkGguf(path, found["size"], str(found["sha256"]), tuple(found["rest"]), parts, place.begin)
    end = 0
    for one in parts:
        if one.begin < end or not one.is_possible or not 0 < one.stored <= one.size:
            _corrupt(path, f"its record has an impossible part at byte {one.begin}")
        end = one.begin + one.size
    total = shrunk.packed_size - shrunk.codes
    if end > shrunk.size or shrunk.rest[0] + sum(one.size for one in parts) != shrunk.size:
        _corrupt(path, "the parts and the rest are not the whole file")
    if (place.dtype, place.shape) != ("U8", (total,)):
        _corrupt(path, f"its codes are not the {total} bytes of its record")
    _check_expansion(str(path), shrunk.size, total)
    return shrunk


def _header(shrunk: ShrunkGguf, room: int = 0) -> bytes:
    """The header of the file, of at least `room` bytes."""
    parts = [[one.begin, one.kind, one.columns, one.size, one.stored] for one in shrunk.parts]
    record = {"version": VERSION, "size": shrunk.size, "sha256": shrunk.sha256, "rest": shrunk.rest, "parts": parts}
    places = lay_out([(CODES, "U8", (shrunk.packed_size - shrunk.codes,))])
    return write_header({KEY: json.dumps(record, separators=(",", ":"))}, places, room)


def _rest(file: IO[bytes], path: Path, size: int, parts: tuple[Part, ...]) -> bytes:
    """All bytes that are in no part."""
    found, at = [], 0
    for begin, length in [*((one.begin, one.size) for one in parts), (size, 0)]:
        found.append(read_span(file, path, at, begin - at))
        at = begin + length
    return b"".join(found)


def _code_rest(rest: bytes, threads: int, progress: Progress | None) -> bytes:
    predictor = for_level(REST_LEVEL)
    block = even_blocks(len(rest), DEFAULT_BLOCK_LIMIT)
    encoder = FrameEncoder(predictor, make_header(predictor, block), threads=threads, progress=progress)
    try:
        ready = [encoder.add(rest[at : at + block]) for at in range(0, len(rest), block)]
        return b"".join([*ready, encoder.finish()])
    finally:
        encoder.close()


def _encode(path: Path, part: Part, progress: Progress) -> bytes:
    with open(path, "rb") as file:
        code = coding.encode(part, read_span(file, path, part.begin, part.size))
    progress(part.size)
    return code


def _decoded(shrunk: ShrunkGguf, threads: int, progress: Progress | None) -> Iterator[bytes]:
    """The GGUF file in pieces. Its checksum is compared after the last one.

    Raises:
        CorruptError: the file is damaged.
    """
    path, digest = shrunk.path, hashlib.sha256()
    with open(path, "rb") as file:
        frame = read_span(file, path, shrunk.codes, shrunk.rest[1])
    reader = Reader(io.BytesIO(frame), f"{path}: the rest")
    rest = b"".join(decode_frames(reader, threads=threads, size_limit=shrunk.rest[0], progress=progress))
    if len(rest) != shrunk.rest[0]:
        _corrupt(path, "the bytes around its tensors are too few")

    def work(item: tuple[Part, int], tell: Progress) -> bytes:
        part, begin = item
        with open(path, "rb") as file:
            code = read_span(file, path, begin, part.stored)
        try:
            data = coding.decode(part, code)
        except CorruptError as error:
            at = begin + (error.offset or 0)
            raise CorruptError(f"{path}: the tensor at byte {part.begin}: {error}; get the file again", at) from None
        tell(len(data))
        return data

    places, begin = [], shrunk.codes + shrunk.rest[1]
    for part in shrunk.parts:
        places.append((part, begin))
        begin += part.stored
    pipeline: Pipeline[tuple[Part, int], bytes] = Pipeline(
        work, threads=threads, capacity=CAPACITY_BYTES, progress=progress
    )
    at = used = 0
    items = ((item, WORKING_BYTES * item[0].weights) for item in places)
    for part, data in zip(shrunk.parts, ordered_map(pipeline, items), strict=True):
        gap = rest[used : used + part.begin - at]
        for piece in (gap, data):
            digest.update(piece)
            yield piece
        at, used = part.begin + part.size, used + len(gap)
    digest.update(rest[used:])
    yield rest[used:]
    if digest.hexdigest() != shrunk.sha256:
        _corrupt(path, "what it decodes to has another SHA-256 than the file that was shrunk")


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _check_paths(source: Path, target: str, force: bool) -> None:
    if os.path.exists(target) and os.path.samefile(source, target):
        raise KolmoError(f"{target}: input and output are the same file; choose another")
    if is_special(target):
        raise KolmoError(f"{target}: is not a plain file, as the output must be; choose another")
    check_target(target, force)


def _check_expansion(where: str, size: int, stored: int) -> None:
    if size > max(MAX_EXPANSION * stored, FREE_BYTES):
        raise FormatError(f"{where}: {size} bytes in {stored} bytes of codes are more than the format allows")


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one < 1 << 62 for one in value)


def _corrupt(path: Path, what: str) -> NoReturn:
    raise CorruptError(f"{path}: is damaged: {what}; get it again", 0)
