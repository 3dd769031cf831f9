"""What a kind of data is: a model made for it, and where it is in a block.

A block is a list of segments, each of one kind (docs/kinds.md). Which kind a segment has is the writer's guess, which
the file records: a wrong guess costs bits, never correctness.

What it is not: the choice among guesses (`choice.py`), or the way they are stored (`segments.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from kolmo.predictors.base import Model

DEFAULT_EXPANSION = 1 << 13  # raw bytes for each byte of payload: see `Predictor.expansion`
MAX_PARAMETER = (1 << 31) - 1


@dataclass(frozen=True)
class Segment:
    """`size` bytes of a block from `first` on, of one kind.

    Attributes:
        code: the kind's `Kind.code`.
        first: offset of the segment's first byte in the block.
        size: in bytes, at least 1.
        parameters: one integer from 0 to `MAX_PARAMETER` for each of `Kind.fields`.
    """

    code: int
    first: int
    size: int
    parameters: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Offset of the byte after the segment."""
        return self.first + self.size


class Kind(ABC):
    """A kind of data. Stateless; one object serves all threads.

    Attributes:
        name: as `kolmo list -v` shows it.
        code: as files record it: 0 to 14, never reused.
        fields: names of the parameters, such as ("stride", "channels").
        hidden: those of them that say nothing about the data: `kolmo list -v` leaves them out.
        certain: whether what `find` announces needs no trial: it makes sure that it pays, and no other kind's header
            is believed within it.
    """

    name: ClassVar[str]
    code: ClassVar[int]
    fields: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ()
    certain: ClassVar[bool] = False

    @abstractmethod
    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> Model:
        """A fresh model for `size` bytes (from 1 on; any number, not only whole rows or samples) at a level, 1 to 9.

        Segments of a block with equal kind and parameters are joined: the model sees them one after another.

        Raises:
            CorruptError: parameters that no encoder writes, or that would take more memory than `memory` says.
        """

    @abstractmethod
    def memory(self, level: int, size: int) -> int:
        """Upper bound in bytes on what a model of `size` bytes allocates, whatever its parameters."""

    @abstractmethod
    def digest(self, level: int) -> bytes:
        """SHA-256 over all that determines the probabilities at a level, except for code."""

    def expansion(self, level: int) -> int:
        """Upper bound on the raw bytes for each byte of payload, by the model's speed: see `Predictor.expansion`."""
        return DEFAULT_EXPANSION

    def work(self, size: int, parameters: tuple[int, ...]) -> int:
        """Bytes that a model of `size` bytes codes: more than these where it codes others in their place."""
        return size

    def period(self, parameters: tuple[int, ...]) -> int:
        """Bytes after which the layout repeats, as a row: trials on a part of a piece begin at a multiple."""
        return 1

    def find(self, data: bytes) -> list[Segment]:
        """Segments that headers in a block announce: offsets and sizes are certain, and within the block.

        The segments do not overlap, and are sorted. A header's own bytes are not part of a segment.
        """
        return []

    def guess(self, data: bytes) -> list[tuple[int, ...]]:
        """Parameters under which a piece of data without known headers might be of this kind, the best first.

        Cheap, and in integers only, so that all machines decide alike. `choice.py` tries the first ones on a part of
        the piece. An empty list: the piece is not of this kind.
        """
        return []
