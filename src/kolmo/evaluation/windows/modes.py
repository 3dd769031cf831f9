"""Evaluation modes: how texts are tokenised, cut into windows and scored, and which metrics are defined.

What it is not: the computation of windows (`evaluation.windows.windows`) and metrics (`evaluation.results.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from kolmo.errors import KolmoError
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.windows import Window, WindowRule

TokenRule = Literal["exact", "default", "plain"]
DEFAULT_CONTEXT_TOKENS = 2048  # context of a model without a limit, in modes that use the whole context


@dataclass(frozen=True)
class Mode:
    """An evaluation mode.

    Attributes:
        name: the name of the mode.
        window_rule: yields the windows of a number of tokens.
        stream: whether all documents are joined to one stream of tokens; else each is scored independently.
        token_rule: how a text is tokenised: "exact" (the tokens restore the text byte for byte, see `vocabulary`),
            "default" (as the tokenizer does it, with the special tokens that it adds), or "plain" (without these).
        block: the largest number of tokens that the model reads before it predicts one; 0: its context length.
        stride: the number of tokens that each window after the first scores.
        dtype: the floating-point type of the model, unless the user sets another.
        per_text: whether metrics per character, byte and word are defined; they count unscored text too.
        headline: the metric that this mode is usually reported with.
        separator: what joins the documents of a corpus to one text before it is tokenised; None: they are not joined.
        most_windows: the number of windows that are scored, the first ones; 0: all.
    """

    name: str
    window_rule: WindowRule
    stream: bool = False
    token_rule: TokenRule = "default"
    block: int = 1900
    stride: int = 512
    dtype: str = "float32"
    per_text: bool = True
    headline: str = "bits_per_character"
    separator: str | None = None
    most_windows: int = 0

    def windows(self, count: int) -> Iterator[Window]:
        """The windows of `count` tokens."""
        return islice(self.window_rule(count, self.block, self.stride), self.most_windows or None)

    def limited(self, most_windows: int | None) -> Mode:
        """The mode with the first `most_windows` windows alone; None: all.

        Raises:
            KolmoError: the mode does not join the corpus to one text.
        """
        if most_windows is None:
            return self
        if self.separator is None:
            raise KolmoError(
                f"mode {self.name} takes a number of documents, not of windows; leave the argument windows out"
            )
        return replace(self, most_windows=most_windows)

    def sized(self, block: int | None, stride: int | None) -> Mode:
        """The mode with another block or stride.

        Args:
            block: the block in tokens; None or 0: unchanged.
            stride: the stride in tokens; None or 0: unchanged, but at most the block.

        Raises:
            KolmoError: the mode has no stride, or the stride is larger than the block.
        """
        if stride and not self.stride:
            raise KolmoError(f"mode {self.name} has no stride; leave the argument stride out")
        block = block or self.block
        if not stride:
            stride = min(self.stride, block) if block else self.stride
        if stride > block > 0:
            raise KolmoError(
                f"a stride of {stride} tokens leaves gaps between blocks of {block}; lower the argument stride"
            )
        return replace(self, block=block, stride=stride)

    def fitted(self, window: int | None) -> Mode:
        """The mode for a model with a context length of `window` tokens (None: unlimited).

        Mode strict lowers its block to the context length.

        Raises:
            KolmoError: the block of another mode is longer than the context length.
        """
        if self.block == 0:
            return replace(self, block=window or DEFAULT_CONTEXT_TOKENS)
        if window is None or window >= self.block:
            return self
        if self.name != "strict":
            raise KolmoError(
                f"the model has a context of {window} tokens, less than the block of {self.block} of mode {self.name}; "
                f"lower the argument block_size to {window}"
            )
        return replace(self, block=window, stride=min(self.stride, window))


LM_EVAL_NO_BOS = "lm-eval-no-bos"  # mode lm-eval with add_bos_token=False

MODES = {
    mode.name: mode
    for mode in (
        Mode("strict", windows.strict, token_rule="exact"),
        Mode("paper", windows.paper, stream=True, dtype="bfloat16"),
        Mode("lm-eval", windows.rolling, block=0, stride=0, headline="bits_per_byte"),
        Mode(LM_EVAL_NO_BOS, windows.rolling, token_rule="plain", block=0, stride=0, headline="bits_per_byte"),
        Mode("uncheatable", windows.chunks, block=1024, stride=0, dtype="bfloat16"),
        Mode("uncheatable-bos", windows.chunks_after_start, token_rule="plain", block=4000, stride=0, dtype="bfloat16"),
        Mode(
            "llama.cpp", windows.halves, stream=True, block=512, stride=0, per_text=False, headline="token_perplexity"
        ),
        Mode(
            "perplexity-2048",
            windows.full_chunks,
            block=2048,
            stride=0,
            per_text=False,
            headline="token_perplexity",
            separator="\n\n",
        ),
    )
}


def mode_of(name: str, *, add_bos_token: bool | None = None) -> Mode:
    """Find a mode by its name.

    Args:
        name: the name of the mode.
        add_bos_token: the option of lm-evaluation-harness, for mode lm-eval: whether the tokenizer's special tokens
            are added to texts. None: they are, as in that harness from 0.4.9.2 on.

    Raises:
        KolmoError: the mode does not exist, or does not have this option.

    Example:
        >>> mode_of("lm-eval", add_bos_token=False).token_rule
        'plain'
    """
    if name not in MODES:
        raise KolmoError(f"mode {name!r} is not known; choose from {', '.join(MODES)}")
    if add_bos_token is None:
        return MODES[name]
    if name not in ("lm-eval", LM_EVAL_NO_BOS):
        raise KolmoError(f"the argument add_bos_token is only for mode lm-eval; leave it out in mode {name}")
    return MODES["lm-eval" if add_bos_token else LM_EVAL_NO_BOS]
