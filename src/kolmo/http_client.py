"""HTTP/1.1 to a server that nobody needs to trust: every request ends in time, in little memory, in one line.

One deadline holds for a whole request: connection, TLS, headers, interim answers, body. It is checked before every
wait on the socket, so a server that sends a byte at a time does not outlive it; for a body that goes to a file, it
holds for each `SINK_STRIDE` bytes. What comes is counted as it comes off the wire, framing included. Compressed
answers, which may unfold without end, are not asked for and not taken.

Connections are kept and shared by threads, each for one request at a time. A connection with bytes that nobody asked
for is dropped, so that no answer is taken for that of another request. Standard library only.

What it is not: it follows no redirects and uses no proxies. It knows nothing of what is asked (see
`evaluation.scorers.servers.connection`). The look-up of a host's address has the limits of the system's resolver.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any

from kolmo.foreign import reason, short

CONNECT_SECONDS = 10.0  # until a connection stands, TLS included
MAX_HEAD_BYTES = 1 << 20  # of an answer before its body, interim answers included
MAX_PAUSE = 8.0  # seconds between two tries
MAX_RETRY_AFTER = 60.0  # seconds that a server's Retry-After is followed for
SINK_STRIDE = 1 << 20  # bytes of a body to a file for which the deadline holds, and then anew for the next
RETRIED_STATUSES = (408, 425, 429, 500, 502, 503, 504)  # of answers after which a request is repeated

Sink = Callable[[int, Message], IO[bytes] | None]  # of status and headers: where the body is to go; None: to memory


class RequestError(Exception):
    """A request got no answer that can be used; its text says why, in one line.

    Attributes:
        timed_out: the deadline passed.
        stopped: `HttpClient.stop` was called.
        unreachable: nothing speaks HTTP there; trying again would not help.
        unusable: an answer came, and is larger or of another kind than was asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        timed_out: bool = False,
        stopped: bool = False,
        unreachable: bool = False,
        unusable: bool = False,
    ) -> None:
        super().__init__(message)
        self.timed_out, self.stopped, self.unreachable, self.unusable = timed_out, stopped, unreachable, unusable


@dataclass(frozen=True)
class Answer:
    """A whole answer, of any status.

    Attributes:
        tries: requests that were made for it.
    """

    status: int
    headers: Message
    data: bytes
    tries: int = 1


