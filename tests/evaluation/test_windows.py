"""Windows: every rule against its description, and against a plain reading of the published one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kolmo.errors import KolmoError
from kolmo.evaluation.windows import windows
from kolmo.evaluation.windows.modes import MODES
from kolmo.evaluation.windows.windows import Window

SIZES = st.tuples(st.integers(0, 400), st.integers(2, 60), st.integers(1, 60)).filter(lambda size: size[2] <= size[1])


def reads(window: Window) -> int:
    """Tokens that the model reads: the start is one of them."""
    return window.last - 1 - window.first + int(window.start)


def scored(rule: windows.WindowRule, count: int, block: int, stride: int) -> list[int]:
    return [place for w in rule(count, block, stride) for place in range(w.last - w.scored, w.last)]


def test_the_worked_case() -> None:
    found = list(windows.paper(10000, 1900, 512))
    assert len(found) == 16
    assert sum(window.scored for window in found) == 9580
    assert 10000 - 1 - 9580 == 419


@pytest.mark.parametrize("count", [0, 1, 1389, 1900])
def test_too_few_tokens_for_a_full_window(count: int) -> None:
    assert list(windows.paper(count, 1900, 512)) == []


@given(SIZES)
def test_paper_is_what_was_published(size: tuple[int, int, int]) -> None:
    count, block, stride = size
    found = list(windows.paper(count, block, stride))
    assert len(found) == max(math.floor((count - block - 1) / stride + 1), 0)
    for k, window in enumerate(found):
        assert window.last - window.first == block + 1  # full windows only
        assert window.first == k * stride
        assert window.scored == (stride if k else block)
        assert not window.start
    places = scored(windows.paper, count, block, stride)
    assert places == list(range(1, 1 + len(places)))  # each once, in order; token 0 never
    if found:
        assert 0 <= count - 1 - len(places) < stride  # the tail


@given(SIZES)
def test_strict_scores_every_token_once(size: tuple[int, int, int]) -> None:
    count, block, stride = size
    assert scored(windows.strict, count, block, stride) == list(range(count))
    found = list(windows.strict(count, block, stride))
    assert all(window.start for window in found)
    assert all(reads(window) == block for window in found[1:])  # the last reaches back as far as the others
    for window in found[:1]:
        assert reads(window) == min(count, block)
    for window in found[1:]:
        assert window.last - window.scored - window.first + 1 >= block - stride + 1  # what stands before its first


@given(st.integers(0, 300), st.integers(1, 40))
def test_rolling_is_lm_eval_s(count: int, block: int) -> None:
    utils = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed")
    tokens = list(range(100, 100 + count))
    right = map(utils.make_disjoint_window, utils.get_rolling_token_windows(tokens, 7, block, 1))
    mine = []
    for window in windows.rolling(count, block, 0):
        read = [7] * window.start + tokens[window.first : window.last - window.scored]
        mine.append((read, tokens[window.last - window.scored : window.last]))
    assert mine == [(list(context), list(continuation)) for context, continuation in right]


@given(st.integers(0, 300), st.integers(1, 40))
def test_rolling_scores_every_token_once(count: int, block: int) -> None:
    assert scored(windows.rolling, count, block, 0) == list(range(count))
    assert all(reads(window) <= block for window in windows.rolling(count, block, 0))


@given(st.integers(0, 300), st.integers(2, 40))
def test_chunks_leave_their_first_token_out(count: int, block: int) -> None:
    assert scored(windows.chunks, count, block, 0) == [place for place in range(count) if place % block]


def test_halves_score_the_last_255_of_512() -> None:
    found = list(windows.halves(1600, 512, 0))
    assert [(window.first, window.last, window.scored) for window in found] == [
        (1, 512, 255),
        (513, 1024, 255),
        (1025, 1536, 255),
    ]
    assert all(reads(window) == 511 for window in found)  # the last token's logits predict what nobody scores


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
@given(count=st.integers(0, 300))
def test_windows_lie_within_the_tokens(mode: object, count: int) -> None:
    rule = mode.window_rule  # type: ignore[attr-defined]
    for window in rule(count, 32, 8):
        assert 0 <= window.first <= window.last - window.scored < window.last <= count
        assert window.start or window.scored < window.last - window.first  # something is read before what is scored


def test_gaps_are_refused() -> None:
    with pytest.raises(KolmoError, match="leaves gaps"):
        MODES["paper"].sized(100, 101)
    assert MODES["paper"].sized(100, None).stride == 100
    with pytest.raises(KolmoError, match="has no stride"):
        MODES["lm-eval"].sized(None, 100)


def test_a_block_fits_the_model() -> None:
    assert MODES["strict"].fitted(512).block == 512
    assert MODES["strict"].fitted(300).stride == 300
    assert MODES["strict"].fitted(None).block == 1900
    assert MODES["lm-eval"].fitted(777).block == 777
    with pytest.raises(KolmoError, match="lower the argument block_size to 512"):
        MODES["paper"].fitted(512)
