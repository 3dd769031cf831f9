"""arXiv identifiers, old (math/0001001) and new (2610.00001), and the month that each begins with.

What it is not: a check whether such a paper exists.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OLD = re.compile(r"([a-z]+(?:-[a-z]+)?)(?:\.[A-Za-z]{2}(?:-[A-Za-z]+)?)?/?(\d{4})(\d{3})(?:v([1-9]\d{0,3}))?", re.ASCII)
NEW = re.compile(r"(\d{4})\.(\d{4,5})(?:v([1-9]\d{0,3}))?", re.ASCII)
PREFIX = re.compile(r"(?:https?://(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|e-print|src)/|oai:arxiv\.org:|arxiv:)", re.I)
FIRST_YEAR = 91  # arXiv began in 1991: two digits from 91 on are of the last century
LAST_OLD_MONTH = (2007, 3)  # identifiers begin with the archive's name until then
LONGEST_CHARACTERS = 100  # of a text that may hold an identifier


@dataclass(frozen=True)
class ArxivId:
    """The identifier of a paper.

    Attributes:
        archive: such as "math" of an old identifier; "" for a new one.
        yymm: year and month, four digits.
        number: the digits after it.
        version: 1 for v1; None where the text names none.
    """

    archive: str
    yymm: str
    number: str
    version: int | None = None

    @property
    def name(self) -> str:
        """As arXiv's metadata has it, without version.

        >>> parse_id("math0001001").name
        'math/0001001'
        """
        return f"{self.archive}/{self.yymm}{self.number}" if self.archive else f"{self.yymm}.{self.number}"

    @property
    def month(self) -> int:
        """Months since the year 0, which grow with time where `yymm` does not."""
        return month_of(self.yymm)


def parse_id(text: str) -> ArxivId | None:
    """The identifier that a text is: as file names, metadata, links and people write it; None if it is not one.

    >>> parse_id("arXiv:2610.00001v2")
    ArxivId(archive='', yymm='2610', number='00001', version=2)
    >>> parse_id("math.GT/0309136").name
    'math/0309136'
    >>> parse_id("0913.0001") is None
    True
    """
    text = text.strip()
    if len(text) > LONGEST_CHARACTERS:
        return None
    if match := PREFIX.match(text):
        text = text[match.end() :]
    if match := NEW.fullmatch(text):
        found = ArxivId("", match[1], match[2], int(match[3]) if match[3] else None)
    elif match := OLD.fullmatch(text):
        found = ArxivId(match[1], match[2], match[3], int(match[4]) if match[4] else None)
    else:
        return None
    if not is_month(found.yymm):
        return None
    year, month = divmod(found.month - 1, 12)
    is_old_time = (year, month + 1) <= LAST_OLD_MONTH
    return found if bool(found.archive) == is_old_time else None


def is_month(yymm: str) -> bool:
    """Whether four digits are year and month of arXiv."""
    return len(yymm) == 4 and yymm.isascii() and yymm.isdecimal() and 1 <= int(yymm[2:]) <= 12


def month_of(yymm: str) -> int:
    """Months since the year 0 of two digits of a year and two of a month: 9912 is one month before 0001.

    >>> month_of("0001") - month_of("9912")
    1
    """
    year = int(yymm[:2])
    return (year + (1900 if year >= FIRST_YEAR else 2000)) * 12 + int(yymm[2:])


def month_of_day(day: str) -> int:
    """The same of a day "YYYY-MM-DD".

    >>> month_of_day("2026-10-31") == month_of("2610")
    True
    """
    return int(day[:4]) * 12 + int(day[5:7])
