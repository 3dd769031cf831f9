"""An HTTP server on this machine for the tests of collections: files with ETags and ranges, and troubles first."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOWN = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code></Error>'
MODIFIED = "Mon, 05 Oct 2026 10:00:00 GMT"


@dataclass
class Trouble:
    """An answer that is given instead of the file, once.

    Attributes:
        status: 0: close the connection without an answer.
        cut: bytes of the file that are sent before the connection breaks (then the status is 200 or 206).
        stall: the answer begins, and then nothing comes.
    """

    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = SLOW_DOWN
    cut: int | None = None
    stall: bool = False


@dataclass
class Server:
    """Attributes:
    url: without a slash at its end.
    files: path to bytes; may change at any time.
    troubles: path to what is given first, in order.
    seen: method, path and headers of each request.
    """

    url: str
    files: dict[str, bytes]
    troubles: dict[str, list[Trouble]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def etag(self, path: str) -> str:
        return self.etags.get(path, f'"{hashlib.md5(self.files[path]).hexdigest()}"')


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def do_GET(self) -> None:
        server: Server = self.server.made  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        server.seen.append((self.command, path, dict(self.headers.items())))
        troubles = server.troubles.get(path)
        trouble = troubles.pop(0) if troubles else None
        if trouble is not None and trouble.stall:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            server.ended.wait(60)
            self.close_connection = True
            return
        if trouble is not None and trouble.cut is None:
            self.close_connection = not trouble.status
            if trouble.status:
                self._answer(trouble.status, trouble.headers, trouble.body)
            return
        if path not in server.files:
            self._answer(404, {}, b"no such file")
            return
        data, etag = server.files[path], server.etag(path)
        known = {"ETag": etag, "Last-Modified": MODIFIED}
        if self.headers.get("If-None-Match") == etag:
            self._answer(304, known, b"")
            return
        first, status = 0, 200
        wanted = self.headers.get("Range", "")
        if wanted and self.headers.get("If-Range", etag) == etag:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, status = int(begin), 206
            last = int(end) if end else len(data) - 1
            known["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            if first >= len(data):
                self._answer(416, {}, b"")
                return
            data = data[: last + 1]
        self._answer(status, known, data[first:], None if trouble is None else trouble.cut)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    made = Server(f"http://127.0.0.1:{httpd.server_port}", files)
    httpd.made = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ended.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
