"""The record of a collection, manifest-SUBSET.json, with the recipe at its end, read and written entry by entry.

What it is not: the collection's text, of which it has none but titles and the like in the meta.

    {
    "kolmo_manifest": 1,
    "subset": "cc",
    ...                           a key a line
    "recipe": [
    {"sha256": ..., "meta": ...}, an entry a line, in the order of the output
    ...
    ]
    }
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kolmo.corpus.dates import day_of
from kolmo.corpus.documents import Document, plain
from kolmo.errors import KolmoError
from kolmo.installing import installed_version
from kolmo.targets import Attributes, Target

VERSION = 1
KEY, RECIPE = "kolmo_manifest", "recipe"
MAX_LINE_BYTES = 1 << 26  # of a manifest


@dataclass(frozen=True)
class ManifestEntry:
    """What one document's content can be made again by.

    Attributes:
        sha256: of the content in UTF-8, in hexadecimal.
        meta: the document's, with the place of its source in it.
    """

    sha256: str
    meta: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document) -> ManifestEntry:
        """The entry of a document."""
        return cls(content_digest(document.content), plain(document.meta))


@dataclass(frozen=True)
class Manifest:
    """All but the recipe. See docs/collection.md for the fields."""

    pipeline: str
    subset: str
    since: str | None
    until: str | None
    settings: Mapping[str, Any]
    sources: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Mapping[str, Any]] = ()
    first_date: str = ""
    last_date: str = ""


def content_digest(content: str) -> str:
    """SHA-256 of a content, as the recipe has it."""
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()


def versions_of(*packages: str) -> dict[str, str]:
    """The versions of kolmo and of installed packages; those that are not installed are left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"kolmo": installed_version()}
    for package in sorted(packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Dates:
    """The first and the last day of documents, as they pass."""

    def __init__(self) -> None:
        self.first = self.last = ""

    def see(self, document: Document) -> None:
        """One more document; one without a date changes nothing."""
        if day := day_of(document.meta):
            self.first = min(self.first or day, day)
            self.last = max(self.last, day)


def write_manifest(path: str, manifest: Manifest, entries: Iterable[ManifestEntry]) -> None:
    """Write a manifest, renamed into place when it is whole; one that is there is replaced.

    Args:
        path: of the file.
        manifest: its beginning.
        entries: the recipe, in the order of the output; read once.
    """
    with Target(path, True) as target:
        target.file.write(b"{\n")
        for key, value in {KEY: VERSION, **vars(manifest)}.items():
            target.file.write(f"{json.dumps(key)}: {_json(plain(value))},\n".encode())
        target.file.write(f'"{RECIPE}": ['.encode())
        separator = "\n"
        for entry in entries:
            target.file.write(f"{separator}{_json(vars(entry))}".encode())
            separator = ",\n"
        target.file.write(b"\n]\n}\n")
        target.keep(Attributes())


def read_manifest(path: str) -> Manifest:
    """A manifest without its recipe.

    Raises:
        KolmoError: it is not one, is damaged, or is of a later version.
    """
    found: dict[str, Any] = {}
    for line in _lines(path):
        if line.startswith(f'"{RECIPE}"') or line == "}":
            break
        if line != "{":
            found.update(_parsed("{" + line.rstrip(",") + "}", path))
    if found.pop(KEY, None) != VERSION:
        raise KolmoError(
            f"{path}: is not a manifest of version {VERSION}; name a manifest-SUBSET.json of kolmo collect"
        )
    try:
        manifest = Manifest(**found)
    except TypeError:
        raise KolmoError(f"{path}: is a damaged manifest; its fields are not those of version {VERSION}") from None
    if not isinstance(manifest.settings, dict) or not isinstance(manifest.files, list):
        raise KolmoError(f"{path}: is a damaged manifest; copy it again")
    return manifest


def read_recipe(path: str) -> Iterator[ManifestEntry]:
    """The entries of a manifest's recipe, one at a time.

    Raises:
        KolmoError: it is damaged or cut short.
    """
    lines = _lines(path)
    for line in lines:
        if line.startswith(f'"{RECIPE}"'):
            break
    for line in lines:
        if line == "]":
            return
        entry = _parsed(line.rstrip(","), path)
        if not isinstance(entry.get("sha256"), str) or not isinstance(entry.get("meta"), dict):
            raise KolmoError(f"{path}: an entry of its recipe lacks sha256 or meta; copy the manifest again")
        yield ManifestEntry(entry["sha256"], entry["meta"])
    raise KolmoError(f"{path}: ends within its recipe; copy it again")


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            while data := file.readline(MAX_LINE_BYTES):
                if len(data) == MAX_LINE_BYTES:
                    raise KolmoError(
                        f"{path}: has a line of more than {MAX_LINE_BYTES >> 20} MiB; it is not a manifest"
                    )
                if line := data.decode("utf-8").strip():
                    yield line
    except UnicodeDecodeError:
        raise KolmoError(f"{path}: is not UTF-8, so it is not a manifest") from None
    except OSError as error:
        raise KolmoError(f"{path}: {error.strerror or error}; check the name") from None


def _parsed(line: str, path: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise KolmoError(f"{path}: is not a manifest of kolmo collect, or a damaged one; copy it again")
    return value


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
