"""Small pieces of HTML: tables, bars, numbers, and text that shows what is not printable."""

from __future__ import annotations

from html import escape


def table(head: list[str], rows: list[str], *, hidden: tuple[int, ...] = (), left: int = 0) -> str:
    """A table; narrow screens leave out the columns `hidden`; 0 and `left` are set to the left."""
    cells = []
    for number, label in enumerate(head):
        kind = " ".join(["num"] * (number not in (0, left)) + ["o"] * (number in hidden))
        cells.append(f'<th scope="col" class="{kind}">{label}</th>' if kind else f'<th scope="col">{label}</th>')
    return f"<table><thead><tr>{''.join(cells)}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table>\n"


def meter(share: float, mark: float | None = None) -> str:
    """A bar of length `share` (0 to 1), with an upright mark at `mark` (0 to 1)."""
    tick = "" if mark is None else f'<u style="left:{100 * mark:.1f}%"></u>'
    return f'<span class="meter"><s style="width:{100 * share:.1f}%"></s>{tick}</span>'


# The content


def shown_bits(bits: float) -> str:
    """A number of bits: one decimal below 100, none above."""
    return f"{bits:.1f}" if bits < 99.95 else f"{bits:,.0f}"


def joined(*names: str) -> str:
    """Class names, without the empty ones."""
    return " ".join(name for name in names if name)


def plural(count: int, what: str) -> str:
    """A count with its noun: `1 byte`, `2 bytes`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def escaped(character: str) -> str:
    r"""A character that shows nothing, or must not act, as an escape; a byte that is no UTF-8 as \xHH."""
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point & 0xFF:02x}"
    return escape(character.encode("unicode_escape").decode("ascii"))


def shown(text: str) -> str:
    """Text for HTML, with all that is not printable (controls, directions, bytes that are no UTF-8) as escapes."""
    return "".join(escape(c) if c.isprintable() else escaped(c) for c in text)
