"""Shrunk checkpoints written and read (docs/weights-format.md), one tensor in memory at a time.

What it is not: it chooses no step and no tensor, and decides nothing about quality; see `shrink`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from kolmo.codec.pipeline import Pipeline, Report, ordered_map
from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.weights.format.codes import CAPACITY, WORKING, Code, _encode_exact, _tamed, decode, digest
from kolmo.weights.format.groups import to_matrix
from kolmo.weights.format.record import CODES, KEY, PLACE_BYTES, Record, check_expansion
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import from_floats, to_floats
from kolmo.weights.sources.safetensors import BYTES, lay_out, read_span, write_header

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


Prune = Callable[[str, "Floats"], "Floats"]

LONGEST_NUMBER = 24  # digits of a binary64


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
        report: Report | None = None,
        *,
        own: Mapping[str, Hyperfunction] | None = None,
        exact: bool = False,
    ) -> int:
        """Code all tensors anew; returns the bytes of all codes, but the fixed ones.

        Args:
            hyperfunction: of coded tensors that are on no grid and have none of their own.
            prune: what is done to weights before.
            own: hyperfunctions of tensors that have one of their own.
            report: called with the weights done.
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
            report=report,
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
        report: Report,
    ) -> Code:
        if name in self._grids:
            report(self.record.coded[name].count)
            return self._on_grids[name]
        one = self.record.coded[name]
        data = self._source.tensors[name].read()
        if exact:
            return _encode_exact(one, data, report)
        weights = prune(name, to_floats(data, one.dtype))
        function = own.get(name, common)
        tame, tail = _tamed(weights, data, one, self._scales.get(name, 0.0), function)
        try:
            payload = function.encode(to_matrix(tame, one.columns), report)
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


def _place(table: list[Hyperfunction], function: Hyperfunction) -> int:
    """Where a hyperfunction is in the table; at its end if there is none like it. Each payload names its own step."""
    for i, one in enumerate(table):
        if (one.name, one.version) == (function.name, function.version):
            return i
    table.append(function)
    return len(table) - 1
