"""A model of transformers in memory: its lanes, its cache, and sums of masses on its device.

What it is not: a search for models (`torch_models.hub`), or a coder (`predictors.language_models.block`).
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.foreign import short
from kolmo.parallel import let_threads_sleep
from kolmo.predictors.guard import MAX_REASON, guarded
from kolmo.predictors.language_models.backends import GROUP, Logits
from kolmo.predictors.language_models.pretrained import (
    need,
    open_config,
    open_model,
    open_tokenizer,
    quiet,
    weight_files,
)
from kolmo.predictors.language_models.torch_models.growing import grow_in_place
from kolmo.predictors.language_models.torch_models.hashes import hash_config, hash_tensors
from kolmo.predictors.language_models.torch_models.sliding import drop, find_frequencies
from kolmo.predictors.language_models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

CACHE_NAMES = ("cache", "past_key_values", "cache_params", "state")  # of a model's cache, newest version first
TESTED_VERSION = "5.24.0"  # the newest version of transformers that the tests have run with
FAILURE_REMEDY = "try another version of transformers or torch, or another model"
ITEM_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


@dataclass
class HuggingFaceBackend:
    """A model in memory; messages use `name`."""

    name: str
    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerFast
    vocabulary: Vocabulary
    hashes: tuple[bytes, bytes, bytes]
    size: int
    start: int
    window: int | None
    dtype: str
    device: str
    token_bytes: int
    sums: bool = False  # whether logits stay on the device
    continues: bool = True
    batches: bool = True  # whether logits are right when several texts are read together
    cache: str = CACHE_NAMES[0]  # name of the argument and of the output that hold the cache
    frequencies: torch.Tensor | None = None  # of rotary keys, where a cache can slide

    def probe(self) -> None:
        """Find out what the model's implementation supports; some recurrent ones read only one token or text at a time.

        Raises:
            PredictorError: the model fails, or its cache does not work in the installed version of transformers.
        """
        tokens = np.arange(24, dtype=np.int64).reshape(2, 12) * 7 % min(self.size, 97)
        self.cache = cache_name(self.model, self.name)
        right = np.concatenate([self._whole(text) for text in np.split(tokens, 2)])
        if not np.isfinite(right).all():
            raise PredictorError(f"{self.name}: its logits are not finite; try dtype='float32', or get the model again")
        self.batches = True
        self.batches = self._agree(right, lambda: _steps(self.lanes(2, 0), tokens))
        if not self.batches and not self._near(right, _steps(self.lanes(2, 0), tokens)):  # one by one
            raise PredictorError(_no_cache(self.model, self.name))
        self.continues = self._agree(right[:, 5:], lambda: _at_once(self.lanes(2, 0), tokens, 5))
        self.frequencies = None
        if self.window is not None:
            self.frequencies = find_frequencies(self.model, self.cache, self.size, ITEM_BYTES[self.dtype])

    def _agree(self, right: Logits, compute: Callable[[], Logits]) -> bool:
        try:
            other = compute()
        except PredictorError:  # the model does not support it
            return False
        return self._near(right, other)

    def _near(self, right: Logits, other: Logits) -> bool:
        spread = max(float(np.abs(right).max()), 1e-3)
        near = 0.1 if self.dtype in ("bfloat16", "float16") else 1e-3
        return other.shape == right.shape and bool(np.abs(other - right).max() < near * spread)

    def _whole(self, tokens: npt.NDArray[np.int64]) -> Logits:
        """Logits after each token, shape (lanes, length, size), of whole texts without a cache."""
        import torch

        with guarded(self.name, "the model fails", FAILURE_REMEDY), torch.inference_mode():
            logits = self.model(input_ids=torch.from_numpy(tokens).to(self.device), use_cache=False).logits
            kind = torch.float64 if self.itemsize == 8 else torch.float32
            return np.ascontiguousarray(logits[:, :, : self.size].to(kind).cpu().numpy())

    @property
    def slides(self) -> bool:
        """Whether lanes can forget their oldest tokens (`HuggingFaceLanes.drop`)."""
        return self.frequencies is not None

    @property
    def itemsize(self) -> int:
        """Bytes of a logit; 16-bit types are converted to float32."""
        return max(ITEM_BYTES[self.dtype], 4)

    def lanes(self, count: int, threads: int) -> HuggingFaceLanes:
        """New lanes, which have read nothing."""
        return HuggingFaceLanes(self, count, threads)

    def encode(self, text: str, special: bool) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """A text as the tokenizer splits it by default: tokens, and about how many bytes of the text each stands for.

        The tokens need not give the text back (see `predictors.language_models.vocabulary`).

        Args:
            text: the text.
            special: whether to add the special tokens that the tokenizer adds by default.

        Raises:
            PredictorError: the tokenizer fails, or returns tokens that the model does not have.
        """
        with guarded(self.name, "its tokenizer fails", FAILURE_REMEDY):
            found = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
            ends = np.array([0, *(end for _, end in found["offset_mapping"])])
            sizes = np.cumsum([0, *(len(character.encode()) for character in text)])
            lengths = np.diff(sizes[np.maximum.accumulate(ends)])
            ids = np.array(found["input_ids"], np.int32)
        known_tokens(self.name, ids, self.size)
        return ids, lengths.astype(np.int32)


def known_tokens(name: str, ids: npt.NDArray[np.int32], size: int) -> None:
    """Check that a model has a logit for each token.

    Raises:
        PredictorError: a token has none.
    """
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise PredictorError(
            f"{short(name, MAX_REASON)}: its tokenizer gives token {ids.max()}, and the model has {size}; put the "
            "files of one model together, or evaluate it in mode strict, which uses known tokens alone"
        )


def cache_name(model: Any, source: str = "") -> str:
    """The name of the model's cache in the installed version: `past_key_values` became `cache` in transformers 5.24.

    Raises:
        PredictorError: the cache has none of the known names.
    """
    parameters = inspect.signature(model.forward).parameters
    for name in CACHE_NAMES:
        if name in parameters:
            return name
    raise PredictorError(_no_cache(model, source))


def _no_cache(model: Any, source: str) -> str:
    from transformers import __version__

    return (
        f"{source}{source and ': '}{type(model).__name__} of transformers {__version__} has no cache that works here; "
        f"install another version, such as transformers=={TESTED_VERSION}"
    )


def _steps(lanes: HuggingFaceLanes, tokens: npt.NDArray[np.int64]) -> Logits:
    return np.concatenate([lanes.feed(tokens[:, k : k + 1], 1) for k in range(tokens.shape[1])], axis=1)


def _at_once(lanes: HuggingFaceLanes, tokens: npt.NDArray[np.int64], first: int) -> Logits:
    lanes.feed(tokens[:, :first], 1)
    return lanes.feed(tokens[:, first:], tokens.shape[1] - first)


class HuggingFaceLanes:
    """Texts that a model reads in lockstep, in one cache; each in its own cache where the model needs that."""

    def __init__(self, backend: HuggingFaceBackend, count: int, threads: int) -> None:
        self._backend = backend
        self._threads = threads
        self._caches: list[dict[str, Any]] = [{} for _ in range(1 if backend.batches else count)]

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens (lanes, length); logits after the last `wanted`, shape (lanes, wanted, size)."""
        import torch

        with (
            guarded(self._backend.name, "the model fails", FAILURE_REMEDY),
            torch.inference_mode(),
            threads(self._threads),
        ):
            parts = np.split(tokens, len(self._caches)) if len(self._caches) > 1 else [tokens]
            logits = [self._feed(k, part, wanted) for k, part in enumerate(parts)]
            return np.ascontiguousarray(torch.cat(logits).cpu().numpy())

    def feed_sums(self, tokens: npt.NDArray[np.int64], wanted: int) -> DeviceSums:
        """Like `feed`, but the logits stay on the device, and sums of masses are copied on demand."""
        import torch

        with (
            guarded(self._backend.name, "the model fails", FAILURE_REMEDY),
            torch.inference_mode(),
            threads(self._threads),
        ):
            parts = np.split(tokens, len(self._caches)) if len(self._caches) > 1 else [tokens]
            logits = torch.cat([self._feed(k, part, wanted) for k, part in enumerate(parts)])
            return DeviceSums(logits, self._backend.name)

    def drop(self, first: int, count: int) -> None:
        """Forget `count` tokens behind the `first` ones, where the backend slides; those behind them move up."""
        import torch

        backend = self._backend
        assert backend.frequencies is not None
        with guarded(backend.name, "the model fails", FAILURE_REMEDY), torch.inference_mode(), threads(self._threads):
            for cache in self._caches:
                drop(cache[backend.cache], backend.frequencies, first, count)

    def _feed(self, cache: int, tokens: npt.NDArray[np.int64], wanted: int) -> torch.Tensor:
        import torch

        backend = self._backend
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(backend.device)
        # Models without `logits_to_keep` return all logits.
        out = backend.model(input_ids=ids, use_cache=True, logits_to_keep=wanted, **self._caches[cache])
        if out.get(backend.cache) is None:
            raise PredictorError(_no_cache(backend.model, backend.name))
        if not self._caches[cache]:
            grow_in_place(out[backend.cache])
        self._caches[cache] = {backend.cache: out[backend.cache]}
        kind = torch.float64 if backend.itemsize == 8 else torch.float32
        logits: torch.Tensor = out.logits[:, -wanted:, : backend.size].to(kind)
        return logits


