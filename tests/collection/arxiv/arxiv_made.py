"""An archive of arXiv's sources in small: tar files, manifest and metadata of papers that a test writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

for module in ("datatrove", "pypandoc", "pylatexenc", "charset_normalizer"):
    pytest.importorskip(module, reason=f"needs {module}: pip install 'kolmo-codelength[collect]'")

Source = bytes | Mapping[str, bytes]  # a single file, or files by name
LICENCE = "http://creativecommons.org/licenses/by/4.0/"


@dataclass(frozen=True)
class Made:
    """A paper: its identifier, source, and what metadata says."""

    id: str
    source: Source
    categories: str = "math.CO cs.DM"
    versions: Sequence[str] = ("Mon, 5 Oct 2026 10:00:00 GMT",)
    ending: str = "gz"
    known: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "submitter": "A. Person",
            "title": f"On the paper\n  {self.id}",
            "authors": "A. Person and B. Person",
            "abstract": "  We prove\nit.\n",
            "categories": self.categories,
            "doi": None,
            "license": LICENCE,
            "journal-ref": None,
            "versions": [{"version": f"v{n}", "created": day} for n, day in enumerate(self.versions, 1)],
            "update_date": "2026-11-01",
            **self.more,
        }


def tex(body: str, preamble: str = "") -> bytes:
    """A whole paper."""
    text = f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    return text.encode()


def tar_of(files: Mapping[str, bytes], *links: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for link in links:
            tar.addfile(link)
    return out.getvalue()


def packed(source: Source) -> bytes:
    """A source as the archive has it."""
    return gzip.compress(source if isinstance(source, bytes) else tar_of(source), mtime=0)


def write_archive(folder: Path, tars: Mapping[str, Sequence[Made]], timestamp: str = "2026-11-15 00:00:00") -> Path:
    """`src/` with the tar files (by "yymm_sequence") and their manifest, and metadata.jsonl beside it."""
    (folder / "src").mkdir(parents=True)
    entries, records = [], []
    for name, papers in tars.items():
        yymm, _, sequence = name.partition("_")
        files = {
            f"{yymm}/{paper.id.replace('/', '')}.{paper.ending}": (
                packed(paper.source)
                if paper.ending == "gz"
                else paper.source
                if isinstance(paper.source, bytes)
                else b""
            )
            for paper in papers
        }
        data = tar_of(files)
        filename = f"src/arXiv_src_{yymm}_{sequence}.tar"
        (folder / filename).write_bytes(data)
        entries.append(
            f"<file><content_md5sum>0</content_md5sum><filename>{filename}</filename><first_item>a</first_item>"
            f"<last_item>b</last_item><md5sum>{hashlib.md5(data).hexdigest()}</md5sum><num_items>{len(files)}</num_items>"
            f"<seq_num>{int(sequence)}</seq_num><size>{len(data)}</size><timestamp>{timestamp}</timestamp>"
            f"<yymm>{yymm}</yymm></file>"
        )
        records += [paper.record() for paper in papers if paper.known]
    manifest = f"<?xml version='1.0' standalone='yes'?>\n<arXivSRC>{''.join(entries)}</arXivSRC>\n"
    (folder / "src" / "arXiv_src_manifest.xml").write_text(manifest)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
