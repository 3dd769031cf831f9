"""A download on its way to the disk: what is known of it, and where the bytes of each answer go.

Beside PATH lies PATH.json with what is known of it; what has come so far is PATH.partial, with PATH.partial.json. What
it is not: it asks nobody (see `fetching`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any

from kolmo.targets import replacing


@dataclass(frozen=True)
class Download:
    """A file that was fetched.

    Attributes:
        url: it is from.
        path: where it is now.
        size: bytes.
        sha256: of its bytes, in hexadecimal.
        etag: as the server gave it; "" for none.
        last_modified: likewise.
        unchanged: whether the copy that was there is the server's still.
    """

    url: str
    path: str
    size: int
    sha256: str
    etag: str = ""
    last_modified: str = ""
    unchanged: bool = False

    def record(self) -> dict[str, Any]:
        """As the manifest has it, among the sources."""
        return {
            "url": self.url,
            "bytes": self.size,
            "sha256": self.sha256,
            "etag": self.etag,
            "last_modified": self.last_modified,
        }


def conditions(known: Download) -> dict[str, str]:
    """Headers that ask for a file only if it is another than this one."""
    found = {"If-None-Match": known.etag} if known.etag else {}
    return {**found, "If-Modified-Since": known.last_modified} if known.last_modified else found


class Landing:
    """Where the body of a download goes: on from what is there for 206, from the beginning for 200."""

    def __init__(self, url: str, partial: str, size: int) -> None:
        self._url, self._partial, self._size = url, partial, size
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def sink(self, status: int, headers: Message) -> IO[bytes] | None:
        """As `HttpClient.request` asks for it.

        Raises:
            ValueError: the rest that comes does not belong to what is there.
        """
        if status == 206:
            self._check_same(headers)
        if status == 206 and _begins_at(headers.get("Content-Range", "")) == self._size:
            self._file = open(self._partial, "ab")  # noqa: SIM115 (closed at the landing's end)
        elif status in (200, 206):
            if status == 206:
                raise ValueError("the server sends another part of the file than was asked for")
            self._file = open(self._partial, "wb")  # noqa: SIM115
            etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
            length = headers.get("Content-Length", "")
            size = int(length) if length.isdecimal() and len(length) < 20 else 0
            remember(self._partial, Download(self._url, self._partial, size, "", etag, modified))
        return self._file

    def _check_same(self, headers: Message) -> None:
        """Whether the rest is of the file that was begun, of whose length and time the record tells.

        Raises:
            ValueError: it is not, although the server's ETag is; what is there is forgotten.
        """
        begun, total = known_of(self._partial), headers.get("Content-Range", "").rpartition("/")[2].strip()
        if begun is None:
            return
        other_size = begun.size and total.isdecimal() and total != str(begun.size)
        if other_size or headers.get("Last-Modified", begun.last_modified) != begun.last_modified:
            forget(self._partial)
            raise ValueError("the file changed while it came")


def _begins_at(content_range: str) -> int | None:
    begin = content_range.strip().removeprefix("bytes").strip().split("-")[0]
    return int(begin) if begin.isdecimal() and len(begin) < 20 else None


def known_of(path: str) -> Download | None:
    """What is known of a file that was downloaded, or is on its way; None where nothing is."""
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            return Download(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def remember(path: str, download: Download) -> None:
    """Write down what is known of a file."""
    with replacing(f"{path}.json") as file:
        file.write(json.dumps({**vars(download), "unchanged": False}).encode())


def forget(partial: str) -> None:
    """Remove a file and what is known of it."""
    for path in (partial, f"{partial}.json"):
        with suppress(FileNotFoundError):
            os.unlink(path)
