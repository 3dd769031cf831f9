"""The kinds `record` and `float`: fixed-width records and arrays of numbers, with the values above as contexts."""

from __future__ import annotations

from kolmo.errors import CorruptError
from kolmo.native.binary import views
from kolmo.native.binary.contexts import MAX_RECORD
from kolmo.predictors.embedded.context_mixing import Shape
from kolmo.predictors.embedded.kinds import layouts
from kolmo.predictors.embedded.kinds.binary import BinaryKind, Layout

FAST = Shape("record-fast", (1, 64, 65, 70, 72, 73, 74), (1, 22), folder="binary")
LIGHT = Shape("record-light", (1, 2, 4, 6, 20, 64, 65, 70, 71, 72, 73, 74, 78, 79), (1, 2, 22, 23), folder="binary")
FULL = Shape("record", (0, 1, 2, 3, 4, 6, 16, 20, 22, 29, *range(64, 84)), (1, 0, 2, 22, 23, 24), folder="binary")

LITTLE, BIG = 0, 1  # orders of a value's bytes


class Record(BinaryKind):
    """Records of a fixed number of bytes, or an array of integers.

    The parameters: bytes of a record; bytes of a value; order of its bytes (0 least significant first, 1 most
    significant first); bytes before the first value.
    """

    name = "record"
    code = 6
    fields = ("record", "width", "order", "offset")
    shapes = (FAST, LIGHT, FULL)

    def layout(self, parameters: tuple[int, ...]) -> Layout:
        """See `BinaryKind.layout`."""
        record, width, order, offset = parameters
        if not 1 <= width <= views.MAX_WIDTH or not width <= record <= MAX_RECORD or order > BIG or offset >= width:
            raise CorruptError(
                f"there are no records of {record} bytes with values of {width}, order {order}, offset {offset}"
            )
        return Layout(views.VALUES if order == LITTLE and width > 1 else views.NONE, record, width, offset)

    def period(self, parameters: tuple[int, ...]) -> int:
        """Bytes of a record."""
        return max(parameters[0], 1)

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """By the distances of equal pairs of bytes, and by places in a value that differ in how much they vary."""
        arrays = layouts.array_layouts(data)
        if not arrays:
            return layouts.record_layouts(data)
        return [] if any(layouts.looks_float(data, array) for array in arrays) else layouts.with_rows(data, arrays)


class Float(Record):
    """Binary floating-point numbers: in an array, or in records of them. The parameters are those of `Record`."""

    name = "float"
    code = 7

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """An array whose highest bytes look like signs and exponents."""
        arrays = [array for array in layouts.array_layouts(data) if layouts.looks_float(data, array)]
        return layouts.with_rows(data, arrays) if arrays else []
