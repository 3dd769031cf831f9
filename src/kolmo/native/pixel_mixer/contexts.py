"""Predictions, contexts and guesses of a byte of a picture: the specification of pixel_contexts.h."""

from __future__ import annotations

from collections.abc import Callable

from kolmo.native.mixer.primitives import MASK, mix
from kolmo.native.pixel_mixer.neighbourhood import LeastSquares, Planes
from kolmo.native.pixel_mixer.shapes import CONFIDENCES, GUESSES, PREDICTORS, SCALES, SETS

BIASES = 2048


def clamp(v: int, low: int, high: int) -> int:
    """The nearest number from `low` to `high`."""
    return min(max(v, low), high)


def median(w: int, n: int, corner: int) -> int:
    """The median of W, N and W + N - NW."""
    high, low = max(w, n), min(w, n)
    return low if corner >= high else high if corner <= low else w + n - corner


def step_of(v: int) -> int:
    """Steps of a quarter of an octave."""
    n = (v + 1).bit_length() - 1
    return 4 * n + ((v + 1 << 2 >> n) & 3)


def coarse(v: int) -> int:
    """Signed steps of an octave, -7..7."""
    a = abs(v)
    q = a if a < 3 else 3 if a < 5 else 4 if a < 9 else 5 if a < 17 else 6 if a < 33 else 7
    return -q if v < 0 else q


def hash2(a: int, b: int) -> int:
    """The hash of two numbers, which may be negative."""
    return mix(a & MASK, b & MASK)


def hash3(a: int, b: int, c: int) -> int:
    """The hash of three numbers."""
    return hash2(hash2(a, b), c)


