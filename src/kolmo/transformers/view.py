"""A shrunk file in the form in which transformers read safetensors: each tensor is decoded when it is indexed.

transformers rename, merge, cast, tie and place the tensors that `modeling_utils.safe_open` returns. The quantizer gives
them a `ShrunkPath` in place of the path of the file, and only for that `safe_open` returns a `View`. So transformers do
with small weights whatever they do with others. What it is not: a user of transformers or safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.sources.dtypes import TORCH, as_torch

if TYPE_CHECKING:
    import torch


class ShrunkPath(str):
    """The path of a shrunk file.

    Attributes:
        file: the opened file.
        stood_for: names of the tensors that empty ones stand for (`stand_in`).
        opened: whether the file was read through a `View`.
    """

    file: ShrunkFile
    stood_for: frozenset[str]
    opened: bool

    def __new__(cls, path: str) -> ShrunkPath:
        """Open and check the file of a path."""
        made = super().__new__(cls, path)
        made.file, made.stood_for, made.opened = ShrunkFile(path), frozenset(), False
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """The state for copies and pickles; the file is not opened again before it is needed."""
        return _restored, (str(self), self.__dict__.copy())

    def stand_in(self, tensor: torch.Tensor) -> str | None:
        """The name of the tensor that an empty one stands for, by its shape (0, 4 + 4 place).

        Casts and moves keep the shape. Whisper computes a table of it, which must have an even number of columns, and
        four at least.
        """
        if not self.stood_for or tensor.dim() != 2 or tensor.shape[0]:
            return None
        return self.file.names[tensor.shape[1] // 4 - 1]


def _restored(path: str, state: dict[str, Any]) -> ShrunkPath:
    """The mirror of `ShrunkPath.__reduce__`."""
    made = str.__new__(ShrunkPath, path)
    made.__dict__.update(state)
    return made


class View:
    """The interface of `safetensors.safe_open`, for a shrunk file."""

    def __init__(self, path: ShrunkPath) -> None:
        self._path = path
        path.opened = True

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keys(self) -> list[str]:
        """The names of all tensors, tied ones included."""
        return self._path.file.names

    def metadata(self) -> dict[str, str]:
        """The metadata of the file that was shrunk."""
        return {"format": "pt", **self._path.file.record.metadata}

    def get_slice(self, name: str) -> Slice:
        """A tensor that is not decoded yet."""
        return Slice(self._path, name)

    def get_tensor(self, name: str) -> Any:
        """A tensor of torch."""
        return Slice(self._path, name)[...]


class Slice:
    """A tensor of a shrunk file, decoded when it is indexed."""

    def __init__(self, path: ShrunkPath, name: str) -> None:
        self._path, self._name = path, name
        self._kind = path.file.kind(name)

    def get_shape(self) -> list[int]:
        """The shape."""
        return list(self._kind.shape)

    def get_dtype(self) -> str:
        """The dtype, as safetensors name it."""
        return self._kind.dtype

    def __getitem__(self, index: Any) -> Any:
        """The decoded tensor, of torch, indexed.

        Raises:
            CorruptError: the tensor is damaged.
        """
        file, kind = self._path.file, self._kind
        if self._name in self._path.stood_for:
            import torch

            shape = 0, 4 + 4 * file.names.index(self._name)
            return torch.empty(shape, dtype=getattr(torch, TORCH[kind.dtype]))
        return as_torch(file.read(self._name), kind.dtype, kind.shape)[index]
