"""A shrunk checkpoint in the making (docs/weights-format.md): raw tensors once, codes as often as a step is tried.

What it is not: a judge of quality. It chooses no step and no tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.parallel import Pipeline, ordered_map
from kolmo.progress import Progress
from kolmo.safetensors import BYTES, lay_out, read_span, write_header
from kolmo.weights.format.codes import (
    CAPACITY_BYTES,
    WORKING_BYTES,
    Code,
    checksum_of,
    decode,
    encode,
    encode_exact,
    encode_grid,
)
from kolmo.weights.format.record import CODES, KEY, Coded, Record, check_expansion
from kolmo.weights.format.table import TableBuilder
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import to_floats

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

Prune = Callable[[str, "Floats"], "Floats"]  # the weights of the tensor of a name, with the small ones made 0
# The code of a tensor from its name, its entry, its bytes, its weights, a hyperfunction, its scale and the progress.
Encode = Callable[[str, Coded, bytes, "Floats", Hyperfunction, float, Progress | None], Code]

MAX_ENTRY_BYTES = 256  # upper bound on the length of a hyperfunction's entry, by which room for the header is reserved
COPY_BYTES = 1 << 24  # bytes that are moved at once when the header turns out shorter than its room


class Packer:
    """Writes a shrunk checkpoint.

        room for the header | raw tensors | codes          while codes are tried
        header | raw tensors | codes                       after `finish`

    Args:
        file: open for writing and reading, empty.
        name: name of the file, for errors.
        source: the tensors.
        record: which tensors are coded, raw and tied; the checksums of coded ones do not matter yet.
        threads: number of tensors that are coded at once.
        grids: steps of tensors whose values are multiples of a step; these are coded exactly, whatever the others are.
        scales: scales of all other coded tensors, as `values.Nature` has them.

    Attributes:
        record: the record of what was coded last.
        overhead: bytes of a file without codes: the raw tensors, and the header before any code is known.
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
        empty = len(self._header(record))
        largest = {
            name: replace(one, stored=one.size, scales=one.size, transposed=1, wild=one.size)
            for name, one in record.coded.items()
        }
        widest = len(self._header(replace(record, coded=largest)))
        self._room = widest + MAX_ENTRY_BYTES * (len(record.coded) + 1) + 7 & ~7
        file.write(bytes(self._room))
        for name, tensor in raw:
            data = tensor.read()
            if checksum_of(data) != record.raw[name]:
                raise KolmoError(
                    f"{source.name}: tensor {quoted(name)} changed while it was read; leave it alone and repeat"
                )
            file.write(data)
        self._codes = file.tell()
        self.overhead = empty + self._codes - self._room

    @property
    def size(self) -> int:
        """Bytes of the file, finished with what was coded last."""
        codes = sum(one.stored for one in self.record.coded.values())
        return len(self._header(self.record)) + self._codes - self._room + codes

    @property
    def lossy_size(self) -> int:
        """Bytes of the codes that depend on a step."""
        return sum(one.stored for name, one in self.record.coded.items() if name not in self._grids)

    @property
    def fixed(self) -> int:
        """Bytes of the codes that do not."""
        self._code_grids()
        return sum(len(code.data) for code in self._on_grids.values())

    def code(
        self,
        hyperfunction: Hyperfunction,
        prune: Prune,
        progress: Progress | None = None,
        *,
        own: Mapping[str, Hyperfunction] | None = None,
        exact: bool = False,
        encode: Encode | None = None,
    ) -> None:
        """Code all tensors, in place of what was coded before.

        Args:
            hyperfunction: that of coded tensors that are on no grid and have none of their own.
            prune: applied to weights before they are coded.
            progress: called with the number of weights just done.
            own: hyperfunctions of tensors that have one of their own.
            exact: code for exact bytes, by base and residual, and ignore the hyperfunctions.
            encode: codes a tensor with loss; by default each weight for itself.

        Raises:
            FormatError: there are more weights than the format allows in so few bytes.
        """
        self._file.seek(self._codes)
        self._file.truncate()
        self._code_grids()
        coded, table = {}, TableBuilder()
        items = ((name, WORKING_BYTES * one.count) for name, one in self.record.coded.items())
        pipeline = Pipeline(
            partial(self._encode, hyperfunction, own or {}, exact, prune, encode or _alone),
            threads=self._threads,
            capacity=CAPACITY_BYTES,
            progress=progress,
        )
        for name, code in zip(self.record.coded, ordered_map(pipeline, items), strict=True):
            self._file.write(code.data)
            by = None if code.by is None else table.index_of(code.by)
            coded[name] = replace(
                self.record.coded[name],
                stored=len(code.data),
                by=by,
                base=code.base,
                wild=code.wild,
                scales=code.scales,
                transposed=code.transposed,
            )
        functions, places = table.grouped()
        coded = {name: one if one.by is None else replace(one, by=places[one.by]) for name, one in coded.items()}
        self.record = replace(self.record, hyperfunctions=functions, coded=coded)
        total = sum(one.stored for one in coded.values())
        check_expansion(self._name, sum(one.count for one in coded.values() if not one.verbatim), total)

    def _code_grids(self) -> None:
        for name in self._grids.keys() - self._on_grids.keys():
            data = self._source.tensors[name].read()
            self._on_grids[name] = encode_grid(self.record.coded[name], data, self._grids[name])

    def _encode(
        self,
        common: Hyperfunction,
        own: Mapping[str, Hyperfunction],
        exact: bool,
        prune: Prune,
        encode: Encode,
        name: str,
        progress: Progress,
    ) -> Code:
        one = self.record.coded[name]
        if name in self._grids:
            progress(one.count)
            return self._on_grids[name]
        data = self._source.tensors[name].read()
        if exact:
            return encode_exact(one, data, progress)
        weights = prune(name, to_floats(data, one.dtype))
        return encode(name, one, data, weights, own.get(name, common), self._scales.get(name, 0.0), progress)

    def decoded(self) -> Iterator[tuple[str, bytes]]:
        """The bytes of each coded tensor as a reader will return them, decoded from the file."""
        for name in self.record.coded:
            yield name, self.decoded_tensor(name)

    def decoded_tensor(self, name: str) -> bytes:
        """The bytes of one coded tensor as a reader will return them."""
        self._file.flush()
        coded = self.record.coded
        at = self._codes + sum(coded[other].stored for other in takewhile(name.__ne__, coded))
        code = read_span(self._file, Path(self._name), at, coded[name].stored)
        return decode(coded[name], code, self.record.function_of(coded[name]), self._threads)

    def finish(self, checksums: Mapping[str, str]) -> None:
        """Write the header, with the checksums of what the codes decode to, and close the gap behind it."""
        coded = {name: replace(one, checksum=checksums[name]) for name, one in self.record.coded.items()}
        self.record = replace(self.record, coded=coded)
        header = self._header(self.record)
        assert len(header) <= self._room
        self._move(self._room, len(header))
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()

    def _move(self, begin: int, to: int) -> None:
        """Move everything from `begin` on to the earlier place `to`."""
        while begin != to:
            self._file.seek(begin)
            if not (data := self._file.read(COPY_BYTES)):
                self._file.seek(to)
                self._file.truncate()
                return
            self._file.seek(to)
            self._file.write(data)
            begin, to = begin + len(data), to + len(data)

    def _header(self, record: Record) -> bytes:
        codes = [(CODES, "U8", (sum(one.stored for one in record.coded.values()),))] if record.coded else []
        places = lay_out([*self._raw, *codes])
        return write_header({KEY: record.dump(places)}, places)


def _alone(
    name: str,
    one: Coded,
    data: bytes,
    weights: Floats,
    function: Hyperfunction,
    scale: float,
    progress: Progress | None,
) -> Code:
    """Code a tensor without a calibration."""
    return encode(one, data, weights, function, scale, progress)
