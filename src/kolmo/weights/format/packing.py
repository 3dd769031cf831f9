"""Shrunk checkpoints written and read (docs/weights-format.md), one tensor in memory at a time.

What it is not: it chooses no step and no tensor, and decides nothing about quality; see `shrink`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kolmo.errors import CorruptError, KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.trellis import HEADER, Trellis
from kolmo.parallel import Pipeline, available_cores, ordered_map
from kolmo.progress import Progress
from kolmo.safetensors import BYTES, Kind, lay_out, read_span, write_header
from kolmo.weights.choice.values import MOST_LEVEL, is_wild
from kolmo.weights.format import lossless
from kolmo.weights.format.groups import from_matrix, to_matrix
from kolmo.weights.format.record import CODES, DIGEST, KEY, PLACE_BYTES, Coded, Record, check_expansion
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import from_floats, to_floats
from kolmo.weights.sources.folder import weights_of
from kolmo.weights.sources.kinds import header_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

Prune = Callable[[str, "Floats"], "Floats"]

WORKING = 24  # bytes of memory that a weight takes while it is coded
CAPACITY = 1 << 30  # of all tensors in work; one alone may exceed it
DIVIDED = 1 << 22  # weights of a tensor whose payload is decoded by several threads
LONGEST_NUMBER = 24  # digits of a binary64


class Code(NamedTuple):
    """A tensor's code, as it goes to the file; of an exact one, so many bytes are its base.

    `wild` weights are at its end; it is a payload of the hyperfunction `by`, None if of none.
    """

    data: bytes
    by: Hyperfunction | None = None
    base: int = 0
    wild: int = 0


def digest(data: bytes) -> str:
    """Of a tensor's bytes, as the record has it."""
    return hashlib.sha256(data).hexdigest()[:DIGEST]


