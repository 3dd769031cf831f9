"""Commands under trial: what each is given, what must hold whenever it is stopped, and what it makes in the end.

`kills.py` and `races.py` run them in forks of one process, which has loaded all modules. What it is not: a test of what
the commands compute.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import kolmo
from kolmo import safetensors
from kolmo.errors import KolmoError
from kolmo.targets import is_temporary

TESTS = Path(__file__).resolve().parents[2] / "tests"
WORDS = ("the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "was", "on", "with", "which", "this", "had")
FILES = {"a.txt": 3000, "b.bin": 900, "below/c.txt": 2000, "below/d.txt": 0}  # bytes of each


@dataclass(frozen=True)
class Trial:
    """A command in a folder.

    Attributes:
        loads: modules that it needs, loaded before any fork.
        prepare: makes its inputs in an empty folder.
        run: runs it in the working folder; returns the exit status, or raises.
        intact: what is wrong in a folder at any time: an input that is lost, an output that is half written.
        made: patterns of the names of its outputs, whose content must be that of an undisturbed run.
        leftovers: whether inputs may stay that an undisturbed run removes.
        ignored: keys in JSON outputs whose values are times.
    """

    loads: Sequence[str]
    prepare: Callable[[Path], None]
    run: Callable[[], int]
    intact: Callable[[Path], list[str]] = lambda folder: []
    made: Sequence[str] = ("**/*",)
    leftovers: bool = False
    ignored: Sequence[str] = ()


def command(*arguments: str) -> Callable[[], int]:
    """A run of kolmo's command line."""

    def run() -> int:
        from kolmo.cli import main

        try:
            main(list(arguments))
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1

    return run


