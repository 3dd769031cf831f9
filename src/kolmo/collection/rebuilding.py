"""From a manifest to the same files, by its recipe: each content is fetched and made again, and its SHA-256 compared.

What it is not: a run of the pipeline; nothing is judged again, no score made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import tee
from typing import Any

from kolmo.collection.card import write_card
from kolmo.collection.collecting import HIDDEN, STEM, manifest_path
from kolmo.collection.manifest import Manifest, ManifestEntry, content_digest, read_manifest, read_recipe
from kolmo.collection.pipelines import Access, Missing, pipeline_class
from kolmo.collection.stages import Work
from kolmo.corpus.documents import Document
from kolmo.corpus.writing import FILE_BYTES, write_documents
from kolmo.errors import KolmoError
from kolmo.targets import Attributes, Target

REBUILD = "rebuild"  # folder of what is temporary
NAMED = 100  # entries that could not be made again, of which the report says each


@dataclass
class Rebuilt:
    """What came of a rebuild.

    Attributes:
        documents: that are the same again.
        missing: (place of the source, reason) of up to NAMED others.
        missing_count: of all others.
        files: paths of files whose SHA-256 is the manifest's.
        different: paths of those whose SHA-256 is not.
    """

    documents: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)
    missing_count: int = 0
    files: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether all files are those of the manifest, byte by byte."""
        return not self.missing_count and not self.different


def rebuild(
    path: str,
    folder: str,
    access: Access,
    places: Mapping[str, Any] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> Rebuilt:
    """Make a collection again from its manifest.

    Args:
        path: of the manifest.
        folder: of the output, into which the manifest is copied too.
        access: to the network.
        places: where sources are, if not at the usual address: see the pipelines' `of_manifest`.
        progress: is told how many documents were made, now and then.

    Raises:
        KolmoError: the manifest is damaged, or a source cannot be reached (what is gone for good is in the result).
    """
    manifest = read_manifest(path)
    pipeline = pipeline_class(manifest.pipeline).of_manifest(manifest.settings, access, places or {})
    result = Rebuilt()
    work = Work(os.path.join(folder, HIDDEN, REBUILD))
    os.makedirs(work.folder, exist_ok=True)
    entries, again = tee(read_recipe(path))  # as far apart as the documents of one source
    documents = _documents(entries, pipeline.rebuild(again, work), manifest, result, progress)
    written = write_documents(
        documents,
        os.path.join(folder, manifest.subset),
        STEM,
        format=str(manifest.settings.get("format", "jsonl")),
        file_bytes=int(manifest.settings.get("file_bytes", FILE_BYTES)),
    )
    wanted = {str(file["path"]): file["sha256"] for file in manifest.files}
    for file in written:
        name = f"{manifest.subset}/{file.path}"
        (result.files if wanted.pop(name, None) == file.sha256 else result.different).append(name)
    result.different += wanted
    if result.is_same:
        _copy(path, manifest_path(folder, manifest.subset))
        write_card(folder)
    shutil.rmtree(work.folder, ignore_errors=True)
    with suppress(OSError):  # something else is there
        os.rmdir(os.path.dirname(work.folder))
    return result


def _documents(
    entries: Iterator[ManifestEntry],
    contents: Iterator[str | Missing],
    manifest: Manifest,
    result: Rebuilt,
    progress: Callable[[int], None] | None,
) -> Iterator[Document]:
    for entry, content in zip(entries, contents, strict=True):
        why = content.why if isinstance(content, Missing) else ""
        if isinstance(content, str):
            if content_digest(content) == entry.sha256:
                result.documents += 1
                if progress is not None:
                    progress(result.documents)
                yield Document(content, manifest.subset, meta=entry.meta)
                continue
            why = "the content is another (SHA-256)"
        result.missing_count += 1
        if len(result.missing) < NAMED:
            result.missing.append((_place(entry), why))


def _place(entry: ManifestEntry) -> str:
    meta = entry.meta
    if "url" in meta:
        return str(meta["url"])
    return " ".join(str(meta[key]) for key in ("repository", "commit", "path", "id", "version") if key in meta)


def _copy(path: str, target: str) -> None:
    if os.path.abspath(path) == os.path.abspath(target):
        return
    try:
        with open(path, "rb") as source, Target(target, True) as copy:
            shutil.copyfileobj(source, copy.file)
            copy.keep(Attributes())
    except OSError as error:
        raise KolmoError(f"{target}: {error.strerror}; check the folder") from None


__all__ = ["HIDDEN", "REBUILD", "Rebuilt", "rebuild"]
