"""Language models as scorers: teacher forcing in batches, logits only where a token is scored.

Of a window of 1900 tokens 512 are scored, so most of what a model's last layer would do is left out; and of 152,000
logits a row only one number is wanted. So the network runs up to its last hidden state, the rows that count are taken
from there, and their logits are made, turned into nats in float32 and dropped, some megabytes at a time:

    tokens (B, T) --network--> hidden (B, T, H) --rows that count--> (R, H) --head, piece by piece--> nats (R,)

Whether a model's logits are its head over its last hidden state is tried when it is loaded; some scale or bend them.
Those, and models in GGUF, go the longer way: they read window by window in pieces, and give whole logits.

What it is not: it makes no windows, and knows nothing of documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.evaluation.modes import Texts
from kolmo.evaluation.passages import Batch, Ids, Nats, batches
from kolmo.evaluation.scorers import LITERAL, Identity, Options, Tokenised
from kolmo.predictors import settings as running
from kolmo.predictors.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from kolmo.predictors.huggingface import HuggingFaceBackend

PIECE = 8 << 20  # bytes of logits at a time on a CPU, about what its caches hold
DEVICE_PIECE = 256 << 20  # on another device
ROWS = 2048  # of logits at a time, some columns of each
CPU_TOKENS = 2048  # that a CPU's thread reads at once: more leave its caches
STREAMS = 16  # of them, side by side, at most
MOVING = ("dynamic", "longrope")  # positions that a network works out anew as texts get longer
DEVICE_TOKENS = 65536
TRIED = 1e-4  # how far a head's logits may be off, as a part of their spread; halves: 64 times that


def open_language_model(kind: str, argument: str, options: Options) -> TokenScorer:
    """The scorer of a language model.

    Raises:
        PredictorError: it is not there, or cannot be opened.
        MissingExtraError: what it needs is not installed.
    """
    if options.tokenizer:
        raise PredictorError(f"{kind}:{argument} has a tokenizer of its own; leave --tokenizer out")
    before = running.use(**({"device": options.device} if options.device else {}))
    try:
        if kind == "gguf":
            return _open_gguf(argument, options)
        return _open_hf(argument, options)
    finally:
        running.use(device=before.device)


def _open_hf(argument: str, options: Options) -> TokenScorer:
    from kolmo.predictors import huggingface

    folder, revision = huggingface.find(argument, download=True, cache_dir=options.cache_dir)
    dtype = options.dtype or "float32"
    backend = huggingface.load(folder, dtype, attention=options.attention)
    weights, config, tokenizer = (found.hex() for found in backend.hashes)
    hashes = {"weights": weights, "config": config, "tokenizer": tokenizer}
    kept = {**hashes, "dtype": dtype, "attention": options.attention or "default"}
    name = argument if revision else folder.resolve().name
    facts = {
        "parameters": sum(values.numel() for values in backend.model.parameters()),
        "revision": revision,
        "device": backend.device,
        "window": backend.window,
        "vocabulary": backend.size,
    }
    identity = Identity(f"hf:{argument}", name, "hf", kept, facts)
    return (
        TorchScorer(identity, backend, options.threads)
        if has_plain_head(backend)
        else TokenScorer(identity, backend, options.threads)
    )


def _open_gguf(argument: str, options: Options) -> TokenScorer:
    from pathlib import Path

    from kolmo.predictors import gguf_files, huggingface, llamacpp

    if options.dtype not in (None, "float32"):
        raise PredictorError(f"gguf models have their own arithmetic, not {options.dtype}; leave --dtype out")
    path = Path(argument)
    backend = llamacpp.load(path)
    weights = huggingface.hash_files(gguf_files.parts(path)).hex()
    kept = {"weights": weights, "way": backend.way.decode("ascii").strip("\0"), "dtype": "gguf"}
    facts = {"parameters": backend.weights, "window": backend.window, "vocabulary": backend.size}
    return TokenScorer(Identity(f"gguf:{argument}", path.stem, "gguf", kept, facts), backend, options.threads)


class TokenScorer:
    """Any backend of a language model (see `predictors.language_model`): reads in pieces, through its cache.

    Args:
        identity: of the model.
        backend: the model.
        threads: of arithmetic; 0: as they are.
        piece: bytes of logits at a time.
    """

    whole = False

    def __init__(self, identity: Identity, backend: Any, threads: int = 0, piece: int = PIECE) -> None:
        self.identity = identity
        self._backend = backend
        self._threads = threads
        self._piece = piece
        self._tree: Any = None

    @property
    def start(self) -> int | None:
        """Beginning of text, or else its end."""
        start: int = self._backend.start
        return start

    @property
    def window(self) -> int | None:
        """Tokens that the model sees."""
        window: int | None = self._backend.window
        return window

    def tokenise(self, texts: Sequence[str], how: Texts) -> list[Tokenised]:
        """As in `Scorer`."""
        if how == "exact":
            return [exactly(self._backend.vocabulary, text.encode()) for text in texts]
        special = how == "default"
        return [Tokenised(*self._backend.encode(text, special)) for text in texts]

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        lanes = max((1 << 30) // max(self._backend.token_bytes * block, 1), 1)  # a gigabyte of keys and values
        return min(lanes, 64), CPU_TOKENS

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`."""
        from kolmo.native.dispatch import kernels
        from kolmo.predictors import grids

        backend = self._backend
        if self._tree is None:
            tables = grids.tables(grids.Tolerance(grids.EXACT, grids.FINEST, 16), backend.itemsize)
            self._tree = kernels.TokenTree(tables, backend.size)
        texts, reads, begins = padded(batch, backend.start)
        nats = [np.empty(passage.scored, np.float32) for passage in batch]
        step = max(self._piece // (len(batch) * backend.size * backend.itemsize), 1)
        if not backend.continues:
            step = texts.shape[1]
        reader = backend.lanes(len(batch), self._threads)
        at, first = 0, int(begins.min())
        while at < texts.shape[1]:
            # What is only context is read at once; it gives a row of logits that nobody needs.
            last = min(max(at + step, first if backend.continues else 0), texts.shape[1])
            wanted = last - max(at, first) if last > first else 1
            logits = reader.feed(texts[:, at:last], wanted)
            for lane, passage in enumerate(batch):
                a, b = max(last - wanted, int(begins[lane])), min(last, int(reads[lane]))
                if a < b:
                    rows = np.ascontiguousarray(logits[lane, a - last + wanted : b - last + wanted])
                    place = a - int(begins[lane])
                    targets = passage.tokens[len(passage.tokens) - passage.scored :][place : place + b - a]
                    nats[lane][place : place + b - a] = self._costs(rows, targets)
            at = last
        return nats

    def _costs(self, rows: npt.NDArray[np.floating[Any]], targets: Ids) -> npt.NDArray[np.float64]:
        try:
            found = self._tree.costs(rows, rows.itemsize, targets.astype(np.int32), False)
        except ValueError as error:
            raise PredictorError(f"{self.identity.spec} cannot be scored: {error}; try --dtype float32") from None
        return np.frombuffer(found, np.float64)


class TorchScorer(TokenScorer):
    """A model of transformers whose logits are its head over its last hidden state."""

    _backend: HuggingFaceBackend

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        import torch

        tokens = DEVICE_TOKENS
        if self._on_cpu:
            tokens = CPU_TOKENS * min(self._threads or torch.get_num_threads(), STREAMS)
        return (1 << 30 if self._backend.batches else 1), tokens

    @property
    def _on_cpu(self) -> bool:
        return self._backend.device.startswith("cpu")

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`. Where memory does not suffice, half of the batch goes at a time."""
        import torch

        if len(batch) > 1 and not self._backend.batches:
            return [nats for passage in batch for nats in self.score([passage])]
        try:
            found = self._in_streams(batch) if self._on_cpu else self._score(batch)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; so is what a CPU's allocator raises
            if "memory" not in str(error).lower():
                raise PredictorError(f"{self.identity.spec} fails: {str(error).splitlines()[0]}") from None
            if len(batch) == 1:
                raise PredictorError(
                    f"{self.identity.spec}: no memory for a window of {len(batch[0].tokens)} tokens; lower --block-size"
                ) from None
            torch.cuda.empty_cache()
            half = len(batch) // 2
            return self.score(batch[:half]) + self.score(batch[half:])
        if not all(np.isfinite(nats).all() for nats in found):
            raise PredictorError(f"{self.identity.spec} gives logits that are no numbers; try --dtype float32")
        return found

    def _in_streams(self, batch: Batch) -> list[Nats]:
        """On a CPU: parts of a batch side by side, each with its share of the threads, which so wait less."""
        import torch

        from kolmo.predictors.huggingface import threads

        parts = list(batches(batch, len(batch), CPU_TOKENS))
        total = self._threads or torch.get_num_threads()
        streams = min(total, len(parts), STREAMS) if positions_stay(self._backend.model.config) else 1
        with threads(max(total // streams, 1)), ThreadPoolExecutor(streams) as pool:
            found = dict(zip(map(id, chain(*parts)), chain(*pool.map(self._score, parts)), strict=True))
        return [found[id(passage)] for passage in batch]

    def _score(self, batch: Batch) -> list[Nats]:
        import torch

        with torch.inference_mode():
            flat = self._flat(batch)
        return np.split(flat, np.cumsum([passage.scored for passage in batch])[:-1])

    def _flat(self, batch: Batch) -> Nats:
        """Nats of all passages, one behind the other."""
        import torch

        backend = self._backend
        texts, reads, begins = padded(batch, backend.start)
        hidden = backend.model.base_model(
            input_ids=torch.from_numpy(texts).to(backend.device), use_cache=False
        ).last_hidden_state
        width = texts.shape[1]
        rows = np.concatenate([k * width + np.arange(begins[k], reads[k]) for k in range(len(batch))])
        targets = np.concatenate([passage.tokens[len(passage.tokens) - passage.scored :] for passage in batch])
        if len(rows) < hidden.shape[0] * hidden.shape[1]:
            hidden = hidden.flatten(0, 1)[torch.from_numpy(rows).to(hidden.device)]
        else:
            hidden = hidden.flatten(0, 1)
        return self._nats(hidden, torch.from_numpy(targets).to(hidden.device))

    def _nats(self, hidden: torch.Tensor, targets: torch.Tensor) -> Nats:
        """Nats of targets, shape (rows,), from hidden states, shape (rows, width), in pieces that fit."""
        import torch

        backend = self._backend
        head = backend.model.get_output_embeddings()
        room = PIECE if backend.device.startswith("cpu") else DEVICE_PIECE
        kind = torch.float64 if backend.dtype == "float64" else torch.float32
        if type(head) is torch.nn.Linear:
            rows, pass_over = ROWS, _by_columns
        else:
            rows, pass_over = max(room // (4 * backend.size), 1), _by_rows
        nats = [
            pass_over(head, hidden[first : first + rows], targets[first : first + rows], backend.size, kind, room)
            for first in range(0, len(targets), rows)
        ]
        found: Nats = torch.cat(nats).to(torch.float32).cpu().numpy()
        return found


def _by_rows(
    head: Any, hidden: torch.Tensor, targets: torch.Tensor, size: int, kind: torch.dtype, room: int
) -> torch.Tensor:
    """Nats of targets by a head of any kind: all logits of some rows at a time."""
    logits = head(hidden)[:, :size].to(kind)
    wanted = logits.gather(1, targets[:, None])[:, 0]
    top = logits.amax(1, keepdim=True)
    masses = logits.sub_(top).exp_().sum(1)  # in place: logits are ours
    nats: torch.Tensor = masses.log_() + top[:, 0] - wanted
    return nats


def _by_columns(
    head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, size: int, kind: torch.dtype, room: int
) -> torch.Tensor:
    """The same by a matrix: some logits of all rows at a time, so that a product of matrices stays a large one.

    Over columns the greatest logit so far, and the sum of exp(logit - greatest), are carried along (Milakov and
    Gimelshein, "Online normalizer calculation for softmax", 2018). The room for logits is taken once.
    """
    import torch

    count = len(hidden)
    step = max(room // (hidden.element_size() * count) // 256 * 256, 256)
    top = torch.full((count,), -math.inf, dtype=kind, device=hidden.device)
    masses = torch.zeros(count, dtype=torch.float64, device=hidden.device)
    wanted = torch.zeros(count, dtype=kind, device=hidden.device)
    buffer = torch.empty(count * step, dtype=hidden.dtype, device=hidden.device)
    for first in range(0, size, step):
        last = min(first + step, size)
        logits = buffer[: count * (last - first)].view(count, last - first)
        torch.mm(hidden, head.weight[first:last].t(), out=logits)
        if head.bias is not None:
            logits += head.bias[first:last]
        inside = ((targets >= first) & (targets < last)).nonzero()[:, 0]
        wanted[inside] = logits[inside, targets[inside] - first].to(kind)
        logits = logits.to(kind)
        before, top = top, torch.maximum(top, logits.amax(1))
        masses.mul_((before - top).exp_()).add_(logits.sub_(top[:, None]).exp_().sum(1))
    return masses.log_().to(kind) + top - wanted


def padded(batch: Batch, fill: int) -> tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What passages read, as rows that end in `fill`.

    Models look back only, so what stands behind a row's end changes nothing before it.

    Returns:
        texts, shape (passages, longest); how many tokens of each are read, shape (passages,); and the place in each of
        the first token whose logits count, shape (passages,).
    """
    reads = np.array([len(passage.tokens) - 1 for passage in batch], np.int64)
    texts = np.full((len(batch), int(reads.max())), fill, np.int64)
    for row, passage in zip(texts, batch, strict=True):
        row[: len(passage.tokens) - 1] = passage.tokens[:-1]
    return texts, reads, reads - np.array([passage.scored for passage in batch], np.int64)


def exactly(vocabulary: Vocabulary, data: bytes) -> Tokenised:
    """Tokens that give the data back, and the bytes that none covers, at what a small context mixer makes of them."""
    from kolmo.predictors.language_model import score_literal

    tokens = vocabulary.tokenise(data)
    lengths = vocabulary.lengths(tokens.ids).astype(np.int32)
    if not tokens.literals:
        return Tokenised(tokens.ids, lengths)
    places = np.array([place for place, _ in tokens.literals])
    costs = [float(score_literal(literal).sum()) * math.log(2) for _, literal in tokens.literals]
    nats = np.full(len(tokens.ids), np.nan, np.float32)
    return Tokenised(
        np.insert(tokens.ids, places, LITERAL),
        np.insert(lengths, places, [len(literal) for _, literal in tokens.literals]),
        np.insert(nats, places, costs),
    )


def positions_stay(config: Any) -> bool:
    """Whether texts may be read side by side: not where a long one changes the positions of all."""
    facts = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return not any(f"'{kind}'" in repr(facts) for kind in MOVING)


def has_plain_head(backend: HuggingFaceBackend) -> bool:
    """Whether a model's logits are its output embeddings over its last hidden state, by trying it."""
    import torch

    model = backend.model
    head = model.get_output_embeddings()
    if head is None or getattr(model, "base_model", model) is model:
        return False
    ids = torch.arange(12, device=backend.device)[None] * 7 % min(backend.size, 97)
    try:
        with torch.inference_mode():
            right = model(input_ids=ids, use_cache=False).logits.float()
            found = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    except Exception:  # a model that is built in another way
        return False
    near = TRIED * (64 if backend.dtype in ("bfloat16", "float16") else 1)
    spread = max(float(right.abs().max()), 1e-3)
    return right.shape == found.shape and float((right - found).abs().max()) < near * spread
