"""Documents to and from datatrove's, and to and from the lines of a shard: the one place where they are converted.

A document here is `kolmo.corpus.Document`: `content`, `subset`, `name` (datatrove's id), `meta`. Half surrogate pairs,
which no text holds, are replaced by U+FFFD when a line is written.
"""

from __future__ import annotations

import json
from typing import Any

from kolmo.collection.extras import extra
from kolmo.corpus.documents import Document

SUBSET = "subset"  # key of datatrove's metadata under which the subset travels
META = "meta"  # and the meta as a whole, so that no key of it can be taken for another


def to_datatrove(document: Document) -> Any:
    """The document as `datatrove.data.Document`.

    Raises:
        MissingExtraError: datatrove is not installed.
    """
    data = extra("datatrove.data")
    return data.Document(
        text=document.content,
        id=document.name,
        metadata={SUBSET: document.subset, META: dict(document.meta)},
    )


def from_datatrove(document: Any) -> Document:
    """The document from datatrove's; what its own steps have added to the metadata joins the meta."""
    others = dict(document.metadata)
    subset = str(others.pop(SUBSET, ""))
    meta = dict(others.pop(META, {}))
    return Document(document.text, subset, document.id, {**meta, **others})


def to_line(document: Document) -> bytes:
    """One line of JSON, its line end included."""
    orjson = extra("orjson")
    record = {
        "content": document.content,
        "subset": document.subset,
        "name": document.name,
        "meta": dict(document.meta),
    }
    try:
        line = orjson.dumps(record)
    except TypeError:  # half of a surrogate pair, or an integer beyond 64 bits
        text = json.dumps(record, ensure_ascii=False)
        line = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return bytes(line) + b"\n"


def from_line(line: bytes) -> Document:
    """The document of a line that `to_line` has made."""
    record = extra("orjson").loads(line)
    return Document(record["content"], record["subset"], record["name"], record["meta"])
