"""Shrunk checkpoints written and read (docs/weights-format.md), one tensor in memory at a time.

What it is not: it chooses no step and no tensor, and decides nothing about quality; see `shrink`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from kolmo.codec.pipeline import Pipeline, Report, available_cores, ordered_map
from kolmo.errors import CorruptError, KolmoError
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.weights.checkpoint import Checkpoint
from kolmo.weights.dtypes import from_floats, to_floats
from kolmo.weights.groups import from_matrix, to_matrix
from kolmo.weights.record import CODE, DIGEST, KEY, Coded, Record, check_expansion
from kolmo.weights.safetensors import BYTES, Kind, lay_out, read_header, read_span, write_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Prune = Callable[[str, "npt.NDArray[np.float32]"], "npt.NDArray[np.float32]"]

WORKING = 24  # bytes of memory that a weight takes while it is coded
CAPACITY = 1 << 30  # of all tensors in work; one alone may exceed it
DIVIDED = 1 << 22  # weights of a tensor whose payload is decoded by several threads
LONGEST_NUMBER = 24  # digits of a binary64


class Code(NamedTuple):
    """A tensor's code, as it goes to the file."""

    data: bytes
    verbatim: bool


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
    """

    def __init__(self, file: IO[bytes], name: str, source: Checkpoint, record: Record, threads: int) -> None:
        self._file, self._name, self._source, self._threads = file, name, source, threads
        self.record = record
        raw = [(name, source.tensors[name]) for name in record.raw]
        raw.sort(key=lambda item: -BYTES[item[1].dtype])
        self._raw = [(name, tensor.dtype, tensor.shape) for name, tensor in raw]
        worst = {name: replace(one, verbatim=True) for name, one in record.coded.items()}
        header = self._header(replace(record, coded=worst), {name: one.size for name, one in worst.items()})
        self._start = len(header) + LONGEST_NUMBER * len(record.hyperfunction.parameters) + 7 & ~7
        file.write(bytes(self._start))
        for name, tensor in raw:
            data = tensor.read()
            if digest(data) != record.raw[name]:
                raise KolmoError(f"{source.name}: tensor {name!r} changed while it was read; leave it alone and repeat")
            file.write(data)
        self._codes = file.tell()
        self.sizes: dict[str, int] = {}

    @property
    def overhead(self) -> int:
        """Bytes of all but the codes."""
        return self._codes

    def code(self, hyperfunction: Hyperfunction, prune: Prune, report: Report | None = None) -> int:
        """Code all tensors anew; returns the bytes of all codes.

        Raises:
            FormatError: more weights in fewer bytes than the format allows.
        """
        self._file.seek(self._codes)
        self._file.truncate()
        coded = {}
        items = ((name, WORKING * one.count) for name, one in self.record.coded.items())
        pipeline = Pipeline(
            partial(self._encode, hyperfunction, prune), threads=self._threads, capacity=CAPACITY, report=report
        )
        for name, code in zip(self.record.coded, ordered_map(pipeline, items), strict=True):
            self._file.write(code.data)
            self.sizes[name] = len(code.data)
            coded[name] = replace(self.record.coded[name], verbatim=code.verbatim)
        self.record = replace(self.record, hyperfunction=hyperfunction, coded=coded)
        total = sum(self.sizes.values())
        check_expansion(self._name, sum(one.count for one in coded.values() if not one.verbatim), total)
        return total

    def _encode(self, hyperfunction: Hyperfunction, prune: Prune, name: str, report: Report) -> Code:
        one = self.record.coded[name]
        weights = prune(name, to_floats(self._source.tensors[name].read(), one.dtype))
        try:
            payload = hyperfunction.encode(to_matrix(weights, one.columns), report)
        except ValueError:  # a weight too large for this step
            payload = None
        if payload is not None and len(payload) < one.size:
            return Code(payload, False)
        return Code(from_floats(weights, one.dtype), True)

    def finish(self, digests: Mapping[str, str]) -> None:
        """Write the header, with the digests of what the codes decode to."""
        coded = {name: replace(one, digest=digests[name]) for name, one in self.record.coded.items()}
        self.record = replace(self.record, coded=coded)
        header = self._header(self.record, self.sizes, self._start)
        assert len(header) == self._start
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()

    def decoded(self) -> Iterator[tuple[str, bytes]]:
        """Each coded tensor's bytes as they will come back, decoded from the file."""
        self._file.flush()
        at = self._codes
        for name, one in self.record.coded.items():
            code = read_span(self._file, Path(self._name), at, self.sizes[name])
            at += self.sizes[name]
            yield name, decode(one, code, self.record.hyperfunction, self._threads)

    def _header(self, record: Record, sizes: Mapping[str, int], room: int = 0) -> bytes:
        codes = [(name + CODE, "U8", (sizes[name],)) for name in record.coded]
        places = lay_out([*self._raw, *codes])
        return write_header({KEY: record.dump(places)}, places, room)


