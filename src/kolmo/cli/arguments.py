"""Error messages of the library, in the words of the command line: flags in place of Python arguments.

The library names its arguments in four forms: `the argument context`; `dtype='float64'` and `memory_limit=4096`;
`force=True`; and `as RunSettings(model=FOLDER)`. What it is not: a parser of arguments; click is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

FLAGS = {
    "add_bos_token": "--add-bos-token",
    "windows": "--windows",
    "attention": "--attn",
    "batch": "--batch-size",
    "batch_size": "--batch-size",
    "block_size": "--context",
    "bpc": "--bpc",
    "chunk": "--chunk",
    "context": "--context",
    "device": "--device",
    "dtype": "--dtype",
    "dump": "--dump",
    "force": "-f",
    "keep": "--exact",
    "kind": "--type",
    "lanes": "--lanes",
    "max_length": "--max-size",
    "memory_limit": "--memory",
    "memory_tokens": "--memory-tokens",
    "model": "--model",
    "rate": "--rate",
    "restart": "--restart",
    "score": "--score",
    "slurm_partition": "--slurm-partition",
    "stride": "--stride",
    "subset": "--subset",
    "tokenizer": "--tokenizer",
    "tolerance": "--tolerance",
    "window": "--window",
    "with_memory": "--with-memory",
}
SWITCHES = ("force", "restart")  # arguments that are true or false: flags without a value
NAME = f"({'|'.join(FLAGS)})"
MENTION = re.compile(rf"\bthe argument {NAME}\b")
VALUE = re.compile(rf"(?<=[\s(])(?:as RunSettings\({NAME}=([^\s()]+)\)|{NAME}=(?:'([^\s']+)'|(\d+)\b))")
SWITCH = re.compile(rf"(?<=[\s(])({'|'.join(SWITCHES)})=True\b")


def as_flags(message: str) -> str:
    """A message with the flags of the command line in place of Python arguments.

    Example:
        >>> as_flags("lower the argument tolerance, or use dtype='float64'")
        'lower --tolerance, or use --dtype float64'
    """

    def flag(found: re.Match[str]) -> str:
        if found[1]:
            return f"with {FLAGS[found[1]]} {found[2]}"
        return f"{FLAGS[found[3]]} {found[4] or found[5]}"

    message = SWITCH.sub(lambda found: FLAGS[found[1]], message)
    return VALUE.sub(flag, MENTION.sub(lambda found: FLAGS[found[1]], message))


def options_as_flags(message: str, command: click.Command) -> str:
    """A message about the arguments of one command, whose names occur bare: `target_bytes` as `--target-bytes`."""
    flags = {param.name: param.opts[-1] for param in command.params}
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda name: flags.get(name[0], name[0]), message)
