"""Constants of the context mixer (the logistic function, its inverse, the bit-history automaton) and of the network.

Computed with Python's integers alone, so that they are the same on every machine, and handed to the C kernel, so that
both implementations have the same. docs/context-mixing.md and docs/neural.md explain them.
"""

from __future__ import annotations

import sys
from array import array
from functools import cache
from math import isqrt

# Sizes that a model's configuration and prior depend on, as in context_mixing.h.
CATALOGUE = 48  # most contexts in a configuration
MAX_SELECTORS = 12
SELECTOR_SIZES = (
    1,
    256,
    256,
    768,
    256,
    1088,
    2048,
    2048,
    2048,
    1024,
    2048,
    256,
    256,
    512,
    512,
    256,
    512,
    256,
    0,
    0,
    1024,
    1024,
    2048,
    256,
    256,
)  # weight sets
FIRST_NETWORK_SELECTOR = 12  # selectors from here on are computed from a network's prediction
MATCH_BUCKETS = 32  # quantised match lengths
FINAL_INPUTS = 16  # of the second layer, padded
CURVE_KNOTS = 24  # of an adaptive map's curve
NEVER = 1023  # count of a probability that never changes

SIGMOID_REACH, SIGMOID_STEPS = 24, 32  # the table of `sigmoid`: -24..24, in steps of 1/32

SQUASH_SIZE = 6144  # the logistic function on -12..12, in steps of 1/256
_PRECISION = 128  # fractional bits while computing

# A bit history counts zeros and ones up to these bounds: LIMITS[smaller count] bounds the larger one.
LIMITS = (48, 20, 11, 7, 5, 5)
EXACT = 4  # histories of up to this many bits are kept exactly
# The new count of the other bit after a bit that contradicts it: older evidence counts less.
FADED = (0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6, 6)


def _exp(numerator: int, denominator: int) -> int:
    """e^(numerator/denominator), a fraction of at most 1, in fixed point (128 fractional bits), by its series."""
    total = term = 1 << _PRECISION
    for k in range(1, 48):
        term = term * numerator // (denominator * k)
        total += term
    return total


