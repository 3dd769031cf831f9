"""The list of segments of docs/kinds.md, and the block that it makes of streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from independent.arithmetic import HALF, Decoder
from independent.damage import check

PARAMETERS = {0: 0, 1: 0, 2: 0, 3: 3, 4: 5, 5: 2, 6: 4, 7: 4, 8: 7}


@dataclass(frozen=True)
class Stream:
    """A kind and its parameters."""

    code: int
    parameters: tuple[int, ...] = ()


def gamma(coder: Decoder) -> int:
    """A number in Elias' gamma code."""
    zeros = 0
    while not coder.bit(HALF):
        zeros += 1
        check(zeros < 31, "a number of too many digits")
    return (1 << zeros | coder.number(zeros)) - 1


def read_stream(coder: Decoder, code: int) -> Stream:
    """A stream's parameters."""
    check(code in PARAMETERS, f"kind {code}")
    return Stream(code, tuple(gamma(coder) for _ in range(PARAMETERS[code])))


def read_segments(coder: Decoder, size: int) -> list[tuple[Stream, int]]:
    """Streams and sizes of the segments of a block."""
    if coder.bit(HALF):
        return [(Stream(0), size)]
    code = coder.number(4)
    if code < 15:
        return [(read_stream(coder, code), size)]
    count = gamma(coder) + 2
    check(count <= min(size, 16384), "more segments than there may be")
    streams: list[Stream] = []
    segments = []
    for segment in range(count):
        number = gamma(coder)
        check(number <= len(streams), "a stream number that leaves one out")
        if number == len(streams):
            streams.append(read_stream(coder, coder.number(4)))
            check(len(streams) <= 256, "more streams than there may be")
        left = size - (count - 1 - segment)
        part = gamma(coder) + 1 if segment < count - 1 else size
        check(1 <= part <= left, "a segment that leaves too few bytes")
        segments.append((streams[number], part))
        size -= part
    return segments


Model = Callable[[Stream, int, Decoder], bytes]


def decode_block(payload: bytes, size: int, decode: Model) -> bytes:
    """The raw bytes of a block; `decode` gives those of a stream."""
    coder = Decoder(payload)
    segments = read_segments(coder, size)
    streams = dict.fromkeys(stream for stream, _ in segments)
    left = {}
    for stream in streams:
        whole = sum(part for other, part in segments if other == stream)
        left[stream] = decode(stream, whole, coder)
        check(len(left[stream]) == whole, "the length of a stream")
    raw = b""
    for stream, part in segments:
        raw += left[stream][:part]
        left[stream] = left[stream][part:]
    return raw
