"""Fields of quantised blocks in Python: the specification of quants.h and quants/bindings.c.

A field is a sequence of symbols: scales, or quantised weights. Each symbol is coded as decisions, the highest bit
first. Four contexts each predict a decision; a mixer of their logits learns how much each is worth. docs/gguf.md has
the argument and all constants.

What it is not: a reader of blocks; kolmo.weights.gguf.fields takes these apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native import tables
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder

CONTEXTS = 4
SPREADS = 32  # classes of an expected magnitude over a step
CENTRES = 34  # classes of the place of 0 among the symbols
SEEN = 64  # classes of place in the group, and of extremes seen in it
MIDDLE = 8  # class of a spread of 1 step
LIMIT = 254  # largest count of a cell
WEIGHT = 24576  # weight of the mixer at the start, in 2^-16
MAX_WEIGHT = 1 << 22
RATE = 17  # shift of the mixer's step
MAX_SYMBOLS = 1 << 26  # in one call
MAX_SCALE = 1 << 50
CENTRED_BITS = 5  # larger symbols have one class of centres
MISFIT = "the arguments do not fit the kernel"


def quants_encode(
    bits: int, period: int, group: int, sides: bytes, steps: bytes, offsets: bytes, values: bytes, symbols: bytes, /
) -> bytes:
    """The code of a field.

    A field of weights has `steps`, `offsets` and `values`, and no `sides`; any other field has only `sides`.

    Args:
        bits: of a symbol, 1 to 8.
        period: distance in symbols between two symbols of one column.
        group: number of symbols that share a step, or stand in one block.
        sides: for each symbol a byte that predicts it.
        steps: for each group the weight of a step, native int64, below 2^50 in magnitude.
        offsets: for each group what is subtracted, likewise: a weight is `values[symbol] * step - offset`.
        values: for each symbol its value in steps, native int16, at most 256 in magnitude.
        symbols: one byte each.

    Raises:
        ValueError: sizes or values do not fit.
    """
    coder = BinaryEncoder()

    def decide(bit: int, chance: int) -> int:
        coder.encode(bit, chance)
        return bit

    walk = _Walk(bits, period, group, sides, steps, offsets, values, len(symbols))
    for symbol in symbols:
        if symbol >> bits:
            raise ValueError(MISFIT)
        walk.visit(symbol, decide)
    return coder.finish()


def quants_decode(
    bits: int,
    period: int,
    group: int,
    sides: bytes,
    steps: bytes,
    offsets: bytes,
    values: bytes,
    code: bytes,
    count: int,
    /,
) -> bytes:
    """`count` symbols: the mirror of `quants_encode`.

    Raises:
        ValueError: sizes or values do not fit.
        CorruptError: the code ends too early or too late.
    """
    walk = _Walk(bits, period, group, sides, steps, offsets, values, count)
    coder = BinaryDecoder(code)
    message = "the coded field is not of this length"
    try:
        for _ in range(count):
            walk.visit(0, lambda _, chance: coder.decode(chance))
    except CorruptError:
        raise CorruptError(message) from None
    if coder._next < len(code):
        raise CorruptError(message)
    return bytes(walk.symbols)


class _Walk:
    """The contexts and the mixer, which encoder and decoder share.

    Attributes:
        symbols: those visited so far.
    """

    def __init__(
        self,
        bits: int,
        period: int,
        group: int,
        sides: bytes,
        steps: bytes,
        offsets: bytes,
        values: bytes,
        count: int,
    ) -> None:
        fits = 1 <= bits <= 8 and period >= 1 and group >= 1 and 0 <= count <= MAX_SYMBOLS
        if fits and steps:
            sizes = [len(sides), len(steps), len(offsets), len(values)]
            fits = sizes == [0, *[-(-count // group) * 8] * 2, 2 << bits]
        elif fits:
            fits = len(sides) == count and not offsets and not values
        if not fits:
            raise ValueError(MISFIT)
        self._bits, self._period, self._group, self._sides = bits, period, group, sides
        self._steps, self._offsets = np.frombuffer(steps, np.int64).tolist(), np.frombuffer(offsets, np.int64).tolist()
        self._values = np.frombuffer(values, np.int16).tolist()
        if any(abs(scale) >= MAX_SCALE for scale in self._steps + self._offsets) or any(
            abs(value) > 256 for value in self._values
        ):
            raise ValueError(MISFIT)
        self._stretch, self._squash = tables.stretch().tolist(), tables.squash().tolist()
        self._cells: dict[tuple[int, int, int], tuple[int, int]] = {}  # context number, context, node: chance, count
        self._weights: dict[int, list[int]] = {}
        self._columns: list[int] = []
        self._row = self._seen = self._step = self._offset = self._centre = 0
        self.symbols = bytearray()

    def visit(self, symbol: int, decide: Callable[[int, int], int]) -> None:
        """The next symbol. A decoder passes any, and `decide(bit, chance)` returns the coded bits."""
        i, bits = len(self.symbols), self._bits
        line, column = divmod(i, self._period)
        if i % self._group == 0:
            self._seen = 0
            if self._steps:
                self._step, self._offset = self._steps[i // self._group], self._offsets[i // self._group]
                self._centre = _centre(self._step, self._offset, bits) if bits <= CENTRED_BITS else 0
        place = (self._group - i % self._group).bit_length()
        marks = min(place, 15) << 2 | self._seen
        if self._steps:
            by_row = _spread(self._row, self._step)
            by_column = _spread(self._columns[column], self._step) if line else by_row
            centre = self._centre
            contexts = (
                centre * SPREADS + by_column,
                centre * SEEN + marks,
                by_column * SPREADS + by_row,
                by_column * SEEN + marks,
            )
        else:
            above, before = (self.symbols[i - self._period] if line else 0), (self.symbols[i - 1] if i else 0)
            contexts = self._sides[i], above, before, marks
        node = 1
        for k in reversed(range(bits)):
            node = node << 1 | self._choose(contexts, node, symbol >> k & 1, decide)
        symbol = node - (1 << bits)
        self.symbols.append(symbol)
        self._seen |= int(symbol <= (bits == 8)) | int(symbol == (1 << bits) - 1) << 1
        if self._steps:
            weight = abs(self._values[symbol] * self._step - self._offset)
            self._row += weight - self._row >> 4
            if line:
                self._columns[column] += weight - self._columns[column] >> (2 if line < 4 else 3 if line < 16 else 4)
            else:
                self._columns.append(weight)

    def _choose(self, contexts: tuple[int, ...], node: int, bit: int, decide: Callable[[int, int], int]) -> int:
        """A decision, and what is learnt from it."""
        cells = [self._cells.get((k, context, node), (1 << 21, 0)) for k, context in enumerate(contexts)]
        weights = self._weights.setdefault(node, [WEIGHT] * CONTEXTS)
        inputs = [self._stretch[chance >> 10] for chance, _ in cells]
        mixed = sum(weight * x for weight, x in zip(weights, inputs, strict=True)) >> 16
        chance = self._squash[min(max(mixed, -3071), 3071) + 3072]
        bit = decide(bit, chance)
        error = (bit << 16) - chance
        for k, (context, (old, count)) in enumerate(zip(contexts, cells, strict=True)):
            weights[k] = min(max(weights[k] + (inputs[k] * error >> RATE), -MAX_WEIGHT), MAX_WEIGHT)
            target = (1 << 22) - 1 if bit else 0
            new = old + ((target - old) * (131072 // (2 * count + 3)) >> 16)
            self._cells[k, context, node] = new, min(count + 1, LIMIT)
        return bit


def _spread(activity: int, step: int) -> int:
    """The class of an expected magnitude over a step."""
    return min(max(_log(activity) - _log(abs(step)) + MIDDLE, 0), SPREADS - 1)


def _log(x: int) -> int:
    """Logarithm in half octaves."""
    bits = x.bit_length()
    return 2 * bits if bits < 2 else 2 * bits + (x >> bits - 2 & 1)


def _centre(step: int, offset: int, bits: int) -> int:
    """Where 0 is among the symbols, in 1/32 of their range."""
    if not step or (step < 0) != (offset < 0):
        return 0
    return min(((abs(offset) << 6 - bits) // abs(step) + 1) // 2, CENTRES - 1)
