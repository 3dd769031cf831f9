"""What a predictor expects: from a prompt to a continuation, whole (`sample`) or as it is made (`pieces`).

Decoding random bits is sampling: a code of n bits stands for contents of probability 2^-n, so of all random codes a
share of 2^-n leads there. That is how predictors sample that are fused with the coder; their decoder applies the
temperature to the probability of each bit. Others draw from their distribution (`predictors.choice`). Deletang et al.,
"Language Modeling Is Compression" (2024), section 2, turn any compressor into one of these
(`predictors.classical.compressors`).

What it is not: it holds no model and no arithmetic of one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from kolmo.arguments import whole_number
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.registry import DEFAULT_LEVEL, for_level, resolve

DEFAULT_SIZE = 500
DEFAULT_TEMPERATURE = 0.7  # samples of `neural` and of small language models wander less than at 1


def sample(
    prompt: bytes | str = b"",
    predictor: str | Predictor | None = None,
    size: int = DEFAULT_SIZE,
    *,
    seed: int | None = None,
    temperature: float = DEFAULT_TEMPERATURE,
    top_k: int | None = None,
    top_p: float | None = None,
) -> bytes:
    r"""Text that a predictor expects after a prompt.

    Args:
        prompt: what comes before; a str is taken as UTF-8. It is not repeated in the result.
        predictor: a predictor or its spec (`cm:9`); by default that of the default level.
        size: bytes of the result; fewer come where a model ends the text.
        seed: the same seed gives the same bytes; by default another one each time.
        temperature: 1 draws as the predictor expects, below 1 the likely is preferred, 0 takes the likeliest. `cm` and
            `neural` apply it to each bit.
        top_k: draw from so many of the likeliest only.
        top_p: draw from the fewest likeliest only whose probabilities sum to this.

    Raises:
        PredictorError: no such predictor, or it does not sample, or not with these options.
        MissingExtraError: the predictor needs a package that is not installed.
        ValueError: an option is out of its range.
        TypeError: an argument is of a wrong type.

    Examples:
        >>> kolmo.sample("the zebra quietly folds nine umbrellas\n" * 12, "cm:1", 39, seed=1, temperature=0)
        b'the zebra quietly folds nine umbrellas\n'
    """
    choice = Choice(temperature, top_k, top_p)
    return b"".join(pieces(prompt, predictor, size, seed=new_seed() if seed is None else seed, choice=choice))


def pieces(
    prompt: bytes | str,
    predictor: str | Predictor | None,
    size: int,
    *,
    seed: int,
    choice: Choice,
) -> Iterator[bytes]:
    """The same, piece by piece as it is made; what is wrong with the arguments is said at once."""
    size = whole_number(size, "size", 0)
    begin = prompt.encode() if isinstance(prompt, str) else bytes(memoryview(prompt))  # bytes(5) would be five zeros
    if predictor is None:
        predictor = for_level(DEFAULT_LEVEL)
    elif isinstance(predictor, str):
        predictor = resolve(predictor)
    elif not isinstance(predictor, Predictor):
        raise TypeError(f"predictor must be a predictor or its spec, like 'cm:9', not {type(predictor).__name__}")
    return _cut(predictor.continuation(begin, size, Randomness(seed), choice), size)


def new_seed() -> int:
    """A seed that nobody knew before, short enough to be typed again."""
    return secrets.randbits(32)


def _cut(continuation: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The first `size` bytes; asks for no piece more than these need."""
    while size > 0:
        piece = next(continuation, None)
        if piece is None:
            return
        yield piece[:size]
        size -= len(piece)
