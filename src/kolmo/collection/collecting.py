"""One pipeline from its first stage to a complete folder: documents, manifest, record of the run, dataset card.

What it is not: it knows nothing of what pipelines do; see `pipelines` and docs/collection.md.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from kolmo.collection.card import CARD, write_card
from kolmo.collection.engine import Progress, StageEngine, last_stage, run_stages
from kolmo.collection.extras import extra
from kolmo.collection.manifest import Dates, Manifest, ManifestEntry, read_manifest, versions_of, write_manifest
from kolmo.collection.pipelines import SUBSETS, CollectionPipeline, kept_files_of, subset_of
from kolmo.collection.stages import Work, read_json, write_json
from kolmo.corpus.documents import Document, plain
from kolmo.corpus.writing import FILE_BYTES, FORMATS, WrittenFile, write_documents
from kolmo.errors import KolmoError
from kolmo.targets import LOCK, Attributes, Target, locked, remove_abandoned

HIDDEN = ".collect"
STEM = "test"
SETTINGS, RECIPE = "settings.json", "recipe.jsonl"


@dataclass(frozen=True)
class Collected:
    """A folder's subset that is complete.

    Attributes:
        manifest: its path.
        record: what it says, without the recipe.
        documents: how many there are.
        was_complete: whether nothing was left to do.
    """

    manifest: str
    record: Manifest
    documents: int
    was_complete: bool = False


def manifest_path(folder: str, subset: str) -> str:
    """Where a subset's manifest is."""
    return os.path.join(folder, f"manifest-{subset}.json")


def work_folder(folder: str, name: str) -> str:
    """Where a pipeline works."""
    return os.path.join(folder, HIDDEN, name)


def begun_until(folder: str, name: str, subset: str | None = None) -> str | None:
    """The last day of a run that was begun in this folder, or has ended there; None where there was none.

    Args:
        folder: of the output.
        name: of the pipeline.
        subset: of its documents, where it is not the usual one.
    """
    begun = read_json(os.path.join(work_folder(folder, name), SETTINGS))
    if begun is not None:
        return begun.get("until") if isinstance(begun, dict) else None
    path = manifest_path(folder, subset or SUBSETS[name])
    return read_manifest(path).until if os.path.exists(path) else None


