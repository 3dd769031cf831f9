"""Writes the three corpora of docs/benchmarks/ranking.md: 16 documents each, cut to 4,000 characters at a line's end.

    KOLMO_DATA=DIR python benchmarks/ranking_corpus.py FOLDER

`docs` and `source` are pages and modules of this repository as it is here, which no published model has read; `wiki` is
the beginning of articles in WikiText-2's test text, `DIR/bench/text/wiki.test.raw`, which many models have read. What
it is not: an evaluation, which `kolmo eval` does.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from harness.files import text_folder

ROOT = Path(__file__).parents[1]
DOCUMENTS = 16  # of each corpus
MAX_CHARACTERS = 4000  # of a document
ARTICLE = re.compile(r"(?m)^(?= = [^=].*[^=] = $)")  # where an article of WikiText begins


def cut(text: str) -> str:
    """Whole lines of the text's beginning."""
    return text if len(text) <= MAX_CHARACTERS else text[: text.rfind("\n", 0, MAX_CHARACTERS) + 1]


def documents() -> dict[str, list[tuple[str, str]]]:
    """Names and texts of each corpus."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    code = ROOT / "src" / "kolmo"
    modules = sorted(path for path in code.rglob("*.py") if 3000 < path.stat().st_size < 9000)
    modules = modules[:: max(1, len(modules) // DOCUMENTS)]
    articles = [one for one in ARTICLE.split((text_folder() / "wiki.test.raw").read_text("utf-8")) if len(one) > 2500]
    return {
        "docs": [(path.name, path.read_text("utf-8")) for path in pages],
        "source": [(path.relative_to(code).as_posix(), path.read_text("utf-8")) for path in modules],
        "wiki": [(one.split("=")[1].strip(), one.lstrip()) for one in articles],
    }


def main(folder: Path) -> None:
    """Write a JSONL file for each corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in documents().items():
        lines = [json.dumps({"name": title, "content": cut(text)}) + "\n" for title, text in found[:DOCUMENTS]]
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: KOLMO_DATA=DIR python benchmarks/ranking_corpus.py FOLDER")
    main(Path(sys.argv[1]))
