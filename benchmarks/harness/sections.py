"""A report of several sections, each written by a command of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def command(without: str = "") -> str:
    """The command line that runs, as a user types it, in a block of code; of absolute paths the last name.

    Args:
        without: an option that is left out, with what follows it up to the next one.
    """
    words: list[str] = []
    left_out = False
    for word in sys.argv:
        left_out = word == without if word.startswith("--") else left_out
        if not left_out:
            words.append(Path(word).name if not words or word.startswith("/") else word)
    return f"```\npython benchmarks/{' '.join(words)}\n```\n"


def replace(path: Path, title: str, text: str) -> None:
    """Write a section "## title", in place of the one of this title, or before "## Machine", or at the end.

    A page that is not there is made, of this section alone.
    """
    section = f"## {title}\n\n{text.strip()}\n"
    if not path.exists():
        path.write_text(section, "utf-8")
        return
    parts = [f"## {part}" if at else part for at, part in enumerate(path.read_text("utf-8").split("\n## "))]
    heads = [part.partition("\n")[0] for part in parts]
    if f"## {title}" in heads:
        parts[heads.index(f"## {title}")] = section
    else:
        parts.insert(heads.index("## Machine") if "## Machine" in heads else len(parts), section)
    path.write_text("\n".join(part.rstrip("\n") + "\n" for part in parts), "utf-8")
