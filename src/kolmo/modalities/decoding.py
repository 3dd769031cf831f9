"""Files of pictures and sounds as arrays, and folders of them.

What it is not: it cuts nothing into chunks (`modalities.chunks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import reason
from kolmo.installing import install

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SOUND_SUFFIXES = frozenset({".aif", ".aiff", ".au", ".flac", ".mp3", ".ogg", ".wav"})
MAX_PIXELS = 1 << 28  # of a picture
MAX_FRAMES = 1 << 30  # of a sound


def files_under(path: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """A file itself, or the files of a folder whose names end so, sorted.

    Raises:
        KolmoError: there are none.
    """
    if path.is_file():
        yield path
        return
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in suffixes and one.is_file())
    if not found:
        raise KolmoError(f"{path}: has no file that ends in {', '.join(sorted(suffixes))}; name another folder")
    yield from found


def picture(path: Path) -> npt.NDArray[np.uint8]:
    """A picture in RGB, shape (rows, columns, 3).

    Raises:
        KolmoError: it cannot be read, or is too large.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(f"pictures need Pillow; {install('bench')}") from None
    import numpy as np

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise KolmoError(f"{path}: has {opened.width} x {opened.height} pixels, too many; leave it out")
            return np.asarray(opened.convert("RGB"))
    except KolmoError:
        raise
    except Exception as error:  # of Pillow's decoders, for damaged files
        raise KolmoError(f"{path}: is not a picture that Pillow reads ({reason(error)}); leave it out") from None


def sound(path: Path) -> npt.NDArray[np.int16]:
    """The first channel of a sound in 16 bits, shape (frames,): integers throughout, so that no value is clipped.

    Raises:
        KolmoError: it cannot be read, or is too long.
        MissingExtraError: soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError:
        raise MissingExtraError(f"sounds need soundfile; {install('bench')}") from None
    try:
        with soundfile.SoundFile(path) as opened:
            if opened.frames > MAX_FRAMES:
                raise KolmoError(f"{path}: has {opened.frames} frames, too many; leave it out")
            found: npt.NDArray[np.int16] = opened.read(dtype="int16", always_2d=True)[:, 0]
            return found
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise KolmoError(f"{path}: is not a sound that libsndfile reads ({reason(error)}); leave it out") from None
