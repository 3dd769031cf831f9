"""A server that is asked over HTTP: JSON goes out, JSON comes back, and what may pass is tried again.

Connections are kept and shared by threads, each for one request at a time. Standard library only.

What it is not: it knows nothing of models (`evaluation.servers`), follows no redirects and uses no proxies.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import threading
import time
import weakref
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from kolmo.errors import PredictorError

CONNECT = 10.0  # seconds until a connection stands
TIMEOUT = 600.0  # seconds until an answer is whole; servers queue what they cannot do at once
TRIES = 6
PAUSE = 0.5  # seconds before the second try; doubled before each further one
LONGEST_PAUSE = 8.0
LONGEST_WISH = 60.0  # seconds that a server's Retry-After is followed for, at most
LARGEST = 256 << 20  # bytes of an answer
AGAIN = (408, 425, 429, 500, 502, 503, 504)
LOCAL = ("localhost", "127.0.0.1", "::1")
EXAMPLE = "http://localhost:8000/v1"


class RefusedError(PredictorError):
    """The server answered, and said no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A server.

    Args:
        url: http or https; of the server or of its /v1. A name and password in it are sent, and never shown.
        timeout: seconds until an answer is whole.
        tries: requests in all, where a server is busy or a connection breaks.
        pause: seconds before the second.

    Attributes:
        url: without /v1, name and password.

    Raises:
        PredictorError: it is no such URL.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT, tries: int = TRIES, pause: float = PAUSE) -> None:
        parts = _split(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = str(parts.hostname), parts.port
        self._root = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/v1").rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._root}"
        self._headers = {"Accept": "application/json", "Content-Type": "application/json", **_authorization(parts)}
        self._timeout, self._tries, self._pause = timeout, tries, pause
        self._reached = False
        self._stop = threading.Event()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        weakref.finalize(self, _close, self._idle)

    def get(self, path: str) -> Any:
        """What JSON is at a path, such as /v1/models.

        Raises:
            RefusedError: the server says no.
            PredictorError: it cannot be reached, or does not answer in JSON.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, payload: Mapping[str, Any], tries: int = TRIES) -> Any:
        """What JSON is answered to JSON; as `get`, with fewer tries perhaps."""
        return self._ask("POST", path, json.dumps(payload).encode(), tries)

    def stop(self) -> None:
        """Let all requests in other threads fail soon, and later ones at once, until `go`."""
        self._stop.set()
        for connection in list(self._busy):
            with suppress(OSError, AttributeError):  # closed meanwhile
                connection.sock.shutdown(2)

    def go(self) -> None:
        """Requests are sent again."""
        self._stop.clear()

    def close(self) -> None:
        """Close what connections are kept."""
        _close(self._idle)

    def _ask(self, method: str, path: str, body: bytes | None, tries: int = TRIES) -> Any:
        place, tries, reason = self.url + path, min(tries, self._tries), ""
        for attempt in range(tries):
            wish = None
            try:
                status, headers, data = self._once(method, self._root + path, body)
            except TimeoutError:
                raise PredictorError(
                    f"{place}: no answer within {self._timeout:g} seconds; see whether the server still works, or ask "
                    "for less with --batch-size or --context"
                ) from None
            except (OSError, http.client.HTTPException, _TooLargeError) as error:
                reason = _words(error)
                broken = isinstance(error, ConnectionError | http.client.IncompleteRead)
                if not broken or (isinstance(error, ConnectionRefusedError) and not self._reached):
                    raise PredictorError(f"{place}: {reason}; see that a server is there, or correct the URL") from None
            else:
                self._reached = True
                if 200 <= status < 300:
                    return _decoded(place, data)
                reason = f"HTTP {status}{_message(data)}"
                if status not in AGAIN:
                    raise RefusedError(f"{place}: {reason}; {_remedy(status, headers)}", status)
                if attempt + 1 == tries:
                    raise RefusedError(f"{place}: {reason}, {tries} times; see what the server reports", status)
                wish = _retry_after(headers.get("Retry-After"))
            if attempt + 1 < tries:
                usual = min(self._pause * 2**attempt, LONGEST_PAUSE)
                if self._stop.wait(usual if wish is None else min(wish, LONGEST_WISH)):
                    raise PredictorError(f"{place}: stopped after {reason}; another request failed")
        raise PredictorError(f"{place}: {reason}, {tries} times; see whether the server still works")

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[int, Message, bytes]:
        """Status, headers and body of one answer."""
        deadline = time.monotonic() + self._timeout
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connected()
            kept = False
        else:
            kept = True
        self._busy.add(connection)
        whole = False
        try:
            if self._stop.is_set():
                raise ConnectionAbortedError("stopped")
            try:
                connection.request(method, path, body, self._headers)
                response = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                if not kept:
                    raise
                connection.close()  # the server closed it while it was idle
                self._busy.discard(connection)
                connection = self._connected()
                self._busy.add(connection)
                connection.request(method, path, body, self._headers)
                response = connection.getresponse()
            data = _read(response, deadline)
            whole = not response.will_close
            return response.status, response.headers, data
        finally:
            self._busy.discard(connection)
            if whole:
                self._idle.append(connection)
            else:
                connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=min(CONNECT, self._timeout))
        try:
            connection.connect()
        except TimeoutError:
            raise OSError(f"no connection within {connection.timeout:g} seconds") from None
        connection.sock.settimeout(self._timeout)
        return connection


class _TooLargeError(Exception):
    """An answer is larger than any that is asked for."""


def _split(url: str) -> SplitResult:
    wrong = PredictorError(f"api:{_hidden(url)}: no URL of a server; give one like api:{EXAMPLE}")
    if any(not "!" <= character <= "~" for character in url):
        raise wrong
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise wrong
    return parts


def _hidden(url: str) -> str:
    """A text that may be a URL, without the name and password in it."""
    before, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{before}{slashes}{host.rpartition('@')[2]}{slash}{path}"
    return "".join(character if character.isprintable() else "?" for character in shown)


def _authorization(parts: SplitResult) -> dict[str, str]:
    """The header that says who asks; none where nobody said.

    A key that was given for kolmo goes to any server; that of OpenAI not over the network in plain text.
    """
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    key = os.environ.get("KOLMO_API_KEY", "").strip()
    if not key and (parts.scheme == "https" or parts.hostname in LOCAL):
        key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise PredictorError("KOLMO_API_KEY (or OPENAI_API_KEY): has characters that no key has; set it again")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    data = bytearray()
    while part := response.read1(1 << 20):
        data += part
        if len(data) > LARGEST:
            raise _TooLargeError
        if time.monotonic() > deadline:
            raise TimeoutError
    response.close()  # else its connection is not free
    wanted = response.headers.get("Content-Length", "")
    if wanted.isdecimal() and len(data) < int(wanted):
        raise http.client.IncompleteRead(bytes(data), int(wanted) - len(data))
    return bytes(data)


def _decoded(place: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        begin = _line(data[:40].decode("utf-8", "replace"))
        raise PredictorError(
            f"{place}: the answer is no JSON, or not all of it ({begin!r}, {len(data):,} bytes); give the URL of an "
            f"OpenAI-compatible server, like {EXAMPLE}"
        ) from None


def _words(error: Exception) -> str:
    if isinstance(error, _TooLargeError):
        return f"the answer is larger than {LARGEST >> 20} MiB"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ends too early"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closes the connection without an answer"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({_line(error.reason or str(error))})"
    if isinstance(error, OSError) and error.strerror:
        return _line(error.strerror)
    return _line(str(error)) or type(error).__name__


def _message(data: bytes) -> str:
    """What the body of an error says, for the message."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(name):
            found = found[name]
    text = found if isinstance(found, str) else json.dumps(found)
    return f" ({_line(text)})"


def _line(text: str) -> str:
    """A text from outside, on one line."""
    shown = "".join(character if character.isprintable() else " " for character in text[:200])
    return " ".join(shown.split())


def _remedy(status: int, headers: Message) -> str:
    if status in (401, 403):
        return "set KOLMO_API_KEY to the server's key"
    if status == 404:
        return "correct the URL, or the model's name behind #"
    if 300 <= status < 400:
        return f"give the URL that it points to, {_line(str(headers.get('Location', 'of the server itself')))}"
    return "docs/servers.md says what a server must offer"


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    with suppress(ValueError, TypeError):
        wish = parsedate_to_datetime(value)
        return max((wish - datetime.now(timezone.utc)).total_seconds(), 0.0)
    return None


def _close(connections: list[http.client.HTTPConnection]) -> None:
    while connections:
        connections.pop().close()
