"""How many tokens a source file has: by CodeParrot's tokenizer where this machine has it, else by an estimate.

Nothing is downloaded. The name of what counted goes into the manifest, since it decides which files stay: the digest of
the tokenizer's file is a part of it. Workers are handed that name, and refuse to count with anything else.

What it is not: a tokenizer for models (see `predictors.vocabulary`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import reason
from kolmo.installing import install

REPOSITORY = "codeparrot/codeparrot"
FILE = "tokenizer.json"
ESTIMATE = "estimate-1"
WORD, DIGIT, SPACE, MARK, SINGLE, INNER = range(6)  # classes of bytes of UTF-8


def estimated_tokens(text: str) -> int:
    """About as many tokens as a byte pair encoding of 32,768 tokens, trained on Python, has for a source file.

    A token is up to 8 letters, with a single space before them; up to 3 digits; all white space in a row; up to 2 other
    signs of ASCII; one sign beyond ASCII, or one of the separators U+001C to U+001F.

    >>> estimated_tokens("for i in range(10):")
    7
    """
    import numpy as np

    if not text:
        return 0
    data = text.encode("utf-8", "surrogatepass")
    kinds = np.frombuffer(data.translate(CLASSES), np.uint8)
    begins = np.concatenate([[0], np.flatnonzero(kinds[1:] != kinds[:-1]) + 1])
    lengths = np.diff(begins, append=len(data))
    of_runs = kinds[begins]
    before_words = (of_runs[:-1] == SPACE) & (of_runs[1:] == WORD) & (lengths[:-1] == 1)
    places = begins[:-1][before_words]
    return int(
        ((lengths[of_runs == WORD] + 7) >> 3).sum()
        + ((lengths[of_runs == DIGIT] + 2) // 3).sum()
        + ((lengths[of_runs == MARK] + 1) >> 1).sum()
        + lengths[of_runs == SINGLE].sum()
        + (of_runs == SPACE).sum()
        - (np.frombuffer(data, np.uint8)[places] == ord(" ")).sum()
    )


def _class_of(byte: int) -> int:
    """Of a byte; those within a sign beyond ASCII count nothing."""
    sign = chr(byte)
    if byte >= 0x80:
        return INNER if byte < 0xC0 else SINGLE
    if sign.isalpha():
        return WORD
    if sign.isdigit():
        return DIGIT
    if sign in " \t\n\r\f\v":
        return SPACE
    return SINGLE if 0x1C <= byte < 0x20 else MARK


CLASSES = bytes(map(_class_of, range(256)))


def find_tokenizer(path: str | None = None) -> tuple[str, str | None]:
    """What counts tokens here: its name for the manifest, and the path of its file (None for the estimate).

    Args:
        path: a `tokenizer.json` of one's own; None: CodeParrot's, in the cache of the Hugging Face hub on this machine.

    Raises:
        KolmoError: the file that was asked for cannot be read.
    """
    if path is not None:
        name = f"{Path(path).name}@{_digest(path)}"
        _load(path)
        return name, path
    found = _cached()
    if found is None:
        return ESTIMATE, None
    try:
        _load(found)
    except KolmoError:
        return ESTIMATE, None
    return f"{REPOSITORY}@{_digest(found)}", found


def counter_of(name: str, path: str | None) -> Callable[[str], int]:
    """What `find_tokenizer` has found, ready to count.

    Raises:
        KolmoError: the file is another one here.
    """
    if path is None:
        return estimated_tokens
    if not name.endswith(f"@{_digest(path)}"):
        raise KolmoError(f"{path}: is not the tokenizer that the collection began with ({name}); put that file there")
    tokenizer = _load(path)
    return lambda text: len(tokenizer.encode(text).ids)


def _cached() -> str | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(REPOSITORY, FILE)
    return found if isinstance(found, str) else None


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise KolmoError(f"{path}: cannot be read ({reason(error)}); name a tokenizer.json") from None


def _load(path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtraError(f"{path}: needs the package tokenizers; {install('hf')}") from None
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more particular
        raise KolmoError(f"{path}: is not a tokenizer ({reason(error)}); name a tokenizer.json") from None
