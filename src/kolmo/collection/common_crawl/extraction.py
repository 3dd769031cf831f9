"""HTML to text with resiliparse, as a function for `collection.workers.Worker`, which runs it in another process.

What it is not: safe within one's own process; some pages take minutes or all memory.
"""

from __future__ import annotations

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree


def extract(data: bytes) -> bytes:
    """The title, a line end, and the main content of a page, in UTF-8.

    Args:
        data: the encoding that HTTP names (or nothing), a zero byte, and the page.
    """
    named, _, page = data.partition(b"\0")
    encoding = ""
    if named:
        encoding = map_encoding_to_html5(named.decode("ascii", "replace"), fallback_utf8=False) or ""
    if not encoding:
        encoding = detect_encoding(page) or "utf-8"
    tree = HTMLTree.parse(bytes_to_str(page, encoding))
    title = " ".join((tree.title or "").split())
    content = extract_plain_text(tree, main_content=True, preserve_formatting=True)
    return f"{title}\n{content.strip()}".replace("\0", "\ufffd").encode("utf-8", "replace")
