"""The search: nothing is lost, limits are waited out, and the token is shown nowhere."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from github_made import TOKEN, GitHub, Reply, node

from kolmo.collection.fetching import Fetcher
from kolmo.collection.github import graphql
from kolmo.collection.github.graphql import GraphQL, GraphQLError, place_of, token_of_environment
from kolmo.collection.github.search import Repository, SearchWindow, moment, repository_of, search
from kolmo.errors import KolmoError

DAY = 1767225600  # 2026-01-01
WINDOW = SearchWindow(DAY, DAY + 86400, 10)


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub().serving() as served:
        yield served


def server_of(hub: GitHub, waits: list[float] | None = None, said: list[str] | None = None) -> GraphQL:
    fetcher = Fetcher(rate=1e6, tries=1, secrets={place_of(hub.url): {"Authorization": f"Bearer {TOKEN}"}})
    slept = [] if waits is None else waits
    return GraphQL(hub.url, TOKEN, fetcher, sleep=slept.append, say=None if said is None else said.append)


def found_by(
    hub: GitHub, folder: Path, window: SearchWindow = WINDOW, waits: list[float] | None = None
) -> tuple[list[Repository], Counter[str]]:
    repositories, skipped = [], Counter[str]()
    for found in search(server_of(hub, waits), "Python", window, str(folder / "journal")):
        repositories += found.repositories
        skipped += found.skipped
    return repositories, skipped


def created(second: int) -> str:
    return moment(DAY + second)


def test_1001_repositories_of_one_day_with_equal_stars(hub: GitHub, tmp_path: Path) -> None:
    """Defect of the original: paging by `stars:<least` loses what ties with the last of a page."""
    hub.nodes = [node(number, created(number * 80)) for number in range(1001)]
    repositories, skipped = found_by(hub, tmp_path)
    assert [one.number for one in repositories] == list(range(1001))
    assert not skipped


def test_1001_repositories_of_one_hour_and_of_one_second(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(3600), stargazerCount=10 + number % 40) for number in range(1001)]
    hub.nodes += [node(2000 + number, created(7200 + number), stargazerCount=10) for number in range(1001)]
    repositories, skipped = found_by(hub, tmp_path)
    assert sorted(one.number for one in repositories) == [*range(1001), *range(2000, 3001)]
    assert not skipped


def test_what_no_search_can_give_is_counted(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(5)) for number in range(1003)]  # one second, one number of stars
    repositories, skipped = found_by(hub, tmp_path)
    assert len(repositories) == 1000
    assert skipped == {"beyond_search": 3}


def test_an_order_that_changes_between_pages(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(number)) for number in range(250)]
    hub.order = lambda asked, one: random.Random(f"{asked if asked < 4 else 0} {one['databaseId']}").random()
    repositories, skipped = found_by(hub, tmp_path)
    assert len(repositories) == 250
    assert not skipped


def test_a_window_includes_its_begin_and_not_its_end(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(1, created(-1)), node(2, created(0)), node(3, created(86399)), node(4, created(86400))]
    assert [one.number for one in found_by(hub, tmp_path)[0]] == [2, 3]


def test_what_is_skipped_is_counted(hub: GitHub, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"isPrivate": True},
        {"isDisabled": True},
        {"isLocked": True},
        {"isFork": True},
        {"defaultBranchRef": None},
        {"nameWithOwner": "--upload-pack=x/y"},
        {"nameWithOwner": "owner/.."},
        {"defaultBranchRef": {"target": {"oid": "--help"}}},
        {},
    ]
    hub.nodes = [node(number, created(number), **change) for number, change in enumerate(changes)]
    repositories, skipped = found_by(hub, tmp_path)
    assert [one.number for one in repositories] == [8]
    assert skipped == {"private": 1, "disabled": 1, "locked": 1, "fork": 1, "empty": 1, "malformed": 3}


@pytest.mark.parametrize("key", ["databaseId", "stargazerCount", "createdAt", "isPrivate", "defaultBranchRef"])
@pytest.mark.parametrize("value", [[], {}, "", -1, 1e400, "x" * 10])
def test_descriptions_of_any_shape(key: str, value: Any) -> None:
    assert repository_of({**node(1, created(0)), key: value}) == "malformed"


def test_fields(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(7, created(1), licenseInfo=None, pushedAt=None, stargazerCount=12)]
    assert found_by(hub, tmp_path)[0] == [
        Repository(7, "owner/r7", "", 12, "2026-01-01T00:00:01Z", "", f"{7:040x}", 100)
    ]


def test_limits_are_waited_out_until_the_moment_that_the_answer_names(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(1, created(1))]
    limited = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(DAY + 500)}  # Date says DAY
    hub.first = [
        Reply(403, {"Retry-After": "7"}, {"message": "You have exceeded a secondary rate limit"}),
        Reply(429, limited, {"message": "slow down"}),
        Reply(200, limited, {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}),
        Reply(403, {}, {"message": "x" * 500 + "You have exceeded a secondary rate limit" + "x" * 500}),
    ]
    waits: list[float] = []
    assert len(found_by(hub, tmp_path, waits=waits)[0]) == 1
    assert waits == [7, 501, 501, 60 * 2**3]


def test_nothing_remaining_is_waited_for_before_the_next_question(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(number)) for number in range(150)]
    hub.headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(DAY + 30)}
    waits: list[float] = []
    assert len(found_by(hub, tmp_path, waits=waits)[0]) == 150
    assert waits == [31]


def test_a_wait_without_end_is_an_error(hub: GitHub, tmp_path: Path) -> None:
    hub.first = [Reply(429, {"Retry-After": "9" * 400}, {})]
    with pytest.raises(KolmoError, match="run the command again later"):
        found_by(hub, tmp_path)


def test_a_limit_that_never_ends_is_an_error(hub: GitHub, tmp_path: Path) -> None:
    hub.first = [Reply(429, {"Retry-After": "1"}, {})] * 1000
    with pytest.raises(KolmoError, match="still limits the rate"):
        found_by(hub, tmp_path)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(502, {}, b"<html>bad gateway"),
        Reply(200, {}, {"errors": [{"message": "Something went wrong while executing your query"}]}),
        Reply(200, {}, {"data": {"search": None}, "errors": [{"message": "timeout"}]}),
        Reply(200, {}, {"data": None}),
        Reply(200, {}, b"<Error>SlowDown</Error>"),
        Reply(200, {}, b"[" * 100_000),
        Reply(200, {}, {"data": {"search": {"repositoryCount": "many", "pageInfo": {}, "nodes": []}}}),
    ],
)
def test_errors_that_pass_are_tried_again(hub: GitHub, tmp_path: Path, reply: Reply) -> None:
    hub.nodes = [node(1, created(1))]
    hub.first = [reply, reply]
    waits: list[float] = []
    assert len(found_by(hub, tmp_path, waits=waits)[0]) == 1
    assert waits == [1, 2]


def test_errors_that_stay_end(hub: GitHub, tmp_path: Path) -> None:
    """Defect of the original: a bare `except: continue` that can loop for ever."""
    hub.first = [Reply(500, {}, {"message": f"no {TOKEN}\x1b[31m"})] * 1000
    with pytest.raises(GraphQLError, match="HTTP 500") as caught:
        found_by(hub, tmp_path)
    assert TOKEN not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(hub.asked) == 3 * graphql.TRIES  # with smaller and smaller pages
    assert [asked["first"] for asked in hub.asked[:: graphql.TRIES]] == [100, 50, 20]


def test_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(KolmoError, match="check the network"):
        found_by(GitHub(url="http://127.0.0.1:9/graphql"), tmp_path, waits=waits)
    assert waits == [1, 2, 4, 8, 16]


def test_a_part_of_the_data_with_errors_is_used(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(number)) for number in range(3)]

    def spoil(_: dict[str, Any], body: dict[str, Any]) -> None:
        body["data"]["search"]["nodes"][1] = None
        body["errors"] = [{"type": "FORBIDDEN", "message": "an owner forbids it"}]

    hub.answer = spoil
    repositories, skipped = found_by(hub, tmp_path)
    assert len(repositories) == 2
    assert skipped == {"missing": 1}


def test_a_cursor_that_leads_in_a_circle_ends(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(number)) for number in range(150)]

    def turn(_: dict[str, Any], body: dict[str, Any]) -> None:
        body["data"]["search"]["pageInfo"] = {"hasNextPage": True, "endCursor": "0"}

    hub.answer = turn
    repositories, skipped = found_by(hub, tmp_path)
    assert len(repositories) == 100
    assert skipped == {"missing": 50}


def test_a_refused_token(hub: GitHub, tmp_path: Path) -> None:
    hub.first = [Reply(401, {}, {"message": f"Bad credentials {TOKEN}"})]
    with pytest.raises(KolmoError, match=r"refuses the token .*GITHUB_TOKEN") as caught:
        found_by(hub, tmp_path)
    assert TOKEN not in str(caught.value)
    assert hub.tokens == [f"Bearer {TOKEN}"]


def test_the_token_is_in_no_journal_and_no_line(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(1, created(1))]
    hub.first = [Reply(403, {"Retry-After": "1"}, {"message": f"rate limit of {TOKEN}"})]
    said: list[str] = []
    list(search(server_of(hub, [], said), "Python", WINDOW, str(tmp_path / "journal"), said.append))
    assert len(said) == 2
    assert TOKEN not in "".join(said) + (tmp_path / "journal").read_text()


def test_the_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect of the original: the token stands in the source."""
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.setenv("GH_TOKEN", "second")
    assert token_of_environment() == "second"
    monkeypatch.setenv("GITHUB_TOKEN", "first\n")
    assert token_of_environment() == "first"
    monkeypatch.setenv("GITHUB_TOKEN", "se\r\nX-Evil: cret")
    with pytest.raises(KolmoError, match="GITHUB_TOKEN") as caught:
        token_of_environment()
    assert "cret" not in str(caught.value)
    monkeypatch.setenv("GITHUB_TOKEN", "")
    monkeypatch.setenv("GH_TOKEN", "")
    with pytest.raises(KolmoError, match="is not set"):
        token_of_environment()


@pytest.mark.parametrize("url", ["http://example.org/graphql", "ftp://x", "", "https://", "http://[::1"])
def test_addresses_that_get_no_token(url: str) -> None:
    with pytest.raises(KolmoError, match="a token is sent to no other"):
        place_of(url)


def test_a_search_that_was_killed_goes_on(hub: GitHub, tmp_path: Path) -> None:
    hub.nodes = [node(number, created(number * 60), stargazerCount=10 + number % 7) for number in range(1400)]
    whole = found_by(hub, tmp_path)[0]
    asked = len(hub.asked)
    journal = tmp_path / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[0])["parts"]
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:-5])  # killed within the fourth
    hub.asked.clear()
    assert found_by(hub, tmp_path)[0] == whole
    assert 0 < len(hub.asked) < asked
    hub.asked.clear()
    assert found_by(hub, tmp_path)[0] == whole
    assert not hub.asked
