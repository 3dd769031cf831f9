"""Train the priors of the mixer of sound on a folder of sounds: `python scripts/train_sound_prior.py FOLDER`.

FOLDER holds files that soundfile reads, of 16 bits; the 10th, 20th, 30th ... in the order of names are left out, for
measurements, as `kolmo train` does. Long pieces of 16 bits come first, among them two channels with an echo, noise and
tones; then pieces of 2,048 samples of 8 bits, for which a prior matters most. The same folder and seed give the same
priors.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded.kinds.audio import shipped_network
from kolmo.predictors.embedded.kinds.sound.shapes import (
    NARROW,
    NARROW_BITS,
    PRIORS,
    SHAPES,
    SoundShape,
    plain_prior,
    unpack_prior,
)
from kolmo.predictors.embedded.sample_network import load
from kolmo.training.products.sound_priors import Piece, train_sound_prior

LONG = 8192  # samples of a piece of 16 bits
SHORT = 2048  # of 8 bits


def read_sounds(folder: Path) -> list[npt.NDArray[np.int16]]:
    """Mono sounds of 16 bits, the 10th, 20th, ... left out."""
    import soundfile

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [soundfile.read(path, dtype="int16")[0] for i, path in enumerate(files) if i % 10 != 9]


def make_pieces(sounds: list[npt.NDArray[np.int16]], long: int, short: int, seed: int) -> list[Piece]:
    """Random pieces: `long` of 16 bits, an eighth of them of two channels, then `short` of 8 bits."""
    draw = np.random.default_rng(seed)

    def take(size: int) -> npt.NDArray[np.int16]:
        sound = sounds[draw.integers(len(sounds))]
        start = int(draw.integers(max(len(sound) - size, 1)))
        return sound[start : start + size]

    pieces: list[Piece] = []
    for i in range(long // 8):
        x = take(LONG // 2).astype(np.int64)
        echo = np.roll(x, int(draw.integers(0, 6))) * int(draw.integers(8, 24)) // 16
        y = np.clip(echo + draw.normal(0, 1 << i % 9, len(x)).astype(np.int64), -32768, 32767)
        pieces.append(((16, 2, 0, 0, 0), np.stack([x, y], 1).astype("<i2").tobytes()))
    for i in range(long - long // 8):
        wave = take(LONG).astype(np.float64)
        if i % 16 == 0:  # tones in noise
            t = np.arange(LONG)
            tones = sum(draw.uniform(0, 4000) * np.sin(t * draw.uniform(0.01, 1.5)) for _ in range(3))
            wave = np.clip(tones + draw.normal(0, 1 << i // 16 % 10, LONG), -32768, 32767)
        pieces.append(((16, 1, 0, 0, 0), wave.astype("<i2").tobytes()))
    for _ in range(short):
        x = take(SHORT).astype(np.int64)
        pieces.append(((8, 1, 0, 1, 0), ((x >> 8) + 128).astype(np.uint8).tobytes()))
    return pieces


def open_network(path: Path | None) -> kernels.SampleNetwork:
    """A network of samples for the kernel."""
    if path is None:
        return shipped_network()
    weights = load(path)
    return kernels.SampleNetwork(weights.config, weights.weights)


def train(shape: SoundShape, pieces: list[Piece], rounds: int, network: object) -> bytes:
    """Run over the pieces `rounds` times; returns the packed prior."""
    prior, packed = plain_prior(shape), b""
    for number in range(rounds):
        packed = train_sound_prior(shape, pieces, prior, network)
        prior = unpack_prior(shape, packed)
        print(f"{shape.name}: round {number + 1}, {len(packed):,} bytes stored", file=sys.stderr)
    return packed


def main() -> None:
    """Parse the arguments, train every shape, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of sounds")
    parser.add_argument("--long", type=int, default=64, help="pieces of 8,192 samples of 16 bits")
    parser.add_argument("--short", type=int, default=500, help="pieces of 2,048 samples of 8 bits")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--network", type=Path, metavar="FILE", help="the network that narrow streams use (the shipped one)"
    )
    parser.add_argument("--shape", action="append", help="train this shape only")
    options = parser.parse_args()
    pieces = make_pieces(read_sounds(options.folder), options.long, options.short, options.seed)
    digest = hashlib.sha256(b"".join(data for _, data in pieces)).hexdigest()
    print(f"{len(pieces)} pieces, {sum(len(data) for _, data in pieces):,} bytes, SHA-256 {digest}")
    PRIORS.mkdir(exist_ok=True)
    for shape in SHAPES:
        if not options.shape or shape.name in options.shape:
            narrow = shape is NARROW
            network = open_network(options.network) if narrow else None
            chosen = [piece for piece in pieces if piece[0][0] == NARROW_BITS] if narrow else pieces
            packed = train(shape, chosen, options.rounds, network)
            (PRIORS / f"{shape.name}.bin").write_bytes(packed)
            print(f"{shape.name}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(zlib.decompress(packed)).hexdigest()}")


if __name__ == "__main__":
    main()
