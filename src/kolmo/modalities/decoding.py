"""Files of pictures and sounds as arrays of integers, and folders of them.

What it is not: it cuts nothing into chunks (`modalities.chunks`).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
READ_FRAMES = 1 << 20  # of a sound that are read at once: a header's claim allocates no more
FLOAT_SUBTYPES = ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER")  # sounds that are stored or decoded as floats


@dataclass(frozen=True, eq=False)
class Sound:
    """The first channel of a sound.

    Attributes:
        samples: 16-bit integers, shape (frames,).
        rate: frames a second.
    """

    samples: npt.NDArray[np.int16]
    rate: int


def files_under(path: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """A file itself, or the files of a folder whose names end so, sorted.

    Raises:
        KolmoError: there are none.
    """
    if path.is_file():
        yield path
        return
    if not path.exists():
        raise KolmoError(f"{path}: no such file or folder; check the name (a data set is ORG/NAME:CONFIG@SPLIT)")
    found = sorted(one for one in path.rglob("*") if one.suffix.lower() in suffixes and one.is_file())
    if not found:
        raise KolmoError(f"{path}: has no file that ends in {', '.join(sorted(suffixes))}; name another folder")
    yield from found


def picture(path: Path, content: bytes | None = None) -> npt.NDArray[np.uint8]:
    """A picture in RGB, shape (rows, columns, 3).

    Palettes are looked up, transparency is left out, and of 16 bits a channel the top 8 are taken.

    Args:
        path: the file, or its name.
        content: of the file, where it is in memory.

    Raises:
        KolmoError: it cannot be read, is too large, or has values that are no integers.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(f"pictures need Pillow; {install('bench')}") from None
    if content is None:
        _check_readable(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and metadata: what is wrong with pixels is an error
            with Image.open(path if content is None else io.BytesIO(content)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise KolmoError(f"{path}: has {opened.width} x {opened.height} pixels, too many; leave it out")
                return _rgb(opened, path)
    except (KolmoError, MemoryError):
        raise
    except Exception as error:  # of Pillow's decoders, for damaged files
        raise KolmoError(f"{path}: is not a picture that Pillow reads ({reason(error)}); leave it out") from None


def _check_readable(path: Path) -> None:
    """Say what keeps a file from being read, of which libsndfile only says that there is something."""
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise KolmoError(f"{path}: {error.strerror}; leave it out, or make it readable") from None


def _rgb(opened: Any, path: Path) -> npt.NDArray[np.uint8]:
    import numpy as np

    if opened.mode == "F":
        raise KolmoError(f"{path}: is a picture of floating-point numbers; convert it to 8 bits a channel")
    if opened.mode.startswith("I"):  # `convert` would clip its values instead
        wide = np.asarray(opened)
        if wide.min(initial=0) < 0 or wide.max(initial=0) > 0xFFFF:
            raise KolmoError(f"{path}: is a picture of more than 16 bits; convert it to 8 bits a channel")
        return np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    return np.asarray(opened.convert("RGB"), np.uint8)


def sound(path: Path, content: bytes | None = None) -> Sound:
    """The first channel of a sound in 16 bits.

    Samples of integers are read as integers: of more than 16 bits the top 16 are taken. soundfile's way from floats to
    integers would drop the fraction of floats, and let loud samples of MP3 overflow; here they are rounded and limited.

    Args:
        path: the file, or its name.
        content: of the file, where it is in memory.

    Raises:
        KolmoError: it cannot be read, is too long, or has values that are no numbers.
        MissingExtraError: soundfile is not installed.
    """
    try:
        import soundfile
    except ImportError:
        raise MissingExtraError(f"sounds need soundfile; {install('bench')}") from None
    if content is None:
        _check_readable(path)
    import numpy as np

    parts: list[npt.NDArray[np.int16]] = []
    frames = 0
    try:
        with soundfile.SoundFile(path if content is None else io.BytesIO(content)) as opened:
            floats = str(opened.subtype).startswith(FLOAT_SUBTYPES)
            while True:
                read = opened.read(READ_FRAMES, dtype="float64" if floats else "int16", always_2d=True)
                if not len(read):
                    return Sound(np.concatenate(parts) if parts else np.zeros(0, np.int16), int(opened.samplerate))
                frames += len(read)
                if frames > MAX_FRAMES:
                    raise KolmoError(f"{path}: has more than {MAX_FRAMES} frames; leave it out")
                parts.append(_integers(read[:, 0], path) if floats else read[:, 0].copy())
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise KolmoError(f"{path}: is not a sound that libsndfile reads ({reason(error)}); leave it out") from None


def _integers(samples: npt.NDArray[np.float64], path: Path) -> npt.NDArray[np.int16]:
    import numpy as np

    if not np.isfinite(samples).all():
        raise KolmoError(f"{path}: has samples that are no numbers; leave it out")
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
