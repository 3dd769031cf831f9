"""Windows of tokens from a corpus, for a language model to be calibrated on.

The windows are spread evenly over the text of the corpus, so that all of it counts alike; within a document a window
begins anywhere. What it is not: an evaluation; windows overlap nothing, and their tokens are not scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kolmo.errors import KolmoError

if TYPE_CHECKING:
    import torch

    from kolmo.predictors.language_models.torch_models.backend import HuggingFaceBackend

MAX_CHARACTERS = 1 << 26  # of the corpus that are held in memory
CHARACTERS_PER_TOKEN = 12  # upper bound on the mean of ordinary text
PHASES = 8  # times that a corpus is gone through if its documents are short
MIN_TOKENS = 256  # of a corpus; fewer say nothing about a model


def windows(backend: HuggingFaceBackend, corpus: Any, tokens: int, width: int) -> list[dict[str, torch.Tensor]]:
    """Samples of a language model: {"input_ids": (1, width or fewer)}, each after the token that begins a text.

    Args:
        backend: the model with its tokenizer.
        corpus: the documents.
        tokens: number of tokens that are wanted.
        width: largest number of tokens of a window.

    Raises:
        KolmoError: the corpus has too little text.
    """
    import torch

    texts, total = [], 0
    for document in corpus:
        texts.append(document.content[: MAX_CHARACTERS - total])
        total += len(texts[-1])
        if total >= MAX_CHARACTERS:
            break
    width = min(width, backend.window or width)
    count, found, have = max(round(tokens / width), 1), [], 0
    for phase in range(PHASES if total else 0):
        for text, begin in _places(texts, total, count, phase / PHASES):
            piece = text[begin : begin + CHARACTERS_PER_TOKEN * width]
            ids, _ = backend.encode(piece, special=False)
            ids = ids[: width - 1]
            if have >= tokens or len(ids) < 2:
                continue
            found.append({"input_ids": torch.tensor([[backend.start, *ids.tolist()]], device=backend.device)})
            have += len(ids) + 1
        if have >= tokens:
            break
    if have < MIN_TOKENS:
        raise KolmoError(f"{corpus.name}: has {have} tokens for the calibration; give {MIN_TOKENS} or more")
    return found


def _places(texts: list[str], total: int, count: int, phase: float) -> list[tuple[str, int]]:
    """Evenly spread places in the texts joined: a text and a position in it."""
    found, index, passed = [], 0, 0
    for k in range(count):
        at = int((k + (phase + 0.5) % 1) / count * total)
        while at >= passed + len(texts[index]):
            passed += len(texts[index])
            index += 1
        found.append((texts[index], at - passed))
    return found
