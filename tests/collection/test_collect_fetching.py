"""Polite requests and downloads, against a server of this machine: pace, retries, resumption, conditions, secrets."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from server_made import SLOW_DOWN, Server, Trouble, serving

from kolmo.collection.fetching import Fetcher, FetchError, asked_wait, user_agent
from kolmo.http_client import SINK_STRIDE

BODY = bytes(range(256)) * 5000


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/file": BODY}) as made:
        yield made


class Clock:
    """Sleeps that are noted and take no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def fetcher(**others: Any) -> tuple[Fetcher, Clock]:
    clock = Clock()
    return Fetcher(**{"rate": 1e6, "timeout": 5.0, "sleep": clock, **others}), clock


def test_busy_answers_are_tried_again_after_the_pause_that_they_ask_for(server: Server) -> None:
    server.troubles["/file"] = [Trouble(503), Trouble(429, {"Retry-After": "7"}), Trouble(500), Trouble(0)]
    mine, clock = fetcher(first_pause=1.0)
    assert mine.get(f"{server.url}/file").data == BODY
    pauses = [pause for pause in clock.slept if pause > 0.1]
    assert len(pauses) == 3  # a connection that was kept and is closed is opened anew at once
    assert 0.5 <= pauses[0] <= 1 and pauses[1] == 7  # noqa: PT018
    assert 2 <= pauses[2] <= 4


def test_a_server_that_stays_busy_is_given_up(server: Server) -> None:
    server.troubles["/file"] = [Trouble(503) for _ in range(10)]
    mine, _ = fetcher(tries=3)
    with pytest.raises(FetchError, match=r"HTTP 503.*try again later") as caught:
        mine.get(f"{server.url}/file")
    assert caught.value.status == 503
    assert len(server.seen) == 3


def test_what_is_not_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    mine, _ = fetcher()
    for ask in (lambda: mine.get(f"{server.url}/no"), lambda: mine.download(f"{server.url}/no", str(tmp_path / "no"))):
        with pytest.raises(FetchError, match="HTTP 404; check the address") as caught:
            ask()
        assert caught.value.status == 404
    assert len(server.seen) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_reset_time_of_an_api_is_waited_for(server: Server) -> None:
    reset = str(int(time.time()) + 100)
    server.troubles["/file"] = [Trouble(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset})]
    mine, clock = fetcher()
    mine.get(f"{server.url}/file")
    assert 95 < max(clock.slept) < 103
    message = Message()
    message["X-RateLimit-Remaining"], message["X-RateLimit-Reset"] = "0", "1010"
    assert asked_wait(message, now=1000.0) == 11.0
    server.troubles["/file"] = [Trouble(403, {"Retry-After": "999999"})]
    with pytest.raises(FetchError, match="asks to wait 999999 seconds"):
        mine.get(f"{server.url}/file")


def test_a_download_goes_on_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    server.troubles["/file"] = [Trouble(cut=300_000), Trouble(503), Trouble(cut=100)]
    mine, _ = fetcher()
    done = mine.download(f"{server.url}/file", str(path))
    assert path.read_bytes() == BODY
    assert done.size == len(BODY)
    assert [headers.get("Range") for _, _, headers in server.seen] == [
        None, "bytes=300000-", "bytes=300000-", "bytes=300100-",
    ]  # fmt: skip
    assert {one.name for one in tmp_path.iterdir()} == {"file", "file.json"}


def test_two_downloads_of_one_file_at_once(server: Server, tmp_path: Path) -> None:
    """One fetches it and the other waits: in one partial file, the pieces of both would be mixed."""
    server.troubles["/file"] = [Trouble(cut=300_000)]
    path = str(tmp_path / "file")

    def fetch() -> None:
        mine, _ = fetcher()
        found.append(mine.download(f"{server.url}/file", path))

    found: list[Any] = []
    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Path(path).read_bytes() == BODY
    assert sorted(one.unchanged for one in found) == [False, True, True]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "file.json"]


