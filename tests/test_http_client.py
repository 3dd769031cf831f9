"""Servers that nobody needs to trust: each request ends in time, in little memory, in one line."""

from __future__ import annotations

import doctest
import gzip
import itertools
import math
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kolmo import http_client
from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.servers.connection import RefusedError, Server
from kolmo.http_client import MAX_RETRY_AFTER, HttpClient, RequestError, retry_after

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMIT = 1 << 20  # of an answer
PATIENCE = 20.0  # seconds after which a server of these tests gives up, so that a fault is not a test that hangs

Script = Callable[[socket.socket], None]


class ScriptedServer:
    """A server that sends what it likes: for each request, the next script; the last one for all further ones.

    Attributes:
        requests: what came, each as bytes.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while data := self._request(connection):
                self.requests.append(data)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                script(connection)

    def _request(self, connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(1 << 16)):
                return b""
            data += more
        return data


@contextmanager
def client_of(
    *scripts: Script, timeout: float = 5.0, secure: bool = False
) -> Iterator[tuple[HttpClient, ScriptedServer]]:
    server = ScriptedServer(*scripts)
    client = HttpClient("127.0.0.1", server.port, secure=secure, headers={}, timeout=timeout, pause=0.001)
    try:
        yield client, server
    finally:
        client.close()
        server.close()


def say(*parts: bytes) -> Script:
    """Send this, and end the connection where it is no whole answer."""

    def script(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        if not parts or parts[0] is not OK:
            connection.shutdown(socket.SHUT_WR)

    return script


def drip(head: bytes, piece: bytes) -> Script:
    """Send something, then a little, again and again."""

    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(int(PATIENCE / 0.02)):
            connection.sendall(piece)
            threading.Event().wait(0.02)

    return script


def flood(head: bytes, piece: bytes) -> Script:
    """Send something, then more than anybody wants."""
    many = piece * max((1 << 16) // len(piece), 1)

    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range((1 << 30) // len(many)):
            connection.sendall(many)

    return script


def wait_only(connection: socket.socket) -> None:
    threading.Event().wait(PATIENCE)


DRIPS = {
    "nothing": wait_only,
    "status line": drip(b"HTTP/1.1 2", b"0"),
    "interim answers": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of an interim answer": drip(b"HTTP/1.1 100 Continue\r\n", b"A"),
    "header": drip(b"HTTP/1.1 200 OK\r\nX-", b"a"),
    "headers": drip(b"HTTP/1.1 200 OK\r\nX: ", b"a\r\n b"),
    "body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "body without length": drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "chunk size": drip(CHUNKED, b"0"),
    "chunk extension": drip(CHUNKED + b"1;", b"a"),
    "chunk": drip(CHUNKED + b"ffff\r\n", b"a"),
    "chunks": drip(CHUNKED, b"1\r\na\r\n"),
    "trailer": drip(CHUNKED + b"0\r\n", b"A: b\r\n"),
    "refusal": drip(b"HTTP/1.1 400 Bad\r\nContent-Length: 100000\r\n\r\n", b" "),
}


@pytest.mark.parametrize("script", DRIPS.values(), ids=DRIPS)
def test_one_deadline_for_the_whole_request(script: Script) -> None:
    with client_of(script, timeout=0.4) as (client, server):
        with pytest.raises(RequestError, match=r"^no answer within 0\.4 seconds$") as caught:
            client.request("GET", "/", None, largest=LIMIT, tries=3)
        assert caught.value.timed_out
        assert len(server.requests) == 1  # not tried again: it would last as long


def test_the_deadline_holds_while_sending() -> None:
    def listen_only(connection: socket.socket) -> None:
        threading.Event().wait(PATIENCE)

    with client_of(listen_only, timeout=0.4) as (client, _), pytest.raises(RequestError, match="no answer within"):
        client.request("POST", "/", b"x" * (64 << 20), largest=LIMIT)


@pytest.mark.parametrize("script", [wait_only, say(b"HTTP/1.1 200 OK\r\n\r\n"), drip(b"\x16\x03\x03\x40\x00", b"\x00")])
def test_tls_that_does_not_come_about(script: Script) -> None:
    server = ScriptedServer(script)
    server._request = lambda connection: connection.recv(1 << 16)  # type: ignore[method-assign]
    client = HttpClient("127.0.0.1", server.port, secure=True, headers={}, timeout=0.5)
    with pytest.raises(RequestError, match=r"^no (TLS )?connection (within 0.5 seconds|\(.*\))$"):
        client.request("GET", "/", None, largest=LIMIT, tries=3)
    server.close()


FLOODS = {
    "interim answers": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "larger than 1 MiB"),
    "header lines": (flood(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), "more than 100 headers"),
    "one header": (flood(b"HTTP/1.1 200 OK\r\nA: ", b"b"), "header line"),
    "status line": (flood(b"HTTP/1.1 200 ", b"b"), "status line"),
    "body": (flood(b"HTTP/1.1 200 OK\r\n\r\n", b" "), "larger than 1 MiB"),
    "body with length": (flood(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b" "), "larger than 1 MiB"),
    "chunk extensions": (flood(CHUNKED, b"1;" + b"a" * 60_000 + b"\r\nb\r\n"), "larger than 1 MiB"),
    "tiny chunks": (flood(CHUNKED, b"1\r\na\r\n"), "larger than 1 MiB"),
    "trailers": (flood(CHUNKED + b"0\r\n", b"A: b\r\n"), "larger than 1 MiB"),
    "huge chunk": (flood(CHUNKED + b"f" * 400 + b"\r\n", b"a"), "larger than 1 MiB"),
}


@pytest.mark.parametrize(("script", "message"), FLOODS.values(), ids=FLOODS)
def test_floods_end_early(script: Script, message: str) -> None:
    tracemalloc.start()
    try:
        with client_of(script, timeout=PATIENCE) as (client, _), pytest.raises(RequestError, match=message) as caught:
            client.request("GET", "/", None, largest=LIMIT, tries=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert peak < 32 << 20


HEAD = b"HTTP/1.1 200 OK\r\n"
UNUSABLE = {
    "gzip": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * (64 << 20)),
    "unknown coding": HEAD + b"Content-Encoding: \x1b[31m\xff\r\n\r\n{}",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP 0.9": b"<html>hello</html>",
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "escapes": b"HTTP/1.1 \x1b[2J\x1b]0;title\x07\r\n\r\n",
    "status beyond": b"HTTP/1.1 9999 no\r\n\r\n",
    "status of many digits": b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n",
    "chunk size": CHUNKED + b"zz\r\n",
    "chunk of a negative size": CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n",
    "end within a chunk": CHUNKED + b"5\r\n{}",
    "end within the body": HEAD + b"Content-Length: 10\r\n\r\n{}",
    "end": b"",
}


@pytest.mark.parametrize("data", UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_answer(data: bytes) -> None:
    with client_of(say(data)) as (client, _), pytest.raises(RequestError) as caught:
        client.request("GET", "/", None, largest=LIMIT, tries=2)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


USABLE = {
    "length of many digits": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "negative length": HEAD + b"Content-Length: -5\r\n\r\n{}",
    "length in other digits": HEAD + "Content-Length: ²\r\n\r\n{}".encode("latin-1"),
    "identity": HEAD + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK,
    "chunks with extensions": CHUNKED + b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n",
}


@pytest.mark.parametrize("data", USABLE.values(), ids=USABLE)
def test_what_is_odd_and_can_be_read(data: bytes) -> None:
    with client_of(say(data)) as (client, _):
        assert client.request("GET", "/", None, largest=LIMIT).data == b"{}"


def test_compression_is_not_asked_for() -> None:
    with client_of(say(OK)) as (client, server):
        client.request("GET", "/", None, largest=LIMIT)
    assert b"Accept-Encoding: identity\r\n" in server.requests[0]


def test_redirects_are_not_followed() -> None:
    with client_of(say(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")) as (client, server):
        assert client.request("GET", "/", None, largest=LIMIT, tries=5).status == 302
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "first",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    ],
    ids=["two answers", "interim"],
)
def test_no_answer_is_taken_for_that_of_another_request(first: bytes) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(first[: len(first) // 2])
        threading.Event().wait(0.05)
        connection.sendall(first[len(first) // 2 :])

    with client_of(script, say(OK)) as (client, _):
        client.request("GET", "/", None, largest=LIMIT)
        threading.Event().wait(0.3)
        assert client.request("GET", "/", None, largest=LIMIT).data == b"{}"


def test_connections_are_kept() -> None:
    with client_of(say(OK)) as (client, server):
        for _ in range(5):
            client.request("GET", "/", None, largest=LIMIT)
        assert len(server.requests) == 5
        assert len(client._idle) == 1


BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("wish", [b"99999999", b"9" * 400, b"Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_server_cannot_make_anybody_wait(wish: bytes) -> None:
    with client_of(say(BUSY % wish), timeout=5.0) as (client, server):
        assert client.request("GET", "/", None, largest=LIMIT, tries=6).status == 503
        assert len(server.requests) == 1  # the minute would be over after the deadline


def test_tries_begin_within_the_timeout() -> None:
    def slow(connection: socket.socket) -> None:
        threading.Event().wait(0.3)
        connection.sendall(BUSY % b"0")

    with client_of(slow, timeout=0.8) as (client, server):
        assert client.request("GET", "/", None, largest=LIMIT, tries=1000).status == 503
        assert 1 < len(server.requests) < 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        ("-5", None),
        ("9" * 400, math.inf),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 -0000", None),
        ("\x1b[31m", None),
        ("," * 1000, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds
    assert MAX_RETRY_AFTER <= 60


def test_stopping_ends_what_waits() -> None:
    for script in (drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "), wait_only):
        with client_of(script) as (client, server):
            threading.Timer(0.3, client.stop).start()
            with pytest.raises(RequestError) as caught:
                client.request("GET", "/", None, largest=LIMIT, tries=3)
            assert caught.value.stopped
            assert len(server.requests) == 1


def test_names_that_cannot_be_looked_up() -> None:
    for host in ("a" * 300, "no-such-host.invalid"):
        client = HttpClient(host, 80, secure=False, headers={}, timeout=5.0)
        with pytest.raises(RequestError) as caught:
            client.request("GET", "/", None, largest=LIMIT)
        assert str(caught.value).isprintable()


JSON = {
    "deep": b"[" * 100_000,
    "deep and whole": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "digits": b"[" + b"9" * 100_000 + b"x",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "nothing": b"",
    "escapes": b"\x1b]0;title\x07\x1b[2J\r\n",
    "NUL": b"\x00" * 100,
}


def body(data: bytes, status: bytes = b"200 OK") -> Script:
    return say(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))


@pytest.mark.parametrize("data", JSON.values(), ids=JSON)
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad"])
def test_what_is_no_json(data: bytes, status: bytes) -> None:
    server = ScriptedServer(body(data, status))
    url = f"http://127.0.0.1:{server.port}"
    with pytest.raises(PredictorError) as caught:
        Server(url, timeout=5.0).get("/v1/models")
    server.close()
    assert str(caught.value).startswith(f"{url}/v1/models: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert isinstance(caught.value, RefusedError) == (status != b"200 OK")


def test_integers_without_end() -> None:
    server = ScriptedServer(body(b'{"a": %s, "b": -%s, "c": 12}' % (b"9" * 4000, b"9" * 30)))
    found = Server(f"http://127.0.0.1:{server.port}", timeout=5.0).get("/")
    server.close()
    assert found == {"a": math.inf, "b": -1e30, "c": 12}


@pytest.mark.parametrize(
    "message",
    [
        b'"' + b"x" * 200_000 + b'"',
        b'"\\u001b[31m\\n\\u202e\\ud800"',
        b'{"error": {"message": {"a": [1, 2]}}}',
        b"[[[1]]]",
    ],
)
def test_what_a_server_says_is_one_short_line(message: bytes) -> None:
    server = ScriptedServer(body(message, b"418 Teapot"))
    with pytest.raises(RefusedError) as caught:
        Server(f"http://127.0.0.1:{server.port}", timeout=5.0).get("/")
    server.close()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert str(caught.value).endswith("see docs/servers.md for what a server must support")


def test_examples_of_the_docstrings() -> None:
    assert doctest.testmod(http_client).failed == 0


def test_scripts_are_whole() -> None:
    """The tests above rest on these: a plain answer passes, whatever came before on other connections."""
    for one, other in itertools.product((say(b""), say(OK)), repeat=2):
        with client_of(one, other, say(OK)) as (client, _):
            assert client.request("GET", "/", None, largest=LIMIT, tries=4).data == b"{}"
