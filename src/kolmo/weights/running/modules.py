"""Modules of torch whose weights stay payloads of the bitshift trellis while they compute (docs/resident.md).

    ResidentLinear        torch.nn.Linear
    ResidentConv          torch.nn.Conv1d, Conv2d: a product with unfolded inputs
    ResidentTransposed    transformers' Conv1D, a linear module whose matrix is (inputs, outputs)
    ResidentEmbedding     torch.nn.Embedding: decodes the rows that are looked up

Products are those of docs/bitshift.md, "Product": the same bits with any number of threads and of rows at once. What
they are not: fit for training, or for another device than the CPU. This file imports torch at once, so it is imported
inside functions only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.bitshift_payload import HEADER, ROTATED, Payload
from kolmo.native.dispatch import kernels
from kolmo.weights.running.activations import ACTIVATIONS, FLOATS, INTEGERS

if TYPE_CHECKING:
    import numpy.typing as npt

TILE_WEIGHTS = 1 << 18  # number of weights that are decoded at once for a product with floats: 1 MiB
GROUP_ROWS = 16  # rows whose words are interleaved; a tile has whole groups


class Wild(NamedTuple):
    """Weights of a matrix that are stored apart (docs/weights-format.md, "wild").

    Attributes:
        places: int64, their places in the matrix, in increasing order.
        values: binary32, viewed as int32, so that casts of a module do not round them.
    """

    places: torch.Tensor
    values: torch.Tensor


class Resident(torch.nn.Module):
    """A matrix as a payload, and products with it.

    Attributes:
        code: uint8, the payload: a buffer. Tied modules have the same tensor.
        wild_places, wild_values: weights that are stored apart; buffers, too, and None if there are none.
        rows, columns: shape of the matrix.
        activations: `"int8"` for exact products; `"float"` decodes the weights tile by tile, and leaves activations as
            they are.

    Args:
        code: the payload.
        plain: the module that this one stands for, from which it takes shapes, dtype and bias. Its weights are not
            read, and are on device "meta" afterwards.
        activations: see above.
        wild: weights that are stored apart.

    Raises:
        CorruptError: the payload is damaged, or not of this shape.
        ValueError: `activations` is unknown.
    """

    code: torch.Tensor
    rows: int
    columns: int
    _like: torch.Tensor
    plain: Any
    wild_places: torch.Tensor | None
    wild_values: torch.Tensor | None
    wild_differences: torch.Tensor | None

    def __init__(self, code: torch.Tensor, plain: Any, activations: str = INTEGERS, wild: Wild | None = None) -> None:
        super().__init__()
        if activations not in ACTIVATIONS:
            raise ValueError(f"activations {activations!r} are not known; choose from {', '.join(ACTIVATIONS)}")
        weight = plain.weight
        self.rows, self.columns = weight.shape[0], weight.shape[1:].numel()
        Payload.parse(code.numpy().data, (self.rows, self.columns))
        self.activations = activations
        self.register_buffer("code", code)
        self.register_buffer("_like", torch.empty(0, dtype=weight.dtype), persistent=False)  # follows casts
        self.bias = getattr(plain, "bias", None)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        plain.weight = torch.nn.Parameter(weight.to("meta"), requires_grad=False)
        self.__dict__["plain"] = plain  # not a child: it has no state
        self.train(plain.training)
        self.register_buffer("wild_places", None if wild is None else wild.places)
        self.register_buffer("wild_values", None)
        self.register_buffer("wild_differences", None)
        if wild is not None:
            at, columns = np.divmod(wild.places.numpy(), max(self.columns, 1))
            rows, which = np.unique(at, return_inverse=True)
            decoded = self.decoded(rows)[torch.from_numpy(which), torch.from_numpy(columns)]
            self.wild_differences = (wild.values.view(torch.float32) - decoded).view(torch.int32)
            self.wild_values = wild.values

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weights: a new tensor at each use, in the shape of the module that this one stands for."""
        return self.restored(np.arange(self.rows)).to(self._like.dtype).view(self.plain.weight.shape)

    def restored(self, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """Rows of the matrix with their wild weights, binary32, (number of rows, columns)."""
        found = self.decoded(places)
        if self.wild_places is None or self.wild_values is None:
            return found
        at, columns = np.divmod(self.wild_places.numpy(), self.columns)
        values = self.wild_values.view(torch.float32).numpy()
        for i in np.flatnonzero(np.isin(places, at)):
            here = slice(*np.searchsorted(at, [places[i], places[i] + 1]))
            found[i].numpy()[columns[here]] = values[here]
        return found

    def decoded(self, places: npt.NDArray[np.int64], restore: bool = True) -> torch.Tensor:
        """Rows of the matrix without wild weights, binary32, (number of places, columns).

        Args:
            places: int64, numbers of rows.
            restore: whether rotated rows are turned back.
        """
        found = kernels.bitshift_rows(
            self._payload(), self.rows, self.columns, places, int(restore), torch.get_num_threads()
        )
        return _tensor(found, self.columns)

    def _payload(self) -> Any:
        if self.code.device.type != "cpu":
            raise KolmoError(
                f"weights that stay small compute on the CPU, not on {self.code.device}; move the module to the CPU, "
                "or make it plain (dequantize)"
            )
        return self.code.numpy()

    def _rows_of(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Activations as rows of binary32.

        Raises:
            KolmoError: they require gradients, or are not on the CPU.
            ValueError: their width is another one.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise KolmoError(
                "weights that stay small are only for inference, and these inputs require gradients; use "
                "torch.no_grad(), or make the module plain (dequantize)"
            )
        if x.device.type != "cpu":
            raise KolmoError(f"weights that stay small compute on the CPU, and these inputs are on {x.device}")
        if x.shape[-1] != width:
            raise ValueError(f"inputs have {x.shape[-1]} numbers in their last dimension, not {width}")
        return x.detach().reshape(-1, width).to(torch.float32).contiguous()

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """The product with rows of shape (count, columns): (count, rows), binary32."""
        if self.activations == FLOATS:
            turned = self._rotated(x, back=False)
            y = torch.cat([functional.linear(turned, tile) for _, tile in self._tiles()], 1)
        else:
            threads = torch.get_num_threads()
            y = _tensor(
                kernels.bitshift_product(self._payload(), self.rows, self.columns, x.numpy(), threads), self.rows
            )
        return self._with_wild(y, x, transposed=False)

    def _with_wild(self, y: torch.Tensor, x: torch.Tensor, transposed: bool) -> torch.Tensor:
        """Add what wild weights differ by from the decoded ones, one after the other in the order of their places."""
        if self.wild_places is None or self.wild_differences is None:
            return y
        to, by = np.divmod(self.wild_places.numpy(), self.columns)
        if transposed:
            to, by = by, to
        terms = x[:, torch.from_numpy(by)] * self.wild_differences.view(torch.float32)
        for sums, row in zip(y.numpy(), terms.numpy(), strict=True):
            np.add.at(sums, to, row)  # in this order: `+=` would add only one of those with equal places
        return y

    def _rotated(self, x: torch.Tensor, back: bool) -> torch.Tensor:
        """Rows as the coded matrix takes them; or, with `back`, rows that it gave."""
        _, _, flags, _, seed, *_ = HEADER.unpack_from(self._payload())
        if not flags & ROTATED or not x.numel():
            return x
        threads = torch.get_num_threads()
        found = kernels.bitshift_rotate(x.contiguous().numpy(), self.columns, seed, int(back), threads)
        return _tensor(found, self.columns)

    def _tiles(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The matrix as it is coded, decoded some rows at a time: the first row, and these rows."""
        height = max(TILE_WEIGHTS // max(self.columns, 1) // GROUP_ROWS, 1) * GROUP_ROWS
        for first in range(0, self.rows, height):
            yield first, self.decoded(np.arange(first, min(first + height, self.rows)), restore=False)

    def _finished(self, y: torch.Tensor, x: torch.Tensor, *shape: int) -> torch.Tensor:
        if self.bias is not None:
            y = y + self.bias.to(torch.float32)
        return y.view(shape).to(x.dtype)

    def extra_repr(self) -> str:
        """What the representation of the module shows."""
        return f"{self.rows} x {self.columns}, {8 * self.code.numel() / max(self.rows * self.columns, 1):.2f} bits"


class ResidentLinear(Resident):
    """`torch.nn.Linear` with small weights; the bias is a parameter as there.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(64, 64))
        >>> report = kolmo.shrink(network, "small.safetensors", hyperfunction="bitshift")
        >>> resident = kolmo.resident(network, "small.safetensors")
        >>> type(network[0]).__name__, network(torch.zeros(1, 64)).shape
        ('ResidentLinear', torch.Size([1, 64]))
    """

    @property
    def in_features(self) -> int:
        """Width of inputs."""
        return self.columns

    @property
    def out_features(self) -> int:
        """Width of outputs."""
        return self.rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product x W^T + bias, in the dtype of x; sums are binary32."""
        y = self._product(self._rows_of(x, self.columns))
        return self._finished(y, x, *x.shape[:-1], self.rows)


class ResidentTransposed(Resident):
    """`Conv1D` of transformers, whose matrix is (inputs, outputs): decoded tile by tile, so activations are floats."""

    @property
    def nx(self) -> int:
        """Width of inputs."""
        return self.rows

    @property
    def nf(self) -> int:
        """Width of outputs."""
        return self.columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product x W + bias, in the dtype of x."""
        rows = self._rows_of(x, self.rows)
        y = torch.zeros(rows.shape[0], self.columns)
        for first, tile in self._tiles():
            y.addmm_(rows[:, first : first + tile.shape[0]], tile)
        y = self._with_wild(self._rotated(y, back=True), rows, transposed=True)
        return self._finished(y, x, *x.shape[:-1], self.columns)


class ResidentConv(Resident):
    """`torch.nn.Conv1d` or `Conv2d` of one group: a product with unfolded inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution, in the dtype of x; sums are binary32."""
        plain = self.plain
        kernel = tuple(plain.kernel_size)
        dimensions = len(kernel)
        batch = x if x.dim() == dimensions + 2 else x[None]
        mode = "constant" if plain.padding_mode == "zeros" else plain.padding_mode
        padded = functional.pad(batch.to(torch.float32), plain._reversed_padding_repeated_twice, mode=mode)
        line = padded if dimensions == 2 else padded[:, :, None]
        ones = (1,) * (2 - dimensions)
        sizes: list[Any] = [(*ones, *given) for given in (kernel, plain.dilation, plain.stride)]
        extents = [
            (length - dilation * (size - 1) - 1) // stride + 1
            for length, size, dilation, stride in zip(line.shape[2:], *sizes, strict=True)
        ]
        unfolded = functional.unfold(line, sizes[0], dilation=sizes[1], stride=sizes[2])
        rows = self._rows_of(unfolded.transpose(1, 2), self.columns)
        y = self._product(rows)
        found = self._finished(y, x, line.shape[0], *extents[2 - dimensions :], self.rows).movedim(-1, 1)
        return (found if x.dim() == dimensions + 2 else found[0]).contiguous()


class ResidentEmbedding(Resident):
    """`torch.nn.Embedding` with small weights: the rows that are looked up are decoded."""

    @property
    def num_embeddings(self) -> int:
        """Number of rows."""
        return self.rows

    @property
    def embedding_dim(self) -> int:
        """Length of a row."""
        return self.columns

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of some numbers, in the dtype of the module."""
        wanted = ids.detach().reshape(-1).to(torch.int64)
        if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < self.rows:
            raise IndexError(f"a number of a row is not within 0..{self.rows - 1}")
        found = self.restored(wanted.contiguous().numpy())
        return found.view(*ids.shape, self.columns).to(self._like.dtype)


def _tensor(data: bytearray, width: int) -> torch.Tensor:
    """The rows in a result of a kernel."""
    if not data:
        return torch.empty(0, width)
    return torch.frombuffer(data, dtype=torch.float32).view(-1, width)
