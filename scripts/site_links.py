"""A hook of mkdocs: links from a page to files outside docs/ become the path of the file, since the site lacks them.

A link to a file that the repository lacks too stays as it is, so that a strict build fails.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    here = (ROOT / "docs" / page.file.src_uri).parent

    def replaced(match: re.Match[str]) -> str:
        text, target = match.groups()
        path = Path(os.path.normpath(here / target))
        if path.is_relative_to(ROOT / "docs") or not path.exists():
            return match.group()
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if text.strip("`") in (name, path.name) else f"{text} (`{name}`)"

    return LINK.sub(replaced, markdown)
