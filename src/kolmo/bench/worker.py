"""A compressor of a Python package as a program: python -m kolmo.bench.worker CODEC encode|decode INPUT OUTPUT.

Decoders of pictures and sounds write the array's bytes, which `files` compares with those of the input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from kolmo.errors import KolmoError

Coder = Callable[[Path, Path], None]


def _bytes(encode: Callable[[bytes], bytes]) -> Coder:
    return lambda source, target: _write(target, encode(source.read_bytes()))


def _write(target: Path, data: bytes) -> None:
    target.write_bytes(data)


def _coders(name: str) -> tuple[Coder, Coder]:
    """Encoder and decoder of a codec."""
    if name == "gzip":
        import gzip

        return _bytes(lambda data: gzip.compress(data, 9, mtime=0)), _bytes(gzip.decompress)
    if name == "bzip2":
        import bz2

        return _bytes(bz2.compress), _bytes(bz2.decompress)
    if name == "xz":
        import lzma

        return _bytes(lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), _bytes(lzma.decompress)
    if name == "zstd":
        import zstandard

        return _bytes(zstandard.ZstdCompressor(19).compress), _bytes(zstandard.ZstdDecompressor().decompress)
    if name == "brotli":
        import brotli

        return _bytes(lambda data: brotli.compress(data, quality=11, lgwin=24)), _bytes(brotli.decompress)
    if name in ("png", "webp"):
        return (_pillow_png if name == "png" else _pillow_webp), _pixels
    if name == "jxl":
        return _jxl, _jxl_back
    if name == "flac":
        return _flac, _samples
    raise KolmoError(f"codec {name!r} is not known")


def _pillow_png(source: Path, target: Path) -> None:
    from PIL import Image

    from kolmo.bench.media import pixels

    Image.fromarray(pixels(source)).save(target, "PNG", optimize=True)


def _pillow_webp(source: Path, target: Path) -> None:
    from PIL import Image

    from kolmo.bench.media import pixels

    picture = Image.fromarray(pixels(source))
    picture.save(target, "WEBP", lossless=True, quality=100, method=6, exact=True)


def _pixels(source: Path, target: Path) -> None:
    import numpy as np
    from PIL import Image

    with Image.open(source) as picture:
        _write(target, np.asarray(picture).tobytes())


def _jxl(source: Path, target: Path) -> None:
    import imagecodecs

    from kolmo.bench.media import pixels

    _write(target, bytes(imagecodecs.jpegxl_encode(pixels(source), lossless=True, effort=9)))


def _jxl_back(source: Path, target: Path) -> None:
    import imagecodecs

    _write(target, imagecodecs.jpegxl_decode(source.read_bytes()).tobytes())


def _flac(source: Path, target: Path) -> None:
    import soundfile

    from kolmo.bench.media import samples

    content, rate, kind = samples(source)
    with soundfile.SoundFile(
        target,
        "w",
        rate,
        content.shape[1],
        "PCM_S8" if kind == "PCM_U8" else kind,
        format="FLAC",
        compression_level=1.0,
    ) as sound:
        sound.write(content)


def _samples(source: Path, target: Path) -> None:
    from kolmo.bench.media import samples

    _write(target, samples(source)[0].tobytes())


def main(arguments: list[str]) -> int:
    """Run a coder; 1 where it fails, with a line on standard error."""
    name, direction, source, target = arguments
    try:
        _coders(name)[direction == "decode"](Path(source), Path(target))
    except KolmoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
