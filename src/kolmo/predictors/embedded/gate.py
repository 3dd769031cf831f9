"""Which blocks the predictors `neural` and `network` code with the network (docs/neural.md, "A block").

Integers only, so that all machines decide alike. What it is not: part of the format; a decoder reads the decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from kolmo.native import tables
from kolmo.native.dispatch import kernels

PLACES, SAMPLES, SAMPLE = 32, 8, 512  # of a block: places that the gate looks at, pieces it takes of them, their bytes
GOOD = 2  # samples that the network must predict clearly better for a block to hear it
TRIED = SAMPLES * SAMPLE  # blocks up to so many bytes are coded all ways: the gate would cost as much
DISTANCES = (1, 2, 3, 4)  # between bytes whose differences are flat too in random data, but not in sounds and images
DEAREST = 6 * 2839  # what a byte of a sample counts at most, 6 bits in steps of 1/4096: the mixer hardly pays for more
FIRST = 10  # what a lane's network is given before its first byte: a line's end


def looks_packed(data: bytes) -> bool:
    """Whether a block looks random or compressed by others: three quarters of its samples do. This needs no network.

    >>> looks_packed(bytes(100_000))
    False
    """
    if len(data) <= TRIED:
        return _is_packed(data) and not _is_text(data)
    samples = _samples(data)
    others = [sample for sample in samples if not _is_packed(sample)]
    return len(others) * 4 <= len(samples) != len(others) and sum(map(_is_uneven, others)) < GOOD


def is_worth_hearing(data: bytes, kernel: Callable[[], kernels.Network]) -> bool:
    """Whether the network is worth its time on a block.

    It is where the network predicts two of a block's samples clearly better than the counts of their bytes do. Samples
    whose counts are nearly even never count. Blocks up to `TRIED` bytes are worth a trial unless theirs are. Integers
    only, so that all machines decide alike. `kernel` gives the network, and is not called where it is not needed.

    >>> is_worth_hearing(bytes(100_000), kernel=lambda: 1 / 0)
    False
    """
    if len(data) <= TRIED:
        return _is_uneven(data) or _is_text(data)
    samples = [sample for sample in _samples(data) if _is_uneven(sample)]
    if len(samples) < GOOD:
        return False
    good = sum(4 * said < 3 * _counted(sample) for sample, said in zip(samples, _said(samples, kernel()), strict=True))
    return good >= GOOD


def _samples(data: bytes) -> list[bytes]:
    """At most eight pieces of a block, spread over it; those of one byte's value alone do not count.

    Their distances differ, so that pages, with text at the start of each, are not met at one place in all of them.
    """
    starts = ((len(data) - SAMPLE) * (256 * i + i * 159 % 256) // (256 * PLACES) for i in range(PLACES))
    found = [sample for sample in (data[at : at + SAMPLE] for at in starts) if len(set(sample)) > 1]
    if len(found) <= SAMPLES:
        return found
    return [found[len(found) * (2 * i + 1) // (2 * SAMPLES)] for i in range(SAMPLES)]


def _is_packed(sample: bytes) -> bool:
    """Whether bytes are as flat as random or compressed ones, and so are neighbours' exclusive ors.

    Two bytes are then hardly more often equal than by chance: 1.35 times, and noise, whose deviation is 22.6 / n times.
    """
    end = sample[-SAMPLE:]
    number = int.from_bytes(end, "little")
    pieces = [(number ^ number >> 8 * d).to_bytes(len(end), "little")[: max(len(end) - d, 0)] for d in DISTANCES]
    return all(
        _equal_pairs(piece) * 256 * 20 <= (27 * len(piece) + 1600) * (len(piece) - 1) for piece in [sample, *pieces]
    )


def _is_uneven(sample: bytes) -> bool:
    """Whether two of its bytes are equal five times as often as by chance: base64 gives 4 times, text 7 to 30."""
    return _equal_pairs(sample) * 256 >= 5 * len(sample) * (len(sample) - 1)


def _equal_pairs(sample: bytes) -> int:
    """Pairs of equal bytes, both ways round."""
    return sum(count * (count - 1) for count in Counter(sample).values())


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8 without control bytes: what is short may look flat."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(character >= " " or character in "\t\n\f\r" for character in text)


def _said(samples: Sequence[bytes], kernel: kernels.Network) -> list[int]:
    """What the network says each sample costs, in nats in steps of 1/4096, no byte more than `DEAREST`."""
    count = len(samples)
    steps = bytes([FIRST]) * count + bytes(byte for step in zip(*samples, strict=True) for byte in step)[:-count]
    sums = memoryview(kernel.start(count).step(steps)).cast("I")
    costs = [0] * count
    for lane, sample in enumerate(samples):
        for step, byte in enumerate(sample):
            if _goes_on(sample, step):
                continue
            at = 512 * (step * count + lane)
            costs[lane] += min(logarithm(sums[at + 1]) - logarithm(sums[at + 256 + byte]), DEAREST)
    return costs


def _counted(sample: bytes) -> int:
    """What the counts of its own bytes say that a sample costs, in nats in steps of 1/4096."""
    counts = Counter(byte for step, byte in enumerate(sample) if not _goes_on(sample, step))
    whole = logarithm(counts.total())
    return sum(count * (whole - logarithm(count)) for count in counts.values())


def _goes_on(sample: bytes, step: int) -> bool:
    """Whether a run of zeros goes on there: padding within a sample has no vote either."""
    return step > 0 and sample[step] == sample[step - 1] == 0


def logarithm(value: int) -> int:
    """Natural logarithm of a whole number from 1 on in steps of 1/4096, as docs/neural.md defines it."""
    exponent = value.bit_length() - 1
    digits = value >> exponent - 10 if exponent > 10 else value << 10 - exponent
    return exponent * 2839 + tables.logarithms()[digits & 1023]
