"""`kolmo shrink --calibrate`, measured: bits per character that a model loses, with and without it, and beside GPTQ.

    KOLMO_DATA=DIR python benchmarks/weights_calibrated.py --markdown docs/benchmarks/weights.md
    python benchmarks/weights_calibrated.py MODEL --calibrate CORPUS --text alice29.txt --text other.txt \
        --tokens 16384 --characters 20000 --keep rows.jsonl [--only GPTQ] [--markdown docs/benchmarks/weights.md]

MODEL is a folder of transformers; without it, stories260K (tests/models), calibrated on stories that it tells. Texts
are scored by `kolmo eval` in strict mode; take ones of another kind than the corpus of the calibration, and of the same
kind. All methods code the same tensors, embeddings included; kolmo's sizes are of the whole payloads of a file that was
written and read, GPTQ's of its usual layout (harness/gptq.py). GPTQ gets the same samples; every matrix that they do
not reach keeps its values there, and is counted with 16 bits. CPU seconds have the run of the samples in them, of
GPTQ in the first row that is measured.

A large model takes hours. With --keep each row is added to a file as soon as it is measured, and rows that the file has
for the same settings are not measured again. --only takes rows whose titles contain one of its words; the table has all
rows of the file. In --work a calibration that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import kolmo
from harness.gptq import covariances, gptq, stored_bits
from harness.models import stories
from harness.sections import command
from harness.sections import replace as write_section
from kolmo.corpus import Corpus, open_corpus
from kolmo.evaluation.evaluate import texts
from kolmo.hyperfunctions import BitshiftOptions, TrellisOptions
from kolmo.hyperfunctions.families import FamilyOptions
from kolmo.weights.calibration.calibrate import open_network
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
LOW_BITS = 2.5  # up to here a scalar quantiser is measured too

Made = tuple[float, DecodedTensors]  # bits a weight, and the tensors


@dataclass
class Bench:
    """A model, the calibration that all methods get, and the texts that score what they make.

    Attributes:
        folder: the model.
        calibration: its text and settings.
        corpora: the texts.
        work: a folder for files.
    """

    folder: Path
    calibration: kolmo.Calibration
    corpora: list[Corpus]
    work: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What a row depends on beside its method."""
        one = self.calibration
        sizes = {corpus.name: sum(len(document.content) for document in corpus) for corpus in self.corpora}
        given = {"corpus": Path(one.corpus).name, "tokens": one.tokens, "window": one.window, "damping": one.damping}
        return {"model": self.folder.name, **given, "characters": sizes}

    @cached_property
    def losses(self) -> list[BitsPerCharacter]:
        """What scores tensors, a model for each text."""
        return [BitsPerCharacter(self.folder, corpus, device="cpu") for corpus in self.corpora]

    @cached_property
    def samples(self) -> tuple[Any, ...]:
        """The checkpoint, the names of what is coded, the layers that use it, and what GPTQ needs of their inputs."""
        checkpoint = open_checkpoint(self.folder)
        names = survey(checkpoint, sampled=False).lossy
        network = open_network(self.folder, self.calibration)
        bound = bind(network.model, checkpoint, names)
        return checkpoint, names, bound, covariances(network.model, bound, network.samples)

    def row(self, title: str, make: Callable[[], Made]) -> dict[str, Any]:
        """A row of the table."""
        start = time.process_time()
        bits, tensors = make()
        took = time.process_time() - start
        added = [loss(tensors) for loss in self.losses]
        before = [loss.facts()["before"] for loss in self.losses]
        return {"title": title, "bits": bits, "added": added, "before": before, "cpu": took}

    def shrunk(self, bits: float, options: FamilyOptions, calibration: kolmo.Calibration | None = None) -> Made:
        """Of `kolmo shrink`, from the file that it wrote."""
        target = self.work / "small"
        report = kolmo.shrink(
            self.folder,
            target,
            kolmo.Bits(bits),
            hyperfunction=options,
            calibrate=calibration,
            threads=1,
            force=True,
        )
        file = ShrunkFile(target)
        kinds = {name: file.kind(name) for name in file.names}
        coded = [name for name in file.names if file.is_coded(name)]
        return report.coded.bits, DecodedTensors(kinds, file.read, coded, framework="pt")

    def gptq(self, bits: int) -> Made:
        """Of GPTQ."""
        checkpoint, names, bound, inputs = self.samples
        total, count, decoded = 0, 0, {}
        for name in names:
            tensor = checkpoint.tensors[name]
            count += tensor.count
            if name not in inputs:
                total += 16 * tensor.count
                continue
            one = bound[name]
            matrix = to_floats(tensor.read(), tensor.dtype).reshape(tensor.shape[0], -1)
            matrix = matrix.T if one.by_input else matrix
            back = gptq(np.ascontiguousarray(matrix), inputs[name], bits)
            total += stored_bits((one.outputs, one.inputs), bits)
            back = np.ascontiguousarray(back.T) if one.by_input else back
            decoded[name] = from_floats(back.reshape(-1), tensor.dtype)

        def read(name: str) -> bytes:
            return decoded.get(name) or checkpoint.tensors[name].read()

        return total / count, DecodedTensors(checkpoint.tensors, read, names, framework="pt")

    def ways(self, sizes: Iterable[float]) -> dict[str, Callable[[], Made]]:
        """All methods at these numbers of bits a weight, by the titles of their rows."""
        found: dict[str, Callable[[], Made]] = {}
        calibrations = {"": None, "calibrated, ": self.calibration}
        for bits in sizes:
            families: dict[str, FamilyOptions] = {"kolmo": TrellisOptions()}
            if bits <= LOW_BITS:
                families["scalar with entropy coding"] = TrellisOptions(states=1)
            if bits in BitshiftOptions.rates:
                families["bitshift"] = BitshiftOptions()
            for family, options in families.items():
                for kind, calibration in calibrations.items():
                    found[f"{family}, {kind}{bits:g} bit"] = partial(self.shrunk, bits, options, calibration)
        return found | {f"GPTQ, {bits} bit, g128": partial(self.gptq, bits) for bits in GPTQ_BITS}


