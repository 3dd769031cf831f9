"""Tensors of the trellis whose levels are packed in memory, and embeddings that look them up (docs/transformers.md).

    packed = PackedTensor.read(file, name, threads)
    packed.decode(dtype)            the whole tensor: about 2 ns a weight instead of 25
    packed.rows(places, dtype)      some of its rows

A `Placeholder` is there for a weight, packed or not, that is not decoded.

Weights are those of the file, to the bit: the checksum is compared when they are packed. What it is not: a product; it
only decodes. This file imports torch at once, so it is imported inside functions only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves, tree_map

from kolmo.errors import KolmoError
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_packed import PackedLevels
from kolmo.weights.format import scales
from kolmo.weights.format.codes import wild_places
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.record import CHECKSUM_DIGITS, PLACE_BYTES, Coded
from kolmo.weights.running.parts import Part, StreamedParameter
from kolmo.weights.sources.dtypes import TORCH, as_torch, from_floats, from_torch

SLAB = 1 << 18  # number of weights that a thread decodes at once; a multiple of what one head of levels covers


class PackedTensor:
    """A coded tensor in memory, packed.

    Attributes:
        one: its entry in the record.
        levels: its levels.
        size: number of bytes in memory.
    """

    def __init__(self, one: Coded, levels: PackedLevels, code: bytes) -> None:
        self.one, self.levels = one, levels
        end, at = len(code) - one.tail, len(code) - one.extra
        self.rest = code[at:end], code[end:]  # scales; wild weights
        self.size = levels.size + one.extra
        self._tables: dict[torch.dtype, bytes] = {}

    @classmethod
    def read(cls, file: ShrunkFile, name: str, threads: int = 1) -> PackedTensor | None:
        """A tensor of a file; None if it is not coded with the trellis, or exact, or has a level that is too large.

        Raises:
            CorruptError: the tensor is damaged.
        """
        name = file.record.aliases.get(name, name)
        one = file.record.coded[name]
        function = file.record.function_of(one)
        if not isinstance(function, Trellis) or one.base:
            return None
        code = file.read_code(name)
        with file.placed(name):
            function.check(code)
            levels = PackedLevels.of(code[: len(code) - one.extra], one.payload_shape, threads)
            if levels is None:
                return None
            packed = cls(one, levels, code)
            whole = hashlib.sha256()
            for piece in packed._pieces():
                whole.update(piece)
        file.compare(name, whole.hexdigest()[:CHECKSUM_DIGITS])
        return packed

    @property
    def has_rows(self) -> bool:
        """Whether rows can be decoded one by one."""
        return not self.one.extra and not self.one.transposed

    def decode(self, dtype: torch.dtype, pool: Executor | None = None) -> torch.Tensor:
        """The whole tensor.

        Args:
            dtype: of the result; weights are first rounded to that of the file.
            pool: threads that share the work.
        """
        if not self.has_rows:
            return self._finished(self._unpacked(torch.float32, self._table_of_values(), pool)).to(dtype)
        return self._unpacked(dtype, self._table(dtype), pool).view(self.one.shape)

    def rows(self, places: Iterable[int], dtype: torch.dtype) -> torch.Tensor:
        """Some rows of the matrix, (number of places, columns); only where the tensor `has_rows`."""
        columns, table = self.one.columns, self._table(dtype)
        found = [torch.frombuffer(self.levels.unpack(table, place * columns, columns), dtype=dtype) for place in places]
        return torch.stack(found) if found else torch.empty(0, columns, dtype=dtype)

    def _unpacked(self, dtype: torch.dtype, table: bytes, pool: Executor | None) -> torch.Tensor:
        """The weights of all levels, in memory that torch allocates: alignment can change how products are rounded."""
        count = self.one.count
        out = torch.empty(count, dtype=dtype)
        memory = out.view(torch.uint8).numpy()  # threads of a pool are not in the inference mode of the caller

        def work(at: int) -> None:
            found = self.levels.unpack(table, at, min(SLAB, count - at))
            memory[at * dtype.itemsize :][: len(found)] = np.frombuffer(found, np.uint8)

        each: Callable[..., Any] = map if pool is None or count <= SLAB else pool.map
        list(each(work, range(0, count, SLAB)))
        return out

    def _table(self, dtype: torch.dtype) -> bytes:
        """The weight of each level, as bytes of the dtype; made once."""
        if dtype not in self._tables:
            values = as_torch(self._table_of_file(), self.one.dtype, self.levels.values.shape)
            self._tables[dtype] = from_torch(values.to(dtype))
        return self._tables[dtype]

    def _table_of_file(self) -> bytes:
        return from_floats(self.levels.values, self.one.dtype)

    def _table_of_values(self) -> bytes:
        return self.levels.values.tobytes()

    def _pieces(self) -> Iterable[Any]:
        """The bytes of the tensor in the file's dtype, of which few are in memory at once."""
        if not self.has_rows:
            yield from_torch(self._finished(self._unpacked(torch.float32, self._table_of_values(), None)))
            return
        table = self._table_of_file()
        for at in range(0, self.one.count, SLAB):
            yield self.levels.unpack(table, at, min(SLAB, self.one.count - at))

    def _finished(self, values: torch.Tensor) -> torch.Tensor:
        """The tensor of decoded weights that are not all of it: the counterpart of `codes.decode`, in torch."""
        one, (packed, tail) = self.one, self.rest
        matrix = values.view(one.payload_shape)
        if one.scales:
            rows, columns = map(scales.scales_of, scales.unpack(packed, one.payload_shape))
            matrix.mul_(torch.from_numpy(rows)[:, None]).mul_(torch.from_numpy(columns)[None])
        if one.transposed:
            matrix = matrix.T
        dtype = getattr(torch, TORCH[one.dtype])
        if dtype.itemsize == 2:
            most = torch.finfo(dtype).max
            matrix = matrix.clamp(-most, most)
        found = matrix.to(dtype).contiguous().view(-1)
        if one.wild:
            found[torch.from_numpy(wild_places(one, tail))] = as_torch(
                tail[PLACE_BYTES * one.wild :], one.dtype, (one.wild,)
            )
        return found.view(one.shape)


