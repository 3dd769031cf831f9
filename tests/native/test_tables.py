"""The context mixer's constants: frozen, and what they claim to be."""

from __future__ import annotations

import hashlib
import math
import sys

import pytest

from kolmo.native import tables


def test_squash_is_the_logistic_function() -> None:
    table = tables.squash()
    for x in range(-2400, 2400):
        assert abs(table[x + 3072] - 65536 / (1 + math.exp(-x / 256))) < 0.51


def test_stretch_inverts_it() -> None:
    table = tables.stretch()
    assert list(table) == sorted(table)
    for p in range(16, 4080):
        assert abs(table[p] - 256 * math.log((p + 0.5) / (4095.5 - p))) < 1
    assert [table[p] + table[4095 - p] for p in range(4096)] == [0] * 4096


def test_reciprocal_is_the_step_of_an_average() -> None:
    table = tables.reciprocal()
    assert table[1023] == 0
    assert all(abs(table[n] - 65536 / (n + 1.5)) < 1 for n in range(1023))


def test_histories_count_what_they_saw() -> None:
    transitions, counts = tables.automaton()
    assert len(counts) <= 256
    for history in ("", "0", "1", "0110", "1111", "0001"):
        state = 0
        for bit in history:
            state = transitions[2 * state + int(bit)]
        assert counts[state] == (history.count("0"), history.count("1"))
    for state, (zeros, ones) in enumerate(counts):
        after_zero, after_one = (counts[transitions[2 * state + bit]] for bit in (0, 1))
        assert after_zero[0] >= min(zeros, 5)
        assert after_zero[1] <= max(ones, 5)
        assert after_one[1] >= min(ones, 5)
        assert after_one[0] <= max(zeros, 5)


def test_a_run_saturates_and_a_surprise_is_believed() -> None:
    transitions, counts = tables.automaton()
    state = 0
    for _ in range(100):
        state = transitions[2 * state + 1]
    assert counts[state] == (0, tables.LIMITS[0])
    for _ in range(3):
        state = transitions[2 * state]
    zeros, ones = counts[state]
    assert zeros == 3
    assert ones <= 7


@pytest.mark.skipif(sys.byteorder == "big", reason="the hash is of the little-endian layout")
def test_the_tables_are_frozen() -> None:
    assert hashlib.sha256(tables.packed()).hexdigest() == FROZEN


FROZEN = "e652490f706b152435f25777d83f025e09209a91119c4f4d7297a2a4d1b66c9d"
