"""The error of every reader here."""

from __future__ import annotations


class Damage(Exception):  # noqa: N818  (what the pages call it)
    """The bytes are not what the page says."""


def check(fact: bool, what: str) -> None:
    """Fail with `what` is wrong, unless `fact`."""
    if not fact:
        raise Damage(what)
