"""A shrunk checkpoint, opened for reading: its header is checked when it is opened, each tensor when it is read.

What it is not: a loader of arrays; it returns bytes (see `kolmo.load`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kolmo.errors import CorruptError, KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.parallel import Pipeline, available_cores, ordered_map
from kolmo.progress import Progress
from kolmo.safetensors import Kind, read_span
from kolmo.weights.format.codes import CAPACITY_BYTES, WORKING_BYTES, checksum_of, decode, decode_slabs
from kolmo.weights.format.record import CHECKSUM_DIGITS, CODES, Coded, Record
from kolmo.weights.sources.folder import weights_of
from kolmo.weights.sources.kinds import header_of

MIN_DIVIDED_WEIGHTS = 1 << 22  # number of weights above which several threads decode one tensor together


class ShrunkFile:
    """A file that `kolmo.shrink` wrote, or the one in a folder that it wrote.

    Attributes:
        path: of the file.
        header: its safetensors header.
        record: its record.

    Raises:
        FormatError: the file is not a shrunk checkpoint, or it needs a later version of kolmo.
        CorruptError: the file is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = weights_of(path)
        self.header = header_of(self.path)
        self.record = Record.parse(self.header, str(path))
        self._begins: dict[str, int] = {}  # where each code begins in the file
        at = self.header.places[CODES].begin if self.record.coded else 0
        for name, one in self.record.coded.items():
            self._begins[name], at = at, at + one.stored

    @property
    def names(self) -> list[str]:
        """The names of all tensors, tied ones included."""
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
            KolmoError: there is no tensor of this name.
        """
        name = self.record.aliases.get(name, name)
        found: Kind | None = self.record.coded.get(name)
        if found is None and name in self.record.raw:
            found = self.header.places[name]
        if found is None:
            raise KolmoError(f"{self.path}: has no tensor {quoted(name)}; kolmo info -v lists them")
        return found

    def hyperfunction(self, name: str) -> Hyperfunction | None:
        """The hyperfunction of a coded tensor; None if its code is verbatim."""
        return self.record.function_of(self.record.coded[name])

    def stored_size(self, name: str) -> int:
        """Number of bytes that a tensor takes in the file; 0 for a tied one."""
        return 0 if name in self.record.aliases else self.span(name)[1]

    def span(self, name: str) -> tuple[int, int]:
        """Where the file holds a tensor that is not tied, or its code: (first byte, number of bytes)."""
        if name in self.record.coded:
            return self._begins[name], self.record.coded[name].stored
        place = self.header.places[name]
        return place.begin, place.size

    def raw_size(self, name: str) -> int:
        """Number of bytes of a tensor, decoded."""
        return self.kind(name).size

    def read(self, name: str, threads: int = 1, *, base: bool = False) -> bytes:
        """The bytes of a tensor, little-endian. Only the span of this tensor is read.

        Args:
            name: of the tensor.
            threads: number of threads that decode it.
            base: read no residual. An exact tensor then comes back with loss, and its checksum is not compared, only
                the one within the payload.

        Raises:
            CorruptError: the tensor is damaged.
            KolmoError: there is no tensor of this name.
        """
        name, one = self._stored(name)
        begin, size = self.span(name)
        is_base = base and one is not None and one.base > 0
        with open(self.path, "rb") as file:
            data = read_span(file, self.path, begin, one.base if one and is_base else size)
        if one is not None:
            with self.placed(name):
                data = decode(one, data, self.record.function_of(one), threads)
        if not is_base:
            self.compare(name, checksum_of(data))
        return data

    def read_slabs(self, name: str, threads: int = 1) -> Iterator[bytes]:
        """The bytes of a tensor in consecutive pieces, few of which are in memory at once.

        The checksum is compared after the last piece, so none may be used before.

        Args:
            name: of the tensor.
            threads: number of threads that decode it.

        Raises:
            CorruptError: the tensor is damaged.
            KolmoError: there is no tensor of this name.
        """
        name, one = self._stored(name)
        data = self.read_code(name)
        whole = hashlib.sha256()
        with self.placed(name):
            pieces = iter([data]) if one is None else decode_slabs(one, data, self.record.function_of(one), threads)
            for piece in pieces:
                whole.update(piece)
                yield piece
        self.compare(name, whole.hexdigest()[:CHECKSUM_DIGITS])

    def _stored(self, name: str) -> tuple[str, Coded | None]:
        """The name under which the file holds a tensor, and its entry if it is coded."""
        self.kind(name)
        name = self.record.aliases.get(name, name)
        return name, self.record.coded.get(name)

    @contextmanager
    def placed(self, name: str) -> Iterator[None]:
        """Within it, errors of a damaged code say in which file and tensor, and where in the file, it is."""
        try:
            yield
        except CorruptError as error:
            at = self.span(name)[0] + (error.offset or 0)
            raise CorruptError(f"{self.path}: tensor {quoted(name)}: {error}; get the file again", at) from None

    def read_code(self, name: str) -> bytes:
        """What the file holds of a tensor that is not tied: its code, or its bytes; none of it is checked."""
        begin, size = self.span(name)
        with open(self.path, "rb") as file:
            return read_span(file, self.path, begin, size)

    def compare(self, name: str, found: str) -> None:
        """Compare the checksum of a tensor's bytes with the recorded one.

        Raises:
            CorruptError: they differ.
        """
        begin, one = self.span(name)[0], self.record.coded.get(name)
        if found != (self.record.raw[name] if one is None else one.checksum):
            raise CorruptError(
                f"{self.path}: tensor {quoted(name)}, at byte {begin}, is damaged: its checksum differs; get it again",
                begin,
            )

    def read_all(
        self, names: Iterable[str], threads: int = 1, progress: Progress | None = None, *, base: bool = False
    ) -> Iterator[tuple[str, bytes]]:
        """Tensors in the order of `names`, several read at once.

        Args:
            names: of the tensors.
            threads: number of tensors at once; 0 is one for each core.
            progress: called with the number of bytes just decoded.
            base: as for `read`.
        """
        wanted = list(names)
        cores = threads or available_cores()

        def work(name: str, progress: Progress) -> bytes:
            is_large = self._coded_count(name) > MIN_DIVIDED_WEIGHTS
            data = self.read(name, cores if is_large else 1, base=base)
            progress(len(data))
            return data

        pipeline: Pipeline[str, bytes] = Pipeline(work, threads=cores, capacity=CAPACITY_BYTES, progress=progress)
        items = ((name, WORKING_BYTES * self._coded_count(name)) for name in wanted)
        yield from zip(wanted, ordered_map(pipeline, items), strict=True)

    def _coded_count(self, name: str) -> int:
        one = self.record.coded.get(self.record.aliases.get(name, name))
        return one.count if one else 0
