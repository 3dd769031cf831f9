"""What a file may ask for: memory for a block, and work.

Work is bounded by the file's own size (`expansion`), so that no small file can keep a machine busy for hours, and by
the caller's limit on the content. What it is not: it reads and decodes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from kolmo.arguments import whole_number
from kolmo.container.structures import CODED, MAX_EXPANSION, PAYLOAD_ALLOWANCE, BlockHead
from kolmo.container.wire import REMEDY
from kolmo.errors import CorruptError, MemoryLimitError, SizeLimitError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.base import Predictor

MEMORY_LIMIT = 2 << 30
# Without the C kernels a kilobyte takes a second or more. So content beyond the first 64 KiB is refused, unless the
# caller allows it, where a file claims more than 64 bytes of it for each byte that it brings.
SLOW_ALLOWANCE = 1 << 16
SLOW_EXPANSION = 64


@dataclass(frozen=True)
class Place:
    """What errors say of a block or an index: the input's name, what it is, its offset."""

    name: str
    what: str
    offset: int

    def corrupt(self, reason: str) -> CorruptError:
        """The error for damage here."""
        return CorruptError(
            f"{self.name}: damaged: {self.what}: {reason}, at byte {self.offset}; {REMEDY}", self.offset
        )


def check_memory(predictor: Predictor, head: BlockHead, place: Place, limit: int) -> int:
    """Bytes that decoding a block takes: model, payload and content.

    Raises:
        MemoryLimitError: more than `limit`.
    """
    need = head.raw_size + (predictor.memory(head.raw_size) + head.payload_size if head.kind == CODED else 0)
    if need > limit:
        raise MemoryLimitError(
            f"{place.name}: {place.what}, at byte {place.offset}, needs {need} bytes of memory "
            f"and the limit is {limit}; raise the limit (memory_limit={need})"
        )
    return need


def expansion(predictor: Predictor, payload: bytes) -> int:
    """Upper bound on the bytes that are coded in a block for each byte of its payload (docs/format.md, promise 3).

    A predictor chooses it by its speed, so that a byte of a file never costs more than some hundredths of a second.
    """
    return min(predictor.expansion(payload), MAX_EXPANSION)


def least_payload(predictor: Predictor, payload: bytes, raw_size: int) -> int:
    """Bytes of payload that a coded block of `raw_size` bytes must have; a writer adds zero bytes to a shorter one."""
    return max(0, -(-predictor.work(payload, raw_size) // expansion(predictor, payload)) - PAYLOAD_ALLOWANCE)


class SizeLimit:
    """How much content a file may claim: `limit` bytes; where it is None, what the kernels decode in a sane time.

    With C kernels nothing more is needed, since a block's content is bounded by its payload (`expansion`).

    Raises:
        TypeError, ValueError: the limit is not an integer from 0 on.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = None if limit is None else whole_number(limit, "max_length", 0)
        self.is_given = limit is not None

    def check(self, raw_size: int, packed_size: int, place: Place) -> None:
        """Refuse a content of `raw_size` bytes up to a block's end, of which the file brings `packed_size`.

        Raises:
            SizeLimitError: it is more than the limit.
        """
        remedy = f"raise the limit (max_length={raw_size}) if you trust the file"
        where = f"{place.name}: {place.what}, at byte {place.offset}"
        if self._limit is not None:
            if raw_size > self._limit:
                raise SizeLimitError(
                    f"{where}, would make the content {raw_size} bytes and the limit is {self._limit}; {remedy}"
                )
        elif SLOW and raw_size > max(SLOW_ALLOWANCE, SLOW_EXPANSION * packed_size):
            raise SizeLimitError(
                f"{where}, would make the content {raw_size} bytes from {packed_size}, which takes too long without "
                f"the C kernels; {remedy}, or install kolmo where a C compiler is"
            )


def checked_limits(threads: int, memory_limit: int, size_limit: int | None) -> tuple[int, int, SizeLimit]:
    """The arguments, before anything is read."""
    return (
        whole_number(threads, "threads", 0),
        whole_number(memory_limit, "memory_limit", 0),
        SizeLimit(size_limit),
    )
