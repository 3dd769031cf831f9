"""Two runs of kolmo at once on one folder, slowed down at random before each of their file operations.

    python scripts/hostile/races.py --state races.jsonl --count 100      goes on where it was stopped

The pauses put the operations of the two runs in other orders each time. Each run must end, either with success or with
one line that says why; no input may be lost and no output half written at the end; the first command must then, run
once more alone, end with the outputs of an undisturbed run. What it is not: a search through all orders.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kills import Killer, repeat, wait, watch
from trials import ARCHIVE, TRIALS, Trial, command, debris, in_child, nothing_lost, plain_files, words_of

LONGEST_PAUSE = 0.03  # seconds
COMPRESS_OVER = command("compress", "-q1rf", "--rm", ".")
LIMITED = command("eval", "-q", "classical:xz", "--corpus", "texts", "--limit", "3", "-o", "out")
SHRUNK = command("shrink", "-q", "model.safetensors", "-o", "small", "--bits", "3")
OVER = Trial(ARCHIVE, plain_files, COMPRESS_OVER, nothing_lost, leftovers=True)
PAIRS: dict[str, tuple[Trial, Callable[[], int], Callable[[], int]]] = {
    **{f"{name}, twice": (trial, trial.run, trial.run) for name, trial in TRIALS.items()},
    "compress -f --rm, twice": (OVER, COMPRESS_OVER, COMPRESS_OVER),
    "compress --rm and decompress --rm": (
        TRIALS["compress --rm"],
        TRIALS["compress --rm"].run,
        TRIALS["decompress --rm"].run,
    ),
    "compress -f --rm and decompress -f --rm": (
        OVER,
        COMPRESS_OVER,
        command("decompress", "-qrf", "--rm", "."),
    ),
    "eval and eval --limit": (TRIALS["eval"], TRIALS["eval"].run, LIMITED),
    "shrink without -f, twice": (TRIALS["shrink"], SHRUNK, SHRUNK),
}


def slow_down(seed: str) -> None:
    """Pause before each file operation of this process, for a time by a seed."""
    dice = random.Random(seed)
    watch(lambda number: time.sleep(dice.uniform(0, LONGEST_PAUSE) if dice.random() < 0.7 else 0))


class Racer(Killer):
    """Races of one pair of commands."""

    def __init__(self, name: str, work: Path) -> None:
        trial, *self.runs = PAIRS[name]
        super().__init__(name, trial, work)

    def race(self, number: int) -> dict[str, Any]:
        """Do race `number`; returns what came of it."""
        folder = self.fresh()
        runs = [replace(self.trial, run=run) for run in self.runs]
        said = [self.work / f"words-{k}" for k in range(2)]
        children = [
            in_child(run, folder, said[k], lambda k=k: slow_down(f"{self.name} {number} {k}"))  # type: ignore[misc]
            for k, run in enumerate(runs)
        ]
        ends = [wait(child) for child in children]
        problems, status = [], []
        for k, end in enumerate(ends):
            status.append("hangs" if end is None else str(os.waitstatus_to_exitcode(end[0])))
            problems += words_of(said[k])
            text = said[k].read_text("utf-8", "replace")
            if status[k] not in ("0", "1") or (status[k] == "1" and not text.strip()):
                problems.append(f"status {status[k]}: {text[-300:]}")
        problems += self.trial.intact(folder) + debris(folder)
        if "decompress" not in self.name or "compress" not in self.name.partition(" and ")[0]:
            problems += self.again(folder)
        found: dict[str, Any] = {"ended": " ".join(status), "said": [path.read_text()[-500:] for path in said]}
        return found | ({"problems": problems} if problems else {})


def main() -> int:
    """Race, count, print."""
    return repeat(__doc__ or "", list(PAIRS), lambda name, work: Racer(name, work).race, report)


def report(records: list[dict[str, Any]]) -> None:
    """Print the counts of races by how the two runs ended."""
    rows: dict[str, Counter[str]] = {}
    for found in records:
        row = rows.setdefault(found["trial"], Counter())
        row.update(["races", {"0 0": "both succeed"}.get(found["ended"], "one line")])
        row.update(["problems"] if found.get("problems") else [])
    columns = ("races", "both succeed", "one line", "problems")
    print(f"{'runs':<42}" + "".join(f"{name:>14}" for name in columns))
    for name, row in rows.items():
        print(f"{name:<42}" + "".join(f"{row[column]:>14}" for column in columns))


if __name__ == "__main__":
    sys.exit(main())
