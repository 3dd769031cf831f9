"""Files a second of each stage of `kolmo collect github`, their memory as the input grows, and rensa beside datasketch.

    python benchmarks/collection_github.py --files 4000 --markdown docs/benchmarks/corpora.md

Input: the Python files of this interpreter's library and packages, or of --source, evenly spaced, up to 1 MiB each, in
git repositories of 50 files that are made for it and fetched from this machine's disk. CPU time of one process, git's
included; on a busy machine it says more than the time that passed. The search, which waits for a server, is left out.

First versions: what a step was before it was profiled, on the same input in the same run. What it is not: a test of
what is kept; that is in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness import sections
from harness.measuring import run
from harness.tables import table
from kolmo.collection.engine import StageEngine, run_stages
from kolmo.collection.github.fetch import FETCH, REPOSITORIES, SEARCH, RepositorySource
from kolmo.collection.github.files import source_file, squeezed_digest
from kolmo.collection.github.near_duplicates import (
    BANDS,
    MIN_SIMILARITY,
    PERMUTATIONS,
    band_hashes,
    clusters_of,
    extremes_of,
    jaccard,
    tokens_of,
)
from kolmo.collection.github.pipeline import GitHub
from kolmo.collection.github.search import Repository
from kolmo.collection.github.tokens import ESTIMATE, estimated_tokens
from kolmo.collection.pipelines import Access
from kolmo.collection.stages import Work, write_json

FILES_PER_REPOSITORY = 50
FIRST_ESTIMATE = re.compile(
    r" ?[A-Za-z]{1,8}|[0-9]{1,3}|[^\x00-\x7f]|[ \t\n\r\f\v]+|[^\sA-Za-z0-9\x80-\U0010ffff]{1,2}|.", re.DOTALL
)
FIRST_TOKEN = re.compile("[A-Za-z0-9_]+")


def chosen(roots: list[Path], count: int) -> list[Path]:
    """So many files, evenly spaced."""
    found = [path for root in roots for path in sorted(root.rglob("*.py")) if path.stat().st_size <= 1 << 20]
    return found[:: max(len(found) // count, 1)][:count]


def make_repositories(files: list[Path], folder: Path) -> list[Repository]:
    """Git repositories that hold the files, one after the other."""
    made = []
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for number, begin in enumerate(range(0, len(files), FILES_PER_REPOSITORY)):
        place = folder / f"owner/r{number}.git"
        place.mkdir(parents=True)
        commands = [b"commit refs/heads/master\ncommitter a <a> 1767225600 +0000\ndata 0\n"]
        for at, path in enumerate(files[begin : begin + FILES_PER_REPOSITORY]):
            data = path.read_bytes()
            commands.append(b"M 100644 inline %d/%s\ndata %d\n%s\n" % (at, path.name.encode(), len(data), data))
        for arguments, data in (
            (["init", "-q", "--bare", "--template=", "."], b""),
            (["config", "uploadpack.allowFilter", "true"], b""),
            (["fast-import", "--quiet"], b"".join(commands)),
        ):
            subprocess.run(["git", *arguments], cwd=place, env=environment, input=data, check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "refs/heads/master"], cwd=place, env=environment, capture_output=True, check=True
        )
        oid = commit.stdout.decode().strip()
        made.append(Repository(number, f"owner/r{number}", "", 10, "2026-01-01T00:00:00Z", "", oid, 0))
    return made


def processor_seconds() -> float:
    """Of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def stages_of(repositories: Path, folder: Path) -> dict[str, float]:
    """CPU seconds of each stage over the repositories."""
    work = Work(str(folder / "work"))
    listed = Path(work.file(SEARCH, 0, REPOSITORIES))
    listed.parent.mkdir(parents=True)
    listed.write_bytes((repositories / REPOSITORIES).read_bytes())
    write_json(os.path.join(work.stage(SEARCH), "done.json"), {"shards": 1, "counts": {}})
    pipeline = GitHub(
        Access(str(folder / "cache")), tokenizer=(ESTIMATE, None), source=RepositorySource(repositories.as_uri())
    )
    stages = pipeline.stages(work)
    run_stages(stages[:1], work, StageEngine())  # imports
    found = {}
    for at, stage in enumerate(stages[1:], 2):
        before = processor_seconds()
        counts = run_stages(stages[:at], work, StageEngine())
        found[stage.name] = processor_seconds() - before
    found["documents"] = counts.steps["near_duplicates"].kept
    found["files"] = counts.steps["files"].taken
    return found


def seconds(call: Callable[[], Any]) -> float:
    """CPU time of a call, the least of three."""
    least = []
    for _ in range(3):
        begin = time.process_time()
        call()
        least.append(time.process_time() - begin)
    return min(least)


def first_extremes(token_sets: list[frozenset[bytes]]) -> list[int]:
    """Every file beside every extreme."""
    kept: list[int] = []
    found = []
    for position, tokens in enumerate(token_sets):
        match = next((at for at in kept if jaccard(tokens, token_sets[at]) >= MIN_SIMILARITY), position)
        if match == position:
            kept.append(position)
        found.append(match)
    return found


def first_tokens(text: str) -> list[str]:
    """By a regular expression."""
    return sorted(set(FIRST_TOKEN.findall(text)))


