"""A shrunk checkpoint, opened for reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.codec.pipeline import Pipeline, Report, available_cores, ordered_map
from kolmo.errors import CorruptError, KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.trellis_payload import HEADER
from kolmo.weights.format.codes import CAPACITY, DIVIDED, WORKING, decode, digest
from kolmo.weights.format.record import CODES, Record
from kolmo.weights.sources.folder import weights_of
from kolmo.weights.sources.safetensors import Kind, read_header, read_span

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


class ShrunkFile:
    """A shrunk checkpoint, or a folder's, to read from: its header is checked when it is opened, tensors when read.

    Raises:
        FormatError: it is none, or of a later version.
        CorruptError: it is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = weights_of(path)
        self.header = read_header(self.path)
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
        self, names: Iterable[str], threads: int = 1, report: Report | None = None, *, base: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Tensors in the order of `names`, several at once; `base` as for `read`."""
        wanted = list(names)
        cores = threads or available_cores()

        def work(name: str, tick: Report) -> bytes:
            one = self.record.coded.get(self.record.aliases.get(name, name))
            data = self.read(name, cores if one and one.count > DIVIDED else 1, base=base)
            tick(len(data))
            return data

        pipeline: Pipeline[str, bytes] = Pipeline(work, threads=cores, capacity=CAPACITY, report=report)
        items = ((name, WORKING * self._count(name)) for name in wanted)
        yield from zip(wanted, ordered_map(pipeline, items), strict=True)

    def _count(self, name: str) -> int:
        one: Any = self.record.coded.get(self.record.aliases.get(name, name))
        return one.count if one else 0
