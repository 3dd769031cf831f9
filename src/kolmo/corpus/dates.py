"""The day a document is from, out of whatever its publisher wrote.

Days count as written: a time zone moves none of them, and seconds since 1970 are taken as UTC. What it is not: a guess;
what names no day, month and year (such as "2023-09", or 03/04/2023) is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

KEYS = (  # the first that holds a day counts; case, "_" and "-" do not
    "date",
    "created",
    "createdat",
    "createdutc",
    "published",
    "publishedat",
    "publicationdate",
    "timestamp",
    "datedownload",
    "updated",
    "updatedat",
    "updatedate",
)
DIGITS = re.compile(r"(\d{4})(\d\d)(\d\d)(\d{6})?", re.ASCII)  # as the Wayback Machine writes them
DASHES = re.compile(r"(\d{4})[-/.](\d\d)[-/.](\d\d)(?!\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = 2e10  # seconds since 1970; larger numbers are thousandths, millionths or billionths of a second


def day_of(meta: Mapping[str, Any]) -> str:
    """The day in `meta` as "YYYY-MM-DD", or ""."""
    found = {str(key).lower().replace("_", "").replace("-", ""): value for key, value in meta.items()}
    for key in KEYS:
        if day := _day(found.get(key)):
            return day
    return ""


def _day(value: Any) -> str:
    try:
        if isinstance(value, date):  # a datetime is one
            return date(value.year, value.month, value.day).isoformat()
        if isinstance(value, str) and len(value) <= 100:
            return _written(value.strip())
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _counted(value)
    except (ValueError, OverflowError, TypeError):
        pass
    return ""


def _written(text: str) -> str:
    if match := DASHES.match(text) or DIGITS.fullmatch(text):
        return date(int(match[1]), int(match[2]), int(match[3])).isoformat()
    return parsedate_to_datetime(text).date().isoformat()  # "Mon, 2 Apr 2007 19:18:42 GMT", as arXiv has it


def _counted(number: float) -> str:
    if 19000101 <= number <= 21001231 and number == int(number):  # a day in digits: as seconds it would be 1970
        return _written(str(int(number)))
    if not 0 < number < LATEST * 1e9:
        return ""
    while number > LATEST:
        number /= 1000
    return (EPOCH + timedelta(seconds=number)).date().isoformat()
