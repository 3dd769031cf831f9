"""The files of `benchmarks/kinds.py`: pictures, sound, numbers, programs, records, lines, and archives that mix them.

Each is made here with fixed seeds, or comes from KOLMO_DATA, from Python, or from a folder of more files that the user
names: its files are taken as they are, and the part of their names before the first dash is their group.
What it is not: the texts that `benchmarks/lossless.py` compares tools on (see `harness.files`).
"""

from __future__ import annotations

import io
import random
import struct
import tarfile
import wave
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image

from harness import kinds
from harness.files import text_folder

Pixels = npt.NDArray[np.uint8]
KIB = 1 << 10
PATCH_ROWS, PATCH_COLUMNS, MOST_PATCHES = 32, 64, 10
CHUNK_SAMPLES = 2048
CROPPED = ("kodim01", "kodim05", "kodim23")  # pictures of which a crop is measured too, for slow tools
CROP = (slice(128, 384), slice(256, 512))
SPEECH = ("LJ001-0002", "LJ001-0004", "LJ001-0008")


def data_folder() -> Path:
    """The folder that KOLMO_DATA points to."""
    return text_folder().parent.parent


def pictures() -> dict[str, Pixels]:
    """The Kodak pictures of bench/images: rows x columns x 3."""
    folder = data_folder() / "bench/images"
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("kodim*.png"))}


