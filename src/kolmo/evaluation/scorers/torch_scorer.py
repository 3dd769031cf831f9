"""Faster scoring with models of transformers: logits are computed only for scored tokens, and never stored.

The network runs up to its last hidden state, from which the rows of scored tokens are taken. Their logits are computed
for some columns of the vocabulary at a time, added to a running log-sum-exp, and dropped:

    tokens (B, T) --network--> hidden (B, T, H) --scored rows--> (R, H) --head, by columns--> nats (R,)

This is correct for models whose logits are their head applied to the last hidden state. Some models scale or cap their
logits; `has_plain_head` recognises them by trying. What it is not: suitable for decoding, which needs probabilities
that are equal to the last bit.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.token_scorers import CPU_LOGIT_BYTES, CPU_THREAD_TOKENS, TokenScorer, padded
from kolmo.evaluation.windows.passages import Nats, PassageBatch, batches

if TYPE_CHECKING:
    import torch

    from kolmo.predictors.language_models.torch_models.backend import HuggingFaceBackend

DEVICE_LOGIT_BYTES = 256 << 20  # bytes of logits computed at a time on a device other than a CPU
DEVICE_BATCH_TOKENS = 65536  # tokens of a batch on such a device
LOGIT_ROWS = 2048  # rows of logits computed at a time, for some columns each
MAX_CPU_STREAMS = 16  # parts of a batch that are scored side by side on a CPU
DYNAMIC_POSITIONS = ("dynamic", "longrope")  # position embeddings that depend on the length of the longest text
HEAD_TOLERANCE = 1e-4  # largest accepted error of the head's logits, relative to the largest logit
HALF_TOLERANCE_FACTOR = 64  # factor on HEAD_TOLERANCE for 16-bit types


class TorchScorer(TokenScorer):
    """A model of transformers whose logits are its head applied to its last hidden state."""

    backend: HuggingFaceBackend

    def budget(self, block: int) -> tuple[int, int]:
        """As in `Scorer`."""
        import torch

        tokens = DEVICE_BATCH_TOKENS
        if self._on_cpu:
            tokens = CPU_THREAD_TOKENS * min(self._threads or torch.get_num_threads(), MAX_CPU_STREAMS)
        return (1 << 30 if self.backend.batches else 1), tokens

    @property
    def _on_cpu(self) -> bool:
        return self.backend.device.startswith("cpu")

    def score(self, batch: PassageBatch) -> list[Nats]:
        """As in `Scorer`. If memory runs out, the halves of the batch are scored one after the other."""
        import torch

        if len(batch) > 1 and not self.backend.batches:
            return [nats for passage in batch for nats in self.score([passage])]
        try:
            found = self._in_streams(batch) if self._on_cpu else self._score(batch)
        except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU allocator raises one too
            if "memory" not in str(error).lower():
                raise PredictorError(f"{self.identity.spec} fails: {str(error).splitlines()[0]}") from None
            if len(batch) == 1:
                raise PredictorError(
                    f"{self.identity.spec}: out of memory in a window of {len(batch[0].tokens)} tokens; "
                    "lower the argument block_size"
                ) from None
            torch.cuda.empty_cache()
            half = len(batch) // 2
            return self.score(batch[:half]) + self.score(batch[half:])
        if not all(np.isfinite(nats).all() for nats in found):
            raise PredictorError(f"{self.identity.spec} gives logits that are not finite; try dtype='float32'")
        return found

    def _in_streams(self, batch: PassageBatch) -> list[Nats]:
        """Score parts of a batch side by side on a CPU, each with its share of the threads, so that these wait less."""
        import torch

        from kolmo.predictors.language_models.torch_models.backend import threads

        parts = list(batches(batch, len(batch), CPU_THREAD_TOKENS))
        total = self._threads or torch.get_num_threads()
        streams = min(total, len(parts), MAX_CPU_STREAMS) if has_fixed_positions(self.backend.model.config) else 1
        contexts = [copy_context() for _ in parts]  # each thread keeps the context variables of this one
        with threads(max(total // streams, 1)), ThreadPoolExecutor(streams) as pool:
            scored = pool.map(lambda part, context: context.run(self._score, part), parts, contexts)
            found = dict(zip(map(id, chain(*parts)), chain(*scored), strict=True))
        return [found[id(passage)] for passage in batch]

    def _score(self, batch: PassageBatch) -> list[Nats]:
        import torch

        with torch.inference_mode():
            flat = self._flat(batch)
        return np.split(flat, np.cumsum([passage.scored for passage in batch])[:-1])

    def _flat(self, batch: PassageBatch) -> Nats:
        """The nats of all passages, concatenated."""
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
        """Nats of targets, shape (rows,), from hidden states, shape (rows, width), in pieces of limited memory."""
        import torch

        backend = self.backend
        head = backend.model.get_output_embeddings()
        logit_bytes = CPU_LOGIT_BYTES if backend.device.startswith("cpu") else DEVICE_LOGIT_BYTES
        kind = torch.float64 if backend.dtype == "float64" else torch.float32
        if type(head) is torch.nn.Linear:
            rows, pass_over = LOGIT_ROWS, _by_columns
        else:
            rows, pass_over = max(logit_bytes // (4 * backend.size), 1), _by_rows
        nats = [
            pass_over(
                head, hidden[first : first + rows], targets[first : first + rows], backend.size, kind, logit_bytes
            )
            for first in range(0, len(targets), rows)
        ]
        found: Nats = torch.cat(nats).to(torch.float32).cpu().numpy()
        return found


def _by_rows(
    head: Any, hidden: torch.Tensor, targets: torch.Tensor, size: int, kind: torch.dtype, logit_bytes: int
) -> torch.Tensor:
    """Nats of targets with a head of any kind: all logits of these rows are computed at once."""
    logits = head(hidden)[:, :size].to(kind)
    wanted = logits.gather(1, targets[:, None])[:, 0]
    top = logits.amax(1, keepdim=True)
    masses = logits.sub_(top).exp_().sum(1)  # in place, since nothing else uses the logits
    nats: torch.Tensor = masses.log_() + top[:, 0] - wanted
    return nats


def _by_columns(
    head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, size: int, kind: torch.dtype, logit_bytes: int
) -> torch.Tensor:
    """Nats of targets with a linear head: some columns of all rows at a time, so that the matrix products stay large.

    The maximum logit so far and the sum of exp(logit - maximum) are carried over the columns (Milakov and Gimelshein,
    "Online normalizer calculation for softmax", 2018). The buffer for logits is allocated once.
    """
    import torch

    count = len(hidden)
    step = max(logit_bytes // (hidden.element_size() * count) // 256 * 256, 256)
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


def has_fixed_positions(config: Any) -> bool:
    """Whether texts may be read side by side: not where a long text changes the position embeddings of all."""
    facts = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return not any(f"'{kind}'" in repr(facts) for kind in DYNAMIC_POSITIONS)


def has_plain_head(backend: HuggingFaceBackend) -> bool:
    """Whether a model's logits are its output embeddings applied to its last hidden state; found by trying."""
    import torch

    model = backend.model
    head = model.get_output_embeddings()
    if head is None or getattr(model, "base_model", model) is model:
        return False
    ids = torch.arange(12, device=backend.device)[None] * 7 % min(backend.size, 97)
    try:
        with torch.inference_mode():
            expected = model(input_ids=ids, use_cache=False).logits.float()
            found = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    except Exception:  # the model has a different structure
        return False
    tolerance = HEAD_TOLERANCE * (HALF_TOLERANCE_FACTOR if backend.dtype in ("bfloat16", "float16") else 1)
    spread = max(float(expected.abs().max()), 1e-3)
    return expected.shape == found.shape and float((expected - found).abs().max()) < tolerance * spread
