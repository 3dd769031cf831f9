"""Which segments are read: the first of a dump's list of paths, or files of one's own.

    BASE/crawl-data/CC-MAIN-2026-40/wet.paths.gz     a path a line, of a dump's WET files
    INDEX                                            collinfo.json: the dumps, newest first

What it is not: a search for single pages; a segment is read as a whole.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO

from kolmo.collection.fetching import Fetcher
from kolmo.collection.pipelines import Access
from kolmo.collection.stages import Shard, Work, read_json
from kolmo.corpus.documents import Document
from kolmo.errors import KolmoError

BASE_URL = "https://data.commoncrawl.org"
INDEX_URL = "https://index.commoncrawl.org/collinfo.json"
DUMP = re.compile(r"(?:CC-MAIN-)?(\d{4}-\d{2})")
SEGMENTS = "segments.json"
STAGE = "listing"
MAX_PATHS_BYTES = 1 << 28  # of a list, unpacked
SAMPLED = 3  # segments whose size is asked for, for --dry-run
ARCHIVES = re.compile(r".*\.(warc|wet)(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """Where segments come from.

    Attributes:
        dump: such as "CC-MAIN-2026-40"; None: the newest, or files of one's own.
        kind: "wet" or "warc".
        first, count: which of the list.
        files: of one's own; then the rest is not used.
        base_url, index_url: of the servers.
    """

    dump: str | None = None
    kind: str = "wet"
    first: int = 0
    count: int = 1
    files: tuple[str, ...] = ()
    base_url: str = BASE_URL
    index_url: str = INDEX_URL

    def paths_url(self, dump: str) -> str:
        """Address of a dump's list."""
        return f"{self.base_url}/crawl-data/{dump}/{self.kind}.paths.gz"

    def url(self, segment: str) -> str:
        """Address of a segment."""
        return f"{self.base_url}/{segment}"


def dump_name(dump: str) -> str:
    """The full name of a dump.

    >>> dump_name("2026-40")
    'CC-MAIN-2026-40'

    Raises:
        KolmoError: it is not one.
    """
    match = DUMP.fullmatch(dump)
    if match is None:
        raise KolmoError(f"{dump} is not a dump of Common Crawl; write YEAR-WEEK, such as 2026-40")
    return f"CC-MAIN-{match[1]}"


def newest_dump(origin: Origin, fetcher: Fetcher) -> str:
    """The name of the newest dump that the index knows."""
    answer = fetcher.get(origin.index_url)
    try:
        return dump_name(json.loads(answer.data)[0]["id"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise KolmoError(f"{origin.index_url}: does not name the dumps; give one with --dump") from None


def list_segments(origin: Origin, access: Access) -> tuple[str, list[str]]:
    """The dump, and the paths of the segments that are to be read.

    Raises:
        KolmoError: the dump is unknown, or has fewer segments.
    """
    if origin.files:
        return "", [os.path.basename(path) for path in origin.files]
    fetcher = access.fetcher()
    dump = dump_name(origin.dump) if origin.dump else newest_dump(origin, fetcher)
    url = origin.paths_url(dump)
    path = os.path.join(access.cache, f"{dump}-{origin.kind}.paths.gz")
    fetcher.download(url, path, largest=MAX_PATHS_BYTES)
    with open(path, "rb") as file:
        paths = _lines(file.read(), url)
    chosen = paths[origin.first : origin.first + origin.count]
    if len(chosen) < origin.count:
        raise KolmoError(f"{url}: lists {len(paths)} segments, fewer than {origin.first + origin.count}; ask for fewer")
    for segment in chosen:
        if segment.startswith("/") or ".." in segment.split("/") or not segment.isascii():
            raise KolmoError(f"{url}: names a segment outside the dump; check the server")
    return dump, chosen


def own_files(paths: Sequence[str]) -> tuple[str, ...]:
    """WARC and WET files, those of folders in order of their names.

    Raises:
        KolmoError: there are none, or two have one name, by which the recipe knows them.
    """
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            found += sorted(os.path.join(path, name) for name in os.listdir(path) if ARCHIVES.fullmatch(name))
        elif os.path.isfile(path):
            found.append(path)
        else:
            raise KolmoError(f"{path}: no such file or folder; check the name")
    names = [os.path.basename(path) for path in found]
    if not found:
        raise KolmoError(f"{', '.join(paths)}: holds no WARC or WET files; name some")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise KolmoError(f"two files are called {double}; rename one, since the recipe knows them by name")
    return tuple(map(os.path.abspath, found))


def expected_bytes(origin: Origin, segments: Sequence[str], access: Access) -> int | None:
    """Bytes of the segments: of one's own, exactly; of a dump, by the sizes of a few."""
    if origin.files:
        return sum(map(os.path.getsize, origin.files))
    fetcher, sizes = access.fetcher(), []
    for segment in segments[:SAMPLED]:
        with suppress(ValueError):
            answer = fetcher.request("GET", origin.url(segment), headers={"Range": "bytes=0-0"}, largest=1 << 12)
            sizes.append(int(answer.headers.get("Content-Range", "").rpartition("/")[2]))
    return sum(sizes) * len(segments) // len(sizes) if sizes else None


@dataclass(frozen=True)
class ListSegments:
    """The first step: writes down which segments there are, so that a run that goes on reads the same."""

    origin: Origin
    access: Access
    name: str = STAGE

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        dump, segments = list_segments(self.origin, self.access)
        with open(shard.output(SEGMENTS), "w", encoding="utf-8") as file:
            json.dump({"dump": dump, "segments": segments}, file)
        yield from ()


def listed(work: Work) -> tuple[str, list[str]]:
    """What `ListSegments` has written: the dump, and the segments."""
    found = read_json(work.file(STAGE, 0, SEGMENTS))
    return found["dump"], found["segments"]


def _lines(packed: bytes, url: str) -> list[str]:
    try:
        with gzip.open(BytesIO(packed)) as file:
            text = file.read(MAX_PATHS_BYTES).decode("ascii")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        raise KolmoError(f"{url}: is not a gzip list of paths; try again later") from None
    return text.split()
