"""Numbers and names as text for the leaderboard's page (`foreign.html` escapes them)."""

from __future__ import annotations

from collections.abc import Sequence


def compact(value: int) -> str:
    """A number with three significant digits: 20.2K, 7.24B."""
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


def listing(names: Sequence[str]) -> str:
    """Names joined by commas and "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
