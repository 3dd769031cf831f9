"""What kinds of binary data share: a context mixer over a view of the bytes, with contexts of programs or records.

docs/binary.md specifies views, contexts and shapes. What it is not: the search for such data (`program.py`,
`record.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.native.binary.views import ARM64, VALUES
from kolmo.native.dispatch import kernels
from kolmo.predictors.embedded import context_mixing
from kolmo.predictors.embedded.context_mixing import EXPANSION, LEVELS, ContextMixingModel, Shape, mixer_memory
from kolmo.predictors.embedded.kinds.base import Kind
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Layout:
    """How bytes are shown to the mixer, and what its contexts take them for.

    Attributes:
        view: a view of `native.binary.views`.
        record: bytes of a record.
        width: bytes of a value, 1 to 8, at most those of a record.
        offset: bytes before the first whole word or value, which are shown last.
    """

    view: int
    record: int = 1
    width: int = 1
    offset: int = 0

    def show(self, data: bytes) -> bytes:
        """The bytes as the mixer sees them."""
        return kernels.binary_view(self.view, self.width, 0, data[self.offset :] + data[: self.offset])

    def restore(self, shown: bytes) -> bytes:
        """The inverse of `show`."""
        data = kernels.binary_view(self.view, self.width, 1, shown)
        rest = len(data) - min(self.offset, len(data))
        return data[rest:] + data[:rest]

    def place_costs(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Costs of the bytes that were shown, in the order of the data; those of an x86 address stay as shown."""
        import numpy as np

        width = self.width if self.view == VALUES else 4 if self.view == ARM64 else 1
        whole = len(costs) // width * width
        placed = np.concatenate([costs[:whole].reshape(-1, width)[:, ::-1].reshape(-1), costs[whole:]])
        return np.roll(placed, min(self.offset, len(costs)))


class ViewedModel:
    """A running context mixer over a view of `size` bytes."""

    def __init__(self, model: ContextMixingModel, layout: Layout) -> None:
        self._model, self._layout = model, layout

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the bytes."""
        self._model.encode(encoder, self._layout.show(data), progress)

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the bytes.

        Raises:
            CorruptError: the payload ends before they do.
        """
        return self._layout.restore(self._model.decode(decoder, progress))

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each byte in bits, shape (len(data),)."""
        return self._layout.place_costs(self._model.score(self._layout.show(data), progress))


class BinaryKind(Kind):
    """A kind of binary data; `shapes` are those of levels 1 and 2, of 3 and 4, and of those from 5 on."""

    shapes: ClassVar[tuple[Shape, Shape, Shape]]

    @abstractmethod
    def layout(self, parameters: tuple[int, ...]) -> Layout:
        """What parameters say.

        Raises:
            CorruptError: no encoder writes them.
        """

    def shape(self, level: int) -> Shape:
        """The mixer's shape at a level."""
        return self.shapes[0 if level < 3 else 1 if level < 5 else 2]

    def model(self, level: int, size: int, parameters: tuple[int, ...]) -> ViewedModel:
        """See `Kind.model`."""
        layout = self.layout(parameters)
        binary = layout.view, layout.record, layout.width
        return ViewedModel(context_mixing.start(self.shape(level), size, LEVELS[level][1], binary), layout)

    def memory(self, level: int, size: int) -> int:
        """See `Kind.memory`; the view and its inverse are two more copies of the bytes."""
        return mixer_memory(self.shape(level), size, LEVELS[level][1]) + 2 * size

    def digest(self, level: int) -> bytes:
        """See `Kind.digest`."""
        return context_mixing.digest_of(self.shape(level), LEVELS[level][1])

    def expansion(self, level: int) -> int:
        """See `Kind.expansion`."""
        return EXPANSION["fast"] if level < 3 else EXPANSION["light"]
