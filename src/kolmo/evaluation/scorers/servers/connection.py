"""A server of models: JSON goes out, JSON comes back, and every failure is one line that names the server.

What it is not: it knows nothing of tokens (`evaluation.scorers.servers.scorer`). Connections, deadlines and tries are
those of `http_client`.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from kolmo.errors import PredictorError
from kolmo.foreign import quoted, short
from kolmo.http_client import RETRIED_STATUSES, Answer, HttpClient, RequestError

TIMEOUT = 600.0  # seconds until an answer is whole; servers queue what they cannot do at once
TRIES = 6
PAUSE = 0.5  # seconds before the second try; doubled before each further one
MAX_ANSWER_BYTES = 64 << 20  # bytes of an answer
MAX_REFUSAL_BYTES = 1 << 20  # bytes of an answer that says no, whose message is read
MAX_MESSAGE_CHARACTERS = 200  # characters that are shown of it
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
        PredictorError: the URL is not of this form.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT, tries: int = TRIES, pause: float = PAUSE) -> None:
        parts = _split(url)
        self._root = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/v1").rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._root}"
        headers = {"Accept": "application/json", "Content-Type": "application/json", **_authorization(parts)}
        self._tries = tries
        self._client = HttpClient(
            str(parts.hostname),
            parts.port,
            secure=parts.scheme == "https",
            headers=headers,
            timeout=timeout,
            pause=pause,
        )

    def get(self, path: str) -> Any:
        """What JSON is at a path, such as /v1/models.

        Raises:
            RefusedError: the server says no.
            PredictorError: it cannot be reached, or does not answer in JSON.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, payload: Mapping[str, Any], tries: int = TRIES, largest: int | None = None) -> Any:
        """What JSON is answered to JSON; as `get`, with fewer tries or a smaller answer perhaps."""
        return self._ask("POST", path, json.dumps(payload).encode(), tries, largest)

    def stop(self) -> None:
        """Let all requests in other threads fail soon, and later ones at once, until `go`."""
        self._client.stop()

    def go(self) -> None:
        """Requests are sent again."""
        self._client.go()

    def close(self) -> None:
        """Close what connections are kept."""
        self._client.close()

    def _ask(self, method: str, path: str, body: bytes | None, tries: int = TRIES, largest: int | None = None) -> Any:
        place = self.url + path
        limit = MAX_ANSWER_BYTES if largest is None else min(largest, MAX_ANSWER_BYTES)
        try:
            answer = self._client.request(method, self._root + path, body, largest=limit, tries=min(tries, self._tries))
        except RequestError as error:
            if error.timed_out:
                remedy = "see whether the server works, or lower the argument batch or the argument context"
            elif error.stopped:
                remedy = "another request failed"
            elif error.unreachable:
                remedy = "see that a server is there, or correct the URL"
            else:
                remedy = "see whether the server still works"
            raise PredictorError(f"{place}: {error}; {remedy}") from None
        if 200 <= answer.status < 300:
            return _decoded(place, answer.data)
        said = f"HTTP {answer.status}{_message(answer.data)}"
        if answer.tries > 1:
            said += f", {answer.tries} times"
        raise RefusedError(f"{place}: {said}; {_remedy(answer)}", answer.status)


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
    return short(shown, 200)


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


def _decoded(place: str, data: bytes) -> Any:
    try:
        return _parsed(data)
    except (ValueError, RecursionError):
        begin = data[:40].decode("utf-8", "replace")
        raise PredictorError(
            f"{place}: the answer is not JSON, or is incomplete ({quoted(begin)}, {len(data):,} bytes); give the URL "
            f"of an OpenAI-compatible server, like {EXAMPLE}"
        ) from None


def _parsed(data: bytes) -> Any:
    """JSON whose integers are no larger than any that is meant: others are floats, perhaps infinite.

    Raises:
        ValueError: it is not JSON in UTF-8; RecursionError: it is nested too deeply.
    """
    return json.loads(
        data.decode("utf-8-sig"), parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits)
    )


def _message(data: bytes) -> str:
    """What the body of an error says, for the message."""
    if len(data) > MAX_REFUSAL_BYTES:
        return ""
    try:
        found = _parsed(data)
        for name in ("error", "message", "detail"):
            if isinstance(found, dict) and found.get(name):
                found = found[name]
        text = found if isinstance(found, str) else json.dumps(found)
    except (ValueError, RecursionError):
        return ""
    return f" ({short(' '.join(text.split()), MAX_MESSAGE_CHARACTERS)})"


def _remedy(answer: Answer) -> str:
    status = answer.status
    if status in (401, 403):
        return "set KOLMO_API_KEY to the server's key"
    if status == 404:
        return "correct the URL, or the model's name behind #"
    if 300 <= status < 400:
        return (
            f"give the URL that it points to, {short(str(answer.headers.get('Location', 'of the server itself')), 200)}"
        )
    if status in RETRIED_STATUSES:
        return "see what the server reports"
    return "docs/servers.md says what a server must offer"
