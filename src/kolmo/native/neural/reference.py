"""The context mixer over lanes, with a network's predictions: the specification of neural/bindings.c and its fallback.

docs/neural.md describes both; the network is in network/reference.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.mixer.primitives import HALF, mix
from kolmo.native.mixer.reference import ContextMixer
from kolmo.native.network.reference import Network, network_stretch

FIRST_BYTE = 10  # the byte that the network reads before the first of a lane: a line end


class NeuralMixer(ContextMixer):
    """A model of one block: `kolmo.predictors.embedded.neural` explains the arguments. `threads` has no effect."""

    def __init__(
        self,
        config: bytes,
        tables: bytes,
        prior: bytes,
        size: int,
        lanes: int,
        threads: int,
        network: Network,
    ) -> None:
        if not 1 <= lanes <= min(size, 256) or threads < 1:
            raise ValueError("lanes or threads do not fit")
        self._set_up(config, tables, prior, size, lanes, 3)
        self._network = network.start(lanes)
        self._newest = bytearray([FIRST_BYTE]) * lanes  # each lane's last byte
        self._steps = -(-size // lanes)
        self._step = 0
        self._sums: list[int] = []
        self._costs = np.zeros((size, 8), "=u2")

    def encode(self, encoder: BinaryEncoder, block: bytes, steps: int) -> None:  # type: ignore[override]
        """Code the next `steps` bytes of every lane of `block` and learn from them."""
        self._begin_steps("encode", steps, len(block))
        for at in self._places(steps):
            self._encode_byte(encoder, block[at])

    def decode(self, decoder: BinaryDecoder, steps: int) -> None:  # type: ignore[override]
        """Decode the next `steps` bytes of every lane and learn from them: the mirror of `encode`.

        In one lane it may go on after `score`, too: decoding random bits after a prompt is drawing a sample.
        """
        self._begin_steps("decode", steps, self._size, after="score" if len(self._lanes) == 1 else "")
        for _ in self._places(steps):
            self._decode_byte(decoder)

    def content(self, first: int = 0, last: int | None = None) -> bytes:
        """The block's bytes, all of them by default, once they are decoded; of several lanes, once all are."""
        last = self._size if last is None else last
        known = self._size if self._step == self._steps else self._step if len(self._lanes) == 1 else 0
        if self._direction != "decode" or not 0 <= first <= last <= known:
            raise ValueError("the block is not decoded yet")
        return bytes(self._history.bytes.bytes[first:last])

    def score(self, block: bytes, steps: int) -> None:
        """Like `encode`, without a coder."""
        self._begin_steps("score", steps, len(block))
        for at in self._places(steps):
            self._costs[at] = self._score_byte(block[at])

    def costs(self) -> bytes:  # type: ignore[override]
        """16-bit probability of each bit of the block, once all of it is scored: 8 for each byte, native order."""
        if self._direction != "score" or self._step < self._steps:
            raise ValueError("the block is not scored yet")
        return self._costs.tobytes()

    def _begin_steps(self, direction: str, steps: int, size: int, after: str = "") -> None:
        if self._direction not in ("", direction, after):
            raise ValueError("a model codes in one direction only")
        if not 0 <= steps <= self._steps - self._step or size != self._size:
            raise ValueError("another block than the model was started for")
        self._direction = direction

    def _places(self, steps: int) -> Iterator[int]:
        """Positions in the block of the bytes of the next steps, in order; the mixer is prepared for each."""
        for _ in range(steps):
            sums = np.frombuffer(self._network.step(bytes(self._newest)), "=u4").reshape(-1, 512)
            for lane, history in enumerate(self._lanes):
                if history.position < history.end:
                    self._history = history
                    self._read_network(sums[lane])
                    yield history.position
                self._newest[lane] = history.last4 & 255
            self._step += 1

    def _read_network(self, sums: npt.NDArray[np.uint32]) -> None:
        """Set the network's prediction of the next byte; of equal weights the first counts."""
        weights = sums[256:].astype(np.int64)
        self._best = int(weights.argmax())
        most, weights[self._best] = int(weights[self._best]), -1
        self._second = int(weights.argmax())
        self._sums = sums.tolist()
        self._sure = (most << 3) // (self._sums[1] + 1)

    def _network_contexts(self) -> list[int]:
        best, second, history = self._best, self._second, self._history
        return [
            best << 8 | second,
            mix(best << 3 | self._sure, history.last4 & 255),
            mix(best << 8 | second, history.last4 & 0xFFFF),
            mix(best, history.word),
        ]

    def _blend(self, mixed: int, p1: int, p2: int) -> int:
        return 2 * mixed + p1 + p2 + 2 >> 2

    def _read_network_bit(self, c0: int) -> int:
        n = 2 * len(self._context) + 3
        logit = network_stretch(self._sums[2 * c0], self._sums[2 * c0 + 1])
        self._x[n] = logit
        self._x[n + 2] = 2 * logit
        self._x[n + 1] = int(self._squash[logit + HALF]) - 32768 >> 6
        return logit

    def _select_by_network(self, selector: int, c0: int, bit: int) -> int:
        agrees = (self._best | 256) >> (8 - bit) == c0
        if selector == 12:
            return self._network_logit + 2048 >> 7 | bit << 5
        if selector == 13:
            return self._best if agrees else 256 + self._second
        if selector == 14:
            return self._network_logit + 2048 >> 8 | self._expected_bit + 1 << 4 | bit << 6
        return self._sure << 3 | bit if agrees else 64 | bit