def decode(one: Coded, code: bytes, hyperfunction: Hyperfunction, threads: int = 1) -> bytes:
    """A coded tensor's bytes.

    Raises:
        CorruptError: the code is damaged.
    """
    if one.verbatim:
        return code
    return from_floats(from_matrix(hyperfunction.decode(code, one.matrix, threads), one.shape), one.dtype)


class ShrunkFile:
    """A shrunk checkpoint to read from. Its header is checked when it is opened, each tensor when it is read.

    Raises:
        FormatError: it is none, or of a later version.
        CorruptError: it is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        self.record = Record.parse(self.header, str(path))

    @property
    def names(self) -> list[str]:
        """All tensors, tied ones too."""
        return [*self.record.coded, *self.record.raw, *self.record.aliases]

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
            raise KolmoError(f"{self.path}: has no tensor {name!r}; kolmo info -v lists them")
        return found

    def stored_size(self, name: str) -> int:
        """Bytes of the file that a tensor takes; 0 of a tied one."""
        if name in self.record.aliases:
            return 0
        return self.header.places[name + CODE if name in self.record.coded else name].size

    def raw_size(self, name: str) -> int:
        """Bytes of a tensor, once decoded."""
        return self.kind(name).size

    def read(self, name: str, threads: int = 1) -> bytes:
        """A tensor's bytes, little-endian; of the file, nothing but its span is read.

        Raises:
            CorruptError: it is damaged.
            KolmoError: there is none of this name.
        """
        self.kind(name)
        name = self.record.aliases.get(name, name)
        one = self.record.coded.get(name)
        place = self.header.places[name if one is None else name + CODE]
        with open(self.path, "rb") as file:
            data = read_span(file, self.path, place.begin, place.size)
        wanted = self.record.raw[name] if one is None else one.digest
        if one is not None:
            try:
                data = decode(one, data, self.record.hyperfunction, threads)
            except CorruptError as error:
                at = place.begin + (error.offset or 0)
                raise CorruptError(f"{self.path}: tensor {name!r}: {error}; get the file again", at) from None
        if digest(data) != wanted:
            raise CorruptError(
                f"{self.path}: tensor {name!r}, at byte {place.begin}, is damaged: its digest differs; get it again",
                place.begin,
            )
        return data

    def read_all(
        self, names: Iterable[str], threads: int = 1, report: Report | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Tensors in the order of `names`, several at once."""
        wanted = list(names)
        cores = threads or available_cores()

        def work(name: str, tick: Report) -> bytes:
            one = self.record.coded.get(self.record.aliases.get(name, name))
            data = self.read(name, cores if one and one.count > DIVIDED else 1)
            tick(len(data))
            return data

        pipeline: Pipeline[str, bytes] = Pipeline(work, threads=cores, capacity=CAPACITY, report=report)
        items = ((name, WORKING * self._count(name)) for name in wanted)
        yield from zip(wanted, ordered_map(pipeline, items), strict=True)

    def _count(self, name: str) -> int:
        one: Any = self.record.coded.get(self.record.aliases.get(name, name))
        return one.count if one else 0
