"""The frame of every HTML page of kolmo: a document that needs no other file and no network.

Its Content-Security-Policy lets only the page's own script run, whatever the content is.
What it is not: it does not depend on what the page shows.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TIP = '<div id="tip" role="status"></div>\n'


@cache
def asset(path: Path) -> str:
    """A style sheet or script of the package."""
    return path.read_text("utf-8")


def head(title: str, style: str, script: str, *, images: bool = False, sounds: bool = False) -> Iterator[str]:
    """HTML before the content of a page.

    Args:
        title: escaped title.
        style: the style sheet.
        script: the only script that may run.
        images: whether the page shows images that it carries within itself.
        sounds: the same for sounds.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    if images:
        policy += "; img-src data:"
    if sounds:
        policy += "; media-src data:"
    yield "<!DOCTYPE html>\n"
    yield '<html lang="en"><head><meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield '<meta name="color-scheme" content="light dark">\n'
    yield f"<title>{title}</title>\n"
    yield f"<style>\n{style}</style></head>\n<body>\n<main>\n"


def tail(script: str = "") -> str:
    """HTML after the content; without a script there are no tips."""
    return f"</main>\n{TIP}<script>{script}</script>\n</body></html>\n" if script else "</main>\n</body></html>\n"
