"""All repositories that a search describes, though one search answers with `MAX_RESULTS` of them at most.

A window is a span of the time of creation, [begin, end) in seconds. One that holds `MAX_RESULTS` or more is split, down
to single seconds; a second that still holds too many is split by stars. So nothing depends on the order of the results,
and repositories with equally many stars are not lost. Windows are taken in the order of time.

A journal keeps each window's split or results as soon as they are whole, and a later search with the same journal asks
only for what is missing. So a search that was killed goes on, and its result is that of an undisturbed one.

What it is not: it fetches no repository.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from kolmo.collection.github.graphql import GraphQL, GraphQLError

MAX_RESULTS = 1000  # that GitHub gives of one search
PAGE_SIZES = (100, 50, 20)  # results of one answer; fewer after an answer that failed
ROUNDS = 3  # readings of a window, where they give fewer repositories than it is said to hold
AIMED_RESULTS = 500  # of a part, when a window is split
MAX_PARTS = 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/[A-Za-z0-9._-]{1,100}")
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)

UNWANTED = {"isPrivate": "private", "isDisabled": "disabled", "isLocked": "locked", "isFork": "fork"}

QUERY = """query($query: String!, $first: Int!, $after: String) {
  search(query: $query, type: REPOSITORY, first: $first, after: $after) {
    repositoryCount
    pageInfo { hasNextPage endCursor }
    nodes { ... on Repository {
      databaseId nameWithOwner isPrivate isDisabled isLocked isFork stargazerCount createdAt pushedAt diskUsage
      licenseInfo { spdxId }
      defaultBranchRef { target { oid } }
    } }
  }
}"""


@dataclass(frozen=True)
class Repository:
    """A repository as the search describes it.

    Attributes:
        number: GitHub's own.
        name: owner and name, with a slash between.
        licence: SPDX identifier; "" where GitHub finds none.
        stars: at the time of the search.
        created, pushed: in UTC, "YYYY-MM-DDTHH:MM:SSZ"; `pushed` may be "".
        commit: the newest of the default branch.
        kibibytes: of the whole repository on GitHub's disk, 0 where it is not known; more than a shallow fetch takes.
    """

    number: int
    name: str
    licence: str
    stars: int
    created: str
    pushed: str
    commit: str
    kibibytes: int


@dataclass(frozen=True)
class SearchWindow:
    """A span of time and of stars: seconds since 1970 in [begin, end), stars in [fewest, most]; `most` may be open."""

    begin: int
    end: int
    fewest: int
    most: int | None = None

    def qualifiers(self) -> str:
        """As the search writes them; its spans include both ends.

        >>> Window(0, 60, 10).qualifiers()
        'created:1970-01-01T00:00:00Z..1970-01-01T00:00:59Z stars:>=10'
        """
        stars = f"stars:>={self.fewest}" if self.most is None else f"stars:{self.fewest}..{self.most}"
        return f"created:{moment(self.begin)}..{moment(self.end - 1)} {stars}"

    def parts(self, count: int) -> list[SearchWindow]:
        """The window in parts, the earliest first; itself alone where it cannot be split."""
        seconds = self.end - self.begin
        if seconds > 1:
            number = min(max(2, -(-count // AIMED_RESULTS)), MAX_PARTS, seconds)
            edges = [self.begin + seconds * part // number for part in range(number + 1)]
            return [SearchWindow(a, b, self.fewest, self.most) for a, b in pairwise(edges)]
        if self.most is None:
            middle = 2 * max(self.fewest, 1)
        elif self.most > self.fewest:
            middle = (self.fewest + self.most + 1) // 2
        else:
            return [self]
        return [
            SearchWindow(self.begin, self.end, self.fewest, middle - 1),
            SearchWindow(self.begin, self.end, middle, self.most),
        ]


@dataclass
class Found:
    """What one window gave.

    Attributes:
        repositories: by time of creation, then number.
        skipped: how many were left out, by reason: private, disabled, locked, fork, empty, malformed;
            `beyond_search` and `missing` count what GitHub says is there and did not give.
    """

    repositories: list[Repository]
    skipped: Counter[str]


def moment(seconds: int) -> str:
    """Seconds since 1970 as the search writes a time.

    >>> moment(86400)
    '1970-01-02T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def search(
    server: GraphQL,
    language: str,
    window: SearchWindow,
    journal: str,
    say: Callable[[str], None] | None = None,
) -> Iterator[Found]:
    """The repositories of a window, each once, in the order of their creation.

    Args:
        server: where to ask.
        language: GitHub's name of it.
        window: all that is searched.
        journal: path of the file that keeps what was found; it may hold that of an earlier try.
        say: is told of each window that is done.

    Raises:
        KolmoError: GitHub gives no usable answer. What was found so far is in the journal.
    """
    known = _read_journal(journal)
    seen: set[int] = set()
    todo = [window]
    with open(journal, "a", encoding="utf-8") as file:
        while todo:
            here = todo.pop()
            entry = known.pop(here, None)
            if entry is None:
                entry = _asked(server, language, here)
                file.write(json.dumps({"window": asdict(here), **entry}) + "\n")
                file.flush()
                os.fsync(file.fileno())
                if say is not None and "found" in entry:
                    say(f"{here.qualifiers()}: {len(entry['found']):,} repositories")
            if "parts" in entry:
                todo += [SearchWindow(**part) for part in reversed(entry["parts"])]
                continue
            fresh = [Repository(**one) for one in entry["found"] if one["number"] not in seen]
            seen.update(repository.number for repository in fresh)
            yield Found(fresh, Counter(entry["skipped"]))


