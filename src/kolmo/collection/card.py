"""The dataset card: README.md of an output folder, made anew from the manifests that are there.

Its header tells `datasets.load_dataset` and `kolmo.corpus` which files belong to which subset. What it is not: a
place for what a manifest does not say.
"""

from __future__ import annotations

import os
from typing import Any

from kolmo.collection.manifest import Manifest, read_manifest
from kolmo.collection.pipelines import SUBSETS
from kolmo.foreign import markdown_text
from kolmo.targets import Attributes, Target

CARD = "README.md"
LICENCES = {
    "cc": "Texts of web pages are their authors'; Common Crawl's terms of use hold. The manifest has none of them.",
    "github": "Each file is under its repository's licence, which its meta names.",
    "arxiv": "Each paper is under the licence that its meta names; metadata of arXiv is CC0.",
}
SOURCES = {
    "cc": "Web pages, from Common Crawl",
    "github": "Source files, from GitHub",
    "arxiv": "Papers, from arXiv",
}


def write_card(folder: str) -> str:
    """Write the card of a folder, renamed into place; returns its text.

    Raises:
        KolmoError: a manifest is damaged.
    """
    manifests = []
    known = list(SUBSETS.values())
    for subset in [*known, *sorted(set(os.listdir(folder)) - set(known))]:
        path = os.path.join(folder, f"manifest-{subset}.json")
        if os.path.exists(path):
            manifests.append(read_manifest(path))
    text = card(manifests)
    with Target(os.path.join(folder, CARD), True) as target:
        target.file.write(text.encode())
        target.keep(Attributes())
    return text


def card(manifests: list[Manifest]) -> str:
    """The text of a card.

    Args:
        manifests: of the folder's subsets, in the order in which they are to appear.
    """
    lines = ["---", "configs:"]
    for manifest in manifests:
        lines += [f"- config_name: {manifest.subset}", "  data_files:"]
        lines += [f"  - split: test\n    path: {_pattern(manifest)}"]
    lines += ["license: other", "tags:", "- evaluation", "---", "", "# A fresh corpus", ""]
    lines += [
        "Documents `{content, subset, meta}` for the evaluation of language models, collected by `kolmo collect`. "
        "A model has not seen them if its training data ends before their dates.",
        "",
        "| subset | documents | from | to | what |",
        "|---|---:|---|---|---|",
    ]
    for manifest in manifests:
        count = sum(int(file["documents"]) for file in manifest.files)
        dates = f"{_cell(manifest.first_date)} | {_cell(manifest.last_date)}"
        lines.append(f"| {manifest.subset} | {count} | {dates} | {SOURCES.get(manifest.pipeline, '')} |")
    lines += [
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'load_dataset("FOLDER", "{manifests[0].subset if manifests else "cc"}", split="test")',
        "```",
        "",
        "`kolmo eval MODEL --corpus FOLDER:SUBSET` evaluates a model, `kolmo collect rebuild manifest-SUBSET.json`",
        "makes the same files from their sources.",
    ]
    for manifest in manifests:
        lines += ["", f"## {manifest.subset}", "", LICENCES.get(manifest.pipeline, ""), ""]
        lines += ["| step | in | kept | dropped |", "|---|---:|---:|---|"]
        for step, counts in manifest.counts.items():
            dropped = ", ".join(f"{markdown_text(reason)}: {count}" for reason, count in counts["dropped"].items())
            lines.append(f"| {markdown_text(step)} | {counts['in']} | {counts['kept']} | {dropped} |")
        if manifest.notes:
            lines.append("")
            lines += [f"- {_note(key, value)}" for key, value in manifest.notes.items()]
    return "\n".join(lines) + "\n"


def _pattern(manifest: Manifest) -> str:
    path = str(manifest.files[0]["path"]) if manifest.files else f"{manifest.subset}/test-00000.jsonl"
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.split('-')[0]}-*.{name.split('.', 1)[1]}"


def _note(key: str, value: Any) -> str:
    return f"{markdown_text(key)}: {markdown_text(str(value))}"


def _cell(value: str) -> str:
    return markdown_text(value) or "-"
