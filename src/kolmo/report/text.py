"""Bytes of text -> characters, their classes, tokens and lines: one pass of array operations, any input.

Each byte that is not UTF-8 counts as a character. What it is not: it contains no costs (see `explain`) and depends on
no language: a token is a run of letters and digits, of spaces, or of one punctuation mark.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = ("letters", "digits", "spaces", "punctuation", "newlines", "other")
LETTER, DIGIT, SPACE, PUNCTUATION, NEWLINE, OTHER = range(len(CLASSES))
MAX_TOKEN_CHARACTERS = 32  # longer runs (DNA, base64) are cut, or one colour would cover a page
CODE_POINTS = 0x110000
ZWJ = 0x200D
EXTENDING = (0x200C, ZWJ, *range(0x1F3FB, 0x1F400))  # joiners and skin tones: part of the character before
SINGLE_CHARACTER_WORDS = ((0x3041, 0x3096), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Hiragana and ideographs, which no spaces divide: each is a word."""
APOSTROPHES = (0x27, 0x2019)
CONTROLS = bytes({*range(32), 127} - {*b"\t\n\f\r\x1b"})

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]
Points = npt.NDArray[np.uint32] | npt.NDArray[np.uint8]


def is_text(data: bytes) -> bool:
    """Whether a content reads as text: hardly any control bytes, and UTF-8 or nearly so (Latin-1 with few accents)."""
    if len(data) - len(data.translate(None, CONTROLS)) > len(data) // 100:
        return False
    if data.isascii():
        return True
    return int(_is_stray(_points(data.decode("utf-8", "surrogateescape"))).sum()) <= len(data) // 3


@dataclass(frozen=True)
class Text:
    """A text with its characters, tokens and lines. Positions of characters are indices into `string`.

    Attributes:
        string: the content; a byte 0xHH that is not UTF-8 is the surrogate U+DCHH.
        starts: byte offset of each character, shape (characters,).
        classes: index into `CLASSES` of each character, shape (characters,).
        tokens: first character of each token, shape (tokens,).
        words: whether a token is (part of) a word, shape (tokens,).
        ranks: place of each character in its word from 0, -1 outside words, shape (characters,).
        lines: first character of each line, shape (lines,).
        invalid: number of bytes that are not UTF-8.
    """

    string: str
    starts: Places
    classes: Bytes
    tokens: Places
    words: Flags
    ranks: Places
    lines: Places
    invalid: int


def cut(data: bytes) -> Text:
    """Cut a content of at least one byte into characters, tokens and lines."""
    points: Points
    if data.isascii():
        string = data.decode("ascii")
        points = np.frombuffer(data, np.uint8)
        starts = np.arange(len(data), dtype=np.int32)
        invalid = 0
    else:
        string = data.decode("utf-8", "surrogateescape")
        points = _points(string)
        stray = _is_stray(points)
        sizes = np.where(stray, 1, 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF))
        starts = np.zeros(len(points), np.int32)
        np.cumsum(sizes[:-1], out=starts[1:])
        invalid = int(stray.sum())
    tables = _tables(points)
    classes = tables.classes[points]
    kinds = tables.kinds[points]
    _join_apostrophes(points, kinds, classes)
    extending = _extending(tables.extends[points], kinds)
    ends = _line_ends(points)
    new = _token_starts(points, kinds, extending, ends)
    runs = _place_in_run(new)
    new |= runs % MAX_TOKEN_CHARACTERS == 0
    tokens = np.flatnonzero(new).astype(np.int32)
    lettered = np.maximum.reduceat((classes == LETTER).astype(np.uint8), tokens).astype(np.bool_)
    words = lettered & (kinds[tokens] == LETTER)
    inside = np.repeat(words, np.diff(tokens, append=len(points)))
    lines = np.flatnonzero(ends[:-1]).astype(np.int32) + np.int32(1)
    return Text(
        string,
        starts,
        classes,
        tokens,
        words,
        np.where(inside, runs, np.int32(-1)),
        np.concatenate([np.zeros(1, np.int32), lines]),
        invalid,
    )


