"""Error messages of the library, in the words of the command line: flags in place of Python arguments.

The library names its arguments in three forms: `the argument context`, `dtype='float64'`, and
`as RunSettings(model=FOLDER)`. What it is not: a parser of arguments; click is.
"""

from __future__ import annotations

import re

FLAGS = {
    "add_bos_token": "--add-bos-token",
    "attention": "--attn",
    "batch": "--batch-size",
    "batch_size": "--batch-size",
    "block_size": "--context",
    "bpc": "--bpc",
    "chunk": "--chunk",
    "context": "--context",
    "device": "--device",
    "dtype": "--dtype",
    "keep": "--exact",
    "model": "--model",
    "score": "--score",
    "stride": "--stride",
    "subset": "--subset",
    "tokenizer": "--tokenizer",
    "tolerance": "--tolerance",
}
NAME = rf"({'|'.join(FLAGS)})\b"
MENTION = re.compile(rf"\bthe argument {NAME}\b")
VALUE = re.compile(rf"(?<=[\s(])(?:as RunSettings\({NAME}=([^\s()]+)\)|{NAME}='([^\s']+)')")


def as_flags(message: str) -> str:
    """A message with the flags of the command line in place of Python arguments.

    Example:
        >>> as_flags("lower the argument tolerance, or use dtype='float64'")
        'lower --tolerance, or use --dtype float64'
    """

    def flag(found: re.Match[str]) -> str:
        if found[1]:
            return f"with {FLAGS[found[1]]} {found[2]}"
        return f"{FLAGS[found[3]]} {found[4]}"

    return VALUE.sub(flag, MENTION.sub(lambda found: FLAGS[found[1]], message))
