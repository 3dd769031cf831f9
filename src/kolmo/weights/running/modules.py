"""Modules of torch whose weights stay payloads of the bitshift trellis while they compute (docs/resident.md).

    ResidentLinear        torch.nn.Linear
    ResidentConv          torch.nn.Conv1d, Conv2d: a product with unfolded inputs
    ResidentTransposed    transformers' Conv1D, a linear module whose matrix is (inputs, outputs)
    ResidentEmbedding     torch.nn.Embedding: decodes the rows that are looked up

Products are those of docs/bitshift.md, "Product": the same bits with any number of threads and of rows at once, and on
a GPU, where `triton_product` computes. What they are not: fit for training, or for other devices. This file imports
torch at once, so it is imported inside functions only.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.bitshift_payload import Payload
from kolmo.native.dispatch import kernels
from kolmo.weights.running import triton_product
from kolmo.weights.running.activations import ACTIVATIONS, FLOATS, INTEGERS

HEADS = WeakTensorKeyDictionary()  # for a code, what its header says
MOVED = WeakTensorKeyDictionary()  # for a code that was moved to another device: a weak reference to it there
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
        self._read_head(code)
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
            rows, which = (wild.places // self.columns).unique(return_inverse=True)
            decoded = self.decoded(rows)[which, wild.places % self.columns]
            self.wild_differences = (wild.values.view(torch.float32) - decoded).view(torch.int32)
            self.wild_values = wild.values

    def __getattr__(self, name: str) -> Any:
        """Settings of the module that this one stands for, as the stride of a convolution, which models read."""
        settings = vars(self.__dict__["plain"]) if "plain" in self.__dict__ else {}
        return settings[name] if name in settings and name[0] != "_" else super().__getattr__(name)

    @property
    def kolmo_weights(self) -> tuple[torch.Tensor, int]:
        """The tensor by which tied modules are known, and the number of weights."""
        return self.code, self.rows * self.columns

    @property
    def _head(self) -> triton_product.Head:
        """The head of the code: read once, since that waits for a GPU."""
        known: triton_product.Head | None = HEADS.get(self.code)
        return known or self._read_head(self.code)

    def _read_head(self, code: torch.Tensor) -> triton_product.Head:
        payload = Payload.parse(code.cpu().numpy().data, (self.rows, self.columns))
        HEADS[code] = head = triton_product.Head.of(payload)
        return head

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if not self.code.is_meta:
            self._read_head(self.code)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Resident:
        """Apply a function to parameters and buffers, as for `to`; modules that share a code share the moved one."""
        before = self.code
        super()._apply(fn, recurse)
        if self.code is not before:
            known = MOVED.get(before, lambda: None)()
            if known is not None and known.device == self.code.device:
                self.code = known
            else:
                MOVED[before], HEADS[self.code] = weakref.ref(self.code), HEADS.get(before)
        return self

    @property
    def weight(self) -> torch.Tensor:
        """The decoded weights: a new tensor at each use, in the shape of the module that this one stands for."""
        found = self.restored(torch.arange(self.rows, device=self.code.device))
        return found.to(self._like.dtype).view(self.plain.weight.shape)

    def restored(self, places: torch.Tensor) -> torch.Tensor:
        """Rows of the matrix with their wild weights, binary32, (number of rows, columns)."""
        found = self.decoded(places)
        if self.wild_places is None or self.wild_values is None:
            return found
        rows = self.wild_places // self.columns
        first = torch.searchsorted(rows, places)
        number = torch.searchsorted(rows, places, right=True) - first
        at = torch.repeat_interleave(number)  # the place of each wild weight's row
        which = torch.arange(at.numel(), device=at.device) + (first - number.cumsum(0) + number)[at]
        found[at, self.wild_places[which] % self.columns] = self.wild_values.view(torch.float32)[which]
        return found

    def decoded(self, places: torch.Tensor, restore: bool = True) -> torch.Tensor:
        """Rows of the matrix without wild weights, binary32, (number of places, columns).

        Args:
            places: int64, numbers of rows, on the device of the code.
            restore: whether rotated rows are turned back.
        """
        if self._is_on_gpu:
            return triton_product.rows(self.code, self._head, places, restore)
        threads = torch.get_num_threads()
        given = places.contiguous().numpy()
        found = kernels.bitshift_rows(self.code.numpy(), self.rows, self.columns, given, int(restore), threads)
        return _tensor(found, self.columns)

    @property
    def _is_on_gpu(self) -> bool:
        """Whether `triton_product` computes, and not the kernels for the CPU."""
        kind = self.code.device.type
        if kind != "cpu" and kind not in triton_product.GPU:
            raise KolmoError(
                f"weights that stay small compute on the CPU or with CUDA, not on {self.code.device}; move the module "
                "to one of these, or make it plain (dequantize)"
            )
        return kind in triton_product.GPU

    def _check_device(self, x: torch.Tensor) -> None:
        if x.device != self.code.device:
            raise KolmoError(f"inputs are on {x.device}, and the weights on {self.code.device}; move one of them")

    def _rows_of(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Activations as rows of binary32.

        Raises:
            KolmoError: they require gradients, or are on another device than the code.
            ValueError: their width is another one.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise KolmoError(
                "weights that stay small are only for inference, and these inputs require gradients; use "
                "torch.no_grad(), or make the module plain (dequantize)"
            )
        self._check_device(x)
        if x.shape[-1] != width:
            raise ValueError(f"inputs have {x.shape[-1]} numbers in their last dimension, not {width}")
        return x.detach().reshape(-1, width).to(torch.float32).contiguous()

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        """The product with rows of shape (count, columns): (count, rows), binary32."""
        if self.activations == FLOATS:
            turned = self._rotated(x, back=False)
            y = torch.cat([functional.linear(turned, tile) for _, tile in self._tiles()], 1)
        elif self._is_on_gpu:
            y = triton_product.product(self.code, self._head, x)
        else:
            threads = torch.get_num_threads()
            found = kernels.bitshift_product(self.code.numpy(), self.rows, self.columns, x.numpy(), threads)
            y = _tensor(found, self.rows)
        return self._with_wild(y, x, transposed=False)

    def _with_wild(self, y: torch.Tensor, x: torch.Tensor, transposed: bool) -> torch.Tensor:
        """Add what wild weights differ by from the decoded ones, one after the other in the order of their places."""
        if self.wild_places is None or self.wild_differences is None:
            return y
        to, by = self.wild_places // self.columns, self.wild_places % self.columns
        if transposed:
            to, by = by, to
        terms = x[:, by] * self.wild_differences.view(torch.float32)
        to, order = to.sort(stable=True)
        earlier = torch.arange(to.numel(), device=to.device) - torch.searchsorted(to, to)  # with an equal place
        for number in range(int(earlier.max()) + 1):  # places differ within a step: `+=` adds only one of equal ones
            some = earlier == number
            y[:, to[some]] += terms[:, order[some]]
        return y

    def _rotated(self, x: torch.Tensor, back: bool) -> torch.Tensor:
        """Rows as the coded matrix takes them; or, with `back`, rows that it gave."""
        if not self._head.rotated or not x.numel():
            return x
        if self._is_on_gpu:
            return triton_product.rotate(x, self._head.seed, back)
        threads = torch.get_num_threads()
        found = kernels.bitshift_rotate(x.contiguous().numpy(), self.columns, self._head.seed, int(back), threads)
        return _tensor(found, self.columns)

    def _tiles(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The matrix as it is coded, decoded some rows at a time: the first row, and these rows."""
        height = max(TILE_WEIGHTS // max(self.columns, 1) // GROUP_ROWS, 1) * GROUP_ROWS
        for first in range(0, self.rows, height):
            places = torch.arange(first, min(first + height, self.rows), device=self.code.device)
            yield first, self.decoded(places, restore=False)

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
        y = torch.zeros(rows.shape[0], self.columns, device=rows.device)
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
        self._check_device(ids)
        wanted = ids.detach().reshape(-1).to(torch.int64)
        if wanted.numel() and not 0 <= int(wanted.min()) <= int(wanted.max()) < self.rows:
            raise IndexError(f"a number of a row is not within 0..{self.rows - 1}")
        found = self.restored(wanted)
        return found.view(*ids.shape, self.columns).to(self._like.dtype)


def _tensor(data: bytearray, width: int) -> torch.Tensor:
    """The rows in a result of a kernel."""
    if not data:
        return torch.empty(0, width)
    return torch.frombuffer(data, dtype=torch.float32).view(-1, width)
