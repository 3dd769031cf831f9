"""The table of hyperfunctions in a record, one group for each name and version, one row for each set of parameters.

    [["trellis", 1, ["step", "states"], [0.0021, 8], [0.0015, 8]], ["torus", 1, [...], [...]]]
                                        entry 0      entry 1                           entry 2

A coded tensor refers to its entry by an index, which counts the rows of all groups. No entry is there twice, and every
entry is used (docs/weights-format.md). What it is not: a reader of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from kolmo.errors import FormatError, KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction, restore

Table = tuple[Hyperfunction, ...]


class TableBuilder:
    """A table in the making: each new hyperfunction is appended, and an equal one is found again.

    Attributes:
        functions: the hyperfunctions so far, in the order in which they came.
    """

    def __init__(self) -> None:
        self.functions: list[Hyperfunction] = []
        self._indices: dict[tuple[Any, ...], int] = {}  # by key, so that a large table takes no quadratic time

    def index_of(self, function: Hyperfunction) -> int:
        """The index of a hyperfunction in `functions`."""
        key = function.name, function.version, *sorted(function.parameters.items())
        if key not in self._indices:
            self._indices[key] = len(self.functions)
            self.functions.append(function)
        return self._indices[key]

    def grouped(self) -> tuple[Table, list[int]]:
        """The table, in which all hyperfunctions of a name and version are together, and their indices there."""
        firsts: dict[tuple[str, int], int] = {}
        for one in self.functions:
            firsts.setdefault((one.name, one.version), len(firsts))
        order = sorted(range(len(self.functions)), key=lambda i: firsts[_kind_of(self.functions[i])])
        places = [0] * len(order)
        for place, i in enumerate(order):
            places[i] = place
        return tuple(self.functions[i] for i in order), places


def dump_table(table: Table) -> list[Any]:
    """The table as JSON values."""
    groups = []
    for (name, version), group in groupby(table, _kind_of):
        rows = [one.parameters for one in group]
        groups.append([name, version, list(rows[0]), *(list(row.values()) for row in rows)])
    return groups


def parse_table(where: str, groups: Any, coded: int) -> Table:
    """The hyperfunctions that JSON values describe.

    Args:
        where: the file, for errors.
        groups: what the record has under "hyperfunctions".
        coded: the number of coded tensors, which is the largest allowed number of entries.

    Raises:
        ValueError: the groups are not a table, or two groups or entries are equal.
        FormatError: a hyperfunction, or its version, is not known here.
    """
    if not isinstance(groups, list):
        raise ValueError("the table of hyperfunctions is not a list")
    found, kinds = TableBuilder(), set()
    for group in groups:
        for function in _parse_group(where, group):
            if len(found.functions) == coded:
                raise ValueError(f"there are more hyperfunctions than the {coded} coded tensors")
            number = len(found.functions)
            if found.index_of(function) != number:
                raise ValueError(f"hyperfunction {number} equals an earlier one")
        kind = _kind_of(found.functions[-1])
        if kind in kinds:
            raise ValueError(f"there are two groups of {kind[0]}")
        kinds.add(kind)
    return tuple(found.functions)


def check_references(table: Table, references: Iterable[int | None]) -> None:
    """Check the indices of all coded tensors against the table; None refers to nothing.

    Raises:
        ValueError: an index is not in the table, or an entry is not used.
    """
    used = set(references) - {None}
    for index in used:
        if index is not None and index >= len(table):
            raise ValueError(f"a tensor refers to hyperfunction {quoted(index, 20)} of {len(table)}")
    if len(used) < len(table):
        unused = next(index for index in range(len(table)) if index not in used)
        raise ValueError(f"no tensor uses hyperfunction {unused}")


def names_in(table: Sequence[Hyperfunction]) -> list[str]:
    """The distinct names of a table's hyperfunctions, in order."""
    return list(dict.fromkeys(one.name for one in table))


def _kind_of(function: Hyperfunction) -> tuple[str, int]:
    return function.name, function.version


def _parse_group(where: str, group: Any) -> Iterator[Hyperfunction]:
    """The hyperfunctions of one group; there is at least one."""
    if not isinstance(group, list) or len(group) < 4:
        raise ValueError("a group of hyperfunctions does not have a name, a version, names of parameters and a row")
    name, version, keys, *rows = group
    if not isinstance(name, str) or type(version) is not int:
        raise ValueError("a group of hyperfunctions has a name or a version of another type")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        raise ValueError(f"the names of the parameters of {quoted(name)} are malformed")
    for row in rows:
        are_numbers = isinstance(row, list) and all(type(value) in (int, float) for value in row)
        if not are_numbers or len(row) != len(keys):
            raise ValueError(f"the parameters of {quoted(name)} are not {len(keys)} numbers")
        parameters = dict(zip(keys, row, strict=True))
        try:
            function = restore(name, parameters)
        except (KolmoError, OverflowError) as error:
            raise FormatError(f"{where}: {error}") from None
        if function.version != version:
            raise FormatError(
                f"{where}: needs version {version} of {name}, but this kolmo has {function.version}; install that kolmo"
            )
        if list(function.parameters.items()) != list(parameters.items()):
            raise ValueError(f"the parameters of {name} are incomplete, or not in their order and shortest form")
        yield function