class Packer:
    """A shrunk checkpoint in the making: raw tensors once, codes as often as a step is tried, the record at the end.

    Args:
        file: opened for writing and reading, empty.
        name: of the file, for errors.
        source: the tensors.
        record: which are coded, which raw, which tied; digests of coded ones do not matter yet.
        threads: tensors coded at once.
        grids: steps of tensors on a grid, which are coded exactly, whatever the others are.
        scales: of all other coded tensors, as `values.Nature` has them.
    """

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        source: Checkpoint,
        record: Record,
        threads: int,
        *,
        grids: Mapping[str, float] | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        self._file, self._name, self._source, self._threads = file, name, source, threads
        self.record = record
        self._scales = scales or {}
        self._grids = {name: Trellis(step, 1) for name, step in (grids or {}).items()}
        self._on_grids: dict[str, Code] = {}  # their codes, which depend on no step
        raw = [(name, source.tensors[name]) for name in record.raw]
        raw.sort(key=lambda item: -BYTES[item[1].dtype])
        self._raw = [(name, tensor.dtype, tensor.shape) for name, tensor in raw]
        worst = {
            name: replace(one, stored=one.size, base=one.size, verbatim=True, by=int(name in self._grids))
            for name, one in record.coded.items()
        }
        functions = (*record.hyperfunctions, *list(self._grids.values())[:1])
        header = self._header(replace(record, coded=worst, hyperfunctions=functions))
        numbers = sum(len(one.parameters) for one in functions)
        self._start = len(header) + LONGEST_NUMBER * numbers + 7 & ~7
        file.write(bytes(self._start))
        for name, tensor in raw:
            data = tensor.read()
            if digest(data) != record.raw[name]:
                raise KolmoError(
                    f"{source.name}: tensor {quoted(name)} changed while it was read; leave it alone and repeat"
                )
            file.write(data)
        self._codes = file.tell()

    @property
    def overhead(self) -> int:
        """Bytes of all but the codes."""
        return self._codes

    @property
    def fixed(self) -> int:
        """Bytes of the codes that depend on no step."""
        for name in self._grids:
            self._on_grids[name] = self._on_grids.get(name) or self._encode_grid(name)
        return sum(len(code.data) for code in self._on_grids.values())

    def code(
        self,
        hyperfunction: Hyperfunction,
        prune: Prune,
        progress: Progress | None = None,
        *,
        own: Mapping[str, Hyperfunction] | None = None,
        exact: bool = False,
    ) -> int:
        """Code all tensors anew; returns the bytes of all codes, but the fixed ones.

        Args:
            hyperfunction: of coded tensors that are on no grid and have none of their own.
            prune: what is done to weights before.
            own: hyperfunctions of tensors that have one of their own.
            progress: called with the weights done.
            exact: tensors are to come back exact, by base and residual, of `lossless.BASE`.

        Raises:
            FormatError: more weights in fewer bytes than the format allows.
        """
        self._file.seek(self._codes)
        self._file.truncate()
        fixed, coded, table = self.fixed, {}, [hyperfunction]
        items = ((name, WORKING * one.count) for name, one in self.record.coded.items())
        pipeline = Pipeline(
            partial(self._encode, hyperfunction, own or {}, exact, prune),
            threads=self._threads,
            capacity=CAPACITY,
            progress=progress,
        )
        for name, code in zip(self.record.coded, ordered_map(pipeline, items), strict=True):
            self._file.write(code.data)
            coded[name] = replace(
                self.record.coded[name],
                stored=len(code.data),
                verbatim=code.by is None,
                base=code.base,
                wild=code.wild,
                by=0 if code.by is None else _place(table, code.by),
            )
        self.record = replace(self.record, hyperfunctions=tuple(table), coded=coded)
        total = sum(one.stored for one in coded.values())
        check_expansion(self._name, sum(one.count for one in coded.values() if not one.verbatim), total)
        return total - fixed

    def _encode(
        self,
        common: Hyperfunction,
        own: Mapping[str, Hyperfunction],
        exact: bool,
        prune: Prune,
        name: str,
        progress: Progress,
    ) -> Code:
        if name in self._grids:
            progress(self.record.coded[name].count)
            return self._on_grids[name]
        one = self.record.coded[name]
        data = self._source.tensors[name].read()
        if exact:
            return _encode_exact(one, data, progress)
        weights = prune(name, to_floats(data, one.dtype))
        function = own.get(name, common)
        tame, tail = _tamed(weights, data, one, self._scales.get(name, 0.0), function)
        try:
            payload = function.encode(to_matrix(tame, one.columns), progress)
        except ValueError:  # a weight too large for this step
            payload = None
        if payload is not None and len(payload) + len(tail) < one.size:
            return Code(payload + tail, function, wild=len(tail) // (PLACE_BYTES + BYTES[one.dtype]))
        return Code(data if len(tail) else from_floats(weights, one.dtype))

    def _encode_grid(self, name: str) -> Code:
        """A tensor on a grid, coded and decoded; verbatim if that is not exact, as of binary64, or not smaller."""
        one, function = self.record.coded[name], self._grids[name]
        data = self._source.tensors[name].read()
        weights = to_floats(data, one.dtype)
        levels = np.rint(weights.astype(np.float64) / function.step).astype(np.int32)
        code = Code(function.encode_levels(to_matrix(levels, one.columns)), function)
        coded = replace(one, stored=len(code.data))
        return code if len(code.data) < one.size and decode(coded, code.data, function) == data else Code(data)

    def finish(self, digests: Mapping[str, str]) -> None:
        """Write the header, with the digests of what the codes decode to."""
        coded = {name: replace(one, digest=digests[name]) for name, one in self.record.coded.items()}
        self.record = replace(self.record, coded=coded)
        header = self._header(self.record, self._start)
        assert len(header) == self._start
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()

    def decoded(self) -> Iterator[tuple[str, bytes]]:
        """Each coded tensor's bytes as they will come back, decoded from the file."""
        for name in self.record.coded:
            yield name, self.decoded_tensor(name)

    def decoded_tensor(self, name: str) -> bytes:
        """The same of one."""
        self._file.flush()
        coded = self.record.coded
        at = self._codes + sum(coded[other].stored for other in takewhile(name.__ne__, coded))
        code = read_span(self._file, Path(self._name), at, coded[name].stored)
        return decode(coded[name], code, self.record.function_of(coded[name]), self._threads)

    def _header(self, record: Record, room: int = 0) -> bytes:
        codes = [(CODES, "U8", (sum(one.stored for one in record.coded.values()),))] if record.coded else []
        places = lay_out([*self._raw, *codes])
        return write_header({KEY: record.dump(places)}, places, room)


def _encode_exact(one: Coded, data: bytes, progress: Progress) -> Code:
    try:
        base, rest = lossless.encode(data, one.dtype, one.columns, progress)
    except ValueError:  # infinities, or too large for any step
        return Code(data)
    return Code(base + rest, lossless.BASE, len(base)) if len(base) + len(rest) < one.size else Code(data)


def _tamed(weights: Floats, data: bytes, one: Coded, scale: float, function: Hyperfunction) -> tuple[Floats, bytes]:
    """Weights whose wild ones are 0, and these: their places, then their bytes."""
    if not scale:
        return weights, b""
    wild = is_wild(weights, scale)
    if isinstance(function, Trellis):  # no step may be too fine for a weight
        wild |= ~(np.abs(weights) < np.float32(function.step) * np.float32(MOST_LEVEL))
    if not wild.any():
        return weights, b""
    places = np.flatnonzero(wild).astype("<u8")
    bytes_of = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype])
    return np.where(wild, np.float32(0), weights), places.tobytes() + bytes_of[places.astype(np.int64)].tobytes()


