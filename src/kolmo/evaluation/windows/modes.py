"""Modes: how texts become tokens, tokens windows, and nats a number. Each reproduces one rule of evaluation.

What it is not: the rules' arithmetic (`evaluation.windows.windows`, `evaluation.results.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kolmo.errors import KolmoError
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.windows import Plan

Texts = Literal["exact", "default", "plain"]


@dataclass(frozen=True)
class Mode:
    """A rule of evaluation.

    Attributes:
        name: of the mode.
        plan: the windows of so many tokens.
        stream: whether documents are joined to one stream of tokens, or each stands alone.
        texts: how a text becomes tokens: "exact" (the tokens give it back byte for byte, see
            `vocabulary`), "default" (the tokenizer's own call, with the special tokens that it adds), or
            "plain" (the same without these).
        block: tokens that the model reads before it predicts one, at most; 0: all that it can.
        stride: tokens that a window but the first scores.
        dtype: of the model's arithmetic, where the user chooses none.
        per_text: whether all text counts in the denominators, scored or not; else there are tokens alone.
        headline: the metric that the rule is known for.
    """

    name: str
    plan: Plan
    stream: bool = False
    texts: Texts = "default"
    block: int = 1900
    stride: int = 512
    dtype: str = "float32"
    per_text: bool = True
    headline: str = "bits_per_character"

    def sized(self, block: int | None, stride: int | None) -> Mode:
        """The same with another block or stride.

        Raises:
            KolmoError: they do not go together.
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
        """The same for a model that sees `window` tokens (None: any number).

        Raises:
            KolmoError: it sees too few for a rule that does not bend.
        """
        if self.block == 0:
            return replace(self, block=window or 2048)
        if window is None or window >= self.block:
            return self
        if self.name != "strict":
            raise KolmoError(
                f"the model sees {window} tokens, fewer than the block of {self.block} of mode {self.name}; "
                f"give context={window}"
            )
        return replace(self, block=window, stride=min(self.stride, window))


NO_BOS = "lm-eval-no-bos"  # mode lm-eval with add_bos_token=False

MODES = {
    mode.name: mode
    for mode in (
        Mode("strict", windows.strict, texts="exact"),
        Mode("paper", windows.paper, stream=True, dtype="bfloat16"),
        Mode("lm-eval", windows.rolling, block=0, stride=0, headline="bits_per_byte"),
        Mode(NO_BOS, windows.rolling, texts="plain", block=0, stride=0, headline="bits_per_byte"),
        Mode("uncheatable", windows.chunks, block=1024, stride=0, dtype="bfloat16"),
        Mode("uncheatable-bos", windows.chunks_after_start, texts="plain", block=4000, stride=0, dtype="bfloat16"),
        Mode(
            "llama.cpp", windows.halves, stream=True, block=512, stride=0, per_text=False, headline="token_perplexity"
        ),
    )
}


def mode_of(name: str, *, add_bos_token: bool | None = None) -> Mode:
    """The mode of a name.

    Args:
        name: of a mode.
        add_bos_token: of lm-evaluation-harness, for mode lm-eval: whether texts get the special tokens that the
            tokenizer adds. None: as that harness does from 0.4.9.2 on, which is to add them.

    Raises:
        KolmoError: there is no such mode, or it has no such option.

    Example:
        >>> mode_of("lm-eval", add_bos_token=False).texts
        'plain'
    """
    if name not in MODES:
        raise KolmoError(f"mode {name!r} is not known; choose from {', '.join(MODES)}")
    if add_bos_token is None:
        return MODES[name]
    if name not in ("lm-eval", NO_BOS):
        raise KolmoError(f"add_bos_token is of mode lm-eval alone; leave it out of mode {name}")
    return MODES["lm-eval" if add_bos_token else NO_BOS]
