"""Modules of torch that run from a shrunk checkpoint: each part is decoded when it is used, and dropped afterwards.

Weights of the trellis are packed once (`packed`), and decode fast when their part is called. Parts of others, and those
for which the cache has no room, are decoded from the file, each while another part runs:

    part 1 runs          part 2 runs          part 3 runs
    part 2 is decoded    part 3 is decoded    part 1 is decoded, for the next pass

The outputs are those of the whole module, to the bit. The next part is predicted from the order of earlier calls, so
that any order is possible, and parts may be used several times. What it is not: fit for training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.parallel import available_cores
from kolmo.safetensors import BYTES
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.running.parts import Part, StreamedParameter, default_parts
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    import torch

    Holder = tuple[torch.nn.Module, str]


# Attributes that copies make anew.
UNCOPIED = ("_lock", "_pool", "_unpackers", "_ahead", "_filled", "_follows", "_last")


def stream(
    module: torch.nn.Module,
    source: str | Path | ShrunkFile,
    *,
    parts: Iterable[torch.nn.Module] | None = None,
    resident: Iterable[torch.nn.Module] = (),
    names: Mapping[str, str] | None = None,
    device: Any = None,
    threads: int = 0,
    cache: int | None = None,
) -> Stream:
    """Let a module run from a shrunk checkpoint. Its parameters may be on device "meta"; most of them are afterwards.

    Weights get the dtype and the device of the parameters that they belong to. Tensors that are not coded, and coded
    ones that belong to no part, are read at once and stay in memory. So do embeddings (`torch.nn.Embedding`): packed,
    so that the rows that are looked up are decoded, or else decoded.

    Args:
        module: any module; it is changed in place.
        source: the file that `kolmo.shrink` made from the state dict of the module.
        parts: modules within it that are decoded one by one; their weights may be used only through their `forward`.
            By default the members of the outermost lists and sequences, and the children beside these.
        resident: modules whose own parameters stay decoded.
        names: for each parameter and buffer to read, its name in the file; by default all, under their own names.
        device: device of parameters that are on "meta"; by default the CPU.
        threads: number of threads that decode a part; 0 is one for each core.
        cache: by default all weights of the trellis are packed in memory, at about one bit a weight more than in the
            file; this decodes them once. Or memory in bytes for as many of the embeddings and first parts as it has
            room for: packed, or decoded if they are coded otherwise. The other parts are decoded from the file each
            time, at 25 ns a weight, and the next one ahead of its call. 0 takes the least memory.

    Returns:
        The stream, with statistics; it is also `module.kolmo_stream`.

    Raises:
        KolmoError: the file lacks a parameter, or has it in another shape.
        CorruptError, FormatError: as for `kolmo.load`.
        MissingExtraError: torch is not installed.
        OSError: the file cannot be read.
        ValueError: the cache is negative.

    Examples:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
        >>> report = kolmo.shrink(network, "small.safetensors")
        >>> streamed = kolmo.stream(network, "small.safetensors")
        >>> network(torch.zeros(1, 64)).shape
        torch.Size([1, 64])
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"streaming needs torch ({error}); {install('hf')}") from None
    if cache is not None and cache < 0:
        raise ValueError(f"cache = {cache} is negative; give a number of bytes")
    file = source if isinstance(source, ShrunkFile) else ShrunkFile(source)
    found = Stream(file, threads, device or "cpu", cache)
    found._take(module, list(default_parts(module) if parts is None else parts), set(resident), names)
    return found