def prose(size: int, seed: int) -> bytes:
    """Words in no order."""
    draw = random.Random(seed)
    return b" ".join(draw.choice(WORDS).encode() for _ in range(size // 3 + 1))[:size]


def contents() -> dict[str, bytes]:
    """The files that are compressed."""
    return {name: prose(size, size) for name, size in FILES.items()}


def plain_files(folder: Path) -> None:
    """The files, plain."""
    for name, content in contents().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def packed_files(folder: Path) -> None:
    """The files, compressed."""
    plain_files(folder)
    for name, content in contents().items():
        (folder / name).unlink()
        (folder / f"{name}.kmo").write_bytes(kolmo.compress(content, level=1))


def nothing_lost(folder: Path) -> list[str]:
    """Every file is there plain or compressed, and whatever has one of these names is whole."""
    wrong = []
    for name, content in contents().items():
        there = 0
        for path in (folder / name, folder / f"{name}.kmo"):
            try:
                found = path.read_bytes()
                found = kolmo.decompress(found) if path.suffix == ".kmo" else found
            except FileNotFoundError:
                continue
            except KolmoError as error:
                wrong.append(f"{path.name}: half written: {error}")
                continue
            there += 1
            if found != content:
                wrong.append(f"{path.name}: has another content")
        if not there:
            wrong.append(f"{name}: lost")
    return wrong


def corpus(folder: Path) -> None:
    """A folder of texts."""
    (folder / "texts").mkdir()
    for n in range(6):
        (folder / "texts" / f"{n}.txt").write_bytes(prose(400, n))


def weights(folder: Path) -> None:
    """A checkpoint of three tensors."""
    places = safetensors.lay_out([(name, "F32", (48, 64)) for name in ("a", "b", "c")])
    values = np.random.default_rng(1).standard_normal((3, 48, 64)).astype("<f4")
    (folder / "model.safetensors").write_bytes(safetensors.write_header({}, places) + values.tobytes())


def whole_checkpoints(folder: Path) -> list[str]:
    """Whatever is named as an output can be read to the end."""
    if not (folder / "small").exists():
        return []
    try:
        kolmo.load(folder / "small")
    except KolmoError as error:
        return [f"small: half written: {error}"]
    return []


def calibrated() -> int:
    """Shrink a module of torch on samples."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(48, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
    samples = [torch.randn(16, 48, generator=torch.Generator().manual_seed(n)) for n in range(6)]
    try:
        kolmo.shrink(network, "small", kolmo.Bits(3), calibrate=samples, force=True)
    except (KolmoError, OSError) as error:
        print(f"kolmo: {error}", file=sys.stderr)
        return 1
    return 0


def training_text(folder: Path) -> None:
    """One text."""
    (folder / "a.txt").write_bytes(prose(70_000, 1))


def web_archives(folder: Path) -> None:
    """Two archives of made pages."""
    sys.path.insert(0, str(TESTS / "collection"))
    made = import_module("archives_made")
    for n in range(2):
        pages = [(f"https://site{n}.test/{k}", ["Title", *made.english(100 * n + k)]) for k in range(6)]
        made.write_wet(folder / f"s{n}.warc.wet.gz", pages)


def collected() -> int:
    """Collect from the archives."""
    made = import_module("archives_made")
    from kolmo.collection.collecting import collect

    here = Path.cwd()
    try:
        collect(made.cc(here, sorted(here.glob("*.gz"))), "out")
    except (KolmoError, OSError) as error:
        print(f"kolmo: {error}", file=sys.stderr)
        return 1
    return 0


def results_whole(folder: Path) -> list[str]:
    """Results are JSON, and have a table of at least their documents."""
    from kolmo.evaluation.results.store import find_results, read_columns

    wrong = []
    try:
        for place, result in find_results(folder / "out") if (folder / "out").exists() else ():
            read_columns(place, int(result["metrics"]["documents"]))
    except (KolmoError, OSError) as error:
        wrong.append(str(error))
    return wrong


TRAIN = [
    *("--layers", "2", "--state", "64", "--embedding", "32", "--slot", "32", "--tables", "2:6", "--lanes", "4"),
    *("--window", "32", "--budget", "12steps", "--dtype", "fp32", "-T", "1", "--save-every", "0.01"),
]
ARCHIVE = ("kolmo.archive.files", "kolmo.cli.compress", "kolmo.cli.decompress", "kolmo.predictors.embedded.split")
TRIALS = {
    "compress": Trial(ARCHIVE, plain_files, command("compress", "-q1r", "."), nothing_lost),
    "compress --rm": Trial(
        ARCHIVE, plain_files, command("compress", "-q1r", "--rm", "."), nothing_lost, leftovers=True
    ),
    "decompress": Trial(ARCHIVE, packed_files, command("decompress", "-qr", "."), nothing_lost),
    "decompress --rm": Trial(
        ARCHIVE, packed_files, command("decompress", "-qr", "--rm", "."), nothing_lost, leftovers=True
    ),
    "eval": Trial(
        ("pyarrow.parquet", "kolmo.evaluation.evaluate"),
        corpus,
        command("eval", "-q", "cm:1", "classical:xz", "--corpus", "texts", "-o", "out"),
        results_whole,
        ("out/**/result.json",),
        ignored=("run", "finished", "seconds"),
    ),
    "shrink": Trial(
        ("kolmo.weights.shrink",),
        weights,
        command("shrink", "-qf", "model.safetensors", "-o", "small", "--bits", "3"),
        whole_checkpoints,
    ),
    "shrink --calibrate": Trial(
        ("torch", "kolmo.weights.shrink", "kolmo.weights.calibration.network"),
        lambda folder: None,
        calibrated,
        whole_checkpoints,
        ("small",),
    ),
    "train": Trial(
        ("torch", "kolmo.training.run", "kolmo.training.products.export"),
        training_text,
        command("train", "a.txt", "-o", "run", *TRAIN),
        made=("run/network.safetensors",),
    ),
    "collect": Trial(
        ("datatrove.executor.local", "kolmo.collection.collecting", "kolmo.collection.common_crawl.pipeline"),
        web_archives,
        collected,
        made=("out/**/*",),
        ignored=("seconds", "ended"),
    ),
}


def load(trial: Trial) -> None:
    """Import what a trial needs."""
    for name in ("kolmo.cli", *trial.loads):
        import_module(name)


def snapshot(folder: Path, trial: Trial) -> dict[str, str]:
    """A hash of each output, times in JSON left out."""
    found = {}
    for pattern in trial.made:
        for path in folder.glob(pattern):
            if path.is_file() and not is_temporary(path.name):
                found[path.relative_to(folder).as_posix()] = hashlib.sha256(_timeless(path, trial.ignored)).hexdigest()
    return found


def debris(folder: Path) -> list[str]:
    """Files that no finished command leaves."""
    pattern = re.compile(r"\.(tmp|partial|lock|old)$|\.calibration$")
    return [f"{path.relative_to(folder)}: left behind" for path in folder.rglob("*") if pattern.search(path.name)]


def compare(before: dict[str, str], now: dict[str, str], trial: Trial) -> list[str]:
    """How outputs differ from those of an undisturbed run."""
    wrong = [f"{name}: missing" for name in before if name not in now]
    wrong += [f"{name}: differs" for name in before if now.get(name, before[name]) != before[name]]
    if not trial.leftovers:
        wrong += [f"{name}: too many" for name in now if name not in before]
    return wrong


def words_of(path: Path) -> list[str]:
    """What is wrong with a run's messages: a traceback."""
    text = path.read_text("utf-8", "replace")
    return [f"traceback: {text.strip().splitlines()[-1]}"] if "Traceback" in text else []


def in_child(trial: Trial, folder: Path, words: Path, hook: Callable[[], None] | None = None) -> int:
    """Fork, run a trial in a folder, and return the child's number; its messages go to a file."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.chdir(folder)
        out = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(number, target)
        sys.stdout = sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0, closefd=False), write_through=True)
        signal.signal(signal.SIGTERM, _leave)  # as the command line does
        # A shell ignores it for what runs in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if hook:
            hook()
        status = trial.run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _timeless(path: Path, ignored: Sequence[str]) -> bytes:
    content = path.read_bytes()
    if not ignored or path.suffix not in (".json", ".jsonl"):
        return content
    return "\n".join(json.dumps(_without(json.loads(line), ignored)) for line in _json_parts(content)).encode()


def _json_parts(content: bytes) -> list[str]:
    text = content.decode()
    try:
        json.loads(text)
    except ValueError:
        return text.splitlines()
    return [text]


def _without(value: Any, ignored: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, ignored) for key, inner in value.items() if key not in ignored}
    return [_without(inner, ignored) for inner in value] if isinstance(value, list) else value
