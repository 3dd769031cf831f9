"""Makes the fresh texts of docs/benchmarks/lossless.md from clones of projects that are not in the training texts.

    python benchmarks/fresh_texts.py CLONES TARGET

`CLONES` has a clone of each repository below as OWNER+NAME, with its history; `TARGET` is usually
`DIR/bench/text/fresh`. The files are those of the named commit, sorted by path, joined and cut. What it is not: a part
of the repository; nothing of these texts is kept here.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from harness.files import KB


@dataclass(frozen=True)
class FreshText:
    """A text: where it is from, and how many bytes of it are taken.

    Attributes:
        file: name in the target folder.
        repository: OWNER/NAME.
        commit: the commit whose files are read.
        patterns: paths that are taken.
        since: if given, only of files that were added from this day on.
    """

    file: str
    repository: str
    commit: str
    patterns: tuple[str, ...]
    since: str = ""
    limit: int = 250 * KB


FRESH = (
    FreshText("english.md", "karpathy/nanochat", "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd", ("*.md",)),
    FreshText("python.py", "karpathy/nanochat", "92d63d4e8bb4df75c3b71618f31ddde2378b2bcd", ("*.py",)),
    FreshText("german.md", "rust-lang-de/rustbook-de", "4aafbc0ebecbb81479c19517a83c414a3212ed5d", ("src/ch*.md",)),
    FreshText(
        "french.md", "reactjs/fr.react.dev", "d60169fc8269d36347b340dd1def35c7af8e031d", ("src/content/learn/*.md",)
    ),
    FreshText(
        "cpp.h",
        "simdjson/simdjson",
        "f807de973580fb22cc0db6b3b896716684b0266c",
        ("include/simdjson/dom/*.h", "include/simdjson/generic/*.h", "include/simdjson/rvv-vls/*.h"),
        since="2025-01-01",
    ),
)


def paths(text: FreshText, clone: Path) -> list[str]:
    """The paths of a text's files, sorted."""
    listed = git(clone, "ls-tree", "-r", "--name-only", text.commit).decode().splitlines()
    if text.since:
        command = ("log", f"--since={text.since}", "--diff-filter=A", "--name-only", "--format=", text.commit)
        added = set(git(clone, *command).decode().splitlines())
        listed = [path for path in listed if path in added]
    return sorted(path for path in listed if any(fnmatch(path, pattern) for pattern in text.patterns))


def git(clone: Path, *arguments: str) -> bytes:
    """What git prints."""
    return subprocess.run(["git", "-C", str(clone), *arguments], check=True, stdout=subprocess.PIPE).stdout


def main(clones: Path, target: Path) -> None:
    """Write all texts."""
    target.mkdir(parents=True, exist_ok=True)
    for text in FRESH:
        clone = clones / text.repository.replace("/", "+")
        whole = b"".join(git(clone, "show", f"{text.commit}:{path}") for path in paths(text, clone))[: text.limit]
        (target / text.file).write_bytes(whole)
        print(f"{text.file}: {len(whole):,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python benchmarks/fresh_texts.py CLONES TARGET")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
