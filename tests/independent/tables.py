"""The constants of docs/context-mixing.md: hash, squash and stretch, the automaton of bit histories."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal, localcontext
from functools import cache

MASK = 0xFFFFFFFF
LIMITS = (48, 20, 11, 7, 5, 5)
OLDER = (0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6)
RECIPROCAL = [131072 // (2 * count + 3) for count in range(1023)] + [0]


def H(a: int, b: int) -> int:  # noqa: N802  (the page's name)
    """The hash of two numbers of 32 bits."""
    h = a * 0x2F0B4C47 & MASK ^ (b + 0x9E3779B9 & MASK) * 0x85EBCA6B & MASK
    h ^= h >> 15
    h = h * 0xC2B2AE35 & MASK
    return h ^ h >> 13


@cache
def squash_table() -> list[int]:
    """squash[x] at x + 3072."""
    with localcontext() as context:
        context.prec = 60
        values = [65536 / (1 + (Decimal(-x) / 256).exp()) for x in range(-3072, 3072)]
        return [min(max(int(value + Decimal(1) / 2), 1), 65535) for value in values]


def squash(x: int) -> int:
    """The probability, in 16 bits, of x in the stretch domain."""
    return squash_table()[x + 3072]


@cache
def stretch_table() -> list[int]:
    """stretch[p] for the 4,096 probabilities of 12 bits."""
    table = squash_table()
    lower = []
    for p in range(2048):
        wanted = 16 * p + 8
        place = bisect_left(table, wanted)
        if place and wanted - table[place - 1] < table[place] - wanted:
            place -= 1
        lower.append(max(place - 3072, -2047))
    return lower + [-value for value in reversed(lower)]


def allowed(zeros: int, ones: int) -> bool:
    """Whether a history may count so many zeros and ones."""
    few, many = sorted((zeros, ones))
    return few <= 5 and many <= LIMITS[few]


@cache
def histories() -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Of each of the 249 states, (zeros, ones), and the states after a 0 and after a 1."""
    short = [""] + [f"{value:0{size}b}" for size in range(1, 5) for value in range(1 << size)]
    long = [
        (zeros, ones, last)
        for zeros in range(49)
        for ones in range(49)
        for last in (0, 1)
        if zeros + ones >= 5 and allowed(zeros, ones) and (zeros, ones)[last]
    ]
    number = {state: 31 + place for place, state in enumerate(long)}

    def after(zeros: int, ones: int, bit: int) -> int:
        a, b = ((zeros, ones), (ones, zeros))[bit]
        a += 1
        b = OLDER[b] if b < 16 else 7
        while a + b <= 4:
            a += 1
        while not allowed(a, b):
            if a > max(LIMITS[b] if b <= 5 else 0, b):
                a -= 1
            elif b > 0:
                b -= 1
            else:
                a -= 1
        while a + b <= 4:
            a += 1
        return number[(a, b, 0) if bit == 0 else (b, a, 1)]

    counts, following = [], []
    for bits in short:
        counts.append((bits.count("0"), bits.count("1")))
        if len(bits) < 4:
            following.append((short.index(bits + "0"), short.index(bits + "1")))
        else:
            following.append((after(*counts[-1], 0), after(*counts[-1], 1)))
    for zeros, ones, _ in long:
        counts.append((zeros, ones))
        following.append((after(zeros, ones, 0), after(zeros, ones, 1)))
    return counts, following
