"""Folders that the published code of "Hyper-Compression" writes (docs/torus.md, "Folders of the published code").

What it is not: a reader of kolmo's own torus. There the points of the line are exact; here they are those that the
published code computes, for some of which a rounding decides on which edge of the square they lie.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.torus import MAX_BINARY32, MAX_POINTS, SIDES
from kolmo.safetensors import Kind, is_shape

INNER = "Compressed_Dir"
SIZES, PADDING, CHOICE, RINGS = "num_inner_list.bin", "if_padding.bin", "num_inner_index.bin", "class_list.bin"
CENTRES, FARTHEST = "center_node_list.bin", "farthest_node_list.bin"
NUMBER_BYTES = {PADDING: 1, CHOICE: 1, RINGS: 1, CENTRES: 8, FARTHEST: 8}  # bytes for each parameter
PARAMETER = re.compile(r"(\d{1,6})((?:_\d{1,18})*)_(\d{1,2})_([0-7])\.bin", re.ASCII)
SIDE = re.compile(r".*_l_(\d)(\d{1,16})", re.ASCII)
MAX_SIZES = 255  # numbers of points, of which a byte chooses one
CHUNK = 1 << 13  # pairs per pass; a multiple of 8, so that all begin at the same bit of a byte

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parameter(Kind):
    """One parameter of the network.

    Attributes:
        path: its file.
        width: bits of an index; 0 if the file has the numbers themselves.
        lead: zero bits before the first index.
    """

    path: Path
    width: int
    lead: int

    @property
    def pairs(self) -> int:
        """Number of indices, if it has any."""
        return (self.count + 1) // 2

    @property
    def stored(self) -> int:
        """Bytes of the file."""
        return (self.lead + self.width * self.pairs) // 8 if self.width else self.size


def is_published(path: str | Path) -> bool:
    """Whether a path is a folder that the published code wrote: one of its lists is there."""
    return any(os.path.isfile(os.path.join(path, inner, name)) for inner in ("", INNER) for name in (SIZES, RINGS))


class PublishedFolder:
    """A folder of the published code, its parameters in the order of `torch.nn.Module.parameters`.

    Nothing in it is trusted: all sizes are compared with the files before anything is made of them.

    Args:
        path: the folder, with Compressed_Dir or that one itself.
        side: of the square; None to take it from the folder's name, which ends in `_l_01` for 0.1.

    Attributes:
        parameters: they, without their numbers.
        packed_size: bytes of all files that are read.
        raw_size: bytes of all parameters in binary32.

    Raises:
        FormatError: the side is neither given nor in the name, or is out of range.
        CorruptError: a file is missing or has another size than the others demand.
        OSError: a file cannot be read.

    Example:
        >>> PublishedFolder("compressed_result/UNet_l_01").read(0).shape  # doctest: +SKIP
        (64, 3, 3, 3)
    """

    def __init__(self, path: str | Path, side: float | None = None) -> None:
        root = Path(os.path.abspath(path))
        self._folder = root / INNER if (root / INNER).is_dir() else root
        self._side = _side_of(self._folder) if side is None else side
        if not SIDES[0] <= self._side <= SIDES[1]:
            raise FormatError(f"{path}: has a square of side {self._side}, not {SIDES[0]} to {SIDES[1]}; give another")
        self.parameters = self._find()
        count = len(self.parameters)
        sizes = self._list(SIZES, MAX_SIZES * 8)
        if not sizes or len(sizes) % 8:
            self._fail(SIZES, f"has {len(sizes)} bytes, not 8 for each number of points")
        self._points = np.frombuffer(sizes, "<u8")
        if not ((self._points >= 1) & (self._points <= MAX_POINTS)).all():
            self._fail(SIZES, f"has a number of points that is not 1 to {MAX_POINTS}")
        lists = {name: self._list(name, bytes_each * count) for name, bytes_each in NUMBER_BYTES.items()}
        for name, data in lists.items():
            if len(data) != NUMBER_BYTES[name] * count:
                self._fail(name, f"does not have the {NUMBER_BYTES[name] * count} bytes of {count} parameters")
        self._padding, self._choice, self._rings = (lists[name] for name in (PADDING, CHOICE, RINGS))
        self._centres = np.frombuffer(lists[CENTRES], "<f4").reshape(-1, 2)
        self._farthest = np.frombuffer(lists[FARTHEST], "<f4").reshape(-1, 2)
        stored = sum(one.stored for one in self.parameters)
        self.raw_size = sum(one.size for one in self.parameters)
        self.packed_size = stored + sum(map(len, lists.values())) + len(sizes)

    def read(self, number: int) -> npt.NDArray[np.float32]:
        """The parameter of a number, in its shape.

        Raises:
            CorruptError: its file contradicts itself or the lists.
            OSError: it cannot be read.
        """
        one = self.parameters[number]
        data = one.path.read_bytes()
        if len(data) != one.stored:
            self._fail(one.path.name, f"has {len(data)} bytes, not {one.stored} as its name says")
        if not one.width:
            return np.frombuffer(data, "<f4").astype(np.float32).reshape(one.shape)
        if one.lead and data[0] >> (8 - one.lead):
            self._fail(one.path.name, "has bits other than 0 before its first index")
        choice, rings = self._choice[number], self._rings[number]
        if choice >= len(self._points) or self._padding[number] != one.count % 2:
            self._fail(one.path.name, f"has codebook {choice} and padding {self._padding[number]}, which cannot be")
        places = _line(int(self._points[choice]), self._side)
        with np.errstate(invalid="ignore"):  # of a signalling NaN, which is refused below
            centre, farthest = self._centres[number].astype(np.float64), self._farthest[number].astype(np.float64)
        far, half = math.dist(centre, farthest), self._side / 2
        if not (math.isfinite(far) and np.isfinite(centre).all()) or (rings and far <= half):
            self._fail(one.path.name, f"has a farthest pair at distance {far}, but {rings} rings")
        stretch = (half + np.arange(rings + 1.0) * ((far - half) / max(rings, 1))) / half
        out = np.empty((one.pairs, 2), np.float32)
        for first, indices in _indices(one, data):
            ring, entry = np.divmod(indices, len(places))
            if int(ring.max()) > rings:
                end = len(places) * (rings + 1)
                self._fail(one.path.name, f"has an index {int(indices.max())}, not below {end}")
            decoded = places[entry] * stretch[ring, None] + centre
            out[first : first + len(indices)] = np.clip(decoded, -MAX_BINARY32, MAX_BINARY32)
        return out.reshape(-1)[: one.count].reshape(one.shape)

    def arrays(self, names: Iterable[str]) -> dict[str, npt.NDArray[np.float32]]:
        """All parameters by the names of the network's, `[name for name, _ in module.named_parameters()]`.

        Raises:
            FormatError: these are more or fewer names than parameters.
            CorruptError, OSError: as for `read`.
        """
        found = list(names)
        if len(found) != len(self.parameters):
            raise FormatError(
                f"{self._folder}: has {len(self.parameters)} parameters, not {len(found)}; "
                "give the names of the network that was compressed"
            )
        return {name: self.read(number) for number, name in enumerate(found)}

    def _find(self) -> list[Parameter]:
        """The parameters, by the names of their files."""
        found: dict[int, Parameter] = {}
        for name in sorted(os.listdir(self._folder)):
            if not name[:1].isdigit():
                continue
            match = PARAMETER.fullmatch(name)
            shape = [*map(int, match[2].split("_")[1:])] if match else []
            if not match or not is_shape(shape):
                self._fail(name, "is not named NUMBER_SHAPE_BITS_ZEROS.bin")
            number, width, lead = int(match[1]), int(match[3]), int(match[4])
            one = Parameter("F32", tuple(shape), self._folder / name, width, lead)
            if number in found:
                self._fail(name, f"is parameter {number}, as {quoted(found[number].path.name)} is")
            if width > 32 or (width and not one.count) or -width * one.pairs % 8 != lead:
                self._fail(name, f"cannot have {width} bits for a pair behind {lead} zeros")
            if not one.path.is_file() or one.path.stat().st_size != one.stored:
                self._fail(name, f"is not a file of {one.stored} bytes, as its name says")
            found[number] = one
        missing = next((number for number in range(len(found)) if number not in found), None)
        if missing is not None or not found:
            self._fail("", f"has no parameter {missing or 0}")
        return [found[number] for number in range(len(found))]

    def _list(self, name: str, most: int) -> bytes:
        """The bytes of a list, at most one more than `most`."""
        if not (self._folder / name).is_file():
            self._fail(name, "is missing")
        with open(self._folder / name, "rb") as file:
            return file.read(most + 1)

    def _fail(self, name: str, what: str) -> NoReturn:
        raise CorruptError(f"{self._folder / name}: {what}; get the whole folder again")


def _side_of(folder: Path) -> float:
    """The side of the square by a folder's name."""
    named = folder.parent if folder.name == INNER else folder
    match = SIDE.fullmatch(named.name)
    if not match:
        raise FormatError(
            f"{named}: its name does not end in the side of the square, as NAME_l_01 for 0.1; rename the folder"
        )
    return float(f"{match[1]}.{match[2]}")


