"""Runs the benchmarks of `catalogue/`, one after another: all tables of docs/benchmarks.

    python benchmarks/run_all.py --list
    KOLMO_DATA=DIR python benchmarks/run_all.py --only 'lossless*' --only ranking
    KOLMO_DATA=DIR python benchmarks/run_all.py --out runs/benchmarks

Each entry has a folder below --out: log.txt with the commands and all that they printed, the files that they wrote, and
done.json once all of them ended well. A later run goes on behind the entries that are done; --again runs them anew. An
entry whose data or packages are missing is skipped, and the reason told. Exit status: 1 if a command failed.
What it is not: a writer of pages. Tables go from the folder into docs/benchmarks by hand, with the machine's name.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from catalogue import ENTRIES
from catalogue.entry import Entry

ROOT = Path(__file__).parents[1]
DONE, LOG = "done.json", "log.txt"
PROGRAMS = {"python": [sys.executable], "kolmo": [sys.executable, "-m", "kolmo"]}


def argv(command: str, data: Path | None, out: Path) -> tuple[dict[str, str], list[str]]:
    """The variables that a command sets for itself, and its words with all places filled in."""
    places = {"{data}": str(data), "{out}": str(out)}
    variables: dict[str, str] = {}
    words: list[str] = []
    for word in shlex.split(command):
        for place, path in places.items():
            word = word.replace(place, path)
        name, equals, value = word.partition("=")
        if not words and equals and name.isupper():
            variables[name] = value
        else:
            words += [word] if words else PROGRAMS[word]
    return variables, words


def available(name: str) -> bool:
    """Whether a program or a Python package of this name is installed."""
    return shutil.which(name) is not None or importlib.util.find_spec(name) is not None


def reasons(entry: Entry, data: Path | None) -> list[str]:
    """Why an entry cannot run here; nothing if it can."""
    if not entry.commands:
        return [entry.note]
    if entry.data and data is None:
        return [f"KOLMO_DATA is not set: needs {', '.join(entry.data)} there"]
    found = [f"{data}/{path} is missing" for path in entry.data if data and not (data / path).exists()]
    return found + [f"the package {name} is not installed" for name in entry.modules if not available(name)]


def run(entry: Entry, data: Path | None, out: Path) -> bool:
    """Run an entry's commands into its folder; whether all ended with status 0."""
    folder = out / entry.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **({"KOLMO_DATA": str(data)} if data else {})}
    start = time.time()
    with (folder / LOG).open("w", encoding="utf-8") as log:
        for command in entry.commands:
            variables, words = argv(command, data, folder)
            log.write(f"$ {command}\n")
            log.flush()
            done = subprocess.run(
                words,
                cwd=ROOT,
                env=environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
            if done.returncode:
                log.write(f"exit status {done.returncode}\n")
                return False
    record = {
        "commands": entry.commands,
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(start)),
        "seconds": round(time.time() - start, 1),
    }
    partial = folder / f"{DONE}.part"
    partial.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    partial.replace(folder / DONE)
    return True


def is_done(entry: Entry, out: Path) -> bool:
    """Whether an earlier run ended well with these commands."""
    try:
        record = json.loads((out / entry.name / DONE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("commands") == [*entry.commands]


def describe(entry: Entry, data: Path | None) -> str:
    """An entry in lines for a reader: tables, time, needs, commands, files."""
    tables = "; ".join(entry.sections) or "no table"
    lines = [f"{entry.name}: {tables} (docs/{entry.page})"]
    if entry.commands:
        files = [word.partition("{out}/")[2] for one in entry.commands for word in shlex.split(one) if "{out}/" in word]
        lines += [f"  about {entry.minutes} minutes of a core; writes {', '.join(dict.fromkeys([LOG, *files]))}"]
    for title, names in (("data", entry.data), ("packages", entry.modules), ("compared if installed", entry.peers)):
        lines += [f"  {title}: {', '.join(names)}"] if names else []
    lines += [f"  note: {entry.note}"] if entry.note else []
    lines += [f"  $ {command}" for command in entry.commands]
    if entry.commands and (why := reasons(entry, data)):
        lines.append(f"  cannot run here: {'; '.join(why)}")
    return "\n".join(lines)


def chosen(patterns: Iterable[str]) -> list[Entry]:
    """The entries of these names or patterns, in the catalogue's order; all without any.

    Raises:
        SystemExit: a pattern fits none.
    """
    found = []
    for pattern in patterns:
        fitting = [entry for entry in ENTRIES if fnmatch.fnmatchcase(entry.name, pattern)]
        if not fitting:
            raise SystemExit(f"{pattern}: there is no such benchmark; --list names them")
        found += fitting
    return [entry for entry in ENTRIES if entry in found] if found else [*ENTRIES]


def main(arguments: Sequence[str]) -> int:
    """List the entries, or run them and say how each ended; 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the entries and run none")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="an entry, or a pattern of names")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of results: %(default)s")
    parser.add_argument("--again", action="store_true", help="also run entries that are done")
    options = parser.parse_args(arguments)
    data = Path(os.environ["KOLMO_DATA"]).resolve() if os.environ.get("KOLMO_DATA") else None
    entries, out, failed = chosen(options.only), options.out.resolve(), 0
    if options.list:
        print("\n\n".join(describe(entry, data) for entry in entries))
        return 0
    for entry in entries:
        why = reasons(entry, data)
        if why:
            print(f"{entry.name}: skipped: {'; '.join(why)}", flush=True)
        elif is_done(entry, out) and not options.again:
            print(f"{entry.name}: done before, in {out / entry.name}", flush=True)
        else:
            without = [name for name in entry.peers if not available(name)]
            print(f"{entry.name}: runs{', without ' + ', '.join(without) if without else ''}", flush=True)
            start = time.time()
            ended = run(entry, data, out)
            failed += not ended
            result = "done" if ended else f"FAILED, see {out / entry.name / LOG}"
            print(f"{entry.name}: {result}, {time.time() - start:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the running command ends too
    raise SystemExit(main(sys.argv[1:]))
