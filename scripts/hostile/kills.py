"""Commands that are killed at every place and at random times, and then run again.

    python scripts/hostile/kills.py --state kills.jsonl --count 1000        goes on where it was stopped
    python scripts/hostile/kills.py --state kills.jsonl --only compress --seconds 600

Every third kill is SIGKILL just before one of the command's file operations, in their order; the others come before a
random file operation or at a random CPU time, and are SIGKILL, SIGTERM or SIGINT. After each, no input may be lost and
no output half written; the same command must then end with the outputs of an undisturbed run, and leave nothing
temporary. A kill at a CPU time is a timer's signal that is not caught, which ends a process as SIGKILL does. What it is
not: a power cut, which takes what was not brought to the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trials import TRIALS, Trial, compare, debris, in_child, load, snapshot, words_of

EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime", "os.link", "ctypes.dlsym"}
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
HANG_SECONDS = 600


def watch(act: Callable[[int], object]) -> None:
    """Call `act` with the number of each file operation that writes, before it happens; for the rest of the process."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event == "ctypes.dlsym" and arguments[1] != "renameat2":
            return
        if isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]).startswith(("/proc", "/dev")):
            return
        count += 1
        act(count)

    sys.addaudithook(hook)


def wait(child: int) -> tuple[int, float] | None:
    """Status and CPU seconds of a child; None if it hangs, and is killed."""
    end = time.monotonic() + HANG_SECONDS
    while time.monotonic() < end:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage.ru_utime + usage.ru_stime
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class Killer:
    """Kills of one trial, which is run once undisturbed.

    Args:
        name: of the trial.
        trial: the command.
        work: a folder for its runs.
    """

    def __init__(self, name: str, trial: Trial, work: Path) -> None:
        self.name, self.trial, self.work = name, trial, work
        load(trial)
        self.inputs = work / "inputs"
        self.inputs.mkdir()
        trial.prepare(self.inputs)
        folder = self.fresh()
        into, out = os.pipe()
        child = in_child(trial, folder, work / "words", lambda: watch(lambda number: os.write(out, b".")))
        os.close(out)
        self.events = 0
        while piece := os.read(into, 65536):
            self.events += len(piece)
        os.close(into)
        found = wait(child)
        if not found or found[0]:
            raise SystemExit(f"{name}: fails even undisturbed: {(work / 'words').read_text()}")
        self.seconds = found[1]
        self.expected = snapshot(folder, self.trial)

    def kill(self, number: int) -> dict[str, Any]:
        """Do kill `number`; returns what came of it."""
        dice = random.Random(f"{self.name} {number}")
        kind = "event" if number % 3 < 2 else "time"
        sent = "KILL" if number % 3 == 0 else dice.choice(tuple(SIGNALS))
        at: float = (number // 3) % self.events + 1 if number % 3 == 0 else dice.randrange(1, self.events + 1)
        if kind == "time":
            at, sent = round(dice.uniform(0, 1.05 * self.seconds), 4), "KILL"
        folder = self.fresh()
        found = wait(in_child(self.trial, folder, self.work / "words", lambda: arm(kind, at, SIGNALS[sent])))
        problems = ["hangs"] if found is None else []
        status = found[0] if found else 0
        ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))
        problems += words_of(self.work / "words")
        problems += [f"then {one}" for one in self.trial.intact(folder)]
        if sent != "KILL" and not problems:
            problems += [f"after SIG{sent} {one}" for one in debris(folder) if ".tmp" in one]
        problems += self.again(folder)
        return {"kind": kind, "at": at, "signal": sent, "ended": ended} | ({"problems": problems} if problems else {})

    def again(self, folder: Path) -> list[str]:
        """What is wrong after the same command was run once more."""
        found = wait(in_child(self.trial, folder, self.work / "words"))
        if found is None:
            return ["again: hangs"]
        wrong = [] if found[0] == 0 else [f"again: status {found[0]}: {(self.work / 'words').read_text()[-300:]}"]
        wrong += words_of(self.work / "words") + self.trial.intact(folder) + debris(folder)
        wrong += compare(self.expected, snapshot(folder, self.trial), self.trial)
        return [f"again: {one}" for one in wrong]

    def fresh(self) -> Path:
        """A folder with the inputs alone."""
        folder = self.work / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.inputs, folder)
        return folder


def arm(kind: str, at: float, sent: signal.Signals) -> None:
    """In the child: end it at a file operation or a CPU time."""
    if kind == "time":
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, max(at, 0.0005))
        return
    watch(lambda number: os.kill(os.getpid(), sent) if number == at else None)


def main() -> int:
    """Kill, count, print."""
    return repeat(__doc__ or "", list(TRIALS), lambda name, work: Killer(name, TRIALS[name], work).kill, report)


def repeat(
    about: str,
    names: list[str],
    make: Callable[[str, Path], Callable[[int], dict[str, Any]]],
    report: Callable[[list[dict[str, Any]]], None],
) -> int:
    """The loop of a script: each trial many times, with a record of each time, from where an earlier run stopped.

    Args:
        about: the script's docstring.
        names: of the trials.
        make: of a trial's name and a folder, what does time N of it, and returns the record.
        report: prints the counts of all records.
    """
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="JSON lines, one for each time; is gone on with")
    parser.add_argument("--count", type=int, default=100, help="times of each trial, earlier ones among them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="most seconds of this run")
    parser.add_argument("--only", action="append", choices=names, help="this trial (may be repeated)")
    options = parser.parse_args()
    os.environ["HOME"] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="kolmo-trials-")
    end = time.monotonic() + options.seconds
    before = options.state.read_text().splitlines() if options.state.exists() else []
    records: list[dict[str, Any]] = [json.loads(line) for line in before]
    for name in options.only or names:
        done = sum(record["trial"] == name for record in records)
        with tempfile.TemporaryDirectory(prefix="kolmo-trials-") as work, options.state.open("a") as state:
            act = make(name, Path(work)) if done < options.count and time.monotonic() < end else None
            while act and done < options.count and time.monotonic() < end:
                records.append({"trial": name, "number": done, **act(done)})
                state.write(json.dumps(records[-1]) + "\n")
                state.flush()
                for problem in records[-1].get("problems", ()):
                    print(f"{name}, {done}: {problem}", flush=True)
                done += 1
    report(records)
    return 1 if any(record.get("problems") for record in records) else 0


def report(records: list[dict[str, Any]]) -> None:
    """Print the counts of kills."""
    rows: dict[str, Counter[str]] = {}
    for found in records:
        row = rows.setdefault(found["trial"], Counter())
        row.update(["kills", "ended before" if found["ended"] == "0" else "stopped", found["signal"]])
        row.update(["problems"] if found.get("problems") else [])
    columns = ("kills", "KILL", "TERM", "INT", "stopped", "ended before", "problems")
    print(f"{'command':<20}" + "".join(f"{name:>14}" for name in columns))
    for name, row in rows.items():
        print(f"{name:<20}" + "".join(f"{row[column]:>14}" for column in columns))


if __name__ == "__main__":
    sys.exit(main())