def _indices(one: Parameter, data: bytes) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """(first, indices) for each `CHUNK` pairs."""
    for first in range(0, one.pairs, CHUNK):
        pairs = min(CHUNK, one.pairs - first)
        begin = first // 8 * one.width
        size = (one.lead + pairs * one.width + 7) // 8
        bits = np.zeros((pairs, 32), np.uint8)
        packed = np.unpackbits(np.frombuffer(data, np.uint8, size, begin))[one.lead :][: pairs * one.width]
        bits[:, 32 - one.width :] = packed.reshape(pairs, one.width)
        yield first, np.packbits(bits).view(">u4").astype(np.int64)


def _line(points: int, side: float) -> Floats:
    """The points of the line, entry 0 the centre, relative to it, shape (points + 1, 2), with the published roundings.

    The published code steps along the line by a length, and takes the remainder by the side. Its step up is off by a
    rounding, so that for some numbers of points the lowest row comes to lie on the upper edge: the encoder looked for
    pairs there. The length of the direction is a product of two numbers with itself, fused as in OpenBLAS on
    processors that can.
    """
    rows = math.isqrt(points - 1) + 1
    gap = side / rows
    length = math.sqrt(side * side + gap * gap)
    step = side / (side / length) / rows
    norm = math.sqrt(float(Fraction(gap * gap) + Fraction(side) ** 2))
    way = np.array([gap, side]) / norm * step
    places = np.zeros((points + 1, 2))
    places[1:] = np.arange(points)[:, None] * way % side - side / 2
    return places