def _restore_wild(one: Coded, data: bytes, tail: bytes) -> bytes:
    """The mirror of `_tamed`: put wild weights in their places.

    Raises:
        CorruptError: the places are none.
    """
    places = np.frombuffer(tail, "<u8", one.wild)
    if int(places[-1]) >= one.count or bool((places[1:] <= places[:-1]).any()):
        raise CorruptError("the places of wild weights are not in order, or not in the tensor", one.stored - one.tail)
    found = np.frombuffer(data, np.uint8).reshape(-1, BYTES[one.dtype]).copy()
    found[places.astype(np.int64)] = np.frombuffer(tail, np.uint8, offset=8 * one.wild).reshape(-1, BYTES[one.dtype])
    return found.tobytes()


def _place(table: list[Hyperfunction], function: Hyperfunction) -> int:
    """Where a hyperfunction is in the table; at its end if there is none like it. Each payload names its own step."""
    for i, one in enumerate(table):
        if (one.name, one.version) == (function.name, function.version):
            return i
    table.append(function)
    return len(table) - 1


def decode(one: Coded, code: bytes, hyperfunction: Hyperfunction, threads: int = 1) -> bytes:
    """A coded tensor's bytes; of a code that ends with its base, what that knows of them.

    Raises:
        CorruptError: the code is damaged.
    """
    if one.verbatim:
        return code
    if one.base and len(code) > one.base:
        return lossless.decode(code[: one.base], code[one.base :], one.dtype, one.matrix, threads)
    if one.base:
        return from_floats(lossless.decode_base(code, one.matrix, threads), one.dtype)
    payload, tail = code[: len(code) - one.tail], code[len(code) - one.tail :]
    data = from_floats(from_matrix(hyperfunction.decode(payload, one.matrix, threads), one.shape), one.dtype)
    return _restore_wild(one, data, tail) if one.wild else data


