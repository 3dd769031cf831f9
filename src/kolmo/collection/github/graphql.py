"""Questions to GitHub's GraphQL interface: rate limits, errors in the body, and a token that is shown nowhere.

A rate limit is waited out until the moment that the answer names: `Retry-After`, else `X-RateLimit-Reset` by the
server's own clock (`Date`), else a minute, doubled each time. An answer that says that nothing remains is a reason to
wait before the next question. Other failures that may pass are tried again, `TRIES` times in all.

The token comes from the environment and goes into one header. It is checked first, so that no library complains of it,
and is cut out of whatever a server says.

What it is not: it knows nothing of what is asked (see `search`).
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from kolmo.collection.fetching import Fetcher, FetchError
from kolmo.errors import KolmoError
from kolmo.foreign import quoted, short
from kolmo.http_client import Answer, retry_after

URL = "https://api.github.com/graphql"
VARIABLES = ("GITHUB_TOKEN", "GH_TOKEN")  # of the environment, the first that is set counts
TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TRIES = 6  # of one question, where failures may pass
MAX_WAITS = 50  # for rate limits, of one question
MAX_WAIT_SECONDS = 2 * 3600.0  # GitHub's limits are of an hour
SECONDARY_SECONDS = 60.0  # where a limit is reached and no moment is named
MAX_ANSWER_BYTES = 32 << 20


class GraphQLError(KolmoError):
    """A question got no answer that can be used, after all tries."""


def token_of_environment() -> str:
    """The token for GitHub.

    Raises:
        KolmoError: there is none, or it holds what no token does; its text is not shown.
    """
    for name in VARIABLES:
        token = os.environ.get(name, "").strip()
        if token:
            if not TOKEN.fullmatch(token):
                raise KolmoError(f"{name}: holds spaces or other signs that no token has; set it anew")
            return token
    raise KolmoError(
        f"{VARIABLES[0]}: is not set, and GitHub answers no search without a token; make one at "
        "https://github.com/settings/tokens (it needs no scope) and export it"
    )


def place_of(url: str) -> str:
    """Host and port of an interface, as `Fetcher` takes them for secrets.

    Raises:
        KolmoError: the address is none that a token may be sent to: plain HTTP is for this machine only, since others
            could read the token on the way.

    Example:
        >>> place_of("https://api.github.com/graphql")
        'api.github.com:443'
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)):
        raise KolmoError(f"{short(url)}: is not an address of https, and a token is sent to no other; correct it")
    return f"{host}:{port or (443 if parts.scheme == 'https' else 80)}"


