"""GGUF files: which belong together, and whether llama.cpp may be asked to open one.

llama.cpp says what is wrong with most damaged files; for some it ends the whole program. These are found here first,
in the facts before the weights. The format is docs/gguf.md of ggml. What it is not: it reads no weights, and a file
that it lets pass may still be refused.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import NamedTuple

from kolmo.errors import PredictorError

HEADER = struct.Struct("<4sIQQ")  # magic, version, how many tensors and facts
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # by their type
STRING, ARRAY = 8, 9  # the other types
LAYERS = 512  # at most
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def parts(path: Path) -> list[Path]:
    """The files of a model that begins with `path`: most have one."""
    found = PART.search(path.name)
    if not found:
        return [path]
    begin, count = path.name[: found.start()], int(found[2])
    return [path.with_name(f"{begin}-{number + 1:05}-of-{found[2]}.gguf") for number in range(count)]


def check(path: Path) -> None:
    """See whether llama.cpp may be asked to open a file.

    Raises:
        PredictorError: it is not there, or no GGUF file that llama.cpp knows.
    """
    if path.is_dir():
        raise PredictorError(f"{path}: is a folder; name the .gguf file in it")
    try:
        with open(path, "rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size or head[:4] != b"GGUF":
                raise PredictorError(
                    f"{path}: not a GGUF file; convert the model with llama.cpp's convert_hf_to_gguf.py"
                )
            _, version, _, count = HEADER.unpack(head)
            if version not in VERSIONS:
                reason = "of the other byte order" if version & 0xFFFF == 0 else f"version {version}, not 2 or 3"
                raise PredictorError(f"{path}: a GGUF file {reason}; convert the model again with llama.cpp's tools")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                facts = read_facts(data, count)
    except FileNotFoundError:
        raise PredictorError(f"{path}: no such file; give the path of a model in a .gguf file") from None
    except OSError as error:
        raise PredictorError(f"{path}: {error.strerror}; make it readable") from None
    # Of what follows, llama.cpp ends the program.
    tokens = [text for text in facts.tokens if text]
    if len(set(tokens)) < len(tokens):
        raise PredictorError(f"{path}: two of its tokens are the same; get the file again")
    for name, value in facts.numbers.items():
        if name.endswith(b".block_count") and not 1 <= value <= LAYERS:
            raise PredictorError(f"{path}: {value} layers, not 1 to {LAYERS}; get the file again")


class Facts(NamedTuple):
    """What a file says before its weights, as far as it is looked at.

    numbers: by name.
    tokens: their texts; none where the file holds none.
    """

    numbers: dict[bytes, float]
    tokens: list[bytes]


def read_facts(data: mmap.mmap, count: int) -> Facts:
    """The first `count` facts of a file; fewer where it is damaged, for llama.cpp says better how."""
    at, facts = HEADER.size, Facts({}, [])

    def number(kind: str) -> float:
        nonlocal at
        layout = f"<{kind}"
        (value,) = struct.unpack_from(layout, data, at)
        at += struct.calcsize(layout)
        return value  # type: ignore[no-any-return]

    def text() -> bytes:
        nonlocal at
        size = int(number("Q"))
        at += size
        return data[at - size : at]

    try:
        for _ in range(count):
            name, kind = text(), number("I")
            if kind == ARRAY:
                kind, size = number("I"), int(number("Q"))
                if kind != STRING:
                    at += size * struct.calcsize(f"<{NUMBERS[int(kind)]}")
                elif name == b"tokenizer.ggml.tokens":
                    facts.tokens.extend(text() for _ in range(size))
                else:
                    for _ in range(size):
                        text()
            elif kind == STRING:
                text()
            else:
                facts.numbers[name] = number(NUMBERS[int(kind)])
    except (struct.error, KeyError, OverflowError):
        pass
    return facts
