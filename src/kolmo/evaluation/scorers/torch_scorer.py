"""Models of transformers, faster: no logits but those that count, and of them only sums.

The network runs up to its last hidden state, the rows that count are taken from there, and their logits are made,
turned into nats in float32 and dropped, some columns of all rows at a time; of 152,000 logits one number is wanted:

    tokens (B, T) --network--> hidden (B, T, H) --rows that count--> (R, H) --head, by columns--> nats (R,)

That is right where a model's logits are its head over its last hidden state, which `has_plain_head` tries; some models
scale or bend them. What it is not: a way to decode; nothing here is exact to the bit.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.token_scorers import CPU_TOKENS, PIECE, TokenScorer, padded
from kolmo.evaluation.windows.passages import Batch, Nats, batches

if TYPE_CHECKING:
    import torch

    from kolmo.predictors.language_models.torch_models.backend import HuggingFaceBackend

DEVICE_PIECE = 256 << 20  # bytes of logits at a time on another device than a CPU
DEVICE_TOKENS = 65536  # of a batch there
ROWS = 2048  # of logits at a time, some columns of each
STREAMS = 16  # batches side by side on a CPU, at most
MOVING = ("dynamic", "longrope")  # positions that a network works out anew as texts get longer
TRIED = 1e-4  # how far a head's logits may be off, as a part of their spread; halves: 64 times that


class TorchScorer(TokenScorer):
    """A model of transformers whose logits are its head over its last hidden state."""

    backend: HuggingFaceBackend

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        import torch

        tokens = DEVICE_TOKENS
        if self._on_cpu:
            tokens = CPU_TOKENS * min(self._threads or torch.get_num_threads(), STREAMS)
        return (1 << 30 if self.backend.batches else 1), tokens

    @property
    def _on_cpu(self) -> bool:
        return self.backend.device.startswith("cpu")

    def score(self, batch: Batch) -> list[Nats]:
        """As in `Scorer`. Where memory does not suffice, half of the batch goes at a time."""
        import torch

        if len(batch) > 1 and not self.backend.batches:
            return [nats for passage in batch for nats in self.score([passage])]
        try:
            found = self._in_streams(batch) if self._on_cpu else self._score(batch)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; so is what a CPU's allocator raises
            if "memory" not in str(error).lower():
                raise PredictorError(f"{self.identity.spec} fails: {str(error).splitlines()[0]}") from None
            if len(batch) == 1:
                raise PredictorError(
                    f"{self.identity.spec}: no memory for a window of {len(batch[0].tokens)} tokens; "
                    "lower the argument context"
                ) from None
            torch.cuda.empty_cache()
            half = len(batch) // 2
            return self.score(batch[:half]) + self.score(batch[half:])
        if not all(np.isfinite(nats).all() for nats in found):
            raise PredictorError(f"{self.identity.spec} gives logits that are not numbers; try dtype='float32'")
        return found

    def _in_streams(self, batch: Batch) -> list[Nats]:
        """On a CPU: parts of a batch side by side, each with its share of the threads, which so wait less."""
        import torch

        from kolmo.predictors.language_models.torch_models.backend import threads

        parts = list(batches(batch, len(batch), CPU_TOKENS))
        total = self._threads or torch.get_num_threads()
        streams = min(total, len(parts), STREAMS) if positions_stay(self.backend.model.config) else 1
        contexts = [copy_context() for _ in parts]  # threads are within the guard of the model, as this one is
        with threads(max(total // streams, 1)), ThreadPoolExecutor(streams) as pool:
            scored = pool.map(lambda part, context: context.run(self._score, part), parts, contexts)
            found = dict(zip(map(id, chain(*parts)), chain(*scored), strict=True))
        return [found[id(passage)] for passage in batch]

    def _score(self, batch: Batch) -> list[Nats]:
        import torch

        with torch.inference_mode():
            flat = self._flat(batch)
        return np.split(flat, np.cumsum([passage.scored for passage in batch])[:-1])

    def _flat(self, batch: Batch) -> Nats:
        """Nats of all passages, one behind the other."""
        import torch

        backend = self.backend
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

        backend = self.backend
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
