"""The small JSON files of a model's folder, read with suspicion: each number is of its kind, or one line says so.

What it is not: it knows no architecture and no tokenizer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted

MAX_BYTES = 64 << 20  # of one file
MAX_WHOLE = 1 << 31
LARGEST = 3e38  # of a binary32, in which GGUF states numbers


@dataclass(frozen=True)
class Facts:
    """A JSON object, with the file that it is from.

    Attributes:
        path: of the file.
        values: its content.
    """

    path: Path
    values: dict[str, Any]

    def whole(self, *keys: str, default: int | None = None) -> int:
        """The first value under these keys that is not null: a whole number from 1 to 2^31.

        Raises:
            FormatError: there is none, and no default.
            CorruptError: it is something else.
        """
        for key in keys:
            if (found := self.values.get(key)) is not None:
                if type(found) is not int or not 0 < found <= MAX_WHOLE:
                    raise CorruptError(f"{self.path}: {key} is {quoted(found)}, not a whole number above 0; correct it")
                return found
        if default is None:
            raise FormatError(f"{self.path}: has no {keys[0]}; add it")
        return default

    def number(self, key: str, default: float | None = None) -> float:
        """The value under a key: a number above 0 that binary32 holds.

        Raises:
            FormatError, CorruptError: as for `whole`.
        """
        found = self.values.get(key)
        if found is None and default is not None:
            return default
        if found is None:
            raise FormatError(f"{self.path}: has no {key}; add it")
        if type(found) not in (int, float) or not 0 < found < LARGEST:
            raise CorruptError(f"{self.path}: {key} is {quoted(found)}, not a number above 0; correct it")
        return float(found)

    def inner(self, key: str) -> Facts:
        """The object under a key; an empty one if it is null or missing.

        Raises:
            CorruptError: it is something else.
        """
        found = self.values.get(key) or {}
        if not isinstance(found, dict):
            raise CorruptError(f"{self.path}: {key} is {quoted(found)}, not an object; correct it")
        return Facts(self.path, found)

    def require(self, key: str, known: tuple[Any, ...]) -> None:
        """Refuse a value that llama.cpp would not heed; null and a missing one are what the first of `known` is.

        Raises:
            FormatError: it is none of `known`.
        """
        found = self.values.get(key)
        if found is not None and not any(found == one and type(found) is type(one) for one in known):
            listed = " or ".join(map(repr, known))
            raise FormatError(f"{self.path}: {key} is {quoted(found)}; llama.cpp runs this architecture with {listed}")


def read(path: Path) -> Facts:
    """The JSON object in a file.

    Raises:
        CorruptError: there is none in it.
        OSError: the file cannot be read.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: is not the JSON of a model ({error}); get it again") from None
    return Facts(path, values)
