"""`hf:PATH_OR_ID`: any causal language model of transformers as a predictor.

A folder (config.json, safetensors, tokenizer.json), or an id whose files are fetched when a file is written; reading
one never uses the network. Weights are safetensors only and no code of a model's own is run, so a file that names a
model can do no more than be refused. What it is not: it does not code; `predictors.language_models.language_model`
does.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.foreign import short
from kolmo.predictors.guard import MAX_REASON, guarded, reason
from kolmo.predictors.language_models.language_model import GROUP, LanguageModel, Logits
from kolmo.predictors.language_models.pretrained import (
    need,
    open_config,
    open_model,
    open_tokenizer,
    quiet,
    read_json,
    weight_files,
)
from kolmo.predictors.language_models.records import CHUNK, CONTEXT, DTYPES, Record
from kolmo.predictors.language_models.vocabulary import Vocabulary
from kolmo.predictors.model_locations import remember
from kolmo.predictors.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

FILES = ["*.json", "*.safetensors", "*.model", "merges.txt", "vocab.txt"]
CACHES = ("cache", "past_key_values", "cache_params", "state")  # names of a model's cache, newest version first
TESTED = "5.24.0"  # the newest version of transformers that the tests have run with
ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)  # of the hub: NAME or ORG/NAME
COMMIT = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)  # of the hub, as files record it
FAILURE = "try another version of transformers or torch, or another model"
NUMBERS = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


class HuggingFace(LanguageModel):
    """The predictor `hf`."""

    name = "hf"

    @classmethod
    def from_spec(
        cls,
        argument: str,
        *,
        dtype: str | None = None,
        context: int | None = None,
        chunk: int | None = None,
        tolerance: str | float | None = None,
    ) -> HuggingFace:
        """From the part of a spec behind `hf:`, a folder or an id (`ID@REVISION` for another than its newest).

        Args:
            argument: folder or id.
            dtype: of the arithmetic: float32 (default), float64, bfloat16, float16.
            context: tokens that the model sees at most; default: what it can, up to 4096.
            chunk: tokens of a lane at most, 4096.
            tolerance: see `language_model.Options`.

        Raises:
            PredictorError: it is not there, or no causal language model with weights in safetensors.
            MissingExtraError: torch or transformers are not installed.
        """
        return cls._open(argument, dtype or "float32", context, chunk or CHUNK, tolerance, download=True)

    @classmethod
    def reopen(cls, spec: str, record: Record) -> HuggingFace:
        """The same model as the one that wrote a file, without the network."""
        return cls._open(spec, record.dtype, record.context or None, record.chunk, None, download=False)

    @classmethod
    def fetched(cls, record: Record) -> str | None:
        """The folder of a model of the hub, in its cache here; None where the record names no such model."""
        if not ID.fullmatch(record.spec) or not COMMIT.fullmatch(record.revision):
            return None
        return str(fetch(record.spec, record.revision, download=False))

    @classmethod
    def _open(
        cls, spec: str, dtype: str, context: int | None, chunk: int, tolerance: str | float | None, *, download: bool
    ) -> HuggingFace:
        if dtype not in DTYPES:
            raise PredictorError(f"dtype {dtype!r} is not known; choose from {', '.join(DTYPES)}")
        if chunk < 1 or (context is not None and context < 4):
            raise PredictorError("a context has at least 4 tokens, a chunk at least 1; raise --context or --chunk")
        folder, revision = find(spec, download=download)
        backend = load(folder, dtype)
        window = backend.window
        if context is not None and window is not None and context > window:
            raise PredictorError(f"{spec} sees at most {window} tokens; lower --context")
        seen = context or (min(window, CONTEXT) if window is not None else 0)
        name = spec.partition("@")[0] if revision else folder.resolve().name
        record = Record.of(name, revision, backend.hashes, dtype, seen, chunk)
        if not revision:
            remember(record.marks, folder)
        return cls(backend, record, "auto" if tolerance is None else tolerance)


@dataclass
class HuggingFaceBackend:
    """A model in memory; `name` is for messages."""

    name: str
    model: Any  # a transformers.PreTrainedModel
    tokenizer: Any  # a transformers.PreTrainedTokenizerFast
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
    batches: bool = True  # whether a text's logits are right beside other texts
    cache: str = CACHES[0]  # name of the argument and of the output that carry what was read so far

    def probe(self) -> None:
        """See what the model's implementation can do; some recurrent ones only step, or only one text at a time.

        Raises:
            PredictorError: it fails, or its cache does not work in the installed version of transformers.
        """
        tokens = np.arange(24, dtype=np.int64).reshape(2, 12) * 7 % min(self.size, 97)
        self.cache = cache_name(self.model, self.name)
        self.batches = False
        steps = _steps(self.lanes(2, 0), tokens)
        if not np.isfinite(steps).all():
            raise PredictorError(f"{self.name}: gives logits that are no numbers; try --dtype float32, or get it again")
        if not self._agree(steps, lambda: np.concatenate([self._whole(text) for text in np.split(tokens, 2)])):
            raise PredictorError(_no_cache(self.model, self.name))
        self.batches = True
        self.batches = self._agree(steps, lambda: _steps(self.lanes(2, 0), tokens))
        self.continues = self._agree(steps[:, 5:], lambda: _at_once(self.lanes(2, 0), tokens, 5))

    def _agree(self, right: Logits, compute: Callable[[], Logits]) -> bool:
        try:
            other = compute()
        except PredictorError:  # a model that refuses cannot
            return False
        spread = max(float(np.abs(right).max()), 1e-3)
        near = 0.1 if self.dtype in ("bfloat16", "float16") else 1e-3
        return other.shape == right.shape and bool(np.abs(other - right).max() < near * spread)

    def _whole(self, tokens: npt.NDArray[np.int64]) -> Logits:
        """Logits after each token, shape (lanes, length, size), of texts that are read at once, without a cache."""
        import torch

        with guarded(self.name, "the model fails", FAILURE), torch.inference_mode():
            logits = self.model(input_ids=torch.from_numpy(tokens).to(self.device), use_cache=False).logits
            kind = torch.float64 if self.itemsize == 8 else torch.float32
            return np.ascontiguousarray(logits[:, :, : self.size].to(kind).cpu().numpy())

    @property
    def itemsize(self) -> int:
        """Bytes of a logit: halves become float32."""
        return max(NUMBERS[self.dtype], 4)

    def lanes(self, count: int, threads: int) -> HuggingFaceLanes:
        """Fresh texts."""
        return HuggingFaceLanes(self, count, threads)

    def encode(self, text: str, special: bool) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """A text as others hand it to the model: tokens, and the bytes of the text that each stands for, about.

        They need not give the text back (see `predictors.language_models.vocabulary`).

        Args:
            text: the text.
            special: whether with the special tokens that the tokenizer adds by default.

        Raises:
            PredictorError: the tokenizer fails, or gives tokens that the model does not know.
        """
        with guarded(self.name, "its tokenizer fails", FAILURE):
            found = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
            ends = np.array([0, *(end for _, end in found["offset_mapping"])])
            sizes = np.cumsum([0, *(len(character.encode()) for character in text)])
            lengths = np.diff(sizes[np.maximum.accumulate(ends)])
            ids = np.array(found["input_ids"], np.int32)
        known_tokens(self.name, ids, self.size)
        return ids, lengths.astype(np.int32)


def known_tokens(name: str, ids: npt.NDArray[np.int32], size: int) -> None:
    """See that a model has a logit for each token.

    Raises:
        PredictorError: it has not.
    """
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < size:
        raise PredictorError(
            f"{short(name, MAX_REASON)}: its tokenizer gives token {ids.max()}, and the model knows {size}; put the "
            "files of one model together, or evaluate it in mode strict, which uses known tokens alone"
        )


def cache_name(model: Any, source: str = "") -> str:
    """What the installed version calls the model's cache; `past_key_values` became `cache` in transformers 5.24.

    Raises:
        PredictorError: none of the names that are known.
    """
    parameters = inspect.signature(model.forward).parameters
    for name in CACHES:
        if name in parameters:
            return name
    raise PredictorError(_no_cache(model, source))


def _no_cache(model: Any, source: str) -> str:
    from transformers import __version__

    return (
        f"{source}{source and ': '}{type(model).__name__} of transformers {__version__} has no cache that works here; "
        f"install another version, such as transformers=={TESTED}"
    )


def _steps(lanes: HuggingFaceLanes, tokens: npt.NDArray[np.int64]) -> Logits:
    return np.concatenate([lanes.feed(tokens[:, k : k + 1], 1) for k in range(tokens.shape[1])], axis=1)


def _at_once(lanes: HuggingFaceLanes, tokens: npt.NDArray[np.int64], first: int) -> Logits:
    lanes.feed(tokens[:, :first], 1)
    return lanes.feed(tokens[:, first:], tokens.shape[1] - first)


class HuggingFaceLanes:
    """Texts that a model reads in lockstep, in its own cache; one cache for each where it cannot do better."""

    def __init__(self, backend: HuggingFaceBackend, count: int, threads: int) -> None:
        self._backend = backend
        self._threads = threads
        self._caches: list[dict[str, Any]] = [{} for _ in range(1 if backend.batches else count)]

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens (lanes, length); logits after the last `wanted`, shape (lanes, wanted, size)."""
        import torch

        with guarded(self._backend.name, "the model fails", FAILURE), torch.inference_mode(), threads(self._threads):
            parts = np.split(tokens, len(self._caches)) if len(self._caches) > 1 else [tokens]
            logits = [self._feed(k, part, wanted) for k, part in enumerate(parts)]
            return np.ascontiguousarray(torch.cat(logits).cpu().numpy())

    def feed_sums(self, tokens: npt.NDArray[np.int64], wanted: int) -> DeviceSums:
        """The same, and what comes over is asked for later."""
        import torch

        with guarded(self._backend.name, "the model fails", FAILURE), torch.inference_mode(), threads(self._threads):
            parts = np.split(tokens, len(self._caches)) if len(self._caches) > 1 else [tokens]
            logits = torch.cat([self._feed(k, part, wanted) for k, part in enumerate(parts)])
            return DeviceSums(logits, self._backend.name)

    def _feed(self, cache: int, tokens: npt.NDArray[np.int64], wanted: int) -> torch.Tensor:
        import torch

        backend = self._backend
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(backend.device)
        # Models that do not know `logits_to_keep` give all logits.
        out = backend.model(input_ids=ids, use_cache=True, logits_to_keep=wanted, **self._caches[cache])
        if out.get(backend.cache) is None:
            raise PredictorError(_no_cache(backend.model, backend.name))
        self._caches[cache] = {backend.cache: out[backend.cache]}
        kind = torch.float64 if backend.itemsize == 8 else torch.float32
        logits: torch.Tensor = out.logits[:, -wanted:, : backend.size].to(kind)
        return logits


