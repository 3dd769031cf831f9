"""Pictures and sounds for the codecs made for them: which files they take, and their content as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PICTURES = (b"P5", b"P6", b"BM", b"II*\0", b"MM\0*")  # the first bytes: PGM, PPM, BMP, TIFF
SOUNDS = ((b"RIFF", b"WAVE"), (b"FORM", b"AIFF"))  # the first bytes, and those from the eighth on
MAX_PIXELS = 1 << 28


def is_picture(path: Path) -> bool:
    """Whether a file begins as an uncompressed picture does."""
    with open(path, "rb") as file:
        return file.read(4).startswith(PICTURES)


def is_sound(path: Path) -> bool:
    """Whether a file begins as an uncompressed sound does."""
    with open(path, "rb") as file:
        head = file.read(12)
    return (head[:4], head[8:12]) in SOUNDS


def pixels(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of a picture, shape (height, width) or (height, width, channels).

    Raises:
        KolmoError: it is not one, has other values than bytes, or is too large.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise KolmoError(f"{path}: has more than {MAX_PIXELS} pixels; leave the picture codecs out")
            if picture.mode not in ("L", "RGB", "RGBA"):
                raise KolmoError(f"{path}: is a picture of mode {picture.mode}, which this comparison leaves out")
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise KolmoError(f"{path}: is not a picture that Pillow reads ({error}); leave the codecs out") from None


def samples(path: Path) -> tuple[npt.NDArray[np.int32], int, str]:
    """The samples of a sound, shape (frames, channels), left-aligned in 32 bits; rate in Hz; subtype of soundfile.

    Raises:
        KolmoError: it is not a sound of integers.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as sound:
            kind = str(sound.subtype)
            if kind not in ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24"):
                raise KolmoError(f"{path}: is a sound of {kind}, which this comparison leaves out")
            return sound.read(dtype="int32", always_2d=True), int(sound.samplerate), kind
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise KolmoError(f"{path}: is not a sound that libsndfile reads ({error}); leave the codecs out") from None


def same_content(path: Path, restored: bytes) -> bool:
    """Whether these are the pixels or samples of a file; a grey picture may come back in three equal channels."""
    content = (pixels(path) if is_picture(path) else samples(path)[0]).tobytes()
    return restored == content or (
        len(restored) == 3 * len(content) and all(restored[channel::3] == content for channel in range(3))
    )
