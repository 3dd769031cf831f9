"""`kolmo shrink --max-delta-bpc`, measured: bits per weight for a limit, trials, time, and the loss on other text.

    KOLMO_DATA=DIR python benchmarks/weights_budget.py

Model: stories260K (tests/models). Texts: stories that the model itself tells, which is what it was trained on, and
$KOLMO_DATA/bench/text/dickens, which is unlike its training data. Half of the documents are the corpus of the limit;
the other half is held out, and shows what the file loses on other text of the kind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kolmo
from harness.models import stories
from harness.report import machine
from kolmo.corpus import Corpus
from kolmo.evaluation.evaluate import texts
from kolmo.weights.choice.bpc import BitsPerCharacter
from kolmo.weights.choice.losses import DecodedTensors
from kolmo.weights.format.reader import ShrunkFile

LIMITS = (0.05, 0.015, 0.005)
UNLIKE_LIMITS = (0.05, 0.015)  # for text unlike the training data, where a smaller limit cannot be measured
DOCUMENT_CHARACTERS = 1500  # length of a document of dickens
HEAD = "| text | documents | steps | at most | lost | 95 % | lost on other such text | bit | scored | seconds |"


def told(folder: Path, count: int) -> list[str]:
    """Stories of the model, from their beginning to their end, or to 250 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    model.eval()
    torch.manual_seed(0)
    start = torch.full((count, 1), tokenizer.bos_token_id)
    with torch.inference_mode():
        found = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=250,
        )
    return [text for row in found if (text := tokenizer.decode(row, skip_special_tokens=True).strip())]


def foreign(count: int) -> list[str]:
    """Pieces of dickens."""
    data = (Path(os.environ["KOLMO_DATA"]) / "bench/text/dickens").read_bytes().decode("latin-1")
    return [data[200_000 + k * DOCUMENT_CHARACTERS :][:DOCUMENT_CHARACTERS] for k in range(count)]


def other_loss(folder: Path, file: Path, corpus: Corpus) -> float:
    """Bits per character that a shrunk file loses on a corpus."""
    shrunk = ShrunkFile(file)
    kinds = {name: shrunk.kind(name) for name in shrunk.names}
    return BitsPerCharacter(folder, corpus, device="cpu")(
        DecodedTensors(kinds, shrunk.read, shrunk.record.coded, framework="pt")
    )


def row(folder: Path, name: str, documents: list[str], limit: float, sensitivities: bool) -> str:
    """One row of the table."""
    corpus, other = texts(name, documents[::2]), texts(name, documents[1::2])
    with tempfile.TemporaryDirectory() as work:
        start = time.perf_counter()
        goal = kolmo.MaxDeltaBpc(limit, corpus, device="cpu", sensitivities=sensitivities)
        report = kolmo.shrink(folder, Path(work) / "small", goal)
        seconds = time.perf_counter() - start
        again = other_loss(folder, Path(work) / "small", other)
    budget = report.budget
    assert budget
    print(json.dumps(budget.record()), file=sys.stderr)
    facts = budget.facts
    scored = 2 + len(budget.factors) + len(budget.trials)
    steps = "by sensitivity" if sensitivities else "one"
    interval = "-" if facts["low"] is None else f"{facts['low']:.4f} to {facts['high']:.4f}"
    return (
        f"| {name} | {facts['documents']} | {steps} | {limit} | {budget.loss:.4f} | {interval} | "
        f"{again:.4f} | {report.coded.bits:.2f} | {scored} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = stories(Path(work))
        print(HEAD + "\n|---|---|---|---|---|---|---|---|---|---|")
        own, other = told(folder, options.documents), foreign(options.documents)
        for limit in LIMITS:
            for sensitivities in (False, True):
                print(row(folder, "own", own, limit, sensitivities), flush=True)
        for limit in UNLIKE_LIMITS:
            print(row(folder, "dickens", other, limit, False), flush=True)
    print("\n" + "\n".join(f"- {key}: {value}" for key, value in machine().items()))


if __name__ == "__main__":
    main()
