"""Papers a second of each stage of `kolmo collect arxiv`, on one core, on papers that are made here.

    python benchmarks/collection_arxiv.py [--papers 60] [--records 30000] [--profile STAGE]

A third of the papers are single files, a third consist of several with figures, a third are not mathematics. Seconds
are of processor time, of pandoc too, so that other work on the machine changes little. What it is not: a measure of
quality.
"""

from __future__ import annotations

import argparse
import cProfile
import gzip
import io
import json
import os
import pstats
import random
import tarfile
import tempfile
from collections.abc import Iterable
from typing import Any

from kolmo.collection.arxiv.pipeline import ArXiv
from kolmo.collection.pipelines import Access
from kolmo.collection.stages import Shard, Work
from kolmo.corpus.documents import Document

WORDS = (
    *("the", "of", "a", "let", "and", "be", "group", "ring", "field", "space", "map", "proof", "then", "for", "such"),
    *("that", "compact", "smooth", "finite", "morphism", "sheaf", "complex", "homotopy", "spectral", "sequence"),
    *("operator", "measure", "graph", "prime", "ideal", "module", "category", "functor", "limit", "bound"),
)
FORMULAS = (
    r"$f\colon X\to Y$",
    r"$\R^n$",
    r"$\sum_{i=1}^n a_i^2\le\norm{x}$",
    r"$H^1(X,\mathcal{O}_X)=0$",
    r"$x\in\Z$",
)
PREAMBLE = r"""\documentclass[11pt]{amsart}
\usepackage[utf8]{inputenc}\usepackage{amsmath,amssymb,graphicx,hyperref}
\newcommand{\R}{\mathbb{R}}\newcommand{\Z}{\mathbb{Z}}\newcommand{\norm}[1]{\left\|#1\right\|}
\newtheorem{theorem}{Theorem}[section]\newtheorem{lemma}[theorem]{Lemma}
\title{On made papers}\author{A. Person}
"""
MONTHS = [f"{year:02}{month:02}" for year in range(8, 27) for month in range(1, 13)]


def sentence(chance: random.Random) -> str:
    """Words and formulas."""
    words = [chance.choice(WORDS) if chance.random() < 0.8 else chance.choice(FORMULAS) for _ in range(14)]
    return " ".join(words).capitalize() + ".\n"


def section(chance: random.Random) -> str:
    """A part of a paper, of about 7,000 characters."""
    parts = [f"\\section{{{sentence(chance)[:40]}}}\\label{{s{chance.random()}}}\n% a comment\n"]
    for _ in range(6):
        parts.append("".join(sentence(chance) for _ in range(8)) + "\n")
        kind = chance.choice(("theorem", "lemma", "proof"))
        parts.append(f"\\begin{{{kind}}}\n{sentence(chance)}\\end{{{kind}}}\n")
        parts.append("\\begin{equation}\\int_0^1 f(t)\\,dt = \\frac{1}{2}\\label{e}\\end{equation}\n")
    return "".join(parts)


def paper(chance: random.Random, whole: bool) -> bytes:
    """The source of a paper as the archive has it."""
    sections = [section(chance) for _ in range(8)]
    head = f"{PREAMBLE}\\begin{{document}}\n\\begin{{abstract}}{sentence(chance)}\\end{{abstract}}\\maketitle\n"
    if whole:
        return gzip.compress(f"{head}{''.join(sections)}\\end{{document}}\n".encode(), mtime=0)
    inputs = "".join(f"\\input{{sections/s{number}}}\n" for number in range(len(sections)))
    files = {"main.tex": f"{head}{inputs}\\end{{document}}\n".encode(), "own.sty": b"\\relax"}
    files |= {f"sections/s{number}.tex": text.encode() for number, text in enumerate(sections)}
    files |= {f"figure{number}.pdf": chance.randbytes(200_000) for number in range(3)}
    return gzip.compress(packed(files), 1, mtime=0)


def packed(files: dict[str, bytes]) -> bytes:
    """A tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def make(folder: str, papers: int, records: int) -> None:
    """The archive: one tar file of October 2026, and a snapshot of metadata of all years."""
    chance = random.Random(0)
    os.makedirs(os.path.join(folder, "src"))
    members = {f"2610/2610.{n:05}.gz": paper(chance, n % 3 == 0) for n in range(papers)}
    with open(os.path.join(folder, "src", "arXiv_src_2610_001.tar"), "wb") as file:
        file.write(packed(members))
    with open(os.path.join(folder, "metadata.jsonl"), "w", encoding="utf-8") as text:
        for n in range(records + papers):
            yymm = chance.choice([month for month in MONTHS if month != "2610"]) if n >= papers else "2610"
            record = {
                "id": f"{yymm}.{n % 10_000:0{5 if yymm >= '1501' else 4}}",
                "authors": "A. Person and B. Person",
                "title": sentence(chance),
                "categories": "cs.LG math.ST" if n % 3 == 2 else "math.AG math.NT",
                "license": "http://arxiv.org/licenses/nonexclusive-distrib/1.0/",
                "abstract": "".join(sentence(chance) for _ in range(12)),
                "versions": [{"version": "v1", "created": "Mon, 5 Oct 2026 19:18:42 GMT"}],
            }
            text.write(json.dumps(record) + "\n")


def seconds() -> float:
    """Processor time of this process and of those that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run(stage: Any, shard: Shard, documents: Iterable[Document], profile: bool) -> tuple[list[Document], float]:
    """The documents of a stage, and its seconds."""
    profiler = cProfile.Profile()
    begin = seconds()
    if profile:
        profiler.enable()
    found: Iterable[Document] = documents
    for step in stage.steps:
        found = step.run(found, shard)
    kept = list(found)
    took = seconds() - begin
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(15)
    shard.finish()
    with open(os.path.join(shard.work.stage(stage.name), "done.json"), "w", encoding="ascii") as file:
        json.dump({"shards": 1, "counts": {}}, file)
    return kept, took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--papers", type=int, default=60)
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--profile", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(folder, options.papers, options.records)
        access = Access(os.path.join(folder, "cache"))
        snapshots = (os.path.join(folder, "metadata.jsonl"),)
        pipeline = ArXiv(access, folder, snapshots, since="2026-10-01", until="2026-10-31")
        work = Work(os.path.join(folder, "work"))
        documents: list[Document] = []
        print("| stage | items | seconds | items/s | characters out |\n|---|--:|--:|--:|--:|")
        for stage in pipeline.stages(work):
            shard = Shard(0, 1, stage.name, work)
            items = {"listing": 1, "metadata": options.records + options.papers, "sources": options.papers}
            count = items.get(stage.name, len(documents))
            documents, took = run(stage, shard, documents, stage.name == options.profile)
            size = sum(len(document.content) for document in documents)
            print(f"| {stage.name} | {count:,} | {took:.2f} | {count / max(took, 1e-3):,.1f} | {size:,} |", flush=True)


if __name__ == "__main__":
    main()
