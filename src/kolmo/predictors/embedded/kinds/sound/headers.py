"""Sound behind headers of WAV, AIFF, AIFC and AU files, anywhere in a block. Integer PCM of 8, 16 and 24 bits.

Sizes that a header claims are bounded by the data; a segment may go on in the next block. What it is not: a reader of
these formats; it takes what it understands, and leaves the rest to other kinds.
"""

from __future__ import annotations

from collections.abc import Iterator

Sound = tuple[int, int, tuple[int, ...]]  # offset and size of the samples in bytes; parameters of the kind `audio`

PCM, EXTENSIBLE = 1, 0xFFFE  # WAV format tags
AIFC_LAYOUTS = {
    b"NONE": (1, 0),
    b"twos": (1, 0),
    b"sowt": (0, 0),
    b"raw ": (1, 1),
    b"in24": (1, 0),
}  # big-endian; unsigned 8 bits
AU_BYTES = {2: 1, 3: 2, 4: 3}  # AU encoding -> bytes of a sample
MAX_CHUNKS = 64  # before the samples
MIN_SOUND_BYTES = 64


def find_sounds(data: bytes) -> list[Sound]:
    """Offsets, sizes and layouts of samples that headers announce, sorted; they do not overlap."""
    found = sorted([*_each(data, b"WAVE", 8, _wav), *_each(data, b"AIF", 8, _aiff), *_each(data, b".snd", 0, _au)])
    result: list[Sound] = []
    for sound in found:
        if sound[1] >= MIN_SOUND_BYTES and (not result or sound[0] >= result[-1][0] + result[-1][1]):
            result.append(sound)
    return result


def _each(data: bytes, magic: bytes, offset: int, read: object) -> Iterator[Sound]:
    at = data.find(magic)
    while at >= 0:
        sound = read(data, at - offset) if at >= offset and callable(read) else None
        if sound:
            yield sound
        at = data.find(magic, at + 1)


def _chunks(data: bytes, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and claimed size of each chunk of a RIFF or an IFF file."""
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size = int.from_bytes(data[at + 4 : at + 8], "little" if order == "little" else "big")
        yield data[at : at + 4], at + 8, size
        at += 8 + size + (size & 1)


def _layout(first: int, size: int, sample: int, channels: int, big: int, plain: int, data: bytes) -> Sound | None:
    if not (1 <= sample <= 3 and 1 <= channels <= 8) or first >= len(data):
        return None
    size = min(size, len(data) - first)
    return first, size, (8 * sample, channels, big if sample > 1 else 0, plain, 0)


def _wav(data: bytes, at: int) -> Sound | None:
    if data[at : at + 4] not in (b"RIFF", b"RF64"):
        return None
    channels = sample = 0
    for name, first, size in _chunks(data, at + 12, "little"):
        if name == b"fmt " and size >= 16:
            tag = int.from_bytes(data[first : first + 2], "little")
            if tag == EXTENSIBLE and size >= 26:
                tag = int.from_bytes(data[first + 24 : first + 26], "little")
            channels = int.from_bytes(data[first + 2 : first + 4], "little")
            align = int.from_bytes(data[first + 12 : first + 14], "little")
            if tag != PCM or not channels or align % channels:
                return None
            sample = align // channels
        elif name == b"data":
            claimed = size or 0xFFFFFFFF  # a writer that could not go back leaves 0
            return _layout(first, claimed, sample, channels, 0, int(sample == 1), data)
    return None


def _aiff(data: bytes, at: int) -> Sound | None:
    form = data[at + 8 : at + 12]
    if data[at : at + 4] != b"FORM" or form not in (b"AIFF", b"AIFC"):
        return None
    channels = sample = 0
    big, plain = 1, 0
    for name, first, size in _chunks(data, at + 12, "big"):
        if name == b"COMM" and size >= 18:
            channels = int.from_bytes(data[first : first + 2], "big")
            sample = int.from_bytes(data[first + 6 : first + 8], "big") + 7 >> 3
            if form == b"AIFC":
                layout = AIFC_LAYOUTS.get(data[first + 18 : first + 22])
                if layout is None:
                    return None
                big, plain = layout
        elif name == b"SSND" and size >= 8:
            skipped = 8 + int.from_bytes(data[first : first + 4], "big")
            return (
                _layout(first + skipped, size - skipped, sample, channels, big, plain, data) if size > skipped else None
            )
    return None


def _au(data: bytes, at: int) -> Sound | None:
    fields = [int.from_bytes(data[at + k : at + k + 4], "big") for k in range(4, 24, 4)]
    offset, size, encoding, _rate, channels = fields
    if not 24 <= offset <= 1 << 16 or encoding not in AU_BYTES:
        return None
    return _layout(at + offset, size or 0xFFFFFFFF, AU_BYTES[encoding], channels, 1, 0, data)