class Stream:
    """Decodes the parts of a module when they are called; made by `stream`. Calls may run in several threads.

    Attributes:
        file: the file with the weights.
        parts: the parts that are decoded one by one.
        packed: number of bytes of packed weights, which stay in memory.
        most: largest number of bytes of decoded parts that were in memory at once.
        decoded: how often a part was decoded when it was called.
        foreseen: how often a part was decoded ahead of its call.
    """

    def __init__(self, file: ShrunkFile, threads: int, device: Any, cache: int | None) -> None:
        self.file = file
        self.parts: list[Part] = []
        self.packed = self.most = self.decoded = self.foreseen = 0
        self._threads, self._device, self._cache = threads or available_cores(), device, cache
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        """The state for copies and pickles, which read the same file but contain no decoded weights."""
        return {name: value for name, value in self.__dict__.items() if name not in UNCOPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The mirror of `__getstate__`."""
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        """Set the attributes that copies do not share (`UNCOPIED`)."""
        self._lock = Lock()  # guards the attributes below and the statistics above
        self._pool = ThreadPoolExecutor(1, "kolmo-stream")  # decodes ahead
        self._unpackers = ThreadPoolExecutor(self._threads, "kolmo-unpack") if self._threads > 1 else None
        self._ahead: dict[Part, Future[list[torch.nn.Parameter]]] = {}
        self._filled: set[Part] = set()
        self._follows: dict[tuple[Part | None, Part | None], Part] = {}
        self._last: tuple[Part | None, Part | None] = None, None

    def _take(
        self,
        module: torch.nn.Module,
        parts: list[torch.nn.Module],
        resident: set[torch.nn.Module],
        names: Mapping[str, str] | None,
    ) -> None:
        """Read the parameters that stay, and replace those of the parts by placeholders."""
        from kolmo.weights.running.packed import Cache, looks_up, pack_embeddings

        names = {name: name for name in module.state_dict()} if names is None else names
        self.parts = [Part(one) for one in parts]
        owners = {inner: part for part in reversed(self.parts) for inner in part.module.modules()}
        cache = Cache(self.file, self._cache, self._threads)
        stay: list[StreamedParameter] = []
        for weight in self._weights(module, names):
            if not self.file.is_coded(weight.name) or any(holder in resident for holder, _ in weight.holders):
                stay.append(weight)
                continue
            if any(looks_up(holder) for holder, _ in weight.holders):
                cache.pack([weight])
                if weight.packed is None or not weight.packed.has_rows:
                    stay.append(weight)
                    continue
                weight.put(weight.empty)
                weight.holders = pack_embeddings(module, weight)
            if not all(holder in owners for holder, _ in weight.holders):
                stay.append(weight)
                continue
            weight.put(weight.empty)
            for part in dict.fromkeys(owners[holder] for holder, _ in weight.holders):
                own = [(holder, name) for holder, name in weight.holders if owners[holder] is part]
                part.weights.append(replace(weight, holders=own))
        for weight, parameter in zip(stay, self._decode(stay), strict=True):
            weight.put(parameter)
        self._read_buffers(module, names)
        module.requires_grad_(False)
        self.parts = [part for part in self.parts if part.weights]
        for part in self.parts:
            part.stays = cache.take(part)
        self.packed = cache.packed
        for part in self.parts:
            part.module.register_forward_pre_hook(Entering(self, part), prepend=True, with_kwargs=True)
            part.module.register_forward_hook(Leaving(self, part), always_call=True)
        module.register_state_dict_pre_hook(_refuse_state_dict)
        module.kolmo_stream = self  # type: ignore[assignment]

    def _weights(self, module: torch.nn.Module, names: Mapping[str, str]) -> list[StreamedParameter]:
        """The parameters to read, each once, with all modules that have it."""
        from kolmo.weights.running.packed import Placeholder

        groups: dict[torch.nn.Parameter, list[tuple[str, Holder]]] = {}
        for prefix, inner in module.named_modules():
            for name, parameter in inner._parameters.items():
                if parameter is not None:
                    groups.setdefault(parameter, []).append((f"{prefix}.{name}".lstrip("."), (inner, name)))
        found = []
        for parameter, holders in groups.items():
            wanted = [names[name] for name, _ in holders if name in names]
            if not wanted:
                continue
            name = next((name for name in wanted if name in self.file), wanted[0])
            if (shape := self.file.kind(name).shape) != tuple(parameter.shape):
                there = f"{shape} in the file, but {tuple(parameter.shape)} in the module"
                raise KolmoError(
                    f"{self.file.path}: tensor {quoted(name)} has shape {there}; take the module that the file is from"
                )
            empty = Placeholder(parameter, f"{self.file.path}: weight {quoted(holders[0][0])}")
            device = self._device if parameter.is_meta else parameter.device
            found.append(StreamedParameter(name, empty, device, [holder for _, holder in holders]))
        return found

    def _read_buffers(self, module: torch.nn.Module, names: Mapping[str, str]) -> None:
        for name, buffer in module.named_buffers():
            if name in names:
                prefix, _, last = name.rpartition(".")
                kind = self.file.kind(names[name])
                device = self._device if buffer.is_meta else buffer.device
                value = as_torch(self.file.read(names[name]), kind.dtype, kind.shape)
                module.get_submodule(prefix)._buffers[last] = value.to(device, buffer.dtype)
            elif buffer.is_meta:
                raise KolmoError(
                    f"{self.file.path}: has no buffer {quoted(name)}; make the module on a device, not on meta"
                )

    def _decode(self, weights: Sequence[StreamedParameter]) -> list[torch.nn.Parameter]:
        """Decode parameters one by one, each with all threads, in slabs that need little working memory."""
        import torch

        found = []
        for weight in weights:
            if weight.packed is not None:
                value = weight.packed.decode(weight.empty.dtype, self._unpackers).to(weight.device)
                found.append(torch.nn.Parameter(value, requires_grad=False))
                continue
            kind = self.file.kind(weight.name)
            value = torch.empty(kind.count, dtype=weight.empty.dtype, device=weight.device)
            at = 0
            for slab in self.file.read_slabs(weight.name, self._threads):
                count = len(slab) // BYTES[kind.dtype]
                value[at : at + count] = as_torch(slab, kind.dtype, (count,))
                at += count
            found.append(torch.nn.Parameter(value.reshape(kind.shape), requires_grad=False))
        return found

    def enter(self, part: Part, given: Iterable[Any]) -> None:
        """Begin a call of a part with these arguments.

        Raises:
            KolmoError: an argument requires gradients.
        """
        import torch

        if torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in given):
            raise KolmoError(
                f"{self.file.path}: streamed weights are only for inference, and these inputs require gradients; "
                "use torch.no_grad(), or load the model whole"
            )
        with part.lock:
            part.users += 1
            if not part.filled:
                self._fill(part)
        self._look_ahead(part)

    def leave(self, part: Part) -> None:
        """End a call of a part."""
        with part.lock:
            part.users = max(part.users - 1, 0)  # an input that was refused did not count
            if not part.users and self._follows.get(self._last) is not part:
                self._empty(part)

    def _fill(self, part: Part) -> None:
        with self._lock:
            future = self._ahead.pop(part, None)
            self.decoded += future is None
            self.foreseen += future is not None
        values = self._decode(part.weights) if future is None else future.result()
        for weight, value in zip(part.weights, values, strict=True):
            if value.dtype != weight.empty.dtype:  # the module was cast meanwhile
                value.data = value.data.to(weight.empty.dtype)
            weight.put(value)
        part.filled = True
        with self._lock:
            self._filled.add(part)
            self._count()

    def _empty(self, part: Part) -> None:
        if part.filled and not part.stays:
            for weight in part.weights:
                weight.withdraw()
            part.filled = False
            with self._lock:
                self._filled.discard(part)

    def _look_ahead(self, part: Part) -> None:
        """Record the call, drop wrong predictions, and start to decode the part that followed the last time."""
        with self._lock:
            self._follows[self._last] = part
            self._last = self._last[1], part
            expected = self._follows.get(self._last)
            for other in [other for other in self._ahead if other is not expected]:
                self._ahead.pop(other).cancel()
            is_slow = expected is not None and not expected.packed
            if expected is not None and is_slow and expected not in self._filled and expected not in self._ahead:
                self._ahead[expected] = self._pool.submit(self._decode, expected.weights)
                self._count()
            idle = [other for other in self._filled if other is not part and not other.users]
        for other in idle:  # they were kept because a further call was predicted
            with other.lock:
                if not other.users and other is not expected:
                    self._empty(other)

    def _count(self) -> None:
        self.most = max(self.most, sum(part.size for part in {*self._filled, *self._ahead}))


@dataclass(eq=False)
class Entering:
    """The hook before the forward of a part; it is a class because modules are copied and pickled with their hooks."""

    stream: Stream
    part: Part

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The hook, as torch calls it."""
        import torch

        self.stream.enter(self.part, chain(args, kwargs.values()))
        if type(module) is not torch.nn.Linear:
            return None
        # Of slices, as of the last token, torch would copy the weight, because that requires no gradients.
        dense = torch.contiguous_format
        return tuple(x.clone(memory_format=dense) if isinstance(x, torch.Tensor) else x for x in args), kwargs


@dataclass(eq=False)
class Leaving:
    """The hook after the forward of a part."""

    stream: Stream
    part: Part

    def __call__(self, *_: object) -> None:
        """The hook, as torch calls it."""
        self.stream.leave(self.part)


def _refuse_state_dict(module: torch.nn.Module, *_: object) -> NoReturn:
    where = module.kolmo_stream.file.path  # type: ignore[union-attr]
    raise KolmoError(f"{where}: a streamed module has no state dict, as its weights are not in memory; use kolmo.load")
