"""The hyperfunction protocol: what turns a matrix of weights into a payload, and the payload into weights again.

A **hyperfunction** maps one integer to a group of weights by computation, without a codebook ("Hyper-Compression",
Fan et al., 2024, section 3). It is a recipe, cheap to make and safe to share between threads: a name, a version and a
few numbers. Its payload is self-contained: a reader needs the name, the version and the shape to decode it.

What it is not: it has no access to a network, a checkpoint or a budget; it codes one matrix with given parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
FAMILIES = {  # name -> module, class
    "trellis": ("kolmo.hyperfunctions.trellis", "Trellis"),
    "bitshift": ("kolmo.hyperfunctions.bitshift", "Bitshift"),
    "torus": ("kolmo.hyperfunctions.torus", "Torus"),
}


@runtime_checkable
class Hyperfunction(Protocol):
    """A recipe for matrices. Immutable; `encode` and `decode` may be called from many threads.

    Long work calls `progress` now and then with the number of weights just done; a callback that raises stops the work.
    """

    @property
    def name(self) -> str:
        """The name that files record, a key of `FAMILIES`."""
        ...

    @property
    def version(self) -> int:
        """Version of the payload: any change of its bits is a new version."""
        ...

    @property
    def parameters(self) -> dict[str, int | float]:
        """The parameters that files record, by which `restore` makes the hyperfunction again: keywords of the class."""
        ...

    def encode(self, weights: npt.NDArray[np.float32], progress: Progress | None = None) -> bytes:
        """The payload of a matrix of shape (rows, columns), either of which may be 0.

        Raises:
            ValueError: the array does not have two dimensions, or a weight is not a finite number.
        """
        ...

    def decode(self, payload: bytes, shape: tuple[int, int], threads: int = 1) -> npt.NDArray[np.float32]:
        """The matrix, exact to the bit on any machine, with any number of threads.

        Raises:
            CorruptError: the payload is damaged, cut short, or has another shape.
        """
        ...

    def check(self, payload: bytes) -> None:
        """Compare the parameters that a payload repeats with those of this hyperfunction.

        Args:
            payload: a payload, or bytes that begin with one.

        Raises:
            CorruptError: they differ, so that the payload belongs to another hyperfunction.
        """
        ...


@runtime_checkable
class Resident(Hyperfunction, Protocol):
    """A hyperfunction whose payloads are used as they are: of fixed rate, with rows read alone, and exact products."""

    def size(self, shape: tuple[int, int]) -> int:
        """The length in bytes of the payload of any matrix of this shape."""
        ...

    def rows(
        self, payload: bytes, shape: tuple[int, int], indices: Sequence[int] | npt.NDArray[np.int64], threads: int = 1
    ) -> npt.NDArray[np.float32]:
        """Some rows of the matrix, in the order of `indices`: the same bits as `decode` gives.

        Raises:
            CorruptError: as for `decode`.
            ValueError: the matrix does not have such a row.
        """
        ...

    def product(
        self, payload: bytes, shape: tuple[int, int], x: npt.NDArray[np.float32], threads: int = 1
    ) -> npt.NDArray[np.float32]:
        """The products of the matrix with rows of activations, shape (count, columns): shape (count, rows).

        The same bits on any machine, with any number of threads, and of rows at once.

        Raises:
            CorruptError: as for `decode`.
            ValueError: the activations have another shape.
        """
        ...


@runtime_checkable
class Choosing(Hyperfunction, Protocol):
    """Several hyperfunctions, of which the encoder takes one for each matrix; files record that one."""

    def chosen(self, payload: bytes) -> Hyperfunction:
        """The one that made a payload of `encode`."""
        ...


def restore(name: str, parameters: Mapping[str, int | float]) -> Hyperfunction:
    """The hyperfunction of a name with its parameters, as a file records them.

    Raises:
        KolmoError: the name is unknown (the message lists the known ones), or it does not have such parameters.
    """
    if name not in FAMILIES:
        raise KolmoError(f"hyperfunction {quoted(name)} is not known; choose from {', '.join(FAMILIES)}")
    module, kind = FAMILIES[name]
    family: Any = getattr(import_module(module), kind)
    try:
        return cast(Hyperfunction, family(**parameters))
    except (TypeError, ValueError) as error:
        raise KolmoError(f"hyperfunction {quoted(name)}: {error}; see its documentation") from None
