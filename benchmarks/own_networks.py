"""What a small network of one's own is worth: trained on yesterday's data, it compresses today's.

    python benchmarks/own_networks.py log=old.log:new.log json=old.json:new.json source=project/ --budget 10m

Each argument is NAME=TRAIN:TEST, two files that are apart in time, or NAME=FOLDER, whose files are parted: one of
four, by the hash of its name, is tested, the rest trained on. Sizes are of the first 4 KB, 64 KB and 1 MB of TEST,
each decompressed and compared: level 5 of kolmo, the network with mixers of some levels, zstd -19 with a dictionary
trained on the same text (110 KB, which `zstd --train` makes by default), zstd -19 alone, and xz -9e. Neither the
dictionary's own size is counted nor the network's. What it is not: a test of large networks.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import zstandard

import kolmo
from kolmo.predictors.registry import level_of, resolve

LEVELS = (1, 3, 5)  # of the network's mixer
SIZES = {"4 KB": 4_000, "64 KB": 64_000, "1 MB": 1_000_000}
DICTIONARY = 112_640  # bytes, zstd's default
SAMPLE = 4096  # bytes of each sample that the dictionary is made of
SAMPLES = 8192  # at most, evenly spaced
Way = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def parted(folder: Path) -> tuple[bytes, bytes]:
    """A folder's text files, one of four for the test, joined in the order of their names."""
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        data = path.read_bytes()
        if data and b"\0" not in data:
            name = path.relative_to(folder).as_posix()
            parts[hashlib.sha256(name.encode()).digest()[0] % 4 == 0].append(data)
    return b"".join(parts[0]), b"".join(parts[1])


def texts(argument: str) -> tuple[str, bytes, bytes]:
    """Name, training text and test text of an argument."""
    name, _, place = argument.partition("=")
    if Path(place).is_dir():
        return name, *parted(Path(place))
    train, _, test = place.partition(":")
    return name, Path(train).read_bytes(), Path(test).read_bytes()


def train(text: bytes, folder: Path, network: str, budget: str) -> Path:
    """A network of `kolmo train`."""
    source = folder / "train.txt"
    source.write_bytes(text)
    command = [sys.executable, "-m", "kolmo", "train", str(source), "--model", network, "--budget", budget]
    subprocess.run([*command, "-T", "1", "-q", "-o", str(folder / "run")], check=True)
    return folder / "run"


def zstd(text: bytes | None) -> Way:
    """Zstandard at level 19, with a dictionary trained on a text or without."""
    words = None
    if text is not None:
        step = max(SAMPLE, len(text) // SAMPLES)
        words = zstandard.train_dictionary(DICTIONARY, [text[at : at + SAMPLE] for at in range(0, len(text), step)])
    packer = zstandard.ZstdCompressor(level=19, dict_data=words)
    return packer.compress, zstandard.ZstdDecompressor(dict_data=words).decompress


def xz(data: bytes) -> bytes:
    """Pack as xz -9e does."""
    return lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)


def sizes(ways: dict[str, Way], data: bytes) -> dict[str, tuple[int, float, float]]:
    """Bytes, and CPU seconds of compression and decompression, of each way; decompressed and compared."""
    found = {}
    for name, (pack, unpack) in ways.items():
        start = time.process_time()
        packed = pack(data)
        middle = time.process_time()
        if unpack(packed) != data:
            raise SystemExit(f"{name} does not give the data back")
        found[name] = len(packed), middle - start, time.process_time() - middle
    return found


def main() -> None:
    """Train, compress, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("texts", nargs="+", metavar="NAME=TRAIN:TEST|NAME=FOLDER")
    parser.add_argument("--network", default="tiny", help="model of kolmo train (default tiny)")
    parser.add_argument("--budget", default="3m", help="of each training (default 3m)")
    parser.add_argument("--work", type=Path, help="folder for the networks (default: a temporary one)")
    parser.add_argument(
        "--run", action="append", default=[], metavar="NAME=RUN", help="a text's network in place of a new one; its run"
    )
    options = parser.parse_args()
    runs = dict(item.split("=", 1) for item in options.run)
    heads = ["kolmo -5", *(f"network:, level {level}" for level in LEVELS)]
    heads += ["zstd -19, dictionary", "zstd -19", "xz -9e"]
    print(f"| text | trained on | bytes | {' | '.join(heads)} | written, KB/s | read, KB/s |")
    print("|---|---:|---:|" + "---:|" * (len(heads) + 2))
    with tempfile.TemporaryDirectory() as temporary:
        for argument in options.texts:
            name, old, new = texts(argument)
            folder = (options.work or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            network = f"network:{runs.get(name) or train(old, folder, options.network, options.budget)}"
            default = f"network:, level {level_of('network', resolve(network).parameters())}"
            ways: dict[str, Way] = {
                heads[0]: (partial(kolmo.compress, level=5, threads=1), kolmo.decompress),
                **{
                    f"network:, level {level}": (
                        partial(kolmo.compress, predictor=f"{network}:{level}", threads=1),
                        partial(kolmo.decompress, threads=1),
                    )
                    for level in LEVELS
                },
                heads[-3]: zstd(old),
                heads[-2]: zstd(None),
                heads[-1]: (xz, lzma.decompress),
            }
            for size in SIZES.values():
                if size <= len(new):
                    found = sizes(ways, new[:size])
                    cells = [f"{found[head][0]:,}" for head in heads]
                    speeds = [f"{size / 1000 / max(seconds, 1e-9):.0f}" for seconds in found[default][1:]]
                    print(f"| {name} | {len(old):,} | {size:,} | {' | '.join(cells + speeds)} |", flush=True)


if __name__ == "__main__":
    main()
