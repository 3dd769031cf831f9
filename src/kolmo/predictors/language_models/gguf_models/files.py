"""GGUF files: which belong together, and whether llama.cpp can safely open one.

llama.cpp reports most damaged files as errors; some end the whole program. These are found here first, in the metadata
before the weights. The format is docs/gguf.md of ggml. What it is not: a complete check; it reads no weights, and
llama.cpp may still refuse a file that passes.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import NamedTuple

from kolmo.errors import PredictorError

HEADER = struct.Struct("<4sIQQ")  # magic, version, numbers of tensors and of metadata entries
VERSIONS = (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # layouts by type
STRING, ARRAY = 8, 9  # the other types
MAX_LAYERS = 512  # layers of a model
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def parts(path: Path) -> list[Path]:
    """The files of a model whose first file is `path`; most models have one."""
    found = PART.search(path.name)
    if not found:
        return [path]
    begin, count = path.name[: found.start()], int(found[2])
    return [path.with_name(f"{begin}-{number + 1:05}-of-{found[2]}.gguf") for number in range(count)]


def check(path: Path) -> None:
    """Check that llama.cpp can open a file without ending the program.

    Raises:
        PredictorError: the file does not exist, or is not a GGUF file that llama.cpp supports.
    """
    if path.is_dir():
        raise PredictorError(f"{path}: the path is a folder; name the .gguf file in it")
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
    # llama.cpp ends the program on each of the following.
    tokens = [text for text in facts.tokens if text]
    if len(set(tokens)) < len(tokens):
        raise PredictorError(f"{path}: two of its tokens are the same; get the file again")
    for name, value in facts.numbers.items():
        if name.endswith(b".block_count") and not 1 <= value <= MAX_LAYERS:
            raise PredictorError(f"{path}: {value} layers, not 1 to {MAX_LAYERS}; get the file again")


class Facts(NamedTuple):
    """Metadata of a file, as far as `check` needs it.

    numbers: numeric values by name.
    tokens: texts of the tokens; empty where the file does not hold them.
    """

    numbers: dict[bytes, float]
    tokens: list[bytes]


def read_facts(data: mmap.mmap, count: int) -> Facts:
    """The first `count` metadata entries; fewer where the file is damaged, since llama.cpp reports that better."""
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