def netpbm(pixels: Pixels) -> bytes:
    """Grey pixels as binary PGM, RGB as PPM."""
    magic = b"P6" if pixels.ndim == 3 else b"P5"
    return b"%s\n%d %d\n255\n" % (magic, pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def saved(pixels: Pixels, name: str, **options: Any) -> bytes:
    """Pixels in a format of Pillow's."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, name, **options)
    return out.getvalue()


def grey(pixels: Pixels) -> Pixels:
    """The mean of red, green and blue, its fraction dropped."""
    means: npt.NDArray[np.float64] = pixels.astype(np.float64).mean(-1)
    return means.astype(np.uint8)


def with_alpha(pixels: Pixels) -> Pixels:
    """Pixels with a fourth channel: opaque within an ellipse whose edge is soft."""
    rows, columns = np.ogrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    alpha = np.clip((1.0 - np.hypot(rows, columns)) * 1000, 0, 255).astype(np.uint8)
    return np.dstack([pixels, alpha]).astype(np.uint8)


def patches() -> list[Pixels]:
    """Grey patches of 32 x 64 of the photographs of bench/images/imagenet: on a grid, up to 10 of each, drawn."""
    draw = np.random.default_rng(0)
    found: list[Pixels] = []
    for path in sorted((data_folder() / "bench/images/imagenet").iterdir()):
        picture = grey(np.asarray(Image.open(path).convert("RGB")))
        cut = [
            np.ascontiguousarray(picture[y : y + PATCH_ROWS, x : x + PATCH_COLUMNS])
            for y in range(0, picture.shape[0] - PATCH_ROWS + 1, PATCH_ROWS)
            for x in range(0, picture.shape[1] - PATCH_COLUMNS + 1, PATCH_COLUMNS)
        ]
        found += [cut[i] for i in draw.permutation(len(cut))[:MOST_PATCHES]]
    return found


def recordings(which: str) -> list[Path]:
    """Speech of no training: all of `lj`, or every tenth file of `arctic`, as `kolmo train` holds out."""
    if which == "lj":
        return sorted((data_folder() / "bench/audio").glob("*.flac"))
    return sorted((data_folder() / "train/speech").iterdir())[9::10]


def chunks(which: str) -> list[Pixels]:
    """The upper 8 bits of speech, unsigned, 2048 samples at a time; the incomplete last chunk is dropped."""
    found: list[Pixels] = []
    for path in recordings(which):
        samples = ((soundfile.read(path, dtype="int16")[0].astype(int) >> 8) + 128).astype(np.uint8)
        found += [samples[i : i + CHUNK_SAMPLES] for i in range(0, len(samples) - CHUNK_SAMPLES + 1, CHUNK_SAMPLES)]
    return found


def wav(samples: bytes, rate: int, width: int, channels: int = 1) -> bytes:
    """Samples as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()


def speech(path: Path, width: int = 2) -> bytes:
    """A recording decoded: 16 bits, or the upper 8."""
    samples, rate = soundfile.read(path, dtype="int16")
    packed = samples.astype("<i2").tobytes() if width == 2 else ((samples >> 8) + 128).astype(np.uint8).tobytes()
    return wav(packed, rate, width)


def aiff(path: Path) -> bytes:
    """A recording decoded, as AIFF: 16 bits, high byte first."""
    samples, rate = soundfile.read(path, dtype="int16")
    out = io.BytesIO()
    soundfile.write(out, samples, rate, subtype="PCM_16", format="AIFF")
    return out.getvalue()


def ids() -> bytes:
    """Ids of 64 bits in order of time: milliseconds, one of 8 machines, a counter."""
    draw, time, made = random.Random(11), 1_700_000_000_000, []
    for _ in range(12_000):
        time += int(draw.expovariate(1 / 40))
        made.append((time - 1_288_834_974_657) << 22 | draw.randrange(8) << 12 | draw.randrange(3))
    return struct.pack("<12000Q", *made)


def foreign_keys() -> bytes:
    """Ids of 64 bits that refer to 1,500 random ones, some often and most seldom."""
    draw = random.Random(12)
    known = [draw.getrandbits(63) for _ in range(1_500)]
    return struct.pack("<12000Q", *draw.choices(known, [1 / (n + 1) for n in range(1_500)], k=12_000))


def measurements() -> bytes:
    """Numbers in binary64: a random walk with two decimals."""
    draw, value, made = random.Random(13), 20.0, []
    for _ in range(12_000):
        value += draw.gauss(0, 0.15)
        made.append(round(value, 2))
    return struct.pack("<12000d", *made)


def signal() -> bytes:
    """Numbers in binary64 with all bits of their fractions: a smooth signal and a little noise."""
    time = np.arange(12_000)
    noise = np.random.default_rng(14).normal(0, 0.01, len(time))
    return (np.sin(time / 37) * 3 + np.sin(time / 211) + noise).astype("<f8").tobytes()


def weights(limit: int) -> bytes:
    """A part of the checkpoint of a trained ResNet-56: tensors in binary32 with their counts between them."""
    (found,) = (data_folder() / "models/resnet_cifar10").glob("resnet56-*.th")
    return found.read_bytes()[2_000_000 : 2_000_000 + limit]


def llama(limit: int) -> bytes:
    """Weights of a small language model in binary32."""
    return (data_folder() / "models/stories260K/stories260K.bin").read_bytes()[200_000 : 200_000 + limit]


def elevations() -> bytes:
    """Heights on a grid in 16 bits, little-endian: hills of several sizes."""
    draw, ground = np.random.default_rng(15), np.zeros((256, 256))
    for scale in (4, 8, 16, 32, 64):
        coarse = draw.normal(0, scale * 2.5, (256 // scale + 2, 256 // scale + 2))
        fine = np.asarray(Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC))
        ground += fine
    return (ground + 600).astype("<i2").tobytes()


def trades() -> bytes:
    """Records of 32 bytes: a counter, a time, a name, a price, a quantity, a flag."""
    draw, time, price, made = random.Random(16), 1_700_000_000, [100.0 + 7 * n for n in range(20)], []
    names = [b"%-6s" % bytes(draw.choices(b"ABCDEFGHIKLMNOPRSTVW", k=draw.choice([3, 4]))) for _ in range(20)]
    for number in range(3_000):
        time += draw.choice([0, 0, 1, 2])
        which = draw.randrange(20)
        price[which] = round(price[which] * (1 + draw.gauss(0, 0.001)), 2)
        cents, quantity = int(price[which] * 100), draw.choice([1, 5, 10, 100]) * draw.randrange(1, 20)
        made.append(
            struct.pack("<IQ6sIIBBHH", number, time, names[which], cents, quantity, draw.random() < 0.5, 1, 0, which)
        )
    return b"".join(made)


def packets() -> bytes:
    """Records of 20 bytes, high byte first, as headers of IPv4 packets."""
    draw, counter, made = random.Random(17), 0, []
    hosts = [0x0A000000 + draw.randrange(1 << 16) for _ in range(30)]
    for _ in range(4_000):
        counter = (counter + draw.randrange(1, 4)) & 0xFFFF
        size = draw.choice([40, 40, 52, 1500, draw.randrange(60, 1400)])
        checksum = draw.randrange(1 << 16)
        made.append(struct.pack(">BBHHHBBHII", 0x45, 0, size, counter, 0x4000, 64, 6, checksum, *draw.sample(hosts, 2)))
    return b"".join(made)


def extension(name: str, limit: int | None = None) -> bytes:
    """The compiled part of an installed package, from its start."""
    found = sorted(Path(np.__file__).parent.glob(name))
    return found[0].read_bytes()[:limit]


def mixture() -> bytes:
    """A tar archive whose members are of many kinds."""
    crop = pictures()["kodim05"][CROP]
    members: dict[str, bytes] = {
        "notes.txt": kinds.text("calgary/paper1", 20_000),
        "photo.bmp": saved(crop, "BMP"),
        "prog.c": kinds.text("calgary/progc", 20_000),
        "speech.wav": speech(recordings("lj")[7]),
        "module.so": extension("linalg/_umath_linalg*.so", 64 * KIB),
        "trades.bin": trades()[: 32 * KIB],
        "ids.bin": ids()[: 24 * KIB],
        "tweets.json": kinds.text("twitter.json", 20_000),
        "readings.f64": measurements()[: 24 * KIB],
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), 1_600_000_000, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _of_pictures() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name, pixels in pictures().items():
        yield f"{name}.ppm", lambda pixels=pixels: netpbm(pixels)  # type: ignore[misc]
        yield f"{name}.bmp", lambda pixels=pixels: saved(pixels, "BMP")  # type: ignore[misc]
    for name in CROPPED:
        crop = np.ascontiguousarray(pictures()[name][CROP])
        yield f"{name}-256.ppm", lambda crop=crop: netpbm(crop)  # type: ignore[misc]
        yield f"{name}-256.bmp", lambda crop=crop: saved(crop, "BMP")  # type: ignore[misc]
    picture = pictures()["kodim23"]
    crop = np.ascontiguousarray(picture[CROP])
    yield "kodim23.pgm", lambda: netpbm(grey(picture))
    yield "kodim23-256.pgm", lambda: netpbm(grey(crop))
    yield "kodim23-256.tif", lambda: saved(crop, "TIFF")
    yield "kodim23-256-grey.tif", lambda: saved(grey(crop), "TIFF")
    yield "kodim23-256.tga", lambda: saved(crop, "TGA")
    yield "kodim23-256-alpha.tga", lambda: saved(with_alpha(crop), "TGA")
    yield "kodim23-256.raw", lambda: crop.tobytes()
    yield "patches-100.pgm", lambda: netpbm(np.concatenate(patches()[:100]))


def _of_sound() -> Iterator[tuple[str, Callable[[], bytes]]]:
    lj = {path.stem: path for path in recordings("lj")}
    for name in SPEECH:
        yield f"{name}.wav", lambda name=name: speech(lj[name])  # type: ignore[misc]
    held_out = recordings("arctic")
    for path in (held_out[0], held_out[1], held_out[-2], held_out[-1]):
        yield f"{path.stem}.wav", lambda path=path: speech(path)  # type: ignore[misc]
    yield "LJ001-0002-8bit.wav", lambda: speech(lj["LJ001-0002"], 1)
    yield "LJ001-0002.aiff", lambda: aiff(lj["LJ001-0002"])
    yield "LJ001-0002.raw", lambda: speech(lj["LJ001-0002"])[44:]


OTHERS: dict[str, Callable[[], bytes]] = {
    "ids.u64": ids,
    "foreign-keys.u64": foreign_keys,
    "measurements.f64": measurements,
    "signal.f64": signal,
    "resnet56.f32": lambda: weights(128 * KIB),
    "stories260K.f32": lambda: llama(128 * KIB),
    "elevations.i16": elevations,
    "trades.records": trades,
    "packets.records": packets,
    "geo": lambda: kinds.text("calgary/geo"),
    "kennedy.xls": lambda: kinds.text("canterbury/kennedy.xls"),
    "kennedy-100k.xls": lambda: kinds.text("canterbury/kennedy.xls", 100_000),
    "pic": lambda: kinds.text("calgary/pic"),
    "obj2": lambda: kinds.text("calgary/obj2"),
    "sum": lambda: kinds.text("canterbury/sum"),
    "umath_linalg.so": lambda: extension("linalg/_umath_linalg*.so"),
    "argparse.pyc": kinds.compiled,
    "mixture.tar": mixture,
    "table.csv": lambda: kinds.table()[: 100 * KIB],
    "records.jsonl": lambda: kinds.json_lines()[: 100 * KIB],
    "server.log": lambda: kinds.log()[: 100 * KIB],
    "twitter-100k.json": lambda: kinds.text("twitter.json", 100_000),
    "citm-100k.json": lambda: kinds.text("citm_catalog.json", 100_000),
    "alice29-50k.txt": lambda: kinds.text("canterbury/alice29.txt", 50_000),
    "library-50k.py": lambda: kinds.library(50_000),
}


def makers() -> dict[str, Callable[[], bytes]]:
    """All files by name, and what makes each."""
    return {**dict(_of_pictures()), **dict(_of_sound()), **OTHERS}


def write(folder: Path, names: Iterable[str], more: Path | None) -> dict[str, Path]:
    """Write the named files into `folder`, and copy those of the folder of more files."""
    known = makers()
    found = {}
    for name in names:
        target = folder / name
        if not target.exists():
            target.write_bytes(known[name]())
        found[name] = target
    for path in sorted(more.iterdir()) if more else ():
        target = folder / path.name
        if path != target:
            target.write_bytes(path.read_bytes())
        found[path.name] = target
    return found
