"""Polite requests and downloads: paced, tried again after the pause that a server asks for, continued, conditional.

Built on `kolmo.http_client`, whose limits of time and size hold. Secrets go to the one host they are meant for and
follow no redirect. What it is not: a crawler; it fetches what it is told to fetch.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from email.message import Message
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from kolmo.collection.landing import Download, Landing, conditions, forget, known_of, remember
from kolmo.corpus.writing import file_digest
from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.http_client import RETRIED_STATUSES, Answer, HttpClient, RequestError, retry_after
from kolmo.installing import installed_version
from kolmo.targets import LOCK, locked, publish

CONTACT_VARIABLE = "KOLMO_CONTACT"
RATE = 1.0  # requests a second to one host
TRIES = 6
TIMEOUT_SECONDS = 60.0  # for an answer, or for the next MiB of a download
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 120.0  # of exponential backoff
MAX_WAIT_SECONDS = 2 * 3600.0  # that a server's Retry-After or reset time is waited for; GitHub's is within the hour
MAX_ANSWER_BYTES = 64 << 20
MAX_DOWNLOAD_BYTES = 8 << 30
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
SIGNED_BODY = 2000  # characters of an answer in which the words of a rate limit are looked for


class FetchError(KolmoError):
    """A request failed for good.

    Attributes:
        status: of the last answer; None where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Fetcher:
    """Requests to any host, one at a time for each.

    Args:
        contact: address for the user agent; None: that of the environment.
        rate: requests a second to one host, of all processes that share `pace_folder`.
        tries: requests in all for one answer.
        timeout: seconds (see TIMEOUT_SECONDS).
        pace_folder: where processes of one run agree on who may ask next; None: this process alone.
        secrets: headers for one host and port, such as {"api.github.com:443": {"Authorization": ...}}.
        sleep: waits so many seconds; tests give another.
    """

    def __init__(
        self,
        *,
        contact: str | None = None,
        rate: float = RATE,
        tries: int = TRIES,
        timeout: float = TIMEOUT_SECONDS,
        first_pause: float = FIRST_PAUSE_SECONDS,
        pace_folder: str | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._agent = user_agent(contact)
        self._rate, self._tries, self._timeout, self._first_pause = rate, tries, timeout, first_pause
        self._pace_folder, self._secrets, self._sleep = pace_folder, secrets or {}, sleep
        self._clients: dict[tuple[str, int, bool], HttpClient] = {}
        self._next: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None, largest: int = MAX_ANSWER_BYTES) -> Answer:
        """The answer to a GET, of status 200.

        Raises:
            FetchError: of another status, or none; its `status` tells a 404.
        """
        answer = self.request("GET", url, headers=headers, largest=largest)
        if answer.status != 200:
            raise _failed(url, answer)
        return answer

    def post_json(
        self, url: str, value: Any, *, headers: Mapping[str, str] | None = None, largest: int = MAX_ANSWER_BYTES
    ) -> Any:
        """What the JSON answer to a JSON request holds.

        Raises:
            FetchError: the status is not 200, or the answer is not JSON.
        """
        body = json.dumps(value).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        answer = self.request("POST", url, body, headers=sent, largest=largest)
        if answer.status != 200:
            raise _failed(url, answer)
        try:
            return json.loads(answer.data)
        except (ValueError, RecursionError):
            raise FetchError(f"{url}: answers with something that is not JSON; try again later", 200) from None

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        largest: int = MAX_ANSWER_BYTES,
        sink: Callable[[int, Message], IO[bytes] | None] | None = None,
    ) -> Answer:
        """An answer of any status that will not change by asking again soon.

        Args:
            method: GET or POST.
            url: http or https.
            body: what is sent.
            headers: beside the usual ones.
            largest: bytes of the answer at most.
            sink: see `HttpClient.request`.

        Raises:
            FetchError: there is none after all tries; or the URL is not one.
        """
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._persist(method, url, body, headers or {}, largest, sink)
            if answer.status not in REDIRECTS or "Location" not in answer.headers or method != "GET":
                return answer
            url = urljoin(url, answer.headers["Location"])
        raise FetchError(f"{url}: leads from one address to the next without end; check it")

    def download(self, url: str, path: str, *, largest: int = MAX_DOWNLOAD_BYTES) -> Download:
        """Fetch a file, unless the copy at `path` is the server's still; go on where an earlier download broke off.

        Beside the copy lies `PATH.json` with what is known of it, and while it comes, `PATH.partial` and
        `PATH.partial.json`. The copy is renamed into place when it is whole. Of several processes that fetch the same
        file, one does it and the others wait.

        Raises:
            FetchError: it cannot be had, or is larger than `largest`; its `status` tells a 404.
        """
        with locked(f"{path}{LOCK}"):
            return self._download(url, path, largest)

    def _download(self, url: str, path: str, largest: int) -> Download:
        known = known_of(path) if os.path.exists(path) else None
        if known is not None and known.url == url:
            asked = conditions(known)
            if asked:
                answer = self._into(url, path, asked, largest)
                if answer.status == 304:
                    return replace(known, unchanged=True)
                return self._landed(url, path, answer)
        return self._landed(url, path, self._into(url, path, {}, largest))

    def _into(self, url: str, path: str, asked: Mapping[str, str], largest: int) -> Answer:
        """Ask for a file until it is whole in PATH.partial, or is known to be unchanged."""
        partial = f"{path}.partial"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        for attempt in range(self._tries):
            begun = known_of(partial)
            size = os.path.getsize(partial) if os.path.exists(partial) else 0
            headers = dict(asked)
            if size and begun is not None and begun.url == url and begun.etag and not begun.etag.startswith("W/"):
                headers = {"Range": f"bytes={size}-", "If-Range": begun.etag}
            with Landing(url, partial, size) as landing:
                try:
                    answer = self._persist("GET", url, None, headers, largest, landing.sink, tries=1)
                except FetchError as error:
                    if error.status is not None:
                        forget(partial)
                    if error.status is not None or attempt + 1 == self._tries:
                        raise
                    self._sleep(_pause(self._first_pause, attempt))
                    continue
            if answer.status == 416:  # what is there is longer than the server's file
                forget(partial)
                continue
            if answer.status in RETRIED_STATUSES and attempt + 1 < self._tries:
                self._sleep(_wait(answer, self._first_pause, attempt))
                continue
            if answer.status in (200, 206) and os.path.getsize(partial) > largest:
                forget(partial)
                raise FetchError(f"{url}: is larger than {largest:,} bytes; check the address", answer.status)
            if answer.status in (200, 206, 304):
                return answer
            raise _failed(url, answer)
        raise FetchError(f"{url}: did not come whole in {self._tries} tries; run it again, it goes on there")

    def _landed(self, url: str, path: str, answer: Answer) -> Download:
        partial = f"{path}.partial"
        done = Download(
            url,
            path,
            os.path.getsize(partial),
            file_digest(partial),
            answer.headers.get("ETag", ""),
            answer.headers.get("Last-Modified", ""),
        )
        with suppress(FileNotFoundError):  # the record must never describe another file than the one beside it
            os.unlink(f"{path}.json")
        publish(partial, path)
        remember(path, done)
        with suppress(FileNotFoundError):
            os.unlink(f"{partial}.json")
        return done

    def _persist(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str],
        largest: int,
        sink: Callable[[int, Message], IO[bytes] | None] | None,
        tries: int | None = None,
    ) -> Answer:
        client, target, place = self._client(url)
        sent = {**headers, **self._secrets.get(place, {})}
        tries = self._tries if tries is None else tries
        for attempt in range(tries):
            self._take_turn(place)
            try:
                answer = client.request(method, target, body, largest=largest, headers=sent, sink=sink)
            except RequestError as error:
                if error.unusable:
                    raise FetchError(f"{url}: {error}; check the address", status=200) from None
                if attempt + 1 == tries:
                    raise FetchError(f"{url}: {error}; check the network, or try again later") from None
                self._sleep(_pause(self._first_pause, attempt))
                continue
            if attempt + 1 == tries or not (answer.status in RETRIED_STATUSES or is_rate_limit(answer)):
                return answer
            self._sleep(_wait(answer, self._first_pause, attempt))
        raise AssertionError("tries is less than 1")

    def _client(self, url: str) -> tuple[HttpClient, str, str]:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in ("http", "https") or parts.username is not None:
            raise FetchError(f"{quoted(url)}: is not an address that begins with http:// or https://; check it")
        secure = parts.scheme == "https"
        port = port or (443 if secure else 80)
        with self._lock:
            key = (host, port, secure)
            if key not in self._clients:
                self._clients[key] = HttpClient(
                    host, port, secure=secure, headers={"User-Agent": self._agent}, timeout=self._timeout
                )
            client = self._clients[key]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return client, target, f"{host}:{port}"

    def wait_turn(self, url: str) -> None:
        """Wait until another program, such as git, may ask the host of this URL.

        Raises:
            FetchError: it is not a URL of http or https.
        """
        self._take_turn(self._client(url)[2])

    def _take_turn(self, place: str) -> None:
        """Wait until this request may be sent, and let the next one wait for it."""
        gap = 1 / self._rate
        if self._pace_folder is None:
            with self._lock:
                at = max(time.time(), self._next.get(place, 0.0))
                self._next[place] = at + gap
        else:
            at = _reserve(self._pace_folder, place, gap)
        if (pause := at - time.time()) > 0:
            self._sleep(pause)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a Fetcher may hold secrets and is not pickled; make one where it is used")


