"""Tokens as binary decisions, in NumPy: the specification of `tokens.h` and the fallback where no C was built.

The masses of ids, exp(logit), are summed up a balanced tree over the ids (`tree.py`); a token is the path down to its
leaf. Log-odds of decisions are rounded on one of eight grids, which a number coded for each span of tokens selects
(`predictors.language_models.grids`). With a memory (docs/memory.md) a decision's chance is mixed with what the tokens
of the block so far say. Results here and in C agree up to the rounding that the tolerance covers, so that each
decodes what the other wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from kolmo.errors import CorruptError
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.memory.reference import MAX_LANES, MAX_TOKENS, Memory
from kolmo.native.tokens.tree import GROUP, Floats, Path, Rows, TokenTree, shift_of

MAX_CHOICES = 65536  # most choices of grids for a span


class _Again:
    """Adaptive probability that the next choice of grids is taken, from earlier spans."""

    def __init__(self) -> None:
        self.seen = self.again = 0

    def chance(self) -> int:
        """Probability of a 1, of 65536."""
        return min(max((self.again + 3 << 16) // (self.seen + 4), 1), 65535)

    def update(self, again: int) -> None:
        """Learn from a decision."""
        self.seen += 1
        self.again += again


class TokenEncoder(Path):
    """Codes tokens into a payload; one that keeps them leaves that to `TokenMemory.encode`, for all lanes together."""

    def __init__(self, tree: TokenTree, keeps: bool = False) -> None:
        super().__init__(tree)
        self.coder = BinaryEncoder()
        self.keeps = keeps
        self.tokens: list[int] = []  # where they are kept: the tokens,
        self.spans: list[int] = []  # the choice of each span,
        self.chances: list[int] = []  # and the chance of each decision
        self._again = _Again()
        self._tokens = 0  # number of tokens of the span so far
        self._made: list[tuple[int, int]] = []  # place and bit of each decision of the span
        self._near: list[tuple[int, int]] = []  # index of a decision, and the grids with a boundary too near to it

    def encode(self, logits: Rows, itemsize: int, targets: Rows) -> None:
        """Code a target for each row of logits (a C-contiguous array, or bytes).

        Raises:
            OverflowError: a span has no choice of grids that keeps its decisions from a boundary; use shorter spans.
        """
        tree = self.tree
        wanted = tree.targets(targets)
        for row, target in zip(tree.rows(logits, itemsize, len(wanted)), wanted, strict=True):
            masses = tree.masses(row, itemsize)
            first = target // GROUP * GROUP
            self._encode(tree.top(masses), masses[first : first + GROUP], target)

    def encode_sums(self, top: Rows, leaf: Rows, targets: Rows) -> None:
        """Like `encode`, from sums that a device computed: of all groups, and of the leaves of the target's group."""
        tree = self.tree
        wanted = tree.targets(targets)
        tops = np.frombuffer(top, np.float64).reshape(len(wanted), tree.groups)
        leaves = np.frombuffer(leaf, np.float64).reshape(len(wanted), GROUP)
        for row, masses, target in zip(tops, leaves, wanted, strict=True):
            self._encode(row, masses, target)

    def _encode(self, top: Floats, leaf: Floats, target: int) -> None:
        group = self._group(top, target // GROUP)
        self._leaf(group, leaf, target % GROUP)
        if self.keeps:
            self.tokens.append(target)
        if self.tree.span:
            self._tokens += 1
            if self._tokens == self.tree.span:
                self._encode_span()

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self.tree
        place = tree.place(x)
        if not tree.span:
            if self.keeps:
                self.chances.append(tree.chance(place, 0))
            else:
                self.coder.encode(int(right), tree.chance(place, 0))
            return int(right)
        near = tree.near(place, x)
        if near:
            self._near.append((len(self._made), near))
        self._made.append((place, int(right)))
        return int(right)

    def _encode_span(self) -> None:
        """Code the first choice without a decision too near to a boundary, and then the decisions."""
        if not self._tokens:
            return
        for choice in range(MAX_CHOICES):
            if not any(near >> shift_of(choice, decision) & 1 for decision, near in self._near):
                break
        else:
            raise OverflowError("no choice of grids keeps all decisions of a span from a boundary")
        chances = [
            self.tree.chance(place, shift_of(choice, decision)) for decision, (place, _) in enumerate(self._made)
        ]
        if self.keeps:
            self.spans.append(choice)
            self.chances += chances
        else:
            self.encode_choice(choice)
            for (_, bit), chance in zip(self._made, chances, strict=True):
                self.coder.encode(bit, chance)
        self._made.clear()
        self._near.clear()
        self._tokens = 0

    def encode_choice(self, choice: int) -> None:
        """Code a choice of grids: so many ones, and a zero."""
        for k in range(choice + 1):
            again = int(k < choice)
            self.coder.encode(again, self._again.chance())
            self._again.update(again)

    def close(self) -> None:
        """End the last span."""
        self._encode_span()

    def choices(self) -> int:
        """Number of spans so far, each with a choice of grids."""
        return self._again.seen - self._again.again

    def finish(self) -> bytes:
        """Code the last span, close the interval and return all bytes."""
        self._encode_span()
        return self.coder.finish()


class TokenDecoder(Path):
    """Decodes what `TokenEncoder` wrote, given nearly the same logits."""

    def __init__(self, tree: TokenTree, payload: bytes, memory: TokenMemory | None = None, lane: int = 0) -> None:
        super().__init__(tree)
        if memory:
            memory.check(tree, lane, 1)
        self._memory, self._lane = memory.memory if memory else None, lane
        self._coder = BinaryDecoder(payload)
        self._again = _Again()
        self._tokens = self._choice = self._made = 0

    def decode(self, logits: Rows, itemsize: int) -> int:
        """The next token, from one row of logits.

        Raises:
            CorruptError: the payload ends too early, or a span has no choice of grids.
        """
        tree, memory = self.tree, self._memory
        masses = tree.masses(tree.rows(logits, itemsize, 1)[0], itemsize)
        if memory:
            if memory.lanes[self._lane].at == memory.lanes[self._lane].end:
                raise ValueError("the lane has no token left")
            memory.begin(self._lane)
        group = self._decode_group(tree.top(masses))
        token = self._leaf(group, masses[group * GROUP : group * GROUP + GROUP])
        if memory:
            memory.end()
        return token

    def group(self, top: Rows) -> int:
        """The next token's group, from the sums of all groups."""
        if self._memory:
            raise ValueError("a decoder with a memory decodes whole rows")
        return self._decode_group(top)

    def _decode_group(self, top: Rows) -> int:
        if self.tree.span:
            if self._tokens == 0:
                self._choice, self._made = self._decode_choice(), 0
            self._tokens = (self._tokens + 1) % self.tree.span
        return self._group(np.frombuffer(top, np.float64))

    def leaf(self, group: int, masses: Rows) -> int:
        """The next token, from the masses of its group's leaves."""
        if self._memory:
            raise ValueError("a decoder with a memory decodes whole rows")
        return self._leaf(group, np.frombuffer(masses, np.float64))

    def _decode_choice(self) -> int:
        for choice in range(MAX_CHOICES):
            again = self._coder.decode(self._again.chance())
            self._again.update(again)
            if not again:
                return choice
        raise CorruptError("a span of tokens has no choice of grids")

    def _decide(self, level: int, x: float, right: bool) -> int:
        tree = self.tree
        shift = 0
        if tree.span:
            shift = shift_of(self._choice, self._made)
            self._made += 1
        chance = tree.chance(tree.place(x), shift)
        if not self._memory:
            return self._coder.decode(chance)
        bit = self._coder.decode(self._memory.predict(chance))
        self._memory.update(bit)
        return bit

    def _pass(self) -> None:
        if self._memory:
            self._memory.skip()


class TokenMemory:
    """The memory of all lanes of a block (`kolmo.native.memory.reference`), with their encoders or decoders.

    Args:
        tree: gives the vocabulary.
        tables: `native.tables.packed()`.
        kinds: what each token of the vocabulary is, a byte each.
        lengths: number of tokens in each lane, 32-bit integers.
        remembered: size of the tables in tokens.
    """

    def __init__(self, tree: TokenTree, tables: bytes, kinds: bytes, lengths: bytes, remembered: int) -> None:
        counts: list[int] = np.frombuffer(lengths, np.int32).tolist() if len(lengths) % 4 == 0 else []
        good = len(kinds) == tree.vocabulary and 1 <= len(counts) <= MAX_LANES and min(counts, default=-1) >= 0
        if not good or sum(counts) > MAX_TOKENS or remembered < 1:
            raise ValueError("tables, kinds, lengths or memory do not fit the kernel")
        self.tree = tree
        self.memory = Memory(tables, kinds, counts, remembered)

    def encode(self, encoders: list[TokenEncoder], first: int) -> None:
        """Code all tokens, which the encoders keep, of lanes from `first` on: the first of each, then the second."""
        self._code(encoders, first, None)

    def costs(self, encoders: list[TokenEncoder], first: int) -> bytes:
        """Nats of each token, as doubles, lane after lane, instead of coding them."""
        nats = [np.zeros(len(encoder.tokens)) for encoder in encoders]
        self._code(encoders, first, nats)
        return b"".join(lane.tobytes() for lane in nats)

    def check(self, tree: TokenTree, first: int, lanes: int) -> None:
        """That lanes from `first` on are here, and the tree is of the same vocabulary."""
        if tree.vocabulary != self.tree.vocabulary or not 0 <= first <= len(self.memory.lanes) - lanes:
            raise ValueError("the memory is of another tree, or does not have these lanes")

    def _code(self, encoders: list[TokenEncoder], first: int, nats: list[Floats] | None) -> None:
        for k, encoder in enumerate(encoders):
            encoder.close()
            self.check(encoder.tree, first, len(encoders))
            lane = self.memory.lanes[first + k]
            if not encoder.keeps or lane.end - lane.at != len(encoder.tokens):
                raise ValueError("an encoder does not hold all tokens of its lane")
        decisions = [iter(encoder.chances) for encoder in encoders]
        for token in range(max((len(encoder.tokens) for encoder in encoders), default=0)):
            for k, encoder in enumerate(encoders):
                if token < len(encoder.tokens):
                    self._code_token(first + k, encoder, token, decisions[k], nats[k] if nats else None)

    def _code_token(
        self, lane: int, encoder: TokenEncoder, token: int, chances: Iterator[int], nats: Floats | None
    ) -> None:
        memory, target = self.memory, encoder.tokens[token]
        if nats is None and encoder.tree.span and token % encoder.tree.span == 0:
            encoder.encode_choice(encoder.spans[token // encoder.tree.span])
        memory.begin(lane)
        for level in reversed(range(memory.levels)):
            if memory.low + (1 << level) >= self.tree.vocabulary:  # the right half is empty
                memory.skip()
                continue
            bit = target >> level & 1
            p = memory.predict(next(chances))
            if nats is None:
                encoder.coder.encode(bit, p)
            else:
                nats[token] -= math.log((p if bit else 65536 - p) / 65536)
            memory.update(bit)
        memory.end()
