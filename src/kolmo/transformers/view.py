"""A shrunk file as transformers reads safetensors: tensors under their own names, each decoded when it is asked for.

transformers renames, merges, casts, ties and places what `modeling_utils.safe_open` gives. The quantizer hands it a
`ShrunkPath` in place of the file's path; of that, and of nothing else, `safe_open` then gives a `View`. So all that
transformers do with weights they do with small ones. What it is not: it needs neither transformers nor safetensors.
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
        file: the file.
        lazy: whether empty tensors stand for coded ones, for `stand_in` to tell which.
        opened: whether it was read through a `View`.
    """

    file: ShrunkFile
    lazy: bool
    opened: bool

    def __new__(cls, path: str, lazy: bool = False) -> ShrunkPath:
        """Of a path; its file is opened and checked."""
        made = super().__new__(cls, path)
        made.file, made.lazy, made.opened = ShrunkFile(path), lazy, False
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles: the file is not opened again before it is needed."""
        return _restored, (str(self), self.__dict__.copy())

    def stand_in(self, tensor: torch.Tensor) -> str | None:
        """The tensor that an empty one stands for, by its shape (0, place), which casts and moves leave."""
        if not self.lazy or tensor.dim() != 2 or tensor.shape[0]:
            return None
        return self.file.names[tensor.shape[1]]


def _restored(path: str, state: dict[str, Any]) -> ShrunkPath:
    """The mirror of `ShrunkPath.__reduce__`."""
    made = str.__new__(ShrunkPath, path)
    made.__dict__.update(state)
    return made


class View:
    """What `safetensors.safe_open` gives, of a shrunk file."""

    def __init__(self, path: ShrunkPath) -> None:
        self._path = path
        path.opened = True

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keys(self) -> list[str]:
        """Names of all tensors, tied ones too."""
        return self._path.file.names

    def metadata(self) -> dict[str, str]:
        """Those of the file that was shrunk."""
        return {"format": "pt", **self._path.file.record.metadata}

    def get_slice(self, name: str) -> Slice:
        """A tensor, not yet decoded."""
        return Slice(self._path, name)

    def get_tensor(self, name: str) -> Any:
        """A tensor of torch."""
        return Slice(self._path, name)[...]


class Slice:
    """A tensor that is decoded when it is indexed."""

    def __init__(self, path: ShrunkPath, name: str) -> None:
        self._path, self._name = path, name
        self._kind = path.file.kind(name)

    def get_shape(self) -> list[int]:
        """Its sizes."""
        return list(self._kind.shape)

    def get_dtype(self) -> str:
        """As safetensors name it."""
        return self._kind.dtype

    def __getitem__(self, index: Any) -> Any:
        """A tensor of torch.

        Raises:
            CorruptError: it is damaged.
        """
        file, kind = self._path.file, self._kind
        if self._path.lazy and file.is_coded(self._name):
            import torch

            return torch.empty((0, file.names.index(self._name)), dtype=getattr(torch, TORCH[kind.dtype]))
        return as_torch(file.read(self._name), kind.dtype, kind.shape)[index]