def class_of(point: int) -> int:
    """The class of a code point, as an index into `CLASSES`; surrogates, controls and unassigned ones are other."""
    if point in (0x0A, 0x0D):
        return NEWLINE
    if point == 0x09:
        return SPACE
    category = unicodedata.category(chr(point))
    if category in ("Zl", "Zp"):
        return OTHER
    return {"L": LETTER, "M": LETTER, "N": DIGIT, "Z": SPACE, "P": PUNCTUATION, "S": PUNCTUATION}.get(
        category[0], OTHER
    )


def _points(string: str) -> npt.NDArray[np.uint32]:
    points: npt.NDArray[np.uint32] = np.frombuffer(string.encode("utf-32-le", "surrogatepass"), "<u4")
    return points


def _is_stray(points: Points) -> Flags:
    """Flags of characters that stand for a byte that is not UTF-8: surrogates, which valid UTF-8 cannot contain."""
    stray: Flags = points >> 8 == 0xDC
    return stray


@dataclass(frozen=True)
class _Tables:
    """By code point, shape (CODE_POINTS,): class; kind (the class, but digits and _ are letters); mark or joiner."""

    classes: Bytes
    kinds: Bytes
    extends: Flags


def _tables(points: Points) -> _Tables:
    """The tables, filled for the code points that occur."""
    present = np.zeros(CODE_POINTS, np.bool_)
    present[points] = True
    tables = _Tables(np.zeros(CODE_POINTS, np.uint8), np.zeros(CODE_POINTS, np.uint8), np.zeros(CODE_POINTS, np.bool_))
    for point in np.flatnonzero(present).tolist():
        kind = tables.classes[point] = class_of(point)
        tables.kinds[point] = LETTER if kind == DIGIT or point == 0x5F else kind
        tables.extends[point] = point in EXTENDING or unicodedata.category(chr(point))[0] == "M"
    return tables


def _join_apostrophes(points: Points, kinds: Bytes, classes: Bytes) -> None:
    """Make an apostrophe between two letters part of the word."""
    letter = classes == LETTER
    middle = points[1:-1]
    between = ((middle == APOSTROPHES[0]) | (middle == APOSTROPHES[1])) & letter[:-2] & letter[2:]
    kinds[1:-1][between] = LETTER


def _extending(extends: Flags, kinds: Bytes) -> Flags:
    """Marks and joiners that stand on a letter or sign: give them its kind, for they never begin a token."""
    if not extends.any():
        return extends
    places = np.arange(len(extends), dtype=np.int32)
    base = np.maximum.accumulate(np.where(extends, np.int32(0), places))
    under = kinds[base]
    extending: Flags = extends & ((under == LETTER) | (under == PUNCTUATION)) & ~extends[base]
    kinds[extending] = under[extending]
    return extending


def _line_ends(points: Points) -> Flags:
    r"""Last characters of line ends: \n, \r\n, or \r alone."""
    ends = points == 0x0A
    returns = points == 0x0D
    returns[:-1] &= ~ends[1:]
    joined: Flags = ends | returns
    return joined


def _token_starts(points: Points, kinds: Bytes, extending: Flags, ends: Flags) -> Flags:
    new = np.ones(len(points), np.bool_)
    new[1:] = kinds[1:] != kinds[:-1]
    new[1:] |= (kinds[1:] == PUNCTUATION) & (points[1:] != points[:-1])
    new |= kinds == OTHER
    new[1:] |= ends[:-1]
    if points.dtype != np.uint8:
        alone = np.zeros(len(points), np.bool_)
        for first, last in SINGLE_CHARACTER_WORDS:
            alone |= (points >= first) & (points <= last)
        new |= alone
        new[1:] |= alone[:-1]
        new &= ~extending
        joined = extending[:-1] & (points[:-1] == ZWJ) & (kinds[1:] == kinds[:-1])
        new[1:] &= ~joined
    new[0] = True
    return new


def _place_in_run(new: Flags) -> Places:
    """Distance of each character from the last True, shape (characters,)."""
    places = np.arange(len(new), dtype=np.int32)
    distance: Places = places - np.maximum.accumulate(np.where(new, places, np.int32(0)))
    return distance