def collect(
    pipeline: CollectionPipeline,
    folder: str,
    *,
    engine: StageEngine | None = None,
    format: str = "jsonl",
    file_bytes: int = FILE_BYTES,
    restart: bool = False,
    keep_work: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Run a pipeline, or go on with a run that was stopped, until the folder is complete.

    Args:
        pipeline: what to collect.
        folder: of the output; may hold other subsets.
        engine: where it runs; None: here, one task at a time.
        format: of the documents: one of `kolmo.corpus.writing.FORMATS`.
        file_bytes: of an output file, about.
        restart: begin again, whatever was done before with these or other settings.
        keep_work: leave the stages' folders.
        progress: is told how many tasks of a stage have ended.

    Raises:
        KolmoError: a stage failed, another run works there, or one was begun with other settings.
        MissingExtraError: the extra `collect` is not installed.

    Example:
        >>> collect(CommonCrawl(Access("cache"), origin), "october")  # doctest: +SKIP
    """
    begin = time.monotonic()
    engine = engine or StageEngine()
    if format not in FORMATS:
        raise KolmoError(f"{folder}: there is no format {format}; take one of {', '.join(FORMATS)}")
    subset = subset_of(pipeline)
    work = Work(os.path.abspath(work_folder(folder, pipeline.name)))  # workers may have another folder
    path = manifest_path(folder, subset)
    settings = {**plain(pipeline.settings()), "format": format, "file_bytes": file_bytes}
    if restart or not os.path.exists(path):
        extra("datatrove.executor.local")  # before anything is made
    with locked(
        os.path.join(work.folder, LOCK), f"{work.folder}: another run of {pipeline.name} works there; wait, or stop it"
    ):
        if restart:
            _forget(folder, subset, work)
        if os.path.exists(path):
            return _complete(folder, path, settings, work, keep_work)
        _check_settings(work, settings)
        counts = run_stages(pipeline.stages(work), work, engine, progress)
        dates = Dates()
        recipe = os.path.join(work.folder, RECIPE)
        with open(recipe, "w", encoding="utf-8") as entries:
            documents = _noted(_documents(pipeline, work), dates, entries)
            written = write_documents(
                documents, os.path.join(folder, subset), STEM, format=format, file_bytes=file_bytes
            )
        for name, (stage, file) in kept_files_of(pipeline).items():
            _put_together(os.path.join(folder, name), work, stage, file)
        manifest = Manifest(
            pipeline=pipeline.name,
            subset=subset,
            since=pipeline.since,
            until=pipeline.until,
            settings=settings,
            sources=list(pipeline.sources(work)),
            versions=versions_of(*pipeline.packages),
            counts=counts.record(),
            notes=pipeline.notes(work),
            files=[_file(subset, file) for file in written],
            first_date=dates.first,
            last_date=dates.last,
        )
        write_json(os.path.join(folder, f"run-{subset}.json"), _run(engine, time.monotonic() - begin))
        write_manifest(path, manifest, _entries(recipe))
        _tidy(folder, manifest.subset, work, keep_work)
    return Collected(path, manifest, sum(file.documents for file in written))


def documents_of(manifest: Manifest) -> int:
    """How many documents a manifest's files have."""
    return sum(int(file["documents"]) for file in manifest.files)


def _complete(folder: str, path: str, settings: Mapping[str, Any], work: Work, keep_work: bool) -> Collected:
    """What is there already; killed after the manifest was written, a run has only to tidy up."""
    manifest = read_manifest(path)
    _compare(manifest.settings, settings, path)
    _tidy(folder, manifest.subset, work, keep_work)
    return Collected(path, manifest, documents_of(manifest), was_complete=True)


def _check_settings(work: Work, settings: Mapping[str, Any]) -> None:
    path = os.path.join(work.folder, SETTINGS)
    begun = read_json(path)
    if begun is None:
        write_json(path, settings)
    else:
        _compare(begun, settings, work.folder)


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    if before != plain(now):
        others = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        raise KolmoError(
            f"{where}: was made with another {', '.join(others)}; use the same, another folder, or restart=True"
        )


def _documents(pipeline: CollectionPipeline, work: Work) -> Iterator[Document]:
    stage = last_stage(pipeline.stages(work))
    subset = subset_of(pipeline)
    for index in range(work.shards(stage)):
        for document in work.read(stage, index):
            yield document if document.subset == subset else replace(document, subset=subset)


def _noted(documents: Iterable[Document], dates: Dates, entries: Any) -> Iterator[Document]:
    """The documents, whose days and recipe entries are noted as they pass."""
    import json

    for document in documents:
        dates.see(document)
        entries.write(json.dumps(vars(ManifestEntry.of(document))) + "\n")
        yield document


def _entries(path: str) -> Iterator[ManifestEntry]:
    import json

    with open(path, encoding="utf-8") as file:
        for line in file:
            yield ManifestEntry(**json.loads(line))


def _put_together(path: str, work: Work, stage: str, name: str) -> None:
    with Target(path, True) as target:
        for index in range(work.shards(stage)):
            with open(work.file(stage, index, name), "rb") as file:
                shutil.copyfileobj(file, target.file)
        target.keep(Attributes())


def _file(subset: str, file: WrittenFile) -> dict[str, Any]:
    return {**vars(file), "path": f"{subset}/{file.path}"}


def _run(engine: StageEngine, seconds: float) -> dict[str, Any]:
    return {
        "engine": engine.kind,
        "workers": engine.workers,
        "seconds": round(seconds, 1),
        "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _forget(folder: str, subset: str, work: Work) -> None:
    """Remove what earlier runs left of this subset; first the manifest, which says that the rest is complete."""
    for path in (manifest_path(folder, subset), os.path.join(folder, f"run-{subset}.json")):
        if os.path.exists(path):
            os.unlink(path)
    output = os.path.join(folder, subset)
    for name in os.listdir(output) if os.path.isdir(output) else ():
        if name.startswith(f"{STEM}-"):
            os.unlink(os.path.join(output, name))
    for entry in os.scandir(work.folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != LOCK:  # which this run holds
            os.unlink(entry.path)


def _tidy(folder: str, subset: str, work: Work, keep_work: bool) -> None:
    write_card(folder)
    for place in (folder, os.path.join(folder, subset)):  # what a killed run has left half-written
        remove_abandoned(place)
    if not keep_work:
        shutil.rmtree(work.folder, ignore_errors=True)
        with suppress(OSError):  # another pipeline works there
            os.rmdir(os.path.dirname(work.folder))


__all__ = ["CARD", "Collected", "begun_until", "collect", "documents_of", "manifest_path", "work_folder"]
