"""`kolmo shrink --calibrate`, measured: bits per character that a model loses, with and without it, and beside GPTQ.

    KOLMO_DATA=DIR python benchmarks/weights_calibrated.py
    python benchmarks/weights_calibrated.py MODEL --calibrate CORPUS --text alice29.txt --text other.txt [--limit N]

MODEL is a folder of transformers; without it, stories260K (tests/models), calibrated on stories that it tells. Texts
are scored by `kolmo eval` in strict mode; take ones of another kind than the corpus of the calibration, and of the same
kind. All methods code the same tensors, embeddings included; kolmo's sizes are of the whole payloads of a file that was
written and read, GPTQ's of its usual layout (harness/gptq.py). GPTQ gets the same samples; every matrix that they do
not reach keeps its values there, and is counted with 16 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kolmo
from harness.gptq import gptq, stored_bits
from harness.models import stories
from harness.sections import command
from harness.sections import replace as write_section
from kolmo.progress import no_phases
from kolmo.weights.calibration.blocks import Blocks
from kolmo.weights.calibration.calibrate import measure, open_network
from kolmo.weights.calibration.network import bind
from kolmo.weights.choice.bpc import BitsPerCharacter
from kolmo.weights.choice.losses import DecodedTensors
from kolmo.weights.choice.survey import survey
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.dtypes import from_floats, to_floats
from weights_budget import foreign, told

BITS = (4.0, 3.0, 2.0)
STORIES, HELD_OUT, FOREIGN = 70, 26, 20  # documents
GPTQ_BITS = (4, 3)


class Texts:
    """The losses of one model on several texts."""

    def __init__(self, folder: Path, specs: list[str], limit: int | None) -> None:
        self.names = [Path(spec).name for spec in specs]
        self._losses = [BitsPerCharacter(folder, spec, limit=limit, device="cpu") for spec in specs]

    def lost(self, tensors: DecodedTensors) -> list[float]:
        """Bits per character that these tensors lose, on each text."""
        return [loss(tensors) for loss in self._losses]


def of_file(path: Path) -> DecodedTensors:
    """The tensors of a shrunk folder."""
    file = ShrunkFile(path)
    kinds = {name: file.kind(name) for name in file.names}
    return DecodedTensors(kinds, file.read, [name for name in file.names if file.is_coded(name)], framework="pt")


def with_gptq(folder: Path, calibration: kolmo.Calibration, bits: int, work: Path) -> tuple[float, DecodedTensors]:
    """Bits per weight, and the tensors, of GPTQ."""
    checkpoint = open_checkpoint(folder)
    found, network = survey(checkpoint, sampled=False), open_network(folder, calibration)
    bound = bind(network.model, checkpoint, found.lossy)
    whole = Blocks.whole(network.model, bound)
    inputs = measure(network, bound, whole, calibration.damping, work / f"gptq{bits}.npz", no_phases).inputs
    total, count, decoded = 0, 0, {}
    for name in found.lossy:
        tensor = checkpoint.tensors[name]
        count += tensor.count
        if not inputs.rows.get(name):
            total += 16 * tensor.count
            continue
        one = bound[name]
        matrix = to_floats(tensor.read(), tensor.dtype).reshape(tensor.shape[0], -1)
        matrix = matrix.T if one.by_input else matrix
        leader = inputs.leaders[name]
        h = inputs.covariances[leader] / inputs.rows[leader]
        back = gptq(np.ascontiguousarray(matrix), h, bits)
        total += stored_bits((one.outputs, one.inputs), bits)
        back = np.ascontiguousarray(back.T) if one.by_input else back
        decoded[name] = from_floats(back.reshape(-1), tensor.dtype)

    def read(name: str) -> bytes:
        return decoded.get(name) or checkpoint.tensors[name].read()

    return total / count, DecodedTensors(checkpoint.tensors, read, found.lossy, framework="pt")


def rows(folder: Path, calibration: kolmo.Calibration, texts: Texts, sizes: Sequence[float]) -> list[str]:
    """The rows of the table."""
    found = []

    def add(title: str, make: Callable[[], tuple[float, DecodedTensors]]) -> None:
        start = time.process_time()
        bits, tensors = make()
        took = time.process_time() - start
        lost = " | ".join(f"{value:+.4f}" for value in texts.lost(tensors))
        found.append(f"| {title} | {bits:.3f} | {lost} | {took:.0f} |")
        print(found[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)

        def shrunk(bits: float, given: Mapping[str, Any]) -> tuple[float, DecodedTensors]:
            report = kolmo.shrink(folder, work / "small", kolmo.Bits(bits), threads=1, force=True, **given)
            return report.coded.bits, of_file(work / "small")

        for bits in sizes:
            add(f"kolmo, {bits:g} bit", partial(shrunk, bits, {}))
            add(f"kolmo, calibrated, {bits:g} bit", partial(shrunk, bits, {"calibrate": calibration}))
        for number in GPTQ_BITS:
            add(f"GPTQ, {number} bit, g128", partial(with_gptq, folder, calibration, number, work))
    return found


def own_texts(folder: Path, work: Path) -> tuple[str, list[str]]:
    """Of stories260K: stories that it tells, for the calibration, and other ones and text of another kind, to score."""
    tales = told(folder, STORIES)
    for name, part in (("told", tales[HELD_OUT:]), ("held-out", tales[:HELD_OUT])):
        lines = [json.dumps({"text": story}) for story in part]
        (work / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    found = [str(work / "held-out.jsonl")]
    if "KOLMO_DATA" in os.environ:
        lines = [json.dumps({"text": text}) for text in foreign(FOREIGN)]
        (work / "dickens.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        found.append(str(work / "dickens.jsonl"))
    return str(work / "told.jsonl"), found


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--calibrate", metavar="CORPUS")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--text", action="append", metavar="SPEC")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--bits", type=float, nargs="+", default=BITS)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.model and not (options.calibrate and options.text):
        parser.error("of a model of your own, give --calibrate and --text")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = options.model or stories(work / "stories260K")
        corpus, specs = (options.calibrate, options.text) if options.model else own_texts(folder, work)
        calibration = kolmo.Calibration(corpus) if options.model else kolmo.Calibration(corpus, tokens=8000, window=256)
        if options.tokens:
            calibration = replace(calibration, tokens=options.tokens)
        texts = Texts(folder, specs, options.limit)
        head = f"| method | bit | {' | '.join(texts.names)} | CPU s |\n| --- |{' ---: |' * (2 + len(texts.names))}"
        table = "\n".join([head, *rows(folder, calibration, texts, options.bits)])
        if options.markdown:
            about = f"Bits per character that {folder.name} loses; calibrated on {Path(corpus).name}."
            write_section(options.markdown, "Calibrated", f"{command()}\n{about}\n\n{table}")


if __name__ == "__main__":
    main()
