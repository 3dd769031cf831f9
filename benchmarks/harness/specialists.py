"""Codecs made for one kind of content: PNG, WebP and JPEG XL for pixels, FLAC for samples.

Each is called within this process (Pillow, imagecodecs, soundfile) with its strongest lossless setting, and its
output is decoded and compared, value by value, before its size counts.
What it is not: the general compressors, which run as processes (see `harness.tools`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Specialist:
    """A codec of arrays: pixels (rows x columns, or x channels), or samples (frames x channels) with their bits."""

    label: str
    encode: Callable[[npt.NDArray[Any], int], bytes]
    decode: Callable[[bytes, int], npt.NDArray[Any]]


def png(pixels: npt.NDArray[Any], bits: int) -> bytes:
    """PNG with the filters that Pillow's `optimize` chooses and zlib's level 9."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True, compress_level=9)
    return out.getvalue()


def from_png(packed: bytes, bits: int) -> npt.NDArray[Any]:
    """Pixels of a PNG file."""
    return np.asarray(Image.open(io.BytesIO(packed)))


def webp(pixels: npt.NDArray[Any], bits: int) -> bytes:
    """Lossless WebP, method 6, colours under alpha 0 kept; grey as three equal channels, the only way it has."""
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    image = image.convert("RGB") if pixels.ndim == 2 else image
    image.save(out, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return out.getvalue()


def from_webp(packed: bytes, bits: int) -> npt.NDArray[Any]:
    """Pixels of a WebP file."""
    return np.asarray(Image.open(io.BytesIO(packed)))


def jpeg_xl(pixels: npt.NDArray[Any], bits: int) -> bytes:
    """Lossless JPEG XL, effort 9, one thread."""
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=9, numthreads=1))


def from_jpeg_xl(packed: bytes, bits: int) -> npt.NDArray[Any]:
    """Pixels of a JPEG XL file."""
    import imagecodecs

    return np.asarray(imagecodecs.jpegxl_decode(packed, numthreads=1))


SUBTYPES = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}


def flac(samples: npt.NDArray[Any], bits: int) -> bytes:
    """FLAC at level 8 (libsndfile's 1.0). Samples are integers of the upper bits of 32."""
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, subtype=SUBTYPES[bits], format="FLAC", compression_level=1.0)
    return out.getvalue()


def from_flac(packed: bytes, bits: int) -> npt.NDArray[Any]:
    """Samples of a FLAC file."""
    return np.asarray(soundfile.read(io.BytesIO(packed), dtype="int32")[0])


PIXELS = {
    "png": Specialist("PNG", png, from_png),
    "webp": Specialist("WebP lossless", webp, from_webp),
    "jxl-9": Specialist("JPEG XL -e 9", jpeg_xl, from_jpeg_xl),
}
SAMPLES = {"flac-8": Specialist("FLAC -8", flac, from_flac)}


def round_trip(codec: Specialist, content: npt.NDArray[Any], bits: int = 8) -> tuple[int, float, float]:
    """Bytes, and CPU seconds of encoding and decoding.

    Raises:
        ValueError: the decoded values differ.
    """
    began = time.process_time()
    packed = codec.encode(content, bits)
    encoded = time.process_time()
    restored = codec.decode(packed, bits)
    decoded = time.process_time()
    if codec.label.startswith("WebP") and content.ndim == 2:
        if (restored[..., 0] != restored[..., 1]).any() or (restored[..., 0] != restored[..., 2]).any():
            raise ValueError(f"{codec.label}: grey came back in colour")
        restored = restored[..., 0]
    if restored.shape != content.shape or not np.array_equal(restored, content):
        raise ValueError(f"{codec.label}: other values came back")
    return len(packed), encoded - began, decoded - encoded


def content_of(path: Path) -> tuple[dict[str, Specialist], npt.NDArray[Any], int] | None:
    """The codecs for a file, its pixels or samples, and the bits of a sample; None for files of other kinds."""
    if path.suffix in {".ppm", ".pgm", ".bmp", ".tif", ".tga"}:
        return PIXELS, np.ascontiguousarray(np.asarray(Image.open(path))), 8
    if path.suffix in {".wav", ".aiff"}:
        subtype = soundfile.info(path).subtype
        bits = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}[subtype]
        return SAMPLES, soundfile.read(path, dtype="int32")[0], bits
    return None