def preview(server: GraphQL, language: str, window: SearchWindow) -> tuple[int, float]:
    """By one request, how many repositories a window holds, and the mean size in KiB of those of the first page."""
    answer, _ = _page(server, {"query": _query(language, window), "after": None}, 0)
    sizes = [node.get("diskUsage") for node in answer["nodes"] if isinstance(node, dict)]
    known = [size for size in sizes if isinstance(size, int) and _is_count(size)]
    return answer["repositoryCount"], sum(known) / max(len(known), 1)


def _read_journal(path: str) -> dict[SearchWindow, dict[str, Any]]:
    """What is whole in a journal; from a line that is not, it is cut off, so that further ones can follow."""
    known: dict[SearchWindow, dict[str, Any]] = {}
    if not os.path.exists(path):
        return known
    with open(path, "rb+") as file:
        good = 0
        for line in file:
            try:
                entry = json.loads(line)
                window = SearchWindow(**entry.pop("window"))
            except (ValueError, KeyError, TypeError):
                break
            known[window] = entry
            good += len(line)
        file.truncate(good)
    return known


def _asked(server: GraphQL, language: str, window: SearchWindow) -> dict[str, Any]:
    """A window's entry for the journal, without the window: its parts, or what it holds."""
    query = _query(language, window)
    nodes: dict[int, dict[str, Any]] = {}
    count = 0
    for _ in range(ROUNDS):
        count, read = _pages(server, query, window)
        if len(parts := window.parts(count)) > 1 and count >= MAX_RESULTS:
            return {"parts": [asdict(part) for part in parts]}
        for node in read:
            number = node.get("databaseId")
            nodes.setdefault(number if isinstance(number, int) else -1 - len(nodes), node)
        if len(nodes) >= min(count, MAX_RESULTS):
            break
    skipped: Counter[str] = Counter()
    skipped["beyond_search"] = max(count - MAX_RESULTS, 0)
    skipped["missing"] = max(min(count, MAX_RESULTS) - len(nodes), 0)
    found = []
    for node in nodes.values():
        one = repository_of(node)
        if isinstance(one, str):
            skipped[one] += 1
        else:
            found.append(one)
    found.sort(key=lambda one: (one.created, one.number))
    return {"found": [asdict(one) for one in found], "skipped": {k: v for k, v in sorted(skipped.items()) if v}}


def _query(language: str, window: SearchWindow) -> str:
    quoted = f'"{language}"' if " " in language else language
    return f"language:{quoted} fork:false {window.qualifiers()}"


def _pages(server: GraphQL, query: str, window: SearchWindow) -> tuple[int, list[dict[str, Any]]]:
    """How many results a window is said to hold, and those that were given; none of them where it is to be split."""
    nodes: list[dict[str, Any]] = []
    after, count, largest = None, 0, 0
    cursors: set[str] = set()
    while len(nodes) < MAX_RESULTS:
        answer, largest = _page(server, {"query": query, "after": after}, largest)
        count = max(count, answer["repositoryCount"])
        if count >= MAX_RESULTS and len(window.parts(count)) > 1:
            return count, []
        nodes += [node for node in answer["nodes"] or () if isinstance(node, dict)]
        info = answer["pageInfo"]
        after = info.get("endCursor")
        if not info.get("hasNextPage") or not isinstance(after, str) or after in cursors:
            break
        cursors.add(after)
    return count, nodes[:MAX_RESULTS]


def _page(server: GraphQL, variables: dict[str, Any], largest: int) -> tuple[Any, int]:
    """One answer, and which page size gave it: large ones may take GitHub too long."""
    while True:
        try:
            data = server.ask(QUERY, {**variables, "first": PAGE_SIZES[largest]}, _is_page)
        except GraphQLError:
            largest += 1
            if largest == len(PAGE_SIZES):
                raise
        else:
            return data["search"], largest


def _is_page(data: Any) -> bool:
    found = data.get("search") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("pageInfo"), dict):
        return False
    return _is_count(found.get("repositoryCount")) and isinstance(found.get("nodes"), list)


def repository_of(node: dict[str, Any]) -> Repository | str:
    """A repository from its description, or the reason why it is left out."""
    for key, reason in UNWANTED.items():
        if node.get(key) is not False:
            return reason if node.get(key) is True else "malformed"
    branch = node.get("defaultBranchRef")
    if branch is None:
        return "empty"
    target = branch.get("target") if isinstance(branch, dict) else None
    commit = target.get("oid") if isinstance(target, dict) else None
    licence = node.get("licenseInfo")
    spdx = licence.get("spdxId") if isinstance(licence, dict) else None
    name, created, pushed = node.get("nameWithOwner"), node.get("createdAt"), node.get("pushedAt")
    if not (isinstance(name, str) and NAME.fullmatch(name) and name.partition("/")[2] not in (".", "..")):
        return "malformed"
    if not (isinstance(created, str) and MOMENT.fullmatch(created)):
        return "malformed"
    if not (isinstance(commit, str) and COMMIT.fullmatch(commit)):
        return "malformed"
    number, stars = node.get("databaseId"), node.get("stargazerCount")
    if not (isinstance(number, int) and isinstance(stars, int) and _is_count(number) and _is_count(stars)):
        return "malformed"
    size = node.get("diskUsage")
    return Repository(
        number=number,
        name=name,
        licence=spdx[:100] if isinstance(spdx, str) else "",
        stars=stars,
        created=created,
        pushed=pushed if isinstance(pushed, str) and MOMENT.fullmatch(pushed) else "",
        commit=commit,
        kibibytes=size if isinstance(size, int) and _is_count(size) else 0,
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
