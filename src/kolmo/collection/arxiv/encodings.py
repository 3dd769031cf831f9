"""Bytes of a TeX file to text: UTF-8, else what the file declares or a guess, else latin-1.

Each file is decoded for itself: the files of one paper may differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kolmo.collection.extras import extra

DECLARED = re.compile(rb"^[^%\n]*\\usepackage\s{0,9}\[([A-Za-z0-9]{2,20})\]\s{0,9}\{inputenc\}", re.M)
DECLARATION_BYTES = 1 << 16  # within which the declaration is looked for
CODECS = {  # names of inputenc to codecs of Python
    "latin1": "latin-1",
    "latin2": "iso8859-2",
    "latin3": "iso8859-3",
    "latin4": "iso8859-4",
    "latin5": "iso8859-9",
    "latin9": "iso8859-15",
    "latin10": "iso8859-16",
    "ansinew": "cp1252",
    "cp1252": "cp1252",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1257": "cp1257",
    "cp437": "cp437",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp858": "cp858",
    "cp865": "cp865",
    "cp866": "cp866",
    "koi8": "koi8-r",
    "applemac": "mac-roman",
    "macce": "mac-latin2",
}
NON_LATIN = ("cp1251", "koi8_r", "gb18030", "euc_jp", "euc_kr", "big5")  # of which a library finds the likeliest
NON_LATIN_SHARE = 0.4  # of letters that are not ASCII, from which on the text is not in Latin script
NON_LATIN_BYTES = 16  # fewer say nothing of the script
SAMPLE_BYTES = 1 << 15  # of the lines that are not ASCII, from which the encoding is guessed
WORD_BYTES = re.compile(rb"[A-Za-z]")
C1_BYTES = re.compile(rb"[\x80-\x9f]")
C1_LETTERS = re.compile(rb"(?<=[A-Za-z])[\x86-\x90\x98-\x9b\x9d-\x9f]")  # accented letters of mac-roman
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Decoded:
    r"""The text of a file, line ends "\n".

    Attributes:
        text: the text.
        encoding: Python's name of the codec.
        how: "utf-8", "declared", "guessed" or "latin-1", for counts.
    """

    text: str
    encoding: str
    how: str


def declared(data: bytes) -> str | None:
    """The codec that a TeX file declares with inputenc; None for none, for UTF-8, and for one that is not known."""
    match = DECLARED.search(data[:DECLARATION_BYTES])
    return None if match is None else CODECS.get(match[1].decode("ascii").lower())


def decode(data: bytes, hint: str | None = None) -> Decoded:
    r"""The text of a file.

    Args:
        data: its bytes.
        hint: the codec that the paper's main file declares, for a file that declares none.

    Example:
        >>> decode(b"caf\xc3\xa9").text
        'café'
        >>> decode(b"\\usepackage[latin1]{inputenc} caf\xe9").how
        'declared'
    """
    try:
        return _decoded(data, "utf-8", "utf-8")
    except UnicodeDecodeError:
        pass
    for codec, how in ((declared(data) or hint, "declared"), (_guess(data), "guessed")):
        if codec is not None:
            try:
                return _decoded(data, codec, how)
            except UnicodeDecodeError:
                continue
    return _decoded(data, "latin-1", "latin-1")


def _decoded(data: bytes, codec: str, how: str) -> Decoded:
    text = data.decode(codec).removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
    return Decoded(CONTROLS.sub("", text), codec, how)


def _guess(data: bytes) -> str | None:
    """The likeliest codec by the lines that are not ASCII; None where nothing fits better than latin-1.

    A library guesses well between scripts, and badly between the Western codecs, which differ in few bytes: these are
    told apart by what the bytes from 0x80 to 0x9f would be, letters (mac-roman) or quotation marks and dashes (cp1252).
    """
    lines = [line for line in data.splitlines() if not line.isascii()]
    sample = b"\n".join(lines)[:SAMPLE_BYTES]
    high = sum(byte > 0x7F for byte in sample)
    letters = len(WORD_BYTES.findall(sample))
    if high >= NON_LATIN_BYTES and high > NON_LATIN_SHARE * (high + letters):
        best = extra("charset_normalizer").from_bytes(sample, cp_isolation=list(NON_LATIN)).best()
        if best is not None and best.encoding in NON_LATIN:
            return str(best.encoding).replace("_", "-")
    if not C1_BYTES.search(sample):
        return None
    return "mac-roman" if 2 * len(C1_LETTERS.findall(sample)) > len(C1_BYTES.findall(sample)) else "cp1252"