class Placeholder(torch.nn.Parameter):
    """A parameter without values, on device "meta", which stands for a weight; so do tensors that are made from it.

    torch computes some products of a tensor on the CPU and one on "meta" without an error, and returns memory that
    nobody wrote. So a placeholder refuses to meet a tensor that has values. Its shape, dtype, casts and copies are
    those of other parameters, and from placeholders alone torch computes shapes, as on "meta".

    Attributes:
        stands_for: the file and the name of the weight, for messages.

    Args:
        like: a tensor of the same shape and dtype.
        stands_for: see above.
    """

    stands_for: str

    def __new__(cls, like: torch.Tensor, stands_for: str) -> Placeholder:
        """A parameter of torch, without gradients."""
        return _placeholder(like.shape, like.dtype, stands_for)

    def __init__(self, like: torch.Tensor, stands_for: str) -> None:
        pass

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Iterable[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Every function of torch that is given a placeholder.

        Raises:
            KolmoError: a tensor with values is among the arguments.
        """
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        with torch._C.DisableTorchFunctionSubclass():
            stands_for = next(one.stands_for for one in given if isinstance(one, Placeholder))
            if not all(one.is_meta for one in given):
                raise KolmoError(
                    f"{stands_for} is not decoded: a streamed weight is in memory only while the module that has it is "
                    "called; let kolmo.stream keep it with resident=[that module], or load the model whole"
                )
            found = func(*args, **(kwargs or {}))

        def wrapped(one: Any) -> Any:
            is_other = isinstance(one, torch.Tensor) and not isinstance(one, Placeholder)
            return _named(one, stands_for) if is_other and one.is_meta else one

        has_tensors = any(isinstance(one, torch.Tensor) for one in tree_leaves(found))
        return tree_map(wrapped, found) if has_tensors else found  # else it would make a shape a plain tuple

    def __deepcopy__(self, memo: dict[int, Any]) -> Placeholder:
        """A placeholder for the same weight."""
        if id(self) not in memo:
            memo[id(self)] = Placeholder(self, self.stands_for)
        copied: Placeholder = memo[id(self)]
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The state for pickles."""
        return _placeholder, (tuple(self.shape), self.dtype, self.stands_for)


def _placeholder(shape: tuple[int, ...], dtype: torch.dtype, stands_for: str) -> Placeholder:
    """The mirror of `Placeholder.__reduce_ex__`."""
    return _named(torch.empty(shape, dtype=dtype, device="meta"), stands_for)


def _named(tensor: torch.Tensor, stands_for: str) -> Placeholder:
    made: Placeholder = torch.Tensor._make_subclass(Placeholder, tensor)
    made.stands_for = stands_for
    return made


class PackedEmbedding(torch.nn.Module):
    """`torch.nn.Embedding` with packed weights: the rows that are looked up are decoded.

    Attributes:
        packed: the weights.
        like: a parameter without rows, from which casts and moves of the module are known.
        weight: the placeholder, which modules that are tied to this one have as well.

    Args:
        packed: a tensor that `has_rows`.
        plain: the module that this one stands for.
        device: device of the results.
    """

    weight: torch.Tensor

    def __init__(self, packed: PackedTensor, plain: Any, device: Any) -> None:
        super().__init__()
        self.packed = packed
        self.num_embeddings, self.embedding_dim = plain.num_embeddings, plain.embedding_dim
        for setting in plain.__constants__:  # models read these
            setattr(self, setting, getattr(plain, setting))
        empty = torch.empty(0, plain.embedding_dim, dtype=plain.weight.dtype, device=device)
        self.like = torch.nn.Parameter(empty, requires_grad=False)
        self.__dict__["weight"] = plain.weight  # not a parameter of this module: it is the first one in many models
        self.train(plain.training)

    @property
    def kolmo_weights(self) -> tuple[torch.Tensor, int]:
        """The tensor by which tied modules are known, and the number of weights."""
        return self.weight, self.weight.numel()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of some numbers, in the dtype and on the device of the module."""
        wanted = ids.detach().reshape(-1).tolist()
        if wanted and not 0 <= min(wanted) <= max(wanted) < self.num_embeddings:
            raise IndexError(f"a number of a row is not within 0..{self.num_embeddings - 1}")
        found = self.packed.rows(wanted, self.like.dtype)
        return found.view(*ids.shape, self.embedding_dim).to(self.like.device)

    def extra_repr(self) -> str:
        """What the representation of the module shows."""
        bits = 8 * self.packed.size / max(self.packed.one.count, 1)
        return f"{self.num_embeddings}, {self.embedding_dim}, {bits:.2f} bits"


def looks_up(module: torch.nn.Module) -> bool:
    """Whether a `PackedEmbedding` can stand for a module."""
    return type(module) is torch.nn.Embedding and module.max_norm is None


def pack_embeddings(module: torch.nn.Module, weight: StreamedParameter) -> list[tuple[torch.nn.Module, str]]:
    """Let a packed embedding stand for each embedding within a module that has a weight.

    Args:
        module: the module; itself it is not replaced.
        weight: the weight, which is packed and has rows; its placeholder is in its holders.

    Returns:
        The other holders of the weight.
    """
    assert weight.packed is not None
    made: dict[torch.nn.Module, PackedEmbedding] = {}
    for prefix, inner in list(module.named_modules(remove_duplicate=False)):
        if prefix and looks_up(inner) and inner._parameters["weight"] is weight.empty:
            if inner not in made:
                made[inner] = PackedEmbedding(weight.packed, inner, weight.device)
            parent, _, last = prefix.rpartition(".")
            module.get_submodule(parent)._modules[last] = made[inner]
    return [(holder, name) for holder, name in weight.holders if holder not in made]


class Cache:
    """Memory for tensors that stay: packed, or decoded where that is not possible.

    Attributes:
        packed: number of bytes of packed tensors.

    Args:
        file: the file with the weights.
        most: number of bytes of all tensors that stay; None packs all that can be packed, and keeps nothing else.
        threads: number of threads.
    """

    def __init__(self, file: ShrunkFile, most: int | None, threads: int) -> None:
        self.packed = 0
        self._file, self._left, self._threads = file, most, threads
        self._found: dict[str, PackedTensor | None] = {}  # by the name under which the file holds a tensor

    def take(self, part: Part) -> bool:
        """Pack the weights of a part if there is room; else, or if none can be packed, whether it stays decoded."""
        self.pack(part.weights)
        if self._left is None or part.size > self._left or any(one.packed is not None for one in part.weights):
            return False
        self._left -= part.size
        return True

    def pack(self, weights: Sequence[StreamedParameter]) -> None:
        """Pack those of some weights that can be packed, if there is room for all of them."""
        file = self._file
        names = [file.record.aliases.get(weight.name, weight.name) for weight in weights]
        new = [name for name in dict.fromkeys(names) if name not in self._found]
        if self._has_room(sum(map(file.stored_size, new))):  # packed tensors are not smaller than their codes
            read = {name: PackedTensor.read(file, name, self._threads) for name in new}
            size = sum(tensor.size for tensor in read.values() if tensor is not None)
            if self._has_room(size):
                self._found |= read
                self.packed += size
                self._left = None if self._left is None else self._left - size
        for weight, name in zip(weights, names, strict=True):
            weight.packed = self._found.get(name)

    def _has_room(self, size: int) -> bool:
        return self._left is None or size <= self._left