class Surroundings:
    """What is computed from the neighbours of the current byte, and learned from the byte.

    Attributes:
        predicted: in 1/16.
        scale_at: step of each prediction's expected error.
        energy: mean error of the neighbours in 1/4; `level` in steps, at most 31.
        texture: which neighbours are above the centre.
        center: the best prediction; `fraction`: quarters that it was rounded by.
        base: value of the symbol 0.
        guesses: values, -1 for none; `confidences` of them.
    """

    def __init__(self, planes: Planes, squares: list[list[LeastSquares]], guess_bits: int) -> None:
        self._planes, self._squares = planes, squares
        self._bias = [[0] * BIASES for _ in range(planes.turns)]
        self._bias_at = 0
        self._entries: list[dict[int, int]] = [{} for _ in range(GUESSES)]
        self._mask = (1 << guess_bits) - 1
        self._hash = [0] * GUESSES
        self.predicted, self.scale_at = [0] * PREDICTORS, [0] * PREDICTORS
        self.energy = self.level = self.texture = self.center = self.fraction = self.base = 0
        self.guesses, self.confidences = [-1] * GUESSES, [0] * GUESSES

    @property
    def _earlier(self) -> int:
        """Turns of the same colour before this one."""
        planes = self._planes
        return planes.turn if planes.turns >= 3 and planes.turn < 3 else 0

    def _median_prediction(self) -> int:
        value, t, earlier = self._planes.value, self._planes.turn, self._earlier
        w, n, nw = value(t, 0, -1), value(t, 1, 0), value(t, 1, -1)
        if not earlier:
            return 16 * median(w, n, nw)
        total = sum(
            value(k, 0, 0) + median(w - value(k, 0, -1), n - value(k, 1, 0), nw - value(k, 1, -1))
            for k in range(earlier)
        )
        return clamp(16 * total if earlier == 1 else 8 * total, 0, 16 * 255)

    def begin(self) -> None:
        """Predict the current byte."""
        planes, value, t, earlier = self._planes, self._planes.value, self._planes.turn, self._earlier
        error = planes.error
        w, n, nw, ne = value(t, 0, -1), value(t, 1, 0), value(t, 1, -1), value(t, 1, 1)
        ww, nn = value(t, 0, -2), value(t, 2, 0)
        near = [
            2 * error(t, k, 0, -1) + 2 * error(t, k, 1, 0) + error(t, k, 1, 1) + error(t, k, 1, -1) + error(t, k, 0, -2)
            for k in range(PREDICTORS)
        ]
        self.energy = (2 * error(t, 4, 0, -1) + 2 * error(t, 4, 1, 0) + error(t, 4, 1, 1) + error(t, 4, 1, -1)) // 6
        self.level = min(step_of(self.energy), 31)
        means = [planes.mean(turn) for turn in range(planes.turns)]
        p = self.predicted
        p[:SETS] = [squares.predict(means) for squares in self._squares[t]]
        p[3] = self._median_prediction()
        weights = [16777216 // (e + 4) ** 2 + 1 for e in near[:4]]
        weights[3] >>= 1
        p[4] = sum(weight * v for weight, v in zip(weights, p, strict=False)) // sum(weights)
        c = p[4] + 8 >> 4
        above = (w > c, n > c, nw > c, ne > c, ww > c, nn > c, 2 * w - ww > c, 2 * n - nn > c)
        self.texture = sum(1 << k for k, is_above in enumerate(above) if is_above)
        self._bias_at = self.texture << 3 | self.level >> 2
        p[5] = clamp(p[4] + (self._bias[t][self._bias_at] >> 12), 0, 16 * 255)
        p[6] = 16 * (w + ne - n)
        if earlier:
            p[6] = 8 * (w + n + 2 * value(0, 0, 0) - value(0, 0, -1) - value(0, 1, 0))
        p[6] = clamp(p[6], 0, 16 * 255)
        self.center = p[5] + 8 >> 4
        self.fraction = (p[5] + 8 & 15) >> 2
        self.base = self.center - 136 & 255
        for k in range(PREDICTORS):
            e = near[k] + error(t, k, 1, -2) + 2 * sum(error(j, k, 0, 0) for j in range(earlier))
            self.scale_at[k] = min(step_of(e >> 1), SCALES - 1)

    def _colour(self, up: int, right: int, last: int) -> int:
        """Differences of the turns before to their own values at a neighbour, and of that neighbour to the centre."""
        value = self._planes.value
        a = value(0, 0, 0) - value(0, up, right)
        b = value(1, 0, 0) - value(1, up, right) if self._earlier == 2 else 0
        return hash3(a, b, last)

    def context(self, number: int) -> int:
        """The value of a context of the catalogue."""
        return _CATALOGUE[number](self)

    # What contexts are made of.

    def _v(self, up: int, right: int) -> int:
        return self._planes.value(self._planes.turn, up, right)

    def _d(self, up: int, right: int) -> int:
        """A neighbour minus the centre."""
        return self._v(up, right) - self.center

    @property
    def _a(self) -> int:
        return self._planes.value(0, 0, 0) if self._earlier else 0

    @property
    def _b(self) -> int:
        return self._planes.value(1, 0, 0) if self._earlier == 2 else 0

    @property
    def _bc(self) -> int:
        return self._b - self.center if self._earlier == 2 else 0

    @property
    def _q(self) -> int:
        return self.level >> 2

    @property
    def _ew(self) -> int:
        return self._planes.sign(self._planes.turn, 0, -1)

    @property
    def _en(self) -> int:
        return self._planes.sign(self._planes.turn, 1, 0)

    @property
    def _ea(self) -> int:
        return self._planes.sign(0, 0, 0) if self._earlier else 0

    def find_guesses(self) -> None:
        """Look up the values that followed the same neighbours last."""
        planes, t, v, earlier = self._planes, self._planes.turn, self._v, self._earlier
        around = v(0, -1) | v(1, 0) << 8 | v(1, -1) << 16 | v(1, 1) << 24
        left = v(0, -1) | v(0, -2) << 8 | v(0, -3) << 16 | v(0, -4) << 24
        before = self._a | (self._b << 8 if earlier == 2 else 0)
        others = 0
        if planes.turns >= 2:
            others = planes.value((t + 1) % planes.turns, 0, -1) | planes.value((t + 2) % planes.turns, 0, -1) << 8
        last = mix(t, before)
        far = v(0, -2) | v(2, 0) << 8 | v(2, 1) << 16
        first = mix(v(0, -1) | v(1, 0) << 8, last)
        self._hash = [first, mix(around, last), mix(mix(around, far), last), mix(mix(left, others), last)]
        for k, h in enumerate(self._hash):
            entry = self._entries[k].get(h & self._mask, 0)
            count = entry >> 8 & 255
            self.guesses[k] = entry & 255 if entry >> 16 == h >> 16 and count else -1
            self.confidences[k] = min(count, CONFIDENCES - 1)

    def learn(self, byte: int) -> None:
        """Update everything by the byte of this turn."""
        errors = [min((abs(16 * byte - p) + 2) >> 2, 255) for p in self.predicted]
        bias = self._bias[self._planes.turn]
        bias[self._bias_at] += (16 * byte - self.predicted[4]) * 4096 - bias[self._bias_at] >> 6
        for squares in self._squares[self._planes.turn]:
            squares.learn(byte, self.energy)
        for k, h in enumerate(self._hash):
            entry = self._entries[k].get(h & self._mask, 0)
            if self.guesses[k] != byte:
                self._entries[k][h & self._mask] = h >> 16 << 16 | 1 << 8 | byte
            elif entry >> 8 & 255 < 255:
                self._entries[k][h & self._mask] = entry + 256
        self._planes.learn(byte, errors, clamp(byte - self.center, -127, 127))


_Value = Callable[[Surroundings], int]


def _split(with_colour: _Value, without: _Value) -> _Value:
    """A context that is another one where no turn of the same colour is before."""
    return lambda s: with_colour(s) if s._earlier else without(s)


_CATALOGUE: tuple[_Value, ...] = (
    lambda s: hash2(s.level, s.fraction),
    _split(
        lambda s: s._colour(0, -1, hash2(s._d(0, -1), coarse(s._d(1, 0)))),
        lambda s: hash3(coarse(s._ew), coarse(s._en), s._q),
    ),
    _split(
        lambda s: s._colour(0, -1, s._d(0, -1)),
        lambda s: hash3(clamp(s.predicted[0] - s.predicted[1] >> 2, -20, 20), s.fraction, s._q),
    ),
    lambda s: hash3(s._a - s.center, s._bc, s.fraction),
    _split(
        lambda s: hash3(s._a - s.center, s._bc, coarse(s._ew)),
        lambda s: hash3(s._ew, s._q, 0),
    ),
    lambda s: hash3(
        clamp(s.predicted[2] - s.predicted[5] >> 2, -20, 20), clamp(s.predicted[3] - s.predicted[5] >> 4, -20, 20), s._q
    ),
    _split(
        lambda s: s._colour(1, 0, s._d(1, 0)),
        lambda s: hash3(s._v(0, -1) + s._v(1, 0) - s._v(1, -1) - s.center, s._q, 0),
    ),
    _split(
        lambda s: hash3(s._a, s._b, s.center),
        lambda s: hash3(s._v(1, 0) + s._v(1, 1) - s._v(2, 1) - s.center, s._q, 0),
    ),
    _split(
        lambda s: s._colour(1, 1, s._d(1, 1)),
        lambda s: hash3(
            clamp(2 * s._v(0, -1) - s._d(0, -2) - 2 * s.center, -30, 30),
            clamp(2 * s._v(1, 0) - s._d(2, 0) - 2 * s.center, -30, 30),
            0,
        ),
    ),
    lambda s: hash3(s._planes.x & 7 | (s._planes.row & 7) << 3, s._q, 0),
    _split(lambda s: s._colour(0, -2, s._d(0, -2)), lambda s: hash3(s._ew, s._en, 0)),
    lambda s: hash3(s.center, s._q, 0),
    lambda s: hash3(s._v(0, -1) | s._v(1, 0) << 8, s.center, s._a | s._b << 8),
    lambda s: hash3(clamp(s._d(2, 0), -30, 30), clamp(s._d(0, -2), -30, 30), coarse(s._ea)),
    lambda s: hash3(clamp(s._a - s.center, -100, 100), s._b - s.center, s._q),
    lambda s: hash3(s.center, s._v(0, -1), s._a),
    lambda s: hash3(s.center, s._v(1, 0), s._b),
)