def user_agent(contact: str | None = None) -> str:
    """The user agent of all requests.

    Args:
        contact: address at which the one who collects can be reached; None: KOLMO_CONTACT of the environment.
    """
    contact = os.environ.get(CONTACT_VARIABLE, "") if contact is None else contact
    contact = "".join(c for c in contact if c.isascii() and c.isprintable() and c not in "()")[:200]
    return f"kolmo/{installed_version()}" + (f" (+{contact})" if contact else "")


def is_rate_limit(answer: Answer) -> bool:
    """Whether an answer says that too much was asked, in one of the ways that are not status 429."""
    if answer.status not in (403, 429):
        return False
    if answer.headers.get("X-RateLimit-Remaining", "").strip() == "0" or "Retry-After" in answer.headers:
        return True
    return answer.status == 429 or b"rate limit" in answer.data[:SIGNED_BODY].lower()


def asked_wait(headers: Message, now: float | None = None) -> float | None:
    """Seconds to wait that a server asks for, by Retry-After or its reset time where nothing remains; else None.

    >>> message = Message(); message["X-RateLimit-Remaining"] = "0"; message["X-RateLimit-Reset"] = "1010"
    >>> asked_wait(message, now=1000.0)
    11.0
    """
    wish = retry_after(headers.get("Retry-After"))
    if wish is not None:
        return wish
    reset = headers.get("X-RateLimit-Reset", "").strip()
    if headers.get("X-RateLimit-Remaining", "").strip() == "0" and reset.isdecimal() and len(reset) < 15:
        return max(float(reset) - (time.time() if now is None else now), 0.0) + 1.0  # clocks differ
    return None