class DeviceSums:
    """Masses of logits on a device; only sums are copied. float64, except for the exponential of float32 logits.

    logits: shape (lanes, wanted, size).
    """

    def __init__(self, logits: torch.Tensor, name: str = "the model") -> None:
        import torch

        self._name = name
        least = -32.0 if logits.dtype == torch.float32 else -64.0  # as in native/tokens/tokens.h
        masses = (logits - logits.amax(-1, keepdim=True)).clamp(min=least).exp().double()
        lanes, wanted, size = masses.shape
        groups = -(-size // GROUP)
        masses = torch.nn.functional.pad(masses, (0, groups * GROUP - size))
        self._masses = masses.view(lanes, wanted, groups, GROUP)

    def top(self) -> npt.NDArray[np.float64]:
        """Sums over the groups, shape (lanes, wanted, groups)."""
        with guarded(
            self._name, "the model fails", FAILURE_REMEDY
        ):  # work on a device is asynchronous, and so are its errors
            sums: npt.NDArray[np.float64] = self._masses.sum(-1).cpu().numpy()
        return sums

    def leaf(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Masses of the tokens of one group each, for groups of shape (lanes, wanted): (lanes, wanted, 256)."""
        import torch

        lanes, wanted = groups.shape
        with guarded(self._name, "the model fails", FAILURE_REMEDY):
            index = torch.from_numpy(np.ascontiguousarray(groups)).to(self._masses.device)[:, :, None, None]
            chosen = self._masses.gather(2, index.expand(lanes, wanted, 1, GROUP))[:, :, 0]
            masses: npt.NDArray[np.float64] = chosen.cpu().numpy()
        return masses


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch with this number of threads; below 1, with its current number."""
    import torch

    before = torch.get_num_threads()
    if count < 1 or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(folder: Path, dtype: str, device: str = "auto", attention: str | None = None) -> HuggingFaceBackend:
    """The model of a folder.

    Args:
        folder: of the model.
        dtype: of the arithmetic.
        device: of torch, or "auto": CUDA where there is one.
        attention: its implementation in transformers, if not the default.

    Raises:
        PredictorError: the folder does not hold a model, or it cannot be opened.
    """
    let_threads_sleep()
    need("torch", "transformers", "safetensors")
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    config = open_config(folder)
    weights = hash_tensors(weight_files(folder, config))
    tokenizer = open_tokenizer(folder)
    model = open_model(folder, config, getattr(torch, dtype), device, attention)
    with guarded(str(folder), "its tokenizer or model cannot be used"):
        fast = getattr(tokenizer, "backend_tokenizer", None)
        if fast is None:
            raise PredictorError(f"{folder}: its tokenizer has no fast version; convert it to tokenizer.json")
        text = config.get_text_config()
        size = _logits(model, text)
        vocabulary = Vocabulary(fast, size)
        vocabulary.name = str(folder)
        hashes = weights, hash_config(folder / "config.json"), vocabulary.table_hash
        start = _start(model, tokenizer, size)
        memory = _token_bytes(text, ITEM_BYTES[dtype])
        backend = HuggingFaceBackend(
            str(folder), model, tokenizer, vocabulary, hashes, size, start, _window(text), dtype, device, memory
        )
    backend.sums = not device.startswith("cpu")
    with quiet():
        backend.probe()
    return backend


def _logits(model: Any, config: Any) -> int:
    head = model.get_output_embeddings()
    return int(head.weight.shape[0]) if head is not None else int(config.vocab_size)


def _start(model: Any, tokenizer: Any, size: int) -> int:
    """The token before the first of a text: beginning of text, or else end of text, or else 0."""
    generation = getattr(model, "generation_config", None)
    for owner in (tokenizer, generation, model.config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(owner, name, None)
            if isinstance(token, int) and 0 <= token < size:
                return token
    return 0


def _window(config: Any) -> int | None:
    """Length in tokens of a model's context window; None for models with a recurrent state."""
    if config.model_type in ("mamba", "mamba2", "falcon_mamba", "rwkv"):
        return None
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _token_bytes(config: Any, itemsize: int) -> int:
    """Estimated bytes of a token's keys and values, to choose the batch by."""
    layers = getattr(config, "num_hidden_layers", 1) or 1
    heads = getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "head_dim", None) or (getattr(config, "hidden_size", 64) or 64) // heads
    return int(2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * width * itemsize)
