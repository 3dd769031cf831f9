"""Train the priors of the embedded predictor on a folder of text: `python scripts/train_prior.py FOLDER`.

Each shape runs over samples of the folder's files; between samples it resets everything but the learned numbers of
histories, weights and curves. The averages are written to src/kolmo/predictors/embedded/priors, with the hash of the
samples. The same folder and seed give the same priors.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from pathlib import Path

from kolmo.predictors.embedded import neural_levels, text
from kolmo.predictors.embedded.context_mixing import SHAPES, Shape, plain_prior, unpack_prior
from kolmo.predictors.embedded.network import Weights
from kolmo.predictors.embedded.network_file import load
from kolmo.training.products.priors import train_prior

PRIORS = Path(__file__).parent.parent / "src" / "kolmo" / "predictors" / "embedded" / "priors"
SIZES: tuple[int, ...] = (2_000, 8_000, 30_000, 120_000, 250_000)  # of samples: a prior matters most for small inputs


def take_samples(folder: Path, weights: dict[str, int], total: int, seed: int) -> list[bytes]:
    """Random pieces of the files, `weights` of each (1 where not named), until `total` bytes."""
    draw = random.Random(seed)
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    shares = [weights.get(path.stem, 1) for path in files]
    samples: list[bytes] = []
    size = 0
    while size < total:
        path = draw.choices(files, shares)[0]
        length = min(draw.choice(SIZES), path.stat().st_size)
        with path.open("rb") as file:
            file.seek(draw.randrange(path.stat().st_size - length + 1))
            samples.append(file.read(length))
        size += length
    return samples


def train(shape: Shape, prior: bytes, samples: list[bytes], rounds: int, network: Weights | None) -> bytes:
    """Run over the samples `rounds` times, from a prior on; returns the packed prior."""
    packed = b""
    for round_number in range(rounds):
        packed = train_prior(shape, samples, prior, network)
        prior = unpack_prior(shape, packed)
        print(f"{shape.name}: round {round_number + 1}, {len(packed):,} bytes stored", file=sys.stderr)
    return packed


def main() -> None:
    """Parse the arguments, train every shape, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of text files")
    parser.add_argument("--weight", action="append", default=[], metavar="STEM=N", help="share of a file (1)")
    parser.add_argument("--bytes", type=int, default=12_000_000, help="size of all samples together")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", action="append", help="train this shape only")
    parser.add_argument(
        "--network", type=Path, metavar="FILE", help="the network that the mixers read (the shipped one)"
    )
    parser.add_argument("--go-on", action="store_true", help="begin with the priors that ship instead of plain ones")
    parser.add_argument("--output", type=Path, default=PRIORS, help="folder for the files (default: where they ship)")
    options = parser.parse_args()
    weights = {stem: int(share) for stem, share in (item.split("=") for item in options.weight)}
    samples = take_samples(options.folder, weights, options.bytes, options.seed)
    digest = hashlib.sha256(b"".join(samples)).hexdigest()
    print(f"{len(samples)} samples, {sum(map(len, samples)):,} bytes, SHA-256 {digest}")
    options.output.mkdir(exist_ok=True)
    for shape in (*SHAPES, *neural_levels.SHAPES):
        if not options.shape or shape.name in options.shape:
            network = (load(options.network) if options.network else text.network()) if shape.network else None
            shipped = PRIORS / f"{shape.name}.bin"
            began = unpack_prior(shape, shipped.read_bytes()) if options.go_on else plain_prior(shape)
            packed = train(shape, began, samples, options.rounds, network)
            (options.output / f"{shape.name}.bin").write_bytes(packed)
            print(f"{shape.name}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    main()
