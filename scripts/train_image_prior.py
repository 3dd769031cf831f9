"""Train the priors of the mixers of pictures: `python scripts/train_image_prior.py FOLDER [FOLDER ...]`.

Each shape runs over small pieces of the folders' photographs, grey ones of 64 x 32 pixels and ones in colour of
96 x 64; between pieces it resets everything but the learned numbers. The averages are written to
src/kolmo/predictors/embedded/priors/image. The same folders and seed give the same priors.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.native import _kernels as kernels
from kolmo.predictors.embedded import pixel_network
from kolmo.predictors.embedded.kinds.image import NETWORK
from kolmo.predictors.embedded.kinds.image.model import COLOUR, GREY, SHAPES, plain_prior, unpack_prior
from kolmo.training.products.picture_priors import train_picture_prior

PRIORS = Path(__file__).parent.parent / "src" / "kolmo" / "predictors" / "embedded" / "priors" / "image"
PIECES = {GREY: (32, 64), COLOUR: (64, 96)}  # rows and columns, by the rows of a prior


def photographs(folders: list[Path]) -> list[list[npt.NDArray[np.uint8]]]:
    """The photographs of each folder in RGB."""
    from PIL import Image

    def load(path: Path) -> npt.NDArray[np.uint8]:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    return [[load(path) for path in sorted(folder.iterdir()) if path.is_file()] for folder in folders]


def take_pieces(
    folders: list[list[npt.NDArray[np.uint8]]], shares: list[int], rows: int, count: int, seed: int
) -> list[bytes]:
    """Random pieces of random photographs; a folder is drawn by its share."""
    draw = np.random.default_rng(seed)
    height, width = PIECES[rows]
    pieces: list[bytes] = []
    chances = np.array(shares) / sum(shares)
    while len(pieces) < count:
        folder = folders[int(draw.choice(len(folders), p=chances))]
        picture = folder[int(draw.integers(len(folder)))]
        if picture.shape[0] < height or picture.shape[1] < width:
            continue
        row, column = (
            int(draw.integers(size - part + 1)) for size, part in zip(picture.shape, (height, width), strict=False)
        )
        piece: Any = picture[row : row + height, column : column + width]
        pieces.append((piece.astype(int).sum(-1) // 3).astype(np.uint8).tobytes() if rows == GREY else piece.tobytes())
    return pieces


def main() -> None:
    """Parse the arguments, train every shape, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER[=SHARE]", help="folders of photographs")
    parser.add_argument("--bytes", type=int, default=2_000_000, help="size of all pieces of a prior together")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", action="append", help="train this shape only")
    parser.add_argument(
        "--network", type=Path, default=NETWORK, metavar="FILE", help="what the mixers read (the shipped one)"
    )
    parser.add_argument("--output", type=Path, default=PRIORS, metavar="FOLDER")
    options = parser.parse_args()
    names = [str(folder).partition("=") for folder in options.folders]
    pictures = photographs([Path(name) for name, _, _ in names])
    shares = [int(share or 1) for _, _, share in names]
    network = None
    if options.network.exists():
        weights = pixel_network.load(options.network)
        network = kernels.PixelNetwork(weights.config, weights.weights)
    options.output.mkdir(exist_ok=True)
    for rows, channels in ((GREY, 1), (COLOUR, 3)):
        height, width = PIECES[rows]
        pieces = take_pieces(pictures, shares, rows, options.bytes // (height * width * channels), options.seed)
        digest = hashlib.sha256(b"".join(pieces)).hexdigest()
        print(f"{len(pieces)} pieces, {sum(map(len, pieces)):,} bytes, SHA-256 {digest}")
        for shape in SHAPES:
            if options.shape and shape.name not in options.shape:
                continue
            if network is None:
                shape = replace(shape, network=False)
            prior, packed = plain_prior(shape, rows), b""
            for _ in range(options.rounds):
                packed = train_picture_prior(shape, pieces, width * channels, channels, prior, network)
                prior = unpack_prior(shape, rows, packed)
            name = f"{shape.name}-{'grey' if rows == GREY else 'colour'}.bin"
            (options.output / name).write_bytes(packed)
            print(f"{name}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}", file=sys.stderr)


if __name__ == "__main__":
    main()