def chain(length: int) -> list[frozenset[bytes]]:
    """A cluster that chains on: neighbours are similar, others are not."""
    return [frozenset(b"%d" % token for token in range(at * 8, at * 8 + 100)) for at in range(length)]


def steps_of(files: list[Path]) -> Iterator[tuple[str, int, float, float | None]]:
    """Name, files, CPU seconds now, and those of the first version."""
    data = [path.read_bytes() for path in files]
    texts = [one.content for one in (source_file("a.py", part) for part in data) if not isinstance(one, str)]
    count = len(texts)
    yield (
        "MD5 of the text without white space",
        count,
        seconds(lambda: [squeezed_digest(text) for text in texts]),
        None,
    )
    yield (
        "tokens, estimated",
        count,
        seconds(lambda: [estimated_tokens(text) for text in texts]),
        seconds(lambda: [sum(1 for _ in FIRST_ESTIMATE.finditer(text)) for text in texts]),
    )
    yield (
        "token sets",
        count,
        seconds(lambda: [tokens_of(text) for text in texts]),
        seconds(lambda: [first_tokens(text) for text in texts]),
    )
    sets = [tokens for tokens in map(tokens_of, texts) if tokens is not None]
    yield "signatures and bands (rensa)", len(sets), seconds(lambda: band_hashes(sets)), None
    bands = np.ascontiguousarray(band_hashes(sets).T)
    yield "clusters", len(sets), seconds(lambda: clusters_of((bands[at] for at in range(BANDS)), len(sets))), None
    links = chain(3000)
    yield (
        "extremes of a cluster of 3,000",
        3000,
        seconds(lambda: extremes_of(lambda: links)),
        seconds(lambda: first_extremes(links)),
    )


def peers_of(files: list[Path], limit: int = 1000) -> list[list[str]]:
    """Signatures and candidates by rensa and by datasketch, on the same token sets."""
    import datasketch

    texts = [path.read_bytes().decode("utf-8", "replace") for path in files]
    sets = [tokens for tokens in map(tokens_of, texts) if tokens is not None][:limit]

    def ours() -> None:
        bands = np.ascontiguousarray(band_hashes(sets).T)
        clusters_of((bands[at] for at in range(BANDS)), len(sets))

    def theirs() -> None:
        index = datasketch.MinHashLSH(threshold=MIN_SIMILARITY, num_perm=PERMUTATIONS)
        for number, tokens in enumerate(sets):
            sketch = datasketch.MinHash(num_perm=PERMUTATIONS)
            sketch.update_batch(tokens)
            index.query(sketch)
            index.insert(number, sketch)

    taken = {"rensa, bands sorted": seconds(ours), "datasketch": seconds(theirs)}
    return [[name, f"{len(sets):,}", f"{took:.2f}", f"{len(sets) / took:,.0f}"] for name, took in taken.items()]


def main() -> None:
    """Measure and print, or write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--source", type=Path, action="append", help="folder of Python files")
    parser.add_argument("--markdown", type=Path, help="report whose section is written")
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)  # of a child: repositories
    arguments = parser.parse_args()
    if arguments.stages:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(stages_of(arguments.stages, Path(folder))))
        return
    roots = arguments.source or [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    files = chosen(roots, arguments.files)
    rows, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in (len(files) // 10, len(files)):
            place = Path(folder, str(size))
            listed = make_repositories(files[:: len(files) // size][:size], place)
            (place / REPOSITORIES).write_text("".join(json.dumps(asdict(one)) + "\n" for one in listed))
            output = Path(folder, "found.json")
            command = [sys.executable, str(Path(__file__).resolve()), "--stages", str(place)]
            cost = run(command, Path(folder), output)
            found = json.loads(output.read_text())
            memory.append([f"{found['files']:,}", f"{cost.peak / 1e6:.0f}", f"{cost.cpu:.1f}"])
        total = sum(took for name, took in found.items() if name not in ("files", "documents"))
        for name, took in found.items():
            if name not in ("files", "documents"):
                rows.append(
                    [name, f"{took:.2f}", f"{found['files'] / max(took, 1e-3):,.0f}", f"{100 * took / total:.0f} %"]
                )
    size = sum(path.stat().st_size for path in files)
    steps = [
        [
            name,
            f"{count / took:,.0f}",
            f"{count / first:,.0f}" if first else "-",
            f"{first / took:.1f}" if first else "-",
        ]
        for name, count, took, first in steps_of(files)
    ]
    text = "\n".join(
        [
            sections.command(),
            f"{len(files):,} Python files, {size / 1e6:.1f} MB, of which {found['documents']:,} stay. A stage:\n",
            table(["stage", "CPU s", "files/s per core", "share"], rows),
            f"Of `{FETCH}`, git takes most. Steps, and what they were before they were profiled:\n",
            table(["step", "files/s", "first version", "times as fast"], steps),
            "Near duplicates, signatures and candidates, on the same token sets:\n",
            table(["by", "files", "CPU s", "files/s"], peers_of(files)),
            "Memory of the whole run, one process, as the input grows:\n",
            table(["files", "peak MB", "CPU s"], memory),
        ]
    )
    if arguments.markdown:
        sections.replace(arguments.markdown, "GitHub", text)
    print(text)


if __name__ == "__main__":
    main()