def _wait(answer: Answer, first: float, attempt: int) -> float:
    wish = asked_wait(answer.headers)
    if wish is None:
        return _pause(first, attempt)
    if wish > MAX_WAIT_SECONDS:
        raise FetchError(
            f"the server asks to wait {wish:.0f} seconds (HTTP {answer.status}); run it again later", answer.status
        )
    return wish


def _pause(first: float, attempt: int) -> float:
    """Exponential backoff with jitter: the one random choice here without a seed, which reaches no output."""
    return min(first * 2.0**attempt, MAX_PAUSE_SECONDS) * random.uniform(0.5, 1.0)


def _failed(url: str, answer: Answer) -> FetchError:
    tries = f", {answer.tries} times" if answer.tries > 1 else ""
    remedy = "check the address" if answer.status == 404 else "try again later"
    return FetchError(f"{url}: HTTP {answer.status}{tries}; {remedy}", answer.status)


def _reserve(folder: str, place: str, gap: float) -> float:
    """The next free time for a host, by a file that all processes lock."""
    import fcntl

    os.makedirs(folder, exist_ok=True)
    name = "".join(c if c.isalnum() or c in ".-" else "_" for c in place)
    with open(os.path.join(folder, name), "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        told = file.read(40)
        last = 0.0
        with suppress(ValueError):
            last = float(told)
        now = time.time()
        at = max(now, min(last, now + MAX_PAUSE_SECONDS))
        file.seek(0)
        file.truncate()
        file.write(repr(at + gap))
    return at
