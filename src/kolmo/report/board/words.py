"""Words of the leaderboard's page: numbers and names as people read them, safe in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def compact(value: int) -> str:
    """A number in three digits: 20.2K, 7.24B."""
    if value < 1000:
        return str(value)
    power = min((len(str(value)) - 1) // 3, 4)
    scaled = f"{value / 1000**power:.3g}"
    if scaled == "1e+03":
        power, scaled = power + 1, "1"
    return scaled + "KMBT?"[power - 1]


def plural(count: int, what: str) -> str:
    """A number and its noun."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def shown(text: str) -> str:
    """Text for HTML, with all that is not printable (controls, directions, lone surrogates) as escapes."""
    return "".join(escape(c) if c.isprintable() else escape(c.encode("unicode_escape").decode("ascii")) for c in text)


def listing(names: Sequence[str]) -> str:
    """Names with commas between, and an "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