def test_a_file_that_changed_meanwhile_is_begun_again(server: Server, tmp_path: Path) -> None:
    server.troubles["/file"] = [Trouble(cut=300_000)]
    changed = BODY[::-1]

    def change(_: float) -> None:
        server.files["/file"] = changed

    mine, _ = fetcher(sleep=change)
    mine.download(f"{server.url}/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == changed


def test_a_file_that_changed_meanwhile_under_its_old_etag(server: Server, tmp_path: Path) -> None:
    """The rest of another length is not put behind what is there."""
    server.etags["/file"] = '"old"'
    server.troubles["/file"] = [Trouble(cut=300_000)]
    changed = BODY[::-1] + b"more"

    def change(_: float) -> None:
        server.files["/file"] = changed

    mine, _ = fetcher(sleep=change)
    mine.download(f"{server.url}/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == changed


def test_a_copy_is_asked_about_before_it_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    mine, _ = fetcher()
    first = mine.download(f"{server.url}/file", str(path))
    second = mine.download(f"{server.url}/file", str(path))
    assert not first.unchanged
    assert second.unchanged
    assert second.sha256 == first.sha256
    assert server.seen[1][2]["If-None-Match"] == server.etag("/file")
    server.files["/file"] = b"new"
    assert not mine.download(f"{server.url}/file", str(path)).unchanged
    assert path.read_bytes() == b"new"


def test_a_file_that_changed_under_an_old_etag(server: Server, tmp_path: Path) -> None:
    """The server says that nothing changed, so the copy stays what it was; a fresh folder gets the new file."""
    server.etags["/file"] = '"old"'
    mine, _ = fetcher()
    first = mine.download(f"{server.url}/file", str(tmp_path / "a"))
    server.files["/file"] = b"new"
    assert mine.download(f"{server.url}/file", str(tmp_path / "a")).sha256 == first.sha256
    assert mine.download(f"{server.url}/file", str(tmp_path / "b")).sha256 != first.sha256


@pytest.mark.parametrize("download", [False, True])
def test_a_stalled_connection_ends_in_time(server: Server, tmp_path: Path, download: bool) -> None:
    server.troubles["/file"] = [Trouble(stall=True)]
    mine, _ = fetcher(timeout=0.3)
    begin = time.monotonic()
    if download:
        mine.download(f"{server.url}/file", str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == BODY
    else:
        assert mine.get(f"{server.url}/file").data == BODY
    assert time.monotonic() - begin < 5


def test_a_download_larger_than_allowed_is_refused(server: Server, tmp_path: Path) -> None:
    mine, _ = fetcher(tries=2)
    with pytest.raises(FetchError, match="larger than 1 MiB"):
        mine.download(f"{server.url}/file", str(tmp_path / "file"), largest=SINK_STRIDE)
    assert not (tmp_path / "file").exists()


def test_requests_to_one_host_are_paced_over_processes(server: Server, tmp_path: Path) -> None:
    slept: list[float] = []
    makers = [fetcher(rate=2.0, pace_folder=str(tmp_path), sleep=slept.append)[0] for _ in range(3)]
    for one in makers:
        one.get(f"{server.url}/file")
    assert len(slept) == 2
    assert 0.3 < slept[0] <= 0.5 < slept[1] <= 1.0


def test_user_agent_and_secrets(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOLMO_CONTACT", "me@example.org\r\nX: y")
    assert user_agent().endswith("(+me@example.orgX: y)")
    place = server.url.removeprefix("http://")
    with serving({"/there": b"there"}) as other:
        server.troubles["/file"] = [Trouble(302, {"Location": f"{other.url}/there"})]
        mine, _ = fetcher(secrets={place: {"Authorization": "Bearer secret"}})
        assert mine.get(f"{server.url}/file").data == b"there"
        assert server.seen[0][2]["Authorization"] == "Bearer secret"
        assert server.seen[0][2]["User-Agent"].startswith("kolmo/")
        assert "Authorization" not in other.seen[0][2]
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(mine)


def test_json_requests(server: Server) -> None:
    server.files["/json"] = b'{"a": 1}'
    mine, _ = fetcher(tries=1)
    assert mine.post_json(f"{server.url}/json", {"q": 1}) == {"a": 1}
    server.files["/json"] = SLOW_DOWN
    with pytest.raises(FetchError, match="not JSON"):
        mine.post_json(f"{server.url}/json", {})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "http://user:word@host/", "gopher://x"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(FetchError, match="is not an address"):
        fetcher()[0].get(url)


def test_redirects_without_end(server: Server) -> None:
    server.troubles["/file"] = [Trouble(302, {"Location": "/file"}) for _ in range(20)]
    with pytest.raises(FetchError, match="without end"):
        fetcher()[0].get(f"{server.url}/file")
