"""Texts, pictures and sounds of a place: a file, a folder of files, or a data set.

    PATH                      a file, or a folder of texts, pictures or sounds
    FOLDER[:CONFIG][@SPLIT]   a data set that lies in a folder
    ORG/NAME[:CONFIG][@SPLIT] a data set of the Hugging Face hub

Of a data set no more is read than is asked for. What it is not: it cuts nothing into chunks (`modalities.chunks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError
from kolmo.modalities import datasets
from kolmo.modalities.decoding import PICTURE_SUFFIXES, SOUND_SUFFIXES, Sound, files_under, picture, sound

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TEXT_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".tex", ".html", ".xml", ".json", ".jsonl", ".csv", ".log", ".py", ".c"}
)
READ_BYTES = 1 << 20


def texts(place: str | Path) -> Iterator[bytes]:
    """The bytes of a text, or of the texts of a folder one after another, in pieces.

    Raises:
        KolmoError: there is none, or it cannot be read.
        MissingExtraError: it is a data set, and `datasets` is not installed.
    """
    if spec := datasets.spec_of(place, TEXT_SUFFIXES):
        yield from datasets.texts(spec)
        return
    for path in files_under(Path(place), TEXT_SUFFIXES):
        try:
            with open(path, "rb") as file:
                while piece := file.read(READ_BYTES):
                    yield piece
        except OSError as error:
            raise KolmoError(f"{path}: {error.strerror}; name a file or folder that can be read") from None


def pictures(place: str | Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Pictures in RGB, shape (rows, columns, 3).

    Raises:
        KolmoError: there is none, or one cannot be read.
        MissingExtraError: Pillow is not installed, or it is a data set, and `datasets` is not.
    """
    if spec := datasets.spec_of(place, PICTURE_SUFFIXES):
        yield from (picture(Path(name), content) for name, content in datasets.media(spec, "Image"))
        return
    yield from map(picture, files_under(Path(place), PICTURE_SUFFIXES))


def sounds(place: str | Path) -> Iterator[Sound]:
    """The first channels of sounds, in 16 bits.

    Raises:
        KolmoError: there is none, or one cannot be read.
        MissingExtraError: soundfile is not installed, or it is a data set, and `datasets` is not.
    """
    if spec := datasets.spec_of(place, SOUND_SUFFIXES):
        yield from (sound(Path(name), content) for name, content in datasets.media(spec, "Audio"))
        return
    yield from map(sound, files_under(Path(place), SOUND_SUFFIXES))
