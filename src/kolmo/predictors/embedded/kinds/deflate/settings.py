"""With which setting of zlib a stream can be made again from its content, if with any.

Streams are made by the deflate of this package, which is exact, so that all machines find the same. What it is not: a
search of all settings; docs/kinds-deflate.md says which are in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kolmo.native.dispatch import kernels

PROBE_BYTES = 1 << 16  # of a content, on which settings are tried before all of it
COMPARED_BYTES = 64  # of the stream of such a part: the codes of the first block are among them
LEVELS = (6, 9, 1, 5, 4, 8, 7, 3, 2)  # the likely ones first
ZLIB_LEVELS = ((1,), (5, 4, 3, 2), (6,), (9, 8, 7))  # by the two bits of a zlib header
MIN_RARE_BYTES = 1 << 10  # of a stream for which levels are tried that hardly anyone uses
COMMON_LEVELS = 3  # of `LEVELS`
# Comparisons of a search for matches at most, for each byte of content and besides: part of the format, since a decoder
# refuses more. Files take less than 500 for each byte, hostile ones hundreds of thousands.
COMPARISONS, FREE_COMPARISONS = 1 << 11, 1 << 22
FIRST_LAZY_LEVEL = 4  # the strategy changes nothing below


class Setting(NamedTuple):
    """Parameters of zlib's deflateInit2: level, memLevel, windowBits, and 1 for the strategy Z_FILTERED."""

    level: int
    memory: int = 8
    window: int = 15
    filtered: int = 0


def deflated(content: bytes, setting: Setting) -> bytes | None:
    """The raw stream that zlib makes of a content, or None where the search for matches takes too long.

    >>> deflated(b"abcabcabc", Setting(6)).hex()
    '4b4c4a4e042300'
    """
    try:
        return kernels.deflate(content, *setting, FREE_COMPARISONS + COMPARISONS * len(content))
    except OverflowError:
        return None


class Effort:
    """Counts the bytes that were inflated or deflated in vain; a search ends where they are too many."""

    def __init__(self, most: int) -> None:
        self.left = most

    def spend(self, size: int) -> None:
        """Count `size` bytes."""
        self.left -= size


def settings_of_zlib(head: bytes, filtered: bool) -> tuple[Setting, ...]:
    """The settings of a zlib stream by its two header bytes, the likely ones first; empty where it has none.

    `filtered`: the content is filtered rows of a picture, for which libpng uses another strategy, and whose header it
    corrects afterwards to the least window that suffices.

    >>> settings_of_zlib(bytes.fromhex("789c"), filtered=False)
    (Setting(level=6, memory=8, window=15, filtered=0), Setting(level=6, memory=9, window=15, filtered=0))
    """
    if len(head) < 2 or head[0] & 15 != 8 or head[0] > 0x78 or int.from_bytes(head, "big") % 31 or head[1] & 32:
        return ()
    window = max((head[0] >> 4) + 8, 9)  # zlib itself uses 9 where 8 is asked for
    windows = (15,) if window == 15 else (15, window) if filtered else (window, 15)
    return tuple(
        Setting(level, memory, bits, strategy)
        for level in ZLIB_LEVELS[head[1] >> 6]
        for bits in windows
        for strategy in ((1, 0) if filtered and level >= FIRST_LAZY_LEVEL else (0,))
        for memory in (8, 9)
    )


def find_setting(
    packed: bytes, content: bytes, hints: Sequence[Setting], is_complete: bool, effort: Effort
) -> Setting | None:
    """The first of some settings with which `content` gives the raw stream `packed`, or None.

    Args:
        packed: the stream.
        content: what it inflates to.
        hints: settings to try first.
        is_complete: whether no others are tried.
        effort: is charged for what is deflated in vain.
    """
    tried: set[Setting] = set()
    for setting in hints if is_complete else _with_others(hints, len(packed)):
        if setting in tried:
            continue
        if effort.left < 0:
            return None
        # The first one is likely, so that a part of a content that is not large would be work in vain.
        if len(content) > PROBE_BYTES * (1 if tried else 4) and not _begins(packed, content, setting, effort):
            tried.add(setting)
            continue
        tried.add(setting)
        if deflated(content, setting) == packed:
            return setting
        effort.spend(len(content))
    return None


def _begins(packed: bytes, content: bytes, setting: Setting, effort: Effort) -> bool:
    """Whether the stream of a part of the content begins like the whole stream, as far as that is known."""
    size = PROBE_BYTES
    while size < len(content):
        begun = deflated(content[:size], setting)
        if not begun or not begun[0] & 1:
            if begun and begun[:COMPARED_BYTES] == packed[:COMPARED_BYTES]:
                return True
            effort.spend(size)
            return False
        size *= 4  # a part that is one block says nothing: the codes depend on all tokens of the block
    return True


def _with_others(hints: Sequence[Setting], size: int) -> Iterator[Setting]:
    yield from hints
    for level in LEVELS if size >= MIN_RARE_BYTES else LEVELS[:COMMON_LEVELS]:
        for memory in (8, 9):
            yield Setting(level, memory)


__all__ = ["Effort", "Setting", "deflated", "find_setting", "settings_of_zlib"]
