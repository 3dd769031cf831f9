"""Deflate streams that can be made again: `inflate` one, `find_streams` in some data.

A stream counts only where its content, deflated by this package, gives all of its bytes again. What it is not: a
decoder's code. Only a writer inflates, with the zlib of this Python: what a stream inflates to does not depend on who
does it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from kolmo.predictors.embedded.kinds.deflate.places import Place, next_place
from kolmo.predictors.embedded.kinds.deflate.settings import Effort, Setting, find_setting

MIN_STREAM_BYTES = 64  # of a stream that is worth its place in the list of segments
# Bytes of content for each byte of small streams, and besides; for each byte of large ones, and besides.
SMALL_EXPANSION, SMALL_FREE = 64, 1 << 16
EXPANSION, FREE_CONTENT = 4, 1 << 22
MAX_CONTENT = 1 << 23  # of streams that are coded together, at most: the usual limit of a block
MAX_CONTENTS = 1 << 25  # of all streams in a block
SPARE = 1 << 10  # bytes of content that a group leaves for a bound of its own
MAX_STREAMS = 1 << 12  # of a block, in pieces
MAX_SETTINGS = 32  # that are told apart in a block; and as many more with rows of pictures
MAX_PLACES = 1 << 14  # of a block that are looked at
# Bytes of content that are inflated or deflated in vain: so many for each byte of a block, and besides; each place
# counts as some.
VAIN_SHARE, FREE_VAIN, VAIN_PLACE = 2, 1 << 21, 64
# Streams that are found but cannot be made again, more than those that can, after which the rest is left alone.
MAX_REFUSED = 16
MAX_ROW_BYTES = 1 << 15  # of pictures whose filters are undone: the longest rows of the kind `image`
FIRST_STEP, LAST_STEP = 1 << 12, 1 << 16  # bytes of a stream that are inflated at once


class Inflated(NamedTuple):
    """What a stream inflates to, and how many bytes it has; no content where there is no stream, or a larger one."""

    content: bytes
    size: int


class Stream(NamedTuple):
    """A stream that can be made again: (first, size) of its pieces, bytes of content, and what `Place` says of rows."""

    pieces: tuple[tuple[int, int], ...]
    content: int
    setting: Setting
    row: int
    pixel: int

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return sum(size for _, size in self.pieces)


def most_content(size: int) -> int:
    """Upper bound on the content of streams of `size` bytes that are coded together."""
    return min(SMALL_EXPANSION * size + SMALL_FREE, EXPANSION * size + FREE_CONTENT, MAX_CONTENT)


def inflate(data: memoryview, first: int, most: int) -> Inflated:
    """The raw stream that begins at `first`, of at most `most` bytes of content.

    >>> inflate(memoryview(bytes.fromhex("4b4c4a4e042300") + b"more"), 0, 100)
    Inflated(content=b'abcabcabc', size=7)
    """
    engine, at, step = zlib.decompressobj(-15), first, FIRST_STEP
    parts: list[bytes] = []
    done = 0
    while not engine.eof:
        piece = data[at : at + step]
        try:
            part = engine.decompress(piece, most - done + 1) if piece else b""
        except zlib.error:
            return Inflated(b"", done)
        parts.append(part)
        done += len(part)
        if done > most or not piece:
            return Inflated(b"", done)
        at, step = at + len(piece), min(2 * step, LAST_STEP)
    return Inflated(b"".join(parts), at - len(engine.unused_data) - first)


def find_streams(data: bytes) -> list[Stream]:
    """The streams of some data that can be made again, by their places, without overlaps.

    Cheap for whatever data: a bounded number of places is looked at, and a bounded number of bytes is inflated and
    deflated in vain.
    """
    effort = Effort(VAIN_SHARE * len(data) + FREE_VAIN)
    inflated = list(_inflated(data, effort))
    used: list[Setting] = []  # the last one that was good is first
    layouts: set[tuple[int, ...]] = set()
    refused = 0
    found: list[Stream] = []
    # Several settings make a small stream: the large ones say which of them the others have.
    for place, pieces, packed, content in sorted(inflated, key=lambda item: -len(item[3])):
        if refused > MAX_REFUSED + len(found) or effort.left < 0:
            break
        hints = tuple(setting for setting in used if not place.is_complete or setting in place.hints) + place.hints
        setting = find_setting(packed, content, hints, place.is_complete, effort)
        if setting is None:
            refused += 1
            continue
        if setting not in used:
            if len(used) == MAX_SETTINGS:
                continue
            used.append(setting)
        used.remove(setting)
        used.insert(0, setting)
        rows = (place.row, place.pixel) if 0 < place.row <= MAX_ROW_BYTES else (0, 0)
        if (*setting, *rows) not in layouts and len(layouts) >= MAX_SETTINGS:
            rows = (0, 0)
        layouts.add((*setting, *rows))
        found.append(Stream(pieces, len(content), setting, *rows))
    return sorted(found)


def _inflated(data: bytes, effort: Effort) -> Iterator[tuple[Place, tuple[tuple[int, int], ...], bytes, bytes]]:
    """Places with the pieces of their streams, the streams and their contents."""
    view = memoryview(data)
    at = pieces_count = 0
    contents = 0
    for _ in range(MAX_PLACES):
        following = next_place(data, at)
        if following is None or effort.left < 0:
            return
        place, at = following
        effort.spend(VAIN_PLACE)
        if place is None:
            continue
        first, end = place.pieces[0]
        whole = len(place.pieces) > 1
        source = memoryview(b"".join(view[a:b] for a, b in place.pieces)) if whole else view[:end]
        most = min(most_content(len(source) - (0 if whole else first)), MAX_CONTENTS - contents)
        content, size = inflate(source, 0 if whole else first, most)
        if not content:
            effort.spend(size)
            continue
        pieces = tuple(_cut(place.pieces, size))
        if size < MIN_STREAM_BYTES or len(content) + SPARE > most_content(size):
            effort.spend(len(content))
            continue
        pieces_count += len(pieces)
        if pieces_count > MAX_STREAMS:
            return
        contents += len(content)
        yield place, pieces, bytes(source[:size] if whole else view[first : first + size]), content
        at = pieces[-1][0] + pieces[-1][1]


def _cut(pieces: tuple[tuple[int, int], ...], size: int) -> Iterator[tuple[int, int]]:
    """(first, size) of the first `size` bytes of pieces."""
    for first, end in pieces:
        if size > 0:
            yield first, min(end - first, size)
            size -= end - first


def groups(streams: list[Stream]) -> list[tuple[list[Stream], int]]:
    """Streams of equal setting and rows in groups that are coded together, and the bound on the content of each.

    A group is as large as `most_content` allows. Its bound, the size of its content or a little more, tells it from
    others of equal setting and rows.
    """
    made: list[list[Stream]] = []
    open_groups: dict[tuple[object, ...], tuple[list[Stream], int, int]] = {}  # -> streams, bytes, content
    for stream in streams:
        key = stream[2:]
        group, size, content = open_groups.get(key, ([], 0, 0))
        size, content = size + stream.size, content + stream.content
        if not group or content + SPARE > most_content(size):
            group, size, content = [], stream.size, stream.content
            made.append(group)
        group.append(stream)
        open_groups[key] = group, size, content
    bounded, taken = [], set()
    for group in made:
        content = sum(stream.content for stream in group)
        while (group[0][2:], content) in taken:
            content += 1
        taken.add((group[0][2:], content))
        bounded.append((group, content))
    return bounded
