"""What a spec names: a file, a folder, a data set of the hub, under a name of its own or not.

    NAME=SPEC                 the same, called NAME
    FILE                      its kind by the ending: JSONL, JSON, Parquet, else one text
    FOLDER[:CONFIG][@SPLIT]   texts, or data as the hub lays it out (see `layouts`)
    cc, python, arxiv_math    the paper's corpora: hkust-nlp/llm-compression:cc@test and so on
    ORG/NAME[:CONFIG][@SPLIT] a data set of the hub

What exists as a path is that path, whatever else it might be. What it is not: a reader; files are only looked for here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha256

from kolmo.corpus.documents import Columns, Corpus
from kolmo.corpus.files import READ_BYTES, opened
from kolmo.corpus.folders import Shards, listing
from kolmo.corpus.hub import NAMES, REPOSITORY, open_rows
from kolmo.corpus.layouts import select
from kolmo.errors import KolmoError

NAMED_SPEC = re.compile(r"([A-Za-z0-9_.-]+)=(.+)", re.DOTALL)
PARTS = re.compile(r"(.+?)(?::([A-Za-z0-9_.+-]+))?(?:@([A-Za-z0-9_.-]+))?", re.DOTALL)
MANIFEST = re.compile(r"manifest-[a-z0-9_]+\.json")
HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
ENDINGS = re.compile(r".*\.(jsonl?|ndjson|parquet|gz|txt|md|py|csv|tsv|tex|html?)", re.DOTALL | re.IGNORECASE)


def open_corpus(
    spec: str,
    *,
    limit: int | None = None,
    subset: str | None = None,
    cache_dir: str | None = None,
    column: str | None = None,
    name_column: str | None = None,
    date_column: str | None = None,
) -> Corpus:
    """The corpus that a spec names (see above). Files are read as it is iterated; a data set's description at once.

    Args:
        spec: what to read.
        limit: so many documents at most, not counting those without content.
        subset: keep only the documents of this subset.
        cache_dir: where data sets of the hub are kept; by default where `datasets` keeps them.
        column: of data, the column (field of JSON) that holds the text; None: `content`, or else `text`.
        name_column: that holds a document's name; None: its file and place.
        date_column: that holds its date; None: the first that holds a day (see `dates`).

    Raises:
        KolmoError: there is no such thing, no network to look for it, or it is texts and a column is asked for.
        MissingExtraError: it is of the hub, and `datasets` is not installed.

    Example:
        >>> corpus = open_corpus("reviews.jsonl", column="body", date_column="written")  # doctest: +SKIP
    """
    if limit is not None and limit < 1:
        raise KolmoError(f"{spec}: a limit of {limit} documents leaves none; give 1 or more")
    match = None if os.path.exists(os.path.expanduser(spec)) else NAMED_SPEC.fullmatch(spec)
    columns = Columns(column, name_column, date_column)
    corpus = _open(match[2] if match else spec, cache_dir, columns, streaming=limit is not None)
    corpus.name = match[1] if match else corpus.name
    corpus.limit, corpus.subset = limit, subset
    return corpus


def _open(spec: str, cache_dir: str | None, columns: Columns, *, streaming: bool) -> Corpus:
    if os.path.exists(os.path.expanduser(spec)):
        return _open_path(spec, os.path.expanduser(spec), None, None, columns)
    match = PARTS.fullmatch(spec)
    if match is None:
        raise KolmoError("a corpus needs a name; give a file, a folder, or ORG/NAME:CONFIG of the hub")
    base, config, split = match.groups()
    path = os.path.expanduser(base)
    if os.path.exists(path):
        return _open_path(spec, path, config, split, columns)
    if base in NAMES and config is None:
        return _open(f"{REPOSITORY}:{base}@{split or 'test'}", cache_dir, columns, streaming=streaming)
    if not HUB.fullmatch(base) or ENDINGS.fullmatch(base):
        raise KolmoError(f"{spec}: no such file or folder; check the name (a data set of the hub is ORG/NAME:CONFIG)")
    rows, revision = open_rows(
        base, config, split, place=spec, cache_dir=cache_dir, columns=columns, streaming=streaming
    )
    source = f"{spec} (revision {revision})" if revision else spec
    return Corpus(config or base.split("/")[1], source, rows)


def _open_path(spec: str, path: str, config: str | None, split: str | None, columns: Columns) -> Corpus:
    if os.path.isdir(path):
        name = config or os.path.basename(os.path.abspath(path)) or spec
        files = listing(path)
        documents = select(path, files, config, split, columns)
        return Corpus(name, spec + _manifest(path, files, config), documents, skipped=documents.skipped)
    if config is not None or split is not None:
        raise KolmoError(f"{spec}: {path} is a file, and only folders have configurations and splits; leave them out")
    if not os.path.isfile(path):
        raise KolmoError(f"{path}: is neither a file nor a folder; write what it gives to a file first")
    folder, file = os.path.split(path)
    return Corpus(_stem(file), spec, Shards(folder, (file,), columns=columns))


def _stem(file: str) -> str:
    """A file's name without what its kind and its packing add."""
    bare = file[:-3] if file.lower().endswith(".gz") else file
    return os.path.splitext(bare)[0] or file


def _manifest(folder: str, files: Sequence[str], config: str | None) -> str:
    """The hash of the manifest that `kolmo collect` wrote for this part, to name the very corpus in results; or ""."""
    wanted = None if config is None else f"manifest-{config}.json"
    there = [file for file in files if MANIFEST.fullmatch(file) and wanted in (None, file)]
    if len(there) != 1:
        return ""
    with opened(os.path.join(folder, there[0])) as file:
        digest = sha256()
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return f" (manifest {digest.hexdigest()[:12]})"