class ShrunkFile:
    """A shrunk checkpoint, or a folder's, to read from: its header is checked when it is opened, tensors when read.

    Raises:
        FormatError: it is none, or of a later version.
        CorruptError: it is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = weights_of(path)
        self.header = header_of(self.path)
        self.record = Record.parse(self.header, str(path))
        self._begins: dict[str, int] = {}  # of codes
        at = self.header.places[CODES].begin if self.record.coded else 0
        for name, one in self.record.coded.items():
            self._begins[name], at = at, at + one.stored

    @property
    def names(self) -> list[str]:
        """All tensors, tied ones too."""
        return [*self.record.coded, *self.record.raw, *self.record.aliases]

    def __contains__(self, name: str) -> bool:
        record = self.record
        return name in record.coded or name in record.raw or name in record.aliases

    def is_coded(self, name: str) -> bool:
        """Whether a tensor, or the one it is tied to, is coded."""
        return self.record.aliases.get(name, name) in self.record.coded

    def kind(self, name: str) -> Kind:
        """Dtype and shape of a tensor.

        Raises:
            KolmoError: there is none of this name.
        """
        name = self.record.aliases.get(name, name)
        found: Kind | None = self.record.coded.get(name)
        if found is None and name in self.record.raw:
            found = self.header.places[name]
        if found is None:
            raise KolmoError(f"{self.path}: has no tensor {quoted(name)}; kolmo info -v lists them")
        return found

    def stored_size(self, name: str) -> int:
        """Bytes of the file that a tensor takes; 0 of a tied one."""
        if name in self.record.aliases:
            return 0
        return self.span(name)[1]

    def span(self, name: str) -> tuple[int, int]:
        """Where the file holds a tensor that is not tied, or its code: first byte, and number of bytes."""
        if name in self.record.coded:
            return self._begins[name], self.record.coded[name].stored
        place = self.header.places[name]
        return place.begin, place.size

    def step(self, name: str) -> float | None:
        """The step of a coded tensor's payload; None of one that is verbatim, or of a hyperfunction without steps."""
        one = self.record.coded[name]
        if one.verbatim or self.record.function_of(one).name != "trellis" or one.stored < HEADER.size:
            return None
        with open(self.path, "rb") as file:
            data = read_span(file, self.path, self.span(name)[0], HEADER.size)
        step: float = HEADER.unpack(data)[3]
        return step if isfinite(step) else None

    def raw_size(self, name: str) -> int:
        """Bytes of a tensor, once decoded."""
        return self.kind(name).size

    def read(self, name: str, threads: int = 1, *, base: bool = False) -> bytes:
        """A tensor's bytes, little-endian; of the file, nothing but its span is read.

        With `base`, no residual is read: of a tensor that has one come weights near to it, of which no digest was
        compared, only the payload's own checksum.

        Raises:
            CorruptError: it is damaged.
            KolmoError: there is none of this name.
        """
        self.kind(name)
        name = self.record.aliases.get(name, name)
        one = self.record.coded.get(name)
        begin, size = self.span(name)
        near = base and one is not None and one.base > 0
        with open(self.path, "rb") as file:
            data = read_span(file, self.path, begin, one.base if one and near else size)
        wanted = self.record.raw[name] if one is None else one.digest
        if one is not None:
            try:
                data = decode(one, data, self.record.function_of(one), threads)
            except CorruptError as error:
                at = begin + (error.offset or 0)
                raise CorruptError(f"{self.path}: tensor {quoted(name)}: {error}; get the file again", at) from None
        if not near and digest(data) != wanted:
            raise CorruptError(
                f"{self.path}: tensor {quoted(name)}, at byte {begin}, is damaged: its digest differs; get it again",
                begin,
            )
        return data

    def read_all(
        self, names: Iterable[str], threads: int = 1, progress: Progress | None = None, *, base: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Tensors in the order of `names`, several at once; `base` as for `read`."""
        wanted = list(names)
        cores = threads or available_cores()

        def work(name: str, progress: Progress) -> bytes:
            one = self.record.coded.get(self.record.aliases.get(name, name))
            data = self.read(name, cores if one and one.count > DIVIDED else 1, base=base)
            progress(len(data))
            return data

        pipeline: Pipeline[str, bytes] = Pipeline(work, threads=cores, capacity=CAPACITY, progress=progress)
        items = ((name, WORKING * self._count(name)) for name in wanted)
        yield from zip(wanted, ordered_map(pipeline, items), strict=True)

    def _count(self, name: str) -> int:
        one: Any = self.record.coded.get(self.record.aliases.get(name, name))
        return one.count if one else 0
