"""Any bytes-like object as a flat view of its bytes.

What it is not: a copy, unless the items are not native ones, which no view of bytes can be had of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Data = Buffer
else:
    Data = object


def bytes_of(data: Data) -> memoryview:
    """The bytes of an object with a buffer (bytes, array, mmap, NumPy's arrays of any item and shape) in C order.

    Raises:
        TypeError: it has no buffer.
        ValueError: it is not C-contiguous.

    Example:
        >>> bytes_of(bytearray(b"ab")).tobytes()
        b'ab'
    """
    try:
        view = memoryview(data)
    except TypeError:
        hint = "; encode text first, or use a file in text mode" if isinstance(data, str) else ""
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}{hint}") from None
    if not view.nbytes:
        return memoryview(b"")
    if not view.c_contiguous:
        raise ValueError(
            f"{type(data).__name__} is not C-contiguous; copy it first, with bytes() or numpy.ascontiguousarray()"
        )
    try:
        return view.cast("B")
    except (TypeError, ValueError):  # items that are not native: another byte order, records
        return memoryview(view.tobytes())
