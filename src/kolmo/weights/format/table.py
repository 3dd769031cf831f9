"""The table of hyperfunctions in a record: one entry for each distinct (name, version, parameters).

    [["trellis", 1, {"step": 0.0021, "states": 8}], ["torus", 1, {...}]]

A coded tensor refers to its entry by an index. The table is canonical (docs/weights-format.md): `check_references`
refuses an entry that no tensor uses, an index that is not in the table, and entries in another order than that of their
first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kolmo.errors import FormatError, KolmoError
from kolmo.hyperfunctions.base import Hyperfunction, restore

Table = tuple[Hyperfunction, ...]


def dump_entry(function: Hyperfunction) -> list[Any]:
    """One entry, as JSON values."""
    return [function.name, function.version, function.parameters]


class TableBuilder:
    """A table in the making: each new hyperfunction is appended, and an equal one is found again.

    Attributes:
        functions: the entries so far.
    """

    def __init__(self) -> None:
        self.functions: list[Hyperfunction] = []
        self._indices: dict[tuple[Any, ...], int] = {}  # by key, so that a large table takes no quadratic time

    def index_of(self, function: Hyperfunction) -> int:
        """The index of a hyperfunction."""
        key = function.name, function.version, *sorted(function.parameters.items())
        if key not in self._indices:
            self._indices[key] = len(self.functions)
            self.functions.append(function)
        return self._indices[key]


def parse_table(where: str, entries: Any, coded: int) -> Table:
    """The hyperfunctions that JSON values describe.

    Args:
        where: the file, for errors.
        entries: what the record has under "hyperfunctions".
        coded: the number of coded tensors, which is the largest allowed number of entries.

    Raises:
        ValueError: the entries are not a table, or two are equal.
        FormatError: a hyperfunction, or its version, is not known here.
    """
    if not isinstance(entries, list):
        raise ValueError("the table of hyperfunctions is not a list")
    if len(entries) > coded:
        raise ValueError(f"there are {len(entries)} hyperfunctions for {coded} coded tensors")
    found = TableBuilder()
    for number, entry in enumerate(entries):
        if found.index_of(_parse_entry(where, number, entry)) != number:
            raise ValueError(f"hyperfunction {number} equals an earlier one")
    return tuple(found.functions)


def check_references(table: Table, references: Iterable[int | None]) -> None:
    """Check the indices of all coded tensors, in their order, against the table; None refers to nothing.

    Raises:
        ValueError: an index is not in the table, entries are not in the order of first use, or one is not used.
    """
    used = 0
    for index in references:
        if index is None or index < used:
            continue
        if index >= len(table):
            raise ValueError(f"a tensor refers to hyperfunction {index} of {len(table)}")
        if index > used:
            raise ValueError(f"hyperfunction {index} is used before hyperfunction {used}")
        used += 1
    if used < len(table):
        raise ValueError(f"no tensor uses hyperfunction {used}")


def names_in(table: Sequence[Hyperfunction]) -> list[str]:
    """The distinct names of a table's hyperfunctions, in order."""
    return list(dict.fromkeys(one.name for one in table))


def _parse_entry(where: str, number: int, entry: Any) -> Hyperfunction:
    if not isinstance(entry, list) or len(entry) != 3:
        raise ValueError(f"hyperfunction {number} is not a list of name, version and parameters")
    name, version, parameters = entry
    are_numbers = isinstance(parameters, dict) and all(type(value) in (int, float) for value in parameters.values())
    if not isinstance(name, str) or type(version) is not int or not are_numbers:
        raise ValueError(f"hyperfunction {number} has a name, a version or parameters of another type")
    try:
        function = restore(name, parameters)
    except (KolmoError, OverflowError) as error:
        raise FormatError(f"{where}: hyperfunction {number}: {error}") from None
    if function.version != version:
        raise FormatError(
            f"{where}: needs version {version} of {name}, but this is version {function.version}; install that kolmo"
        )
    if function.parameters != parameters:
        raise ValueError(f"hyperfunction {number} does not have exactly the parameters of {name}, in their exact form")
    return function