class GraphQL:
    """One server's GraphQL interface.

    Args:
        url: of the interface.
        token: see `token_of_environment`; it is cut out of what the server says.
        fetcher: sends the requests, each of them once, with the token for `place_of(url)`.
        say: is told why a wait begins.
        sleep, now: of the clock; tests bring their own.
    """

    def __init__(
        self,
        url: str,
        token: str,
        fetcher: Fetcher,
        *,
        say: Callable[[str], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._place = url, short(url)
        self._fetcher, self._token = fetcher, token
        self._say, self._sleep, self._now = say, sleep, now
        self._wait_first = 0.0  # seconds before the next question

    def ask(self, query: str, variables: Mapping[str, Any], usable: Callable[[Any], bool]) -> Any:
        """The `data` of an answer.

        Args:
            query: in GraphQL.
            variables: of the query.
            usable: whether `data` holds what is needed. Where errors stand beside it, it may hold a part.

        Raises:
            GraphQLError: there is none after all tries.
            KolmoError: the token is refused, a limit lasts too long, or the server cannot be reached.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        failures = waits = 0
        while True:
            self._wait_as_told()
            said, answer = "", None
            try:
                answer = self._fetcher.request(
                    "POST", self._url, body, headers={"Content-Type": "application/json"}, largest=MAX_ANSWER_BYTES
                )
            except FetchError as error:
                said = str(error)
            if answer is not None:
                parsed = _parsed(answer.data)
                said = self._complaint(answer, parsed)
                if answer.status == 401:
                    raise KolmoError(f"{self._place}: refuses the token ({said}); set {VARIABLES[0]} to a valid one")
                if _is_limit(answer, _message(parsed)):
                    waits += 1
                    if waits > MAX_WAITS:
                        raise GraphQLError(f"{self._place}: still limits the rate after {MAX_WAITS} waits; try later")
                    self._note_wait(answer.headers, waits)
                    continue
                if answer.status == 200:
                    self._note_remaining(answer.headers)
                    data = parsed.get("data") if isinstance(parsed, dict) else None
                    if usable(data):
                        return data
                elif answer.status < 500 and answer.status not in (403, 408):
                    raise GraphQLError(f"{self._place}: {said}")
            failures += 1
            if failures == TRIES:
                if answer is None:
                    raise KolmoError(f"{said}, {TRIES} times")
                raise GraphQLError(f"{self._place}: {said}, {TRIES} times")
            self._sleep(min(2.0 ** (failures - 1), 30.0))

    def _complaint(self, answer: Answer, parsed: Any) -> str:
        """What an answer says is wrong, printable and without the token."""
        said = "" if answer.status == 200 else f"HTTP {answer.status}"
        if answer.status == 200 and not isinstance(parsed, dict):
            said = "an answer that is not JSON"
        if message := _message(parsed):
            message = quoted(message.replace(self._token, "***"), 200)
            return f"{said}: {message}" if said else message
        return said or "an answer without data"

    def _wait_as_told(self) -> None:
        seconds, self._wait_first = self._wait_first, 0.0
        if seconds > 0:
            if self._say is not None:
                self._say(f"{self._place} limits the rate: waiting {seconds:.0f} s")
            self._sleep(seconds)

    def _note_wait(self, headers: Message, waits: int) -> None:
        seconds = retry_after(headers.get("Retry-After"))
        if seconds is None and headers.get("X-RateLimit-Remaining", "").strip() == "0":
            seconds = self._until_reset(headers)
        if seconds is None:
            seconds = SECONDARY_SECONDS * 2 ** min(waits - 1, 5)
        self._set_wait(seconds)

    def _note_remaining(self, headers: Message) -> None:
        """Wait before the next question where none remains."""
        if headers.get("X-RateLimit-Remaining", "").strip() == "0":
            self._set_wait(self._until_reset(headers) or SECONDARY_SECONDS)

    def _set_wait(self, seconds: float) -> None:
        if not seconds <= MAX_WAIT_SECONDS:
            shown = "without end" if math.isinf(seconds) else f"{seconds:.0f} s"
            raise KolmoError(f"{self._place}: asks to wait {shown}; run the command again later, it goes on from here")
        self._wait_first = max(seconds, 0.0)

    def _until_reset(self, headers: Message) -> float | None:
        """Seconds until the limit is lifted, by the server's clock where it shows that; one more, for the rounding."""
        value = headers.get("X-RateLimit-Reset", "").strip()
        if not value.isdecimal() or len(value) > 12:
            return None
        try:
            here = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            here = self._now()
        return max(float(value) - here, 0.0) + 1.0


def _message(parsed: Any) -> str:
    """What a body says is wrong, as the server wrote it: kind and text of the first error, or "message"."""
    if not isinstance(parsed, dict):
        return ""
    errors = parsed.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return f"{errors[0].get('type') or ''} {errors[0].get('message') or ''}".strip()
    message = parsed.get("message")
    return message if isinstance(message, str) else ""


def _is_limit(answer: Answer, said: str) -> bool:
    """Whether an answer says that too much was asked: the primary limit, a secondary one, or an older name of it."""
    if answer.status not in (200, 403, 429):
        return False
    told = said.lower()
    if "rate_limited" in told or "rate limit" in told or "abuse detection" in told:
        return True
    limited = answer.headers.get("X-RateLimit-Remaining", "").strip() == "0" or "Retry-After" in answer.headers
    return answer.status == 429 or (answer.status == 403 and limited)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