@cache
def squash() -> array[int]:
    """`squash()[x + 3072]` = 65536 / (1 + exp(-x/256)), rounded and kept in 1..65535; x in -3072..3071."""
    step = _exp(1, 256)
    one = 1 << _PRECISION
    powers = [one]  # e^(k/256)
    for _ in range(SQUASH_SIZE // 2):
        powers.append(powers[-1] * step >> _PRECISION)
    values = []
    for x in range(-SQUASH_SIZE // 2, SQUASH_SIZE // 2):
        e = powers[abs(x)]
        top = e if x >= 0 else one
        values.append(min(max(((top << 17) // (one + e) + 1) >> 1, 1), 65535))
    return array("H", values)


@cache
def stretch() -> array[int]:
    """`stretch()[p]` = 256 ln(p' / (4096 - p')) with p' = p + 1/2, rounded, within +-2047: the inverse of `squash`."""
    table = squash()
    values = []
    x = -SQUASH_SIZE // 2
    for p in range(2048):  # the least x whose probability reaches p', then the nearer of it and the one before
        target = 16 * p + 8
        while table[x + SQUASH_SIZE // 2] < target:
            x += 1
        below, above = table[x - 1 + SQUASH_SIZE // 2], table[x + SQUASH_SIZE // 2]
        values.append(max(x - 1 if target - below < above - target else x, -2047))
    return array("h", values + [-v for v in reversed(values)])


def reciprocal() -> array[int]:
    """`reciprocal()[n]` = 65536 / (n + 3/2): the step of an average over n events; 0 at 1023, which never moves."""
    return array("H", [2 * 65536 // (2 * n + 3) for n in range(1023)] + [0])


@cache
def automaton() -> tuple[bytes, list[tuple[int, int]]]:
    """The bit histories: (transitions, counts). `transitions[2 * state + bit]` is the next state.

    A state is a whole history of up to `EXACT` bits, or a pair of counts with the last bit; 0 is the empty history.
    `counts[state]` is (zeros, ones).
    """

    def allowed(zeros: int, ones: int) -> bool:
        few, many = sorted((zeros, ones))
        return few < len(LIMITS) and many <= LIMITS[few]

    states: list[tuple[object, ...]] = [("",)]
    for length in range(1, EXACT + 1):
        states += [(format(bits, f"0{length}b"),) for bits in range(1 << length)]
    for zeros in range(LIMITS[0] + 1):
        for ones in range(LIMITS[0] + 1):
            if zeros + ones > EXACT and allowed(zeros, ones):
                states += [(zeros, ones, last) for last in (0, 1) if (zeros, ones)[last]]
    number = {state: i for i, state in enumerate(states)}

    def count(state: tuple[object, ...]) -> tuple[int, int]:
        if len(state) == 1:
            history = str(state[0])
            return history.count("0"), history.count("1")
        return int(str(state[0])), int(str(state[1]))

    def after(state: tuple[object, ...], bit: int) -> tuple[object, ...]:
        if len(state) == 1 and len(str(state[0])) < EXACT:
            return (f"{state[0]}{bit}",)
        counts = list(count(state))
        counts[bit] += 1
        other = counts[1 - bit]
        counts[1 - bit] = FADED[other] if other < len(FADED) else 7
        while sum(counts) <= EXACT:
            counts[bit] += 1
        while not allowed(*counts):  # shorten the run that just grew, else the evidence against it
            few = counts[1 - bit]
            limit = LIMITS[few] if few < len(LIMITS) else 0
            if counts[bit] > max(limit, few):
                counts[bit] -= 1
            elif few:
                counts[1 - bit] -= 1
            else:
                counts[bit] -= 1
        while sum(counts) <= EXACT:
            counts[bit] += 1
        return (*counts, bit)

    transitions = bytearray()
    for state in states:
        transitions += bytes(number[after(state, bit)] for bit in (0, 1))
    return bytes(transitions).ljust(512, b"\0"), [count(state) for state in states]


@cache
def kinds() -> bytes:
    """Kind of each byte as a character, 1..15: letters, digits, blanks, newline, stops, brackets, quotes and others."""
    table = bytearray([6] * 128 + [7] * 128)  # controls; not ASCII
    groups = (
        (1, b"abcdefghijklmnopqrstuvwxyz"),
        (2, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        (3, b"0123456789"),
        (4, b"\t "),
        (5, b"\n"),
        (8, b"!,.:;?"),
        (9, b"(<[{"),
        (10, b")>]}"),
        (11, b"\"'"),
        (12, b"#$%&"),
        (13, b"*+-/="),
        (14, b"@\\^`|~"),
        (15, b"_"),
    )
    for kind, characters in groups:
        for c in characters:
            table[c] = kind
    return bytes(table)


def priorities() -> bytes:
    """Number of bits of each history at a tree's root; the tree with the fewest is replaced."""
    return bytes(min(zeros + ones, 255) for zeros, ones in automaton()[1]).ljust(256, b"\0")


@cache
def packed() -> bytes:
    """All tables in the layout of `cm_tables` in context_mixing.h, in the machine's byte order."""
    return stretch().tobytes() + squash().tobytes() + automaton()[0] + priorities() + kinds() + reciprocal().tobytes()


@cache
def exp2_weights() -> array[int]:
    """`exp2_weights()[f]` = 2^22 * 2^(-f/1024), rounded; f in 0..1023."""
    one = 1 << _PRECISION
    step = one >> 1
    for _ in range(10):
        step = isqrt(step << _PRECISION)  # 2^(-1/1024) in the end
    values, power = [], one
    for _ in range(1024):
        values.append((power >> _PRECISION - 23) + 1 >> 1)
        power = power * step >> _PRECISION
    return array("I", values)


@cache
def logarithms() -> array[int]:
    """`logarithms()[i]` = 4096 ln(1 + (i + 1/2) / 1024), rounded; i in 0..1023."""
    values, total, over = [], 0, 4097
    for i in range(1024):  # ln(a / b) = 2 artanh((a - b) / (a + b)), by its series; from one value to the next 1 / over
        power = (1 << _PRECISION) // over
        total += power
        for k in range(3, 85, 2):
            power //= over * over
            if not power:
                break
            total += power // k
        values.append((total >> _PRECISION - 14) + 1 >> 1)
        over = 2 * i + 2050
    return array("H", values)


@cache
def sigmoid() -> array[int]:
    """`sigmoid()[i]` = 2^32 / (1 + e^-z), rounded, at most 2^32 - 1, for z = i / 32 - 24; i in 0..1536."""
    one, step, power = 1 << _PRECISION, _exp(1, SIGMOID_STEPS), 1 << _PRECISION
    half = []  # at z = 0, -1/32, ...
    for _ in range(SIGMOID_REACH * SIGMOID_STEPS + 1):
        half.append(((one << 33) // (one + power) + 1) >> 1)
        power = power * step >> _PRECISION
    upper = [min((1 << 32) - value, (1 << 32) - 1) for value in half[1:]]
    return array("I", half[::-1] + upper)


@cache
def softplus() -> array[int]:
    """`softplus()[i]` = 4096 ln(1 + e^(-i/256)), rounded; i in 0..3072."""
    one, step = 1 << 64, (1 << 2 * _PRECISION) // _exp(1, 256)
    values, power = [], 1 << _PRECISION
    for _ in range(3073):
        u = power >> _PRECISION - 64
        ratio = (u << 64) // (2 * one + u)  # ln(1 + u) = 2 artanh(u / (2 + u)), by its series
        square, term, total, k = ratio * ratio >> 64, ratio, 0, 1
        while term:
            total += term // k
            term = term * square >> 64
            k += 2
        values.append((total * 2 * 4096 * 2 + one) // (2 * one))
        power = power * step >> _PRECISION
    return array("H", values)


@cache
def squeezed() -> array[int]:
    """`squeezed()[d + 255]` = sign(d) * 127 ln(1 + |d|) / ln 256, rounded, halves away from zero; d in -255..255."""
    sizes = []
    q = 0
    for d in range(256):  # the greatest q with (q - 1/2) / 127 <= ln(1 + d) / ln 256
        while 256 ** (2 * q + 1) <= (1 + d) ** 254:
            q += 1
        sizes.append(q)
    return array("b", [-size for size in reversed(sizes[1:])] + sizes)


@cache
def logistic() -> array[int]:
    """`logistic()[i]` = 2^28 / (1 + e^(-z)), rounded, z = (i - 1024) / 64; 0 and 2^28 at the ends; i in 0..2048."""
    one, step = 1 << _PRECISION, _exp(1, 64)
    powers = [one]  # e^(k/64)
    for _ in range(1024):
        powers.append(powers[-1] * step >> _PRECISION)
    values = []
    for x in range(-1024, 1025):
        top = powers[x] if x >= 0 else one
        values.append(((top << 29) // (one + powers[abs(x)]) + 1) >> 1)
    return array("I", [0, *values[1:-1], 1 << 28])


def little_endian(values: array[int]) -> bytes:
    """The bytes of an array as files and fingerprints have them."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def from_little_endian(typecode: str, data: bytes) -> array[int]:
    """The mirror of `little_endian`."""
    values = array(typecode, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values
