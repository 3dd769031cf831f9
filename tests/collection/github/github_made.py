"""A GitHub for tests: a GraphQL server on this machine that answers searches, and git repositories made on the spot."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "ghp_secretsecretsecretsecretsecretsecret"
SPAN = re.compile(r"created:(\S+?)\.\.(\S+)")
STARS = re.compile(r"stars:(?:>=(\d+)|(\d+)\.\.(\d+))")


def node(number: int, created: str, **changed: Any) -> dict[str, Any]:
    """A repository as GitHub describes it."""
    return {
        "databaseId": number,
        "nameWithOwner": f"owner/r{number}",
        "isPrivate": False,
        "isDisabled": False,
        "isLocked": False,
        "isFork": False,
        "stargazerCount": 10,
        "createdAt": created,
        "pushedAt": "2026-11-01T00:00:00Z",
        "diskUsage": 100,
        "licenseInfo": {"spdxId": "MIT"},
        "defaultBranchRef": {"target": {"oid": f"{number:040x}"}},
        **changed,
    }


@dataclass
class Reply:
    """What the server says instead of a result; `body` may depend on the request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass
class GitHub:
    """Nodes, searches, and replies that come first."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    first: list[Reply] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    order: Callable[[int, dict[str, Any]], Any] = lambda _, one: -one["stargazerCount"]
    answer: Callable[[dict[str, Any], dict[str, Any]], None] | None = None
    url: str = ""

    def search(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """As GitHub does: 1,000 results at most, a hundred a page, cursors that are places."""
        query, first = variables["query"], min(variables["first"], 100)
        assert "fork:false" in query
        span, stars = SPAN.search(query), STARS.search(query)
        assert span is not None
        assert stars is not None
        low = int(stars[1] or stars[2])
        high = int(stars[3]) if stars[3] else 1 << 60
        found = [
            one
            for one in self.nodes
            if span[1] <= one["createdAt"] <= span[2] and low <= (one["stargazerCount"] or 0) <= high
        ]
        found.sort(key=lambda one: self.order(len(self.asked), one))
        begin = int(variables["after"] or 0)
        page = found[:1000][begin : begin + first]
        end = begin + len(page)
        return {
            "repositoryCount": len(found),
            "pageInfo": {"hasNextPage": end < min(len(found), 1000), "endCursor": str(end)},
            "nodes": page,
        }

    @contextmanager
    def serving(self) -> Iterator[GitHub]:
        """The server, for as long as the context lasts."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # head and body in one packet

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hub.asked.append(asked["variables"])
                hub.tokens.append(self.headers.get("Authorization", ""))
                reply = hub.first.pop(0) if hub.first else None
                if reply is None:
                    body = {"data": {"search": hub.search(asked["variables"])}}
                    if hub.answer is not None:
                        hub.answer(asked["variables"], body)
                    reply = Reply(200, hub.headers, body)
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response_only(reply.status)
                for name, value in {"Date": "Thu, 01 Jan 2026 00:00:00 GMT", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}/graphql"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


def module(number: int, words: int = 60) -> bytes:
    """A source file like no other."""
    rng = random.Random(number)
    lines = [f"def function_{number}(value):"]
    lines += [f"    name_{rng.randrange(10**6)} = value + {rng.randrange(10**6)}" for _ in range(words)]
    return ("\n".join(lines) + "\n").encode()


def git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    """Run git in a folder, as nobody in particular."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
        "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    }
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


def make_repository(folder: Path, files: Mapping[str, bytes | str]) -> str:
    """A repository with one commit; gives the commit. Files are bytes; a text is where a symbolic link leads to.

    A value that begins with "submodule " is the commit of a submodule.
    """
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "--bare", "--template=", ".")
    git(folder, "config", "uploadpack.allowFilter", "true")
    lines = []
    for path, value in files.items():
        if isinstance(value, str) and value.startswith("submodule "):
            mode, oid = "160000", value.removeprefix("submodule ")
        else:
            mode = "120000" if isinstance(value, str) else "100644"
            data = value.encode() if isinstance(value, str) else value
            oid = git(folder, "hash-object", "-w", "--stdin", data=data)
        lines.append(f"{mode} {oid}\t".encode() + os.fsencode(path) + b"\0")
    git(folder, "update-index", "-z", "--index-info", data=b"".join(lines))
    commit = git(folder, "commit-tree", git(folder, "write-tree"), "-m", "one")
    git(folder, "update-ref", "refs/heads/master", commit)
    git(folder, "symbolic-ref", "HEAD", "refs/heads/master")
    return commit
