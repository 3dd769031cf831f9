"""An entry of the catalogue: which tables some commands make, and what they need.

In a command `{data}` is the folder that KOLMO_DATA points to, which it also has in its environment, and `{out}` the
entry's own folder; `kolmo` and `python` are those of the interpreter that runs the list. What it is not: a measurement,
or a place where pages are written; a table that was made moves into its page by hand, or by the script's `--markdown`.
"""

from __future__ import annotations

from dataclasses import dataclass

TEXTS, WIKI, SPEECH = "bench/text", "bench/text/wiki.test.raw", "train/speech"
IMAGENET, LJ = "bench/images/imagenet", "bench/audio"
SMOLLM2 = "models/SmolLM2-135M"
CODECS = ("PIL", "soundfile", "imagecodecs")
BY_HAND = "no command: "


@dataclass(frozen=True)
class Entry:
    """What makes some tables.

    Attributes:
        name: of the entry, and of its folder.
        page: where the tables stand, below docs/.
        sections: how the headings begin that have them on that page; none if no heading has.
        commands: one after another; of none, `note` says why.
        minutes: rough time of one core, by the page or by estimate; a busy machine takes longer.
        data: paths that must exist below KOLMO_DATA.
        modules: Python packages that must be installed.
        peers: programs and packages that are compared where they are installed, and missing from the table elsewhere.
        note: what no command makes, or what is to be known.
    """

    name: str
    page: str
    sections: tuple[str, ...]
    commands: tuple[str, ...] = ()
    minutes: int = 0
    data: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    note: str = ""