def kept(path: Path | None, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a file that were measured with these settings, by title."""
    if not path or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {row["title"]: row for row in rows if row.pop("settings") == settings}


def shown(row: Mapping[str, Any]) -> str:
    """A row in Markdown."""
    added = " | ".join(f"{value:+.4f}" for value in row["added"])
    return f"| {row['title']} | {row['bits']:.3f} | {added} | {row['cpu']:.0f} |"


def beginning(spec: str, characters: int | None) -> Corpus:
    """A corpus, or the first documents of it with so many characters."""
    corpus = open_corpus(spec)
    if characters is None:
        return corpus
    found, left = [], characters
    for document in corpus:
        found.append(document.content[:left])
        left -= len(found[-1])
        if not left:
            break
    return texts(corpus.name, found)


def own_texts(folder: Path, work: Path) -> tuple[str, list[str]]:
    """Of stories260K: stories that it tells, for the calibration, and other ones and text of another kind, to score."""
    tales = told(folder, STORIES)
    parts = {"other stories": tales[HELD_OUT:], "held-out stories": tales[:HELD_OUT]}
    if "KOLMO_DATA" in os.environ:
        parts["dickens"] = foreign(FOREIGN)
    paths = []
    for name, part in parts.items():
        lines = [json.dumps({"text": story}) for story in part]
        paths.append(str(work / f"{name}.jsonl"))
        Path(paths[-1]).write_text("\n".join(lines) + "\n", "utf-8")
    return paths[0], paths[1:]


def section(started: str, bench: Bench, rows: Sequence[Mapping[str, Any]]) -> str:
    """The section of a page, for the command that was started."""
    names = list(bench.settings["characters"])
    before = " and ".join(f"{value:.4f} on {name}" for name, value in zip(names, rows[0]["before"], strict=True))
    characters = ", ".join(f"{count:,} of {name}" for name, count in bench.settings["characters"].items())
    return f"""{started}
Bits per character that {bench.folder.name} loses; uncoded it has {before}. Calibrated on about
{bench.calibration.tokens:,} tokens of {Path(bench.settings["corpus"]).stem}; characters scored: {characters}.

| method | bit | {" | ".join(names)} | CPU s |
| --- |{" ---: |" * (2 + len(names))}
""" + "\n".join(map(shown, rows))


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--calibrate", metavar="CORPUS")
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--text", action="append", metavar="SPEC")
    parser.add_argument("--characters", type=int, help="of each text; all by default")
    parser.add_argument("--bits", type=float, nargs="+", default=BITS)
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="rows with one of these in their titles, in this order"
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="rows of earlier runs, to which new ones are added")
    parser.add_argument("--work", type=Path, help="folder of files that further runs can use")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    if options.model and not (options.calibrate and options.text):
        parser.error("of a model of your own, give --calibrate and --text")
    with tempfile.TemporaryDirectory() as name:
        work = options.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        folder = options.model or stories(work / "stories260K")
        corpus, specs = (options.calibrate, options.text) if options.model else own_texts(folder, work)
        calibration = kolmo.Calibration(corpus) if options.model else kolmo.Calibration(corpus, tokens=8000, window=256)
        if options.tokens:
            calibration = replace(calibration, tokens=options.tokens)
        bench = Bench(folder, calibration, [beginning(spec, options.characters) for spec in specs], work)
        rows = kept(options.keep, bench.settings)
        ways = bench.ways(options.bits)
        for title in (title for word in options.only or [""] for title in ways if word in title):
            if title not in rows:
                rows[title] = bench.row(title, ways[title])
                print(shown(rows[title]), flush=True)
                if options.keep:
                    with options.keep.open("a", encoding="utf-8") as file:
                        print(json.dumps(rows[title] | {"settings": bench.settings}), file=file)
        if options.markdown:
            heading = f"Calibrated, {folder.name}" if options.model else "Calibrated"
            started = command("--only")
            if not options.model and "KOLMO_DATA" in os.environ:
                started = started.replace("python", "KOLMO_DATA=DIR python", 1)
            text = section(started, bench, [rows[title] for title in ways if title in rows])
            write_section(options.markdown, heading, text)


if __name__ == "__main__":
    main()
