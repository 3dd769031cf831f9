"""The bitshift trellis in networks: with least error or unbiased, and calibrated.

    KOLMO_DATA=DIR python benchmarks/weights_bitshift.py energy --network resnet-20 --network resnet-56 [--images N]
    KOLMO_DATA=DIR python benchmarks/weights_bitshift.py calibrated [--bits 3 2 ...]
    python benchmarks/weights_bitshift.py text MODEL TEXT [--characters N] [--bits 4 3 2]

`energy` codes the matrices of networks that weights_networks.py has (no others, so that no trellis of another kind is
beside them), with least error and unbiased. `calibrated` shrinks stories260K, calibrated on stories that it told, on
*dickens*, or not; what is scored are other stories, and other parts of *dickens*. `text` scores a
folder of transformers on the beginning of a text, in strict mode, before and after `kolmo.shrink`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kolmo
from harness.models import stories
from harness.tables import table
from kolmo.errors import ShrinkWarning
from kolmo.hyperfunctions.bitshift import Bitshift, is_made_for
from weights_budget import foreign
from weights_calibrated import FOREIGN, Texts, of_file, own_texts
from weights_networks import Network, resnet
from weights_networks import stories as own_stories

KINDS = {"least error": False, "unbiased": True}
TOKENS, WINDOW = 8000, 256
MORE = 40  # documents of dickens, for a calibration


def energy(network: Network, sizes: list[int]) -> list[list[str]]:
    """Rows: what is added to each score of a network."""
    before, found = network.score(network.weights), []
    for bits in sizes:
        for kind, unbiased in KINDS.items():
            function, decoded = Bitshift(bits, unbiased=unbiased), {}
            for name, weights in network.coded.items():
                matrix = np.ascontiguousarray(weights.reshape(len(weights), -1))
                if is_made_for(matrix.shape[1]):
                    back = function.decode(function.encode(matrix), (matrix.shape[0], matrix.shape[1]))
                    decoded[name] = back.reshape(weights.shape)
            after = network.score({**network.weights, **decoded})
            added = ", ".join(f"{after[name] - before[name]:+.4f} {name}" for name in before)
            found.append([network.name, f"{bits}", kind, added])
            print(*found[-1], flush=True)
    return found


def calibrated(sizes: list[float]) -> list[list[str]]:
    """Rows: what stories260K loses on texts of both kinds."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = stories(work / "stories260K")
        told, specs = own_texts(folder, work)
        texts = Texts(folder, specs, None)
        (work / "more.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in foreign(FOREIGN + MORE)[FOREIGN:]), "utf-8"
        )
        calibrations = {
            "calibrated on stories": kolmo.Calibration(told, tokens=TOKENS, window=WINDOW),
            "calibrated on dickens": kolmo.Calibration(str(work / "more.jsonl"), tokens=TOKENS, window=WINDOW),
        }
        ways: dict[str, dict[str, Any]] = {
            "not calibrated": {},
            **{kind: {"calibrate": one} for kind, one in calibrations.items()},
        }
        for bits in sizes:
            for kind, given in ways.items():
                report = kolmo.shrink(
                    folder, work / "small", kolmo.Bits(bits), hyperfunction="bitshift", force=True, **given
                )
                lost = texts.lost(of_file(work / "small"))
                found.append([f"{kind}, {bits:g} bit", f"{report.coded.bits:.3f}", *(f"{one:+.4f}" for one in lost)])
                print(*found[-1], flush=True)
    return [["method", "bit", *texts.names], *found]


def text(folder: Path, path: Path, characters: int, sizes: list[float]) -> list[list[str]]:
    """Rows: bits per character that a folder of transformers loses on the beginning of a text."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / path.name).write_text(path.read_text("utf-8", errors="replace")[:characters], "utf-8")
        texts = Texts(folder, [str(work / path.name)], None)
        for bits in sizes:
            start = time.process_time()
            report = kolmo.shrink(folder, work / "small", kolmo.Bits(bits), hyperfunction="bitshift", force=True)
            taken = time.process_time() - start
            (lost,) = texts.lost(of_file(work / "small"))
            found.append([f"{bits:g} bit", f"{report.coded.bits:.3f}", f"{lost:+.4f}", f"{taken:.0f}"])
            print(*found[-1], flush=True)
    return [["method", "bit", path.name, "CPU s of coding"], *found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["energy", "calibrated", "text"])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--network", action="append", choices=["resnet-20", "resnet-56", "stories"])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--bits", type=float, nargs="+", default=[2.0, 3.0, 4.0])
    options = parser.parse_args()
    warnings.simplefilter("ignore", ShrinkWarning)
    if options.what == "text":
        rows = text(options.model, options.text, options.characters, options.bits)
    elif options.what == "calibrated":
        rows = calibrated(options.bits)
    else:
        data = Path(os.environ["KOLMO_DATA"])
        makers = {
            "resnet-20": partial(resnet, data, 20, options.images),
            "resnet-56": partial(resnet, data, 56, options.images),
            "stories": own_stories,
        }
        rows = [["network", "bit", "method", "added"]]
        for name in options.network or ["resnet-20"]:
            rows += energy(makers[name](), [int(bits) for bits in options.bits])
    print(table(rows[0], rows[1:]))


if __name__ == "__main__":
    main()
