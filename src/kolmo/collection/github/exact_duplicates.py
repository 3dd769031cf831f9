"""Exact duplicates: files with equal bytes, and files with equal text but for white space; the first of each stays.

What it is not: it compares digests, not files. SHA-256 and MD5 are held whole; a collision of MD5 that somebody made on
purpose drops one of his two files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RECORD_BYTES = 48  # SHA-256 of the bytes, then MD5 of the text without white space
MAX_HELD_RECORDS = 2_000_000  # at one time, 96 MB
REASONS = ("same_bytes", "same_text")  # verdicts 1 and 2; 0: the file stays


def record(digest: bytes, squeezed: bytes) -> bytes:
    """What is kept of a file to compare it."""
    return digest + squeezed


def verdicts(
    read: Callable[[], Iterator[NDArray[np.uint8]]], count: int, held: int = MAX_HELD_RECORDS
) -> NDArray[np.uint8]:
    """For each file whether it stays.

    Args:
        read: yields the records of all files, in order, as arrays of shape (files, `RECORD_BYTES`); called
            several times.
        count: of all files.
        held: records in memory at one time, about; one byte a file comes on top.

    Returns:
        0 for a file that stays, 1 where an earlier one has the same bytes, 2 where only the text is the same.

    Example:
        >>> import numpy as np
        >>> records = np.zeros((2, RECORD_BYTES), np.uint8)
        >>> verdicts(lambda: iter([records]), 2).tolist()
        [0, 1]
    """
    import numpy as np

    found = np.zeros(count, np.uint8)
    passes = -(-count // held)
    for number in range(passes):
        records, places = [], []
        begin = 0
        for part in read():
            words = np.ascontiguousarray(part).view(np.uint64)
            mine = np.flatnonzero(words[:, 4] % np.uint64(passes) == number)  # equal bytes have equal text
            records.append(words[mine])
            places.append(mine + begin)
            begin += len(part)
        found[np.concatenate(places)] = _verdicts(np.concatenate(records))
    return found


def _verdicts(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    import numpy as np

    text, whole = words[:, 4:], words
    return np.where(~_is_first(whole), 1, np.where(~_is_first(text), 2, 0)).astype(np.uint8)


def _is_first(keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether no earlier row is equal, for each row."""
    import numpy as np

    order = np.lexsort(keys.T)  # stable, so the earliest of equal rows comes first
    ordered = keys[order]
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    found = np.empty(len(keys), np.bool_)
    found[order] = fresh
    return found