class HttpClient:
    """Requests to one server.

    Args:
        host: its name or address.
        port: None: the usual one.
        secure: TLS.
        headers: of every request.
        timeout: seconds until an answer is whole. A further try begins only within so many seconds of the first, so
            that a request with all its tries takes less than twice as long.
        pause: seconds before the second try; doubled before each further one, up to MAX_PAUSE.
    """

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        secure: bool,
        headers: Mapping[str, str],
        timeout: float,
        pause: float = 0.5,
    ) -> None:
        self._host, self._port = host, port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._headers = {**headers, "Accept-Encoding": "identity"}
        self._timeout, self._pause = timeout, pause
        self._reached = False
        self._stop = threading.Event()
        self._idle: list[_Connection] = []
        self._busy: set[_Wire] = set()
        weakref.finalize(self, _close, self._idle)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None,
        *,
        largest: int,
        tries: int = 1,
        headers: Mapping[str, str] | None = None,
        sink: Sink | None = None,
    ) -> Answer:
        """The answer to a request. What may pass (a busy server, a connection that breaks) is tried again.

        Args:
            method: GET or POST.
            target: path on the server.
            body: what is sent.
            largest: bytes of the answer, at most.
            tries: requests in all.
            headers: of this request, beside those of all.
            sink: is asked where the body of an answer is to be written as it comes; the answer then has no data.

        Returns:
            an answer of any status; one in `RETRIED_STATUSES` where that was the answer to the last try.

        Raises:
            RequestError: there is none, or it is too large.
        """
        end = time.monotonic() + self._timeout
        for attempt in range(1, tries + 1):
            answer = None
            pause = min(self._pause * 2 ** (attempt - 1), MAX_PAUSE)
            try:
                answer = self._once(_Request(method, target, body, headers or {}, largest, sink))
            except TimeoutError:
                raise RequestError(f"no answer within {self._timeout:g} seconds", timed_out=True) from None
            except (ConnectionError, http.client.IncompleteRead) as error:
                if self._stop.is_set():
                    raise RequestError("stopped", stopped=True) from None
                said = _words(error)
                if isinstance(error, ConnectionRefusedError) and not self._reached:
                    raise RequestError(said, unreachable=True) from None
            except (OSError, http.client.HTTPException, ValueError, _UnusableError) as error:
                kind = isinstance(error, _UnusableError)
                raise RequestError(_words(error), unreachable=True, unusable=kind) from None
            else:
                self._reached = True
                if answer.status not in RETRIED_STATUSES:
                    return Answer(answer.status, answer.headers, answer.data, attempt)
                said = f"HTTP {answer.status}"
                wish = retry_after(answer.headers.get("Retry-After"))
                pause = pause if wish is None else min(wish, MAX_RETRY_AFTER)
            if attempt == tries or time.monotonic() + pause > end:
                if answer is not None:
                    return Answer(answer.status, answer.headers, answer.data, attempt)
                raise RequestError(f"{said}, {attempt} times" if attempt > 1 else said)
            if self._stop.wait(pause):
                raise RequestError(f"stopped after {said}", stopped=True)
        raise ValueError("tries is less than 1")

    def stop(self) -> None:
        """Let all requests in other threads fail soon, and later ones at once, until `go`."""
        self._stop.set()
        for wire in list(self._busy):
            wire.shut()

    def go(self) -> None:
        """Requests are sent again."""
        self._stop.clear()

    def close(self) -> None:
        """Close what connections are kept."""
        _close(self._idle)

    def _once(self, request: _Request) -> Answer:
        deadline = time.monotonic() + self._timeout
        while connection := self._kept():
            try:
                return self._over(connection, request, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                if self._stop.is_set():
                    raise
                continue  # the server closed it while it was idle
        return self._over(self._connected(deadline), request, deadline)

    def _over(self, connection: _Connection, request: _Request, deadline: float) -> Answer:
        """One answer over a connection, which is kept afterwards if all is well."""
        wire = connection.wire
        wire.begin(deadline, MAX_HEAD_BYTES)
        self._busy.add(wire)
        whole = False
        try:
            if self._stop.is_set():
                raise ConnectionAbortedError("stopped")
            connection.request(request.method, request.target, request.body, {**self._headers, **request.headers})
            with connection.getresponse() as response:
                encoding = response.headers.get("Content-Encoding", "").strip().lower()
                if encoding not in ("", "identity"):
                    raise _UnusableError(f"the answer is compressed ({short(encoding, 20)}), which was not asked for")
                wire.room = wire.largest = request.largest
                file = request.sink(response.status, response.headers) if request.sink is not None else None
                data = _body(response) if file is None else _pour(response, file, wire, self._timeout)
            if self._stop.is_set():  # which looks like the end of a body without a length
                raise ConnectionAbortedError("stopped")
            whole = not response.will_close and response.status >= 200  # a second answer follows an interim one
            return Answer(response.status, response.headers, data)
        finally:
            self._busy.discard(wire)
            if whole:
                self._idle.append(connection)
            else:
                connection.close()
                wire.close()

    def _kept(self) -> _Connection | None:
        """A connection that is idle, open and silent."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.wire.is_silent():
                return connection
            connection.close()

    def _connected(self, deadline: float) -> _Connection:
        until = min(time.monotonic() + CONNECT_SECONDS, deadline)
        seconds = until - time.monotonic()
        try:
            wire = _Wire(_socket(self._host, self._port, self._tls, until))
        except TimeoutError:
            raise OSError(f"no connection within {seconds:.3g} seconds") from None
        return _Connection(self._host, self._port, wire, 80 if self._tls is None else 443)


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    body: bytes | None
    headers: Mapping[str, str]
    largest: int
    sink: Sink | None


class _UnusableError(Exception):
    """An answer is larger than any that is asked for, or of another kind."""


class _Wire:
    """A socket as http.client uses it, each of whose waits ends at one deadline, and which counts what comes.

    Attributes:
        deadline: when waiting ends.
        largest: bytes that may come, for the message.
        room: those of them that have not come yet.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.deadline = 0.0
        self.largest = self.room = 0

    def begin(self, deadline: float, largest: int) -> None:
        """A new request."""
        self.deadline, self.largest, self.room = deadline, largest, largest

    def await_next(self) -> None:
        """Let the next operation take what time is left.

        Raises:
            TimeoutError: none is left.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def sendall(self, data: bytes) -> None:
        """As of sockets; `ssl` would give each piece all of the time."""
        view = memoryview(data)
        while view:
            self.await_next()
            view = view[self._socket.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client reads answers from."""
        return io.BufferedReader(_Incoming(self, self._socket.makefile("rb", buffering=0)))

    def is_silent(self) -> bool:
        """Whether nothing has come since the last answer, not even the end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def shut(self) -> None:
        """End what waits in another thread."""
        with suppress(OSError):  # closed meanwhile
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """As of sockets: what was made by `makefile` stays open."""
        self._socket.close()


class _Incoming(io.RawIOBase):
    """What comes over a wire."""

    def __init__(self, wire: _Wire, file: socket.SocketIO) -> None:
        self._wire, self._file = wire, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._wire.await_next()
        count = self._file.readinto(buffer)
        self._wire.room -= count or 0
        if self._wire.room < 0:
            raise _UnusableError(f"the answer is larger than {_size(self._wire.largest)}")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Connection(http.client.HTTPConnection):
    """http.client over a wire that stands."""

    auto_open = 0

    def __init__(self, host: str, port: int, wire: _Wire, default_port: int) -> None:
        super().__init__(host, port)
        self.default_port = default_port
        self.wire = wire
        self.sock = wire


def _socket(host: str, port: int, tls: ssl.SSLContext | None, until: float) -> socket.socket:
    """A connection to the first address of the host that has one.

    Raises:
        TimeoutError: it does not stand in time.
        OSError: there is none.
    """
    last: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.settimeout(left)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is None:
                return sock
            sock.settimeout(max(until - time.monotonic(), 0.001))
            return tls.wrap_socket(sock, server_hostname=host)  # whose handshake as a whole has that time
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
                raise
            last = error
    raise last


def _body(response: http.client.HTTPResponse) -> bytes:
    data = bytearray()
    while part := response.read1(1 << 20):
        data += part
    _check_length(response, len(data))
    return bytes(data)


def _pour(response: http.client.HTTPResponse, file: IO[bytes], wire: _Wire, seconds: float) -> bytes:
    """Write the body to a file; each SINK_STRIDE bytes have so many seconds."""
    count = stride = 0
    while part := response.read1(1 << 16):
        file.write(part)
        count += len(part)
        if count - stride >= SINK_STRIDE:
            stride = count
            wire.deadline = time.monotonic() + seconds
    _check_length(response, count)
    return b""


def _check_length(response: http.client.HTTPResponse, count: int) -> None:
    wanted = response.headers.get("Content-Length", "").strip()
    if not response.chunked and wanted.isdecimal() and len(wanted) < 20 and count < int(wanted):
        raise http.client.IncompleteRead(b"", int(wanted) - count)


def retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait, by a number or a date; None where it does not say.

    >>> retry_after("5")
    5.0
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)  # infinity, where it has many digits
    with suppress(ValueError, TypeError, OverflowError, IndexError):
        wish = parsedate_to_datetime(value)
        return max((wish - datetime.now(timezone.utc)).total_seconds(), 0.0)
    return None


def _words(error: Exception) -> str:
    if isinstance(error, _UnusableError):
        return str(error)
    if isinstance(error, http.client.IncompleteRead):
        return "the answer ends too early"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closes the connection without an answer"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({short(error.reason or reason(error), 200)})"
    if isinstance(error, OSError) and error.strerror:
        return short(error.strerror, 200)
    return reason(error)


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count:,} bytes"


def _close(connections: list[_Connection]) -> None:
    while connections:
        connections.pop().close()