class DeviceSums:
    """Masses of logits on a device: sums go over, rows stay. float64, but for the exponential of float32 logits.

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
        """Of the groups, shape (lanes, wanted, groups)."""
        with guarded(self._name, "the model fails", FAILURE):  # on its device all work is late, and so are its errors
            sums: npt.NDArray[np.float64] = self._masses.sum(-1).cpu().numpy()
        return sums

    def leaf(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Of a group's tokens, groups of shape (lanes, wanted): (lanes, wanted, 256)."""
        import torch

        lanes, wanted = groups.shape
        with guarded(self._name, "the model fails", FAILURE):
            index = torch.from_numpy(np.ascontiguousarray(groups)).to(self._masses.device)[:, :, None, None]
            chosen = self._masses.gather(2, index.expand(lanes, wanted, 1, GROUP))[:, :, 0]
            masses: npt.NDArray[np.float64] = chosen.cpu().numpy()
        return masses


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads, where that is a change."""
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


def find(spec: str, *, download: bool, cache_dir: str | None = None) -> tuple[Path, str]:
    """(folder, revision) of a spec that a person gave; the revision of a folder is empty.

    Args:
        spec: folder or id.
        download: whether the network may be used.
        cache_dir: where files of the hub are kept, if not where they are by default.

    Raises:
        PredictorError: it is not there.
    """
    if os.path.isdir(spec):
        return Path(spec), ""
    name, _, revision = spec.partition("@")
    if not ID.fullmatch(name):
        raise PredictorError(
            f"hf:{short(spec)}: no such folder; give a model's folder, or an id like openai-community/gpt2"
        )
    folder = fetch(name, revision, download=download, cache_dir=cache_dir)
    return folder, folder.name


def fetch(name: str, revision: str, *, download: bool, cache_dir: str | None = None) -> Path:
    """The folder of a model of the hub, in its cache here.

    Args:
        name: id, as ID matches it.
        revision: commit, branch or tag; empty for the newest.
        download: whether the network may be used.
        cache_dir: where files of the hub are kept, if not where they are by default.

    Raises:
        PredictorError: it is not there.
    """
    need("transformers")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=FILES,
                local_files_only=not download,
                cache_dir=cache_dir,
            )
        )
    except Exception as error:  # of the hub's client, of HTTP, of the file system
        spec, command = f"hf:{name}", f"hf download {name}"
        if revision:
            spec, command = f"{spec}@{short(revision)}", f"{command} --revision {short(revision)}"
        why = "is not on this machine" if not download else f"cannot be fetched ({reason(error)})"
        raise PredictorError(f"{spec} {why}; run `{command}` where there is a network, or give its folder") from None


def load(folder: Path, dtype: str, attention: str | None = None) -> HuggingFaceBackend:
    """The model of a folder, on the device of the settings.

    Args:
        folder: of the model.
        dtype: of the arithmetic.
        attention: its implementation in transformers, if not the default.

    Raises:
        PredictorError: it is none, or cannot be opened.
    """
    need("torch", "transformers", "safetensors")
    import torch

    device = settings().device
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
        hashes = weights, _hash_config(folder / "config.json"), vocabulary.digest
        start = _start(model, tokenizer, size)
        memory = _token_bytes(text, NUMBERS[dtype])
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
    """The token before a text's first: beginning of text, or else its end, or else 0."""
    generation = getattr(model, "generation_config", None)
    for owner in (tokenizer, generation, model.config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            token = getattr(owner, name, None)
            if isinstance(token, int) and 0 <= token < size:
                return token
    return 0


def _window(config: Any) -> int | None:
    """Tokens that a model can see; None for those that carry a state along."""
    if config.model_type in ("mamba", "mamba2", "falcon_mamba", "rwkv"):
        return None
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _token_bytes(config: Any, itemsize: int) -> int:
    """Keys and values of a token: an estimate, to choose the batch by."""
    layers = getattr(config, "num_hidden_layers", 1) or 1
    heads = getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "head_dim", None) or (getattr(config, "hidden_size", 64) or 64) // heads
    return int(2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * width * itemsize)


