"""Which data the predictors `neural` and `network` code with the network (docs/neural.md, "A block").

It uses integers only, so that all machines decide alike. What it is not: part of the format; files store the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from kolmo.native import tables
from kolmo.native.dispatch import kernels

MAX_PLACES = 32  # of a piece of data that are examined
MAX_SAMPLES, SAMPLE_BYTES = 8, 512  # that are taken from them, and their size
MAX_TOGETHER = 64  # samples that the network reads at the same time
MIN_GOOD_SAMPLES = 2  # data is text where the network predicts this many samples clearly better
MAX_TRIAL_BYTES = MAX_SAMPLES * SAMPLE_BYTES  # blocks up to this size are coded in all ways: the gate takes as long
DISTANCES = (1, 2, 3, 4)  # between bytes whose exclusive ors are flat in random data, but not in sounds and images
MAX_COST = 6 * 2839  # cap on the cost of one sampled byte: 6 bits in units of 1/4096 nat; the mixer seldom pays more
FIRST_BYTE = 10  # the byte that the network reads before the first of a lane: a line end


def looks_packed(data: bytes) -> bool:
    """Whether three quarters of a block's samples look random or compressed already. This does not need the network.

    >>> looks_packed(bytes(100_000))
    False
    """
    if len(data) <= MAX_TRIAL_BYTES:
        return is_packed(data) and not _is_text(data)
    samples = samples_of(data)
    others = [sample for sample in samples if not is_packed(sample)]
    return len(others) * 4 <= len(samples) != len(others) and sum(map(_is_uneven, others)) < MIN_GOOD_SAMPLES


def should_use_network(data: bytes, kernel: Callable[[], kernels.Network]) -> bool:
    """Whether the network predicts a block well enough to be worth its time.

    It does where it predicts two of the block's samples clearly better than the counts of their bytes do. Samples with
    nearly even counts are left out. Blocks up to `MAX_TRIAL_BYTES` bytes are tried in all ways unless their counts are
    nearly even. `kernel` returns the network, and is called only where it is needed.

    >>> should_use_network(bytes(100_000), kernel=lambda: None)
    False
    """
    if len(data) <= MAX_TRIAL_BYTES:
        return _is_uneven(data) or _is_text(data)
    samples = samples_of(data)
    if sum(map(_is_uneven, samples)) < MIN_GOOD_SAMPLES:
        return False
    return sum(are_good(samples, kernel)) >= MIN_GOOD_SAMPLES


def are_good(samples: Sequence[bytes], kernel: Callable[[], kernels.Network]) -> list[bool]:
    """For each sample, of equal sizes, whether its counts are uneven and the network predicts it clearly better."""
    uneven = [at for at, sample in enumerate(samples) if _is_uneven(sample)]
    good = [False] * len(samples)
    for first in range(0, len(uneven), MAX_TOGETHER):
        places = uneven[first : first + MAX_TOGETHER]
        some = [samples[at] for at in places]
        for at, sample, cost in zip(places, some, _network_costs(some, kernel()), strict=True):
            good[at] = 4 * cost < 3 * _count_cost(sample)
    return good


def samples_of(data: bytes, most: int = MAX_SAMPLES) -> list[bytes]:
    """At most `most` samples, spread over the block; those with only one byte value are left out.

    Their distances differ, so that in pages of equal size they are not all at the same offset.
    """
    starts = ((len(data) - SAMPLE_BYTES) * (256 * i + i * 159 % 256) // (256 * MAX_PLACES) for i in range(MAX_PLACES))
    found = [sample for sample in (data[at : at + SAMPLE_BYTES] for at in starts) if len(set(sample)) > 1]
    if len(found) <= most:
        return found
    return [found[len(found) * (2 * i + 1) // (2 * most)] for i in range(most)]


def is_packed(sample: bytes) -> bool:
    """Whether byte counts are as flat as those of random or compressed data, also of exclusive ors of neighbours.

    Then two bytes are equal at most 1.35 times as often as by chance, plus noise with a deviation of 22.6 / n times.
    """
    end = sample[-SAMPLE_BYTES:]
    number = int.from_bytes(end, "little")
    pieces = [(number ^ number >> 8 * d).to_bytes(len(end), "little")[: max(len(end) - d, 0)] for d in DISTANCES]
    return all(
        _equal_pairs(piece) * 256 * 20 <= (27 * len(piece) + 1600) * (len(piece) - 1) for piece in [sample, *pieces]
    )


def _is_uneven(sample: bytes) -> bool:
    """Whether two of its bytes are equal five times as often as by chance: base64 gives 4 times, text 7 to 30."""
    return _equal_pairs(sample) * 256 >= 5 * len(sample) * (len(sample) - 1)


def _equal_pairs(sample: bytes) -> int:
    """Number of ordered pairs of equal bytes."""
    return sum(count * (count - 1) for count in Counter(sample).values())


def _is_text(data: bytes) -> bool:
    """Whether the data is UTF-8 without control bytes; the counts of a short text may look flat."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(character >= " " or character in "\t\n\f\r" for character in text)


def _network_costs(samples: Sequence[bytes], kernel: kernels.Network) -> list[int]:
    """Cost of each sample under the network, in units of 1/4096 nat, each byte at most `MAX_COST`."""
    count = len(samples)
    steps = bytes([FIRST_BYTE]) * count + bytes(byte for step in zip(*samples, strict=True) for byte in step)[:-count]
    sums = memoryview(kernel.start(count).step(steps)).cast("I")
    costs = [0] * count
    for lane, sample in enumerate(samples):
        for step, byte in enumerate(sample):
            if _continues_zeros(sample, step):
                continue
            at = 512 * (step * count + lane)
            costs[lane] += min(logarithm(sums[at + 1]) - logarithm(sums[at + 256 + byte]), MAX_COST)
    return costs


def _count_cost(sample: bytes) -> int:
    """Cost of a sample under the counts of its own bytes, in units of 1/4096 nat."""
    counts = Counter(byte for step, byte in enumerate(sample) if not _continues_zeros(sample, step))
    whole = logarithm(counts.total())
    return sum(count * (whole - logarithm(count)) for count in counts.values())


def _continues_zeros(sample: bytes, step: int) -> bool:
    """Whether a byte continues a run of zeros: such padding is left out of the cost."""
    return step > 0 and sample[step] == sample[step - 1] == 0


def logarithm(value: int) -> int:
    """Natural logarithm of an integer from 1 on in units of 1/4096, as docs/neural.md defines it."""
    exponent = value.bit_length() - 1
    digits = value >> exponent - 10 if exponent > 10 else value << 10 - exponent
    return exponent * 2839 + tables.logarithms()[digits & 1023]
