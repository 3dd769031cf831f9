"""Pictures to train and to validate on, and random bytes of them with what precedes these.

What it is not: it knows no model. A picture is used twice: in colour, byte by byte in the turns green, red, blue, and
in grey, the mean of its channels, mostly cut into patches of 32 x 64 pixels that know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import reason
from kolmo.installing import install
from kolmo.native.pixels.network import TURNS, Inputs, Places, inputs
from kolmo.training.media.source import MediaSource, Medium, open_media

Bytes = npt.NDArray[np.uint8]
SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
MAX_PIXELS = 1 << 27  # of a source; pictures beyond are left out
PATCH_ROWS, PATCH_COLUMNS = 32, 64
PATCHED = (0.8, 0.1)  # share of bytes that are predicted as in patches: of grey ones, of coloured ones
ORDER = (1, 0, 2)  # green, red, blue of RGB


@dataclass(frozen=True)
class Pictures:
    """Pictures of one number of channels, joined.

    Attributes:
        data: bytes of all of them.
        channels: 1 or 3.
        begin, rows, columns: of each picture.
    """

    data: Bytes
    channels: int
    begin: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    @classmethod
    def join(cls, pictures: Sequence[Bytes]) -> Pictures:
        """From arrays (rows, columns, channels)."""
        sizes = [picture.size for picture in pictures]
        begin = np.cumsum([0, *sizes])[:-1]
        rows, columns = (np.array([picture.shape[k] for picture in pictures]) for k in (0, 1))
        return cls(np.concatenate([p.ravel() for p in pictures]), pictures[0].shape[2], begin, rows, columns)

    def draw(self, rng: np.random.Generator, count: int, patched: float) -> Places:
        """Random pixels, all equally probable; a share `patched` of them as in patches."""
        ends = np.cumsum(self.rows * self.columns)
        at = rng.integers(0, ends[-1], count)
        number = np.searchsorted(ends, at, side="right")
        row, column = np.divmod(at - (ends[number] - self.rows[number] * self.columns[number]), self.columns[number])
        return self.places(number, row, column, rng.random(count) < patched)

    def places(self, number: Any, row: Any, column: Any, patched: Any) -> Places:
        """Pixels of the pictures `number`."""
        stride = self.columns[number] * self.channels
        at = self.begin[number] + row * stride + column * self.channels
        first = np.where(patched, column // PATCH_COLUMNS * PATCH_COLUMNS, 0)
        columns = np.where(patched, np.minimum(PATCH_COLUMNS, self.columns[number] - first), self.columns[number])
        return Places(at, stride, np.where(patched, row % PATCH_ROWS, row), column - first, columns)

    def look(self, places: Places, kind: int) -> tuple[Inputs, npt.NDArray[np.int64]]:
        """What bytes of a kind are predicted from, and the bytes."""
        turn = max(kind - 1, 0)
        order = ORDER if self.channels == 3 else (0,)
        found = inputs(self.data, places, self.channels, order, turn)
        return found, self.data[places.at + order[turn]].astype(np.int64)


PictureSource = MediaSource[tuple[Pictures, Pictures | None]]  # pictures in grey, and in colour where there are any


def open_pictures(sources: Sequence[tuple[Path, float | None]], run: Path | None = None) -> tuple[PictureSource, ...]:
    """Open the pictures of a run: all under each folder whose names end as those of pictures.

    Args:
        sources: folders with their weights; None everywhere: by their numbers of pixels.
        run: the folder of the run, whose files are left out.

    Raises:
        KolmoError: as for `open_media`.
        MissingExtraError: Pillow is not installed.
    """
    return open_media(sources, PICTURES, run)


def _decode(path: Path) -> Bytes:
    """A picture as (rows, columns, 1 or 3)."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtraError(f"pictures are read with Pillow ({error}); {install('train')}") from None
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L")
            array = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise KolmoError(f"{path}: not a picture that Pillow reads ({reason(error)}); remove it") from None
    return array[:, :, None] if grey else array


def _both(pictures: Sequence[Bytes]) -> tuple[Pictures, Pictures | None]:
    """All in grey, and those in colour."""
    grey = [p if p.shape[2] == 1 else _mean(p) for p in pictures]
    colour = [p for p in pictures if p.shape[2] == 3]
    return Pictures.join(grey), Pictures.join(colour) if colour else None


def _pixels(picture: Bytes) -> int:
    return picture.shape[0] * picture.shape[1]


def _mean(picture: Bytes) -> Bytes:
    """The mean of the channels, rounded down."""
    return (picture.astype(np.uint16).sum(2, keepdims=True) // 3).astype(np.uint8)


PICTURES = Medium("pictures", "pictures", SUFFIXES, _decode, _pixels, MAX_PIXELS, 0, _both)


class PixelSampler:
    """Draws batches: for each kind of byte an equal number, from sources by their weights.

    Args:
        sources: of pictures.
        count: bytes of a kind in a batch.
        seed: of chance.
    """

    def __init__(self, sources: Sequence[PictureSource], count: int, seed: int) -> None:
        self.sources, self.count, self.rng = sources, count, np.random.default_rng(seed)

    def batch(self) -> Iterator[tuple[int, Inputs, npt.NDArray[np.int64]]]:
        """Kind, inputs and bytes, kind by kind."""
        for kind in range(len(TURNS)):
            coloured = int(kind > 0)
            sets = [(s.weight, s.learned[coloured]) for s in self.sources if s.learned[coloured] is not None]
            if not sets:
                continue
            shares = np.array([weight for weight, _ in sets])
            counts = self.rng.multinomial(self.count, shares / shares.sum())
            found = [
                pictures.look(pictures.draw(self.rng, n, PATCHED[coloured]), kind)
                for n, (_, pictures) in zip(counts, sets, strict=True)
                if n and pictures is not None
            ]
            yield kind, _joined([inputs for inputs, _ in found]), np.concatenate([values for _, values in found])

    def state(self) -> dict[str, Any]:
        """What `restore` needs, ready for JSON."""
        return {"rng": self.rng.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.rng.bit_generator.state = state["rng"]


def _joined(parts: Sequence[Inputs]) -> Inputs:
    return Inputs(
        np.concatenate([part.differences for part in parts]),
        np.concatenate([part.known for part in parts]),
        np.concatenate([part.guess for part in parts]),
    )


__all__ = ["PictureSource", "Pictures", "PixelSampler", "open_pictures"]