def hash_tensors(paths: list[Path]) -> bytes:
    """First 8 bytes of a SHA-256 over the tensors of safetensors files: name, dtype, shape, bytes, sorted by name.

    How they are divided into files, and what else the files say, makes no difference.

    Raises:
        PredictorError: a file is damaged.
    """
    places: dict[str, tuple[str, Path, int, int]] = {}
    for path in paths:
        begin, entries = _header(path)
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            kind = f"{name}|{entry['dtype']}|{entry['shape']}|"
            places[name] = kind, path, begin + first, last - first
    whole = hashlib.sha256()
    for _, (kind, path, place, left) in sorted(places.items()):
        whole.update(kind.encode("utf-8", "surrogatepass"))
        with guarded(str(path), "cannot be read"), open(path, "rb") as file:
            file.seek(place)
            while left and (part := file.read(min(left, 1 << 20))):
                whole.update(part)
                left -= len(part)
        if left:
            raise PredictorError(f"{path}: has become shorter while it was read; fetch it again")
    return whole.digest()[:8]


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where a safetensors file's tensors begin, and what its header says of each.

    Whether that is true, the library that transformers read with has to say: that all places lie within the file, fit
    dtypes and shapes, do not overlap, and leave nothing out.

    Raises:
        PredictorError: it is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "np"):
            pass
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(size))
        entries.pop("__metadata__", None)
    except Exception as error:  # SafetensorError, and what a file does that changes meanwhile
        raise PredictorError(f"{path}: is no safetensors file, or damaged ({reason(error)}); fetch it again") from None
    return 8 + size, entries


def hash_files(paths: list[Path]) -> bytes:
    """First 8 bytes of a SHA-256 over the SHA-256 of each file, in the order of their names."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            whole.update(_digest(file))
    return whole.digest()[:8]


def _digest(file: Any) -> bytes:
    one = hashlib.sha256()
    while part := file.read(1 << 20):
        one.update(part)
    return one.digest()


def _hash_config(path: Path) -> bytes:
    """The same of what the configuration says, without who wrote it with what."""
    config = read_json(path)
    for name in ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"):
        config.pop(name, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()[:8]
