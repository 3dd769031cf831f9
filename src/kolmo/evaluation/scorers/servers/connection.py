"""JSON requests to a model server. Every failure becomes an error of one line that names the server.

What it is not: it does not handle tokens (`evaluation.scorers.servers.scorer`). Connections, deadlines and retries are
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

ANSWER_SECONDS = 600.0  # time until an answer is complete; servers queue requests
MAX_TRIES = 6  # requests in all, if the server is busy or the connection breaks
RETRY_SECONDS = 0.5  # pause before the second try; doubled before each further one
MAX_ANSWER_BYTES = 64 << 20  # size of an answer
MAX_REFUSAL_BYTES = 1 << 20  # size of an error answer whose message is read
MAX_MESSAGE_CHARACTERS = 200  # characters of such a message that are shown
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
EXAMPLE_URL = "http://localhost:8000/v1"


class RefusedError(PredictorError):
    """The server refused a request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Server:
    """A model server.

    Args:
        url: the http or https URL of the server or of its /v1. A name and password in it are sent, but never shown.
        timeout: seconds until an answer is complete.
        tries: the number of requests in all, if the server is busy or the connection breaks.
        pause: seconds before the second request.

    Attributes:
        url: the URL without /v1, name and password.

    Raises:
        PredictorError: the URL is not of this form.
    """

    def __init__(
        self, url: str, *, timeout: float = ANSWER_SECONDS, tries: int = MAX_TRIES, pause: float = RETRY_SECONDS
    ) -> None:
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
        """Request the JSON value at a path, such as /v1/models.

        Raises:
            RefusedError: the server refuses the request.
            PredictorError: the server cannot be reached, or does not answer in JSON.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, payload: Mapping[str, Any], tries: int = MAX_TRIES, largest: int | None = None) -> Any:
        """Send a JSON value, and return the JSON answer.

        Args:
            path: the path, such as /v1/completions.
            payload: the value to send.
            tries: the largest number of requests.
            largest: the largest size of the answer in bytes; default: `MAX_ANSWER_BYTES`.

        Raises:
            RefusedError, PredictorError: as in `get`.
        """
        return self._ask("POST", path, json.dumps(payload).encode(), tries, largest)

    def stop(self) -> None:
        """Make requests in other threads fail soon, and new ones at once, until `go` is called."""
        self._client.stop()

    def go(self) -> None:
        """Allow requests again after `stop`."""
        self._client.go()

    def close(self) -> None:
        """Close all kept connections."""
        self._client.close()

    def _ask(
        self, method: str, path: str, body: bytes | None, tries: int = MAX_TRIES, largest: int | None = None
    ) -> Any:
        place = self.url + path
        limit = MAX_ANSWER_BYTES if largest is None else min(largest, MAX_ANSWER_BYTES)
        try:
            answer = self._client.request(method, self._root + path, body, largest=limit, tries=min(tries, self._tries))
        except RequestError as error:
            if error.timed_out:
                remedy = (
                    "check that the server still works, or lower the argument batch_size or the argument block_size"
                )
            elif error.stopped:
                remedy = "another request failed"
            elif error.unreachable:
                remedy = "start the server, or correct the URL"
            else:
                remedy = "check that the server still works"
            raise PredictorError(f"{place}: {error}; {remedy}") from None
        if 200 <= answer.status < 300:
            return _decoded(place, answer.data)
        said = f"HTTP {answer.status}{_message(answer.data)}"
        if answer.tries > 1:
            said += f", {answer.tries} times"
        raise RefusedError(f"{place}: {said}; {_remedy(answer)}", answer.status)


def _split(url: str) -> SplitResult:
    wrong = PredictorError(f"api:{_hidden(url)}: is not the URL of a server; give one like api:{EXAMPLE_URL}")
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
    """A text that may be a URL, with any name and password removed."""
    before, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{before}{slashes}{host.rpartition('@')[2]}{slash}{path}"
    return short(shown, 200)


def _authorization(parts: SplitResult) -> dict[str, str]:
    """The authorization header; empty if no credentials are set.

    KOLMO_API_KEY is sent to any server, OPENAI_API_KEY only over https or to this machine.
    """
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    key = os.environ.get("KOLMO_API_KEY", "").strip()
    if not key and (parts.scheme == "https" or parts.hostname in LOCAL_HOSTS):
        key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise PredictorError(
            "KOLMO_API_KEY (or OPENAI_API_KEY): has characters that are not allowed in a key; set it again"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def _decoded(place: str, data: bytes) -> Any:
    try:
        return _parsed(data)
    except (ValueError, RecursionError):
        begin = data[:40].decode("utf-8", "replace")
        raise PredictorError(
            f"{place}: the answer is not JSON, or is incomplete ({quoted(begin)}, {len(data):,} bytes); give the URL "
            f"of an OpenAI-compatible server, like {EXAMPLE_URL}"
        ) from None


def _parsed(data: bytes) -> Any:
    """Parse JSON. Integers of 19 or more digits become floats, perhaps infinite, which bounds the time to parse them.

    Raises:
        ValueError: the data is not JSON in UTF-8.
        RecursionError: the value is nested too deeply.
    """
    return json.loads(
        data.decode("utf-8-sig"), parse_int=lambda digits: int(digits) if len(digits) < 19 else float(digits)
    )


def _message(data: bytes) -> str:
    """The message in the body of an error answer, in parentheses; empty if there is none."""
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
        location = str(answer.headers.get("Location", "of the server itself"))
        return f"give the URL that it redirects to, {short(location, MAX_MESSAGE_CHARACTERS)}"
    if status in RETRIED_STATUSES:
        return "see what the server reports"
    return "see docs/servers.md for what a server must support"
