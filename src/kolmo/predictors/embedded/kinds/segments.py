"""How a block stores what its segments are: decisions of even chance before the content (docs/kinds.md, "A block").

    1                       the whole block is text, predicted with the network
    0, four bits of a code  the whole block is of that kind; its parameters follow
    0, 1111                 segments follow: their number, then each

A number n from 0 on is written as the bits of n + 1 behind as many zeros as it has bits after the leading one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kolmo.coder.binary import BinaryDecoder
from kolmo.errors import CorruptError
from kolmo.predictors.embedded.kinds.base import MAX_PARAMETER, Kind, Segment

HALF = 1 << 15  # probability 1/2, in units of 2^-16
TEXT = 0  # the code of text that is predicted with the network
MANY = 15  # in place of a code: segments follow
CODE_BITS = 4
MAX_BITS = 31  # of a number
MAX_SEGMENTS = 1 << 14  # of a block: reading them takes a second at most
MAX_STREAMS = 1 << 8  # of a block: each has a model of its own, which takes milliseconds to start


class Sink(Protocol):
    """What decisions are written to: a `BinaryEncoder`."""

    def encode(self, bit: int, probability: int, /) -> None:
        """Code a decision; the probability is of a 1, in units of 2^-16."""
        ...


def write_segments(encoder: Sink, segments: Sequence[Segment]) -> None:
    """Write the segments of a block, which are sorted and cover it."""
    if len(segments) > 1:
        _write(encoder, MANY, CODE_BITS + 1)
        write_number(encoder, len(segments) - 2)
    elif segments[0].code == TEXT:
        _write(encoder, 1, 1)
        return
    streams: dict[tuple[int, tuple[int, ...]], int] = {}
    for number, segment in enumerate(segments):
        key = segment.code, segment.parameters
        if len(segments) > 1:
            write_number(encoder, streams.get(key, len(streams)))
        if key not in streams:
            streams[key] = len(streams)
            _write(encoder, segment.code, CODE_BITS + (len(segments) == 1))
            for value in segment.parameters:
                write_number(encoder, value)
        if number < len(segments) - 1:
            write_number(encoder, segment.size - 1)


class _Counter:
    """Counts decisions in place of an encoder."""

    def __init__(self) -> None:
        self.count = 0

    def encode(self, bit: int, probability: int) -> None:
        self.count += 1


def segment_bits(segments: Sequence[Segment]) -> int:
    """The bits that `write_segments` takes."""
    counter = _Counter()
    write_segments(counter, segments)
    return counter.count


def read_segments(decoder: BinaryDecoder, size: int, kinds: Mapping[int, Kind]) -> list[Segment]:
    """Read the segments of a block of `size` bytes: the mirror of `write_segments`.

    Raises:
        CorruptError: they do not cover the block, or are of no kind.
    """
    if decoder.decode(HALF):
        return [Segment(TEXT, 0, size, _read_parameters(decoder, TEXT, kinds))]
    code = _read(decoder, CODE_BITS)
    if code != MANY:
        return [Segment(code, 0, size, _read_parameters(decoder, code, kinds))]
    count = read_number(decoder) + 2
    if count > min(size, MAX_SEGMENTS):
        raise CorruptError(f"it claims {count} segments in {size} bytes")
    streams: list[tuple[int, tuple[int, ...]]] = []
    segments: list[Segment] = []
    first = 0
    for number in range(count):
        stream = read_number(decoder)
        if stream > len(streams):
            raise CorruptError(f"segment {number} is of stream {stream}, of which there are {len(streams)}")
        if stream == len(streams):
            if stream == MAX_STREAMS:
                raise CorruptError(f"it claims more than {MAX_STREAMS} streams")
            code = _read(decoder, CODE_BITS)
            streams.append((code, _read_parameters(decoder, code, kinds)))
        length = read_number(decoder) + 1 if number < count - 1 else size - first
        if first + length > size - (count - 1 - number):
            raise CorruptError(f"segment {number} ends behind the block")
        code, parameters = streams[stream]
        segments.append(Segment(code, first, length, parameters))
        first += length
    return segments


def streams_of(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments of each stream, that is of equal kind and parameters, streams in the order of first appearance."""
    streams: dict[tuple[int, tuple[int, ...]], list[Segment]] = {}
    for segment in segments:
        streams.setdefault((segment.code, segment.parameters), []).append(segment)
    return list(streams.values())


def _read_parameters(decoder: BinaryDecoder, code: int, kinds: Mapping[int, Kind]) -> tuple[int, ...]:
    if code not in kinds:
        raise CorruptError(f"there is no kind {code} of data; the file is damaged or newer")
    return tuple(read_number(decoder) for _ in kinds[code].fields)


def _write(encoder: Sink, value: int, bits: int) -> None:
    for k in reversed(range(bits)):
        encoder.encode(value >> k & 1, HALF)


def _read(decoder: BinaryDecoder, bits: int) -> int:
    value = 0
    for _ in range(bits):
        value = value << 1 | decoder.decode(HALF)
    return value


def write_number(encoder: Sink, number: int) -> None:
    """Write a number from 0 to `MAX_PARAMETER` - 1.

    Raises:
        ValueError: it is another number.
    """
    if not 0 <= number <= MAX_PARAMETER - 1:
        raise ValueError(f"{number} is not a number from 0 to {MAX_PARAMETER - 1}")
    _write(encoder, number + 1, number_bits(number))


def number_bits(number: int) -> int:
    """The bits that `write_number` takes."""
    return 2 * (number + 1).bit_length() - 1


def read_number(decoder: BinaryDecoder) -> int:
    """Read a number: the mirror of `write_number`.

    Raises:
        CorruptError: it is larger than any that is written.
    """
    zeros = 0
    while not decoder.decode(HALF):
        zeros += 1
        if zeros == MAX_BITS:
            raise CorruptError("a number of its segments is too large")
    return (1 << zeros | _read(decoder, zeros)) - 1


__all__ = [
    "MANY",
    "TEXT",
    "number_bits",
    "read_number",
    "read_segments",
    "segment_bits",
    "streams_of",
    "write_number",
    "write_segments",
]
