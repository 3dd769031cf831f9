"""The command line as its users meet it: pipes, terminals, wrong flags, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import kolmo
from helpers import order0
from helpers.command import COMMAND, DATA, ENVIRONMENT, O0, names, on_terminal, spawn
from kolmo.cli import group
from kolmo.native.dispatch import SLOW


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(DATA)
    return tmp_path


def run(*arguments: str, data: bytes | None = None) -> Result:
    return CliRunner().invoke(group, list(arguments), input=data, standalone_mode=True)


def status_of(result: Result) -> int:
    """The runner knows exit codes of exceptions only; the verbs return theirs."""
    return result.return_value if isinstance(result.return_value, int) else result.exit_code


def test_round_trip_in_place(folder: Path) -> None:
    done = spawn(["compress", *O0, "a.txt"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert names(folder) == ["a.txt", "a.txt.kmo"]
    (folder / "a.txt").unlink()
    done = spawn(["decompress", "a.txt.kmo"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (folder / "a.txt").read_bytes() == DATA
    assert names(folder) == ["a.txt", "a.txt.kmo"]


def test_pipes() -> None:
    packed = spawn(["compress", *O0], DATA)
    assert packed.returncode == 0
    assert packed.stdout == kolmo.compress(DATA, predictor="order0")
    for arguments in (["decompress"], ["decompress", "-"], ["decompress", "-c", "-"], ["compress", "-d"]):
        done = spawn(arguments, packed.stdout)
        assert (done.returncode, done.stdout) == (0, DATA)
    assert spawn(["test"], packed.stdout).returncode == 0
    assert b"order0" in spawn(["list", "-"], packed.stdout).stdout


def test_verbose_line_and_quiet(folder: Path) -> None:
    done = spawn(["compress", *O0, "-v", "a.txt"])
    size = (folder / "a.txt.kmo").stat().st_size
    rate = f"{100 * size / len(DATA):6.2f}%"
    assert done.stderr.decode() == f"a.txt                :{rate}   ({len(DATA):6} => {size:6} bytes, a.txt.kmo)\n"
    assert spawn(["compress", *O0, "-v", "-q", "-f", "a.txt"]).stderr == b""
    assert spawn(["test", "-v", "a.txt.kmo"]).stderr.decode().endswith(f" : OK, {len(DATA)} bytes\n")


def test_several_to_standard_output(folder: Path) -> None:
    (folder / "b.txt").write_bytes(b"more")
    packed = spawn(["compress", *O0, "-c", "a.txt", "b.txt"]).stdout
    assert kolmo.decompress(packed) == DATA + b"more"
    assert names(folder) == ["a.txt", "b.txt"]


def test_output_option(folder: Path) -> None:
    assert spawn(["compress", *O0, "-o", "x.kmo", "a.txt"]).returncode == 0
    assert spawn(["compress", *O0, "-o", "y.kmo"], DATA).returncode == 0
    assert (folder / "x.kmo").read_bytes() == (folder / "y.kmo").read_bytes()
    assert spawn(["decompress", "-o", "-", "x.kmo"]).stdout == DATA
    assert spawn(["decompress", "-o", os.devnull, "x.kmo"]).returncode == 0
    same = spawn(["compress", *O0, "-f", "-o", "a.txt", "a.txt"])
    assert same.returncode == 1
    assert b"same file" in same.stderr
    assert (folder / "a.txt").read_bytes() == DATA


def test_existing_output(folder: Path) -> None:
    (folder / "a.txt.kmo").write_bytes(b"mine")
    done = spawn(["compress", *O0, "a.txt"])
    assert done.returncode == 1
    assert done.stderr == b"kolmo: a.txt.kmo: already exists; use -f to overwrite it\n"
    assert (folder / "a.txt.kmo").read_bytes() == b"mine"
    assert spawn(["compress", *O0, "-f", "a.txt"]).returncode == 0
    assert kolmo.decompress((folder / "a.txt.kmo").read_bytes()) == DATA


def test_remove_and_keep(folder: Path) -> None:
    assert spawn(["compress", *O0, "--rm", "-c", "a.txt"]).returncode == 0
    assert spawn(["compress", *O0, "--rm", "-k", "a.txt"]).returncode == 0
    assert names(folder) == ["a.txt", "a.txt.kmo"]
    assert spawn(["compress", *O0, "--rm", "-f", "a.txt"]).returncode == 0
    assert names(folder) == ["a.txt.kmo"]
    assert spawn(["decompress", "--rm", "a.txt.kmo"]).returncode == 0
    assert names(folder) == ["a.txt"]


def test_one_failure_does_not_stop_the_others(folder: Path) -> None:
    done = spawn(["compress", *O0, "none", "a.txt", "."])
    assert done.returncode == 1
    text = done.stderr.decode().splitlines()
    assert text == [
        "kolmo: none: no such file; check the name",
        "kolmo: .: is a folder, skipped; use -r to go into it",
    ]
    assert (folder / "a.txt.kmo").exists()


def test_recursive(folder: Path) -> None:
    deep = folder / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "b").write_bytes(b"b" * 99)
    (deep / "c.kmo").write_bytes(b"left alone")
    (deep / "link").symlink_to("b")
    assert spawn(["compress", *O0, "-r", "--rm", "d"]).returncode == 0
    assert names(deep) == ["b.kmo", "c.kmo", "link"]
    (deep / "c.kmo").unlink()
    assert spawn(["test", "-r", "d"]).returncode == 0
    assert spawn(["decompress", "-r", "--rm", "d"]).returncode == 0
    assert (deep / "b").read_bytes() == b"b" * 99


def test_symbolic_links(folder: Path) -> None:
    (folder / "link").symlink_to("a.txt")
    done = spawn(["compress", *O0, "link"])
    assert done.returncode == 1
    assert b"symbolic link" in done.stderr
    assert spawn(["compress", *O0, "link", "a.txt"]).returncode == 0
    assert spawn(["compress", *O0, "-f", "link"]).returncode == 0
    assert kolmo.decompress((folder / "link.kmo").read_bytes()) == DATA


def test_names(folder: Path) -> None:
    (folder / "a.txt").chmod(0o600)
    os.utime(folder / "a.txt", ns=(1, 10**18 + 7))
    assert spawn(["compress", *O0, "--name", "-o", "x", "a.txt"]).returncode == 0
    (folder / "a.txt").unlink()
    assert b"a.txt" in spawn(["list", "-v", "x"]).stdout
    done = spawn(["decompress", "x"])
    assert done.returncode == 1
    assert b"does not end in .kmo" in done.stderr
    os.utime(folder / "x")
    assert spawn(["decompress", "--name", "x"]).returncode == 0
    assert (folder / "a.txt").read_bytes() == DATA
    assert (folder / "a.txt").stat().st_mtime_ns == 10**18 + 7


def test_json(folder: Path) -> None:
    done = spawn(["compress", *O0, "--json", "a.txt", "none"])
    first, second = map(json.loads, done.stdout.splitlines())
    size = (folder / "a.txt.kmo").stat().st_size
    assert first.pop("seconds") >= 0
    assert first == {
        "file": "a.txt",
        "output": "a.txt.kmo",
        "raw_size": len(DATA),
        "packed_size": size,
        "rate": size / len(DATA),
    }
    assert second["file"] == "none"
    assert "no such file" in second["error"]
    to_stdout = spawn(["compress", *O0, "--json", "-c", "a.txt"])
    assert kolmo.decompress(to_stdout.stdout) == DATA
    assert json.loads(to_stdout.stderr)["output"] == "(stdout)"
    listing = json.loads(spawn(["list", "--json", "a.txt.kmo"]).stdout)
    assert listing["raw_size"] == len(DATA)
    assert listing["frames"][0]["predictor"] == "order0"
    assert listing["error"] is None
    assert json.loads(spawn(["test", "--json", "a.txt.kmo"]).stdout)["ok"] is True


def test_list_table(folder: Path) -> None:
    spawn(["compress", *O0, "--block-size", "1K", "a.txt"])
    spawn(["compress", *O0, "-o", "empty.kmo"])
    lines = spawn(["list", "a.txt.kmo", "empty.kmo"]).stdout.decode().splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["Frames", "Blocks", "Compressed"]
    assert lines[1].split()[:2] == ["1", str(-(-len(DATA) // 1024))]
    assert lines[2].split()[-1] == "empty.kmo"
    assert lines[3].split()[-2:] == ["2", "files"]


def test_damaged_input(folder: Path) -> None:
    data = kolmo.compress(DATA, predictor="order0", block_size=500)
    (folder / "x.kmo").write_bytes(data[:-100])
    done = spawn(["decompress", "x.kmo"])
    assert done.returncode == 1
    assert done.stdout == b""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("kolmo: x.kmo: ends too early: within ")
    assert "kept in x.partial" in lines[0]
    assert DATA.startswith((folder / "x.partial").read_bytes())
    assert names(folder) == ["a.txt", "x.kmo", "x.partial"]
    piped = spawn(["decompress", "-c", "x.kmo"])
    assert piped.returncode == 1
    assert piped.stdout == (folder / "x.partial").read_bytes()
    tested = spawn(["test", "x.kmo", "none"])
    assert tested.returncode == 1
    assert len(tested.stderr.splitlines()) == 2
    listed = spawn(["list", "x.kmo"])
    assert listed.returncode == 1
    assert b"x.kmo" in listed.stdout
    assert b"ends too early" in listed.stderr


def test_memory_limit(folder: Path) -> None:
    spawn(["compress", *O0, "a.txt"])
    done = spawn(["decompress", "-f", "--memory", "4K", "a.txt.kmo"])
    assert done.returncode == 1
    need = done.stderr.decode().rpartition("--memory ")[2].partition(")")[0]
    assert spawn(["decompress", "-f", "--memory", need, "a.txt.kmo"]).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["compress", "--nothing"],
        ["compress", "-m", "nothing", "a.txt"],
        ["compress", "-m", "cm:5", "-5", "a.txt"],
        ["compress", "--block-size", "x"],
        ["compress", "--block-size", "0"],
        ["compress", "--block-size", "2G"],
        ["compress", "-T", "-1"],
        ["compress", "-o", "x", "a.txt", "b.txt"],
        ["compress", "-", "-"],
        ["decompress", "--memory", "much"],
        ["list", "-T", "1"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    done = spawn(arguments)
    assert done.returncode == 2
    assert b"Usage:" in done.stderr
    assert b"Traceback" not in done.stderr


def test_runner_sees_the_same(folder: Path) -> None:
    result = run("compress", *O0, "a.txt")
    assert status_of(result) == 0
    assert (folder / "a.txt.kmo").exists()
    assert "Compress FILES" in run("compress", "--help").output
    assert run("--version").output.startswith("kolmo ")
    assert run("compress", "--block-size", "x").exit_code == 2
    verbs = {"compress", "decompress", "test", "list", "explain", "eval", "sample", "fit", "report", "train"}
    verbs |= {"shrink", "expand", "info", "models", "collect", "bench"}
    assert set(group.list_commands(None)) == verbs  # type: ignore[arg-type]
    assert order0.Order0.name == "order0"


@pytest.mark.parametrize(
    ("flags", "predictor", "level"),
    [
        (["-1"], "cm", 1),
        ([], "neural", 5),
        (["-9"], "neural", 9),
        (["-2", "-7"], "neural", 7),
        (["-7", "-4"], "cm", 4),
        (["-m", "cm:9"], "cm", 9),
    ],
)
def test_levels_reach_the_predictor(folder: Path, flags: list[str], predictor: str, level: int) -> None:
    (folder / "a.txt").write_bytes(DATA[:200])
    assert spawn(["compress", *flags, "a.txt"]).returncode == 0
    (frame,) = json.loads(spawn(["list", "--json", "a.txt.kmo"]).stdout)["frames"]
    assert (frame["predictor"], frame["level"]) == (predictor, level)
    assert spawn(["decompress", "-c", "a.txt.kmo"]).stdout == DATA[:200]


def test_terminals_are_no_place_for_data(folder: Path) -> None:
    status, screen = on_terminal(["compress", *O0, "-c", "a.txt"])
    assert status == 1
    assert b"(stdout): is a terminal" in screen
    for verb in ("compress", "decompress", "test", "list"):
        status, screen = on_terminal([verb], stdout=subprocess.DEVNULL)
        assert status == 1
        assert b"(stdin): is a terminal" in screen
    status, screen = on_terminal(["compress", *O0, "-c", "-f", "a.txt"])
    assert status == 0
    assert b"\xb5KMO" in screen
    status, screen = on_terminal(["decompress", "-c", "-"], stdin=os.open("/dev/null", os.O_RDONLY))
    assert status == 1
    assert b"empty" in screen


def test_terminal_shows_the_line_and_asks(folder: Path) -> None:
    status, screen = on_terminal(["compress", *O0, "a.txt"])
    assert status == 0
    assert b"bytes, a.txt.kmo)" in screen
    before = (folder / "a.txt.kmo").stat().st_ino
    status, screen = on_terminal(["compress", *O0, "a.txt"], b"n\n")
    assert status == 1
    assert b"overwrite (y/n)?" in screen
    assert (folder / "a.txt.kmo").stat().st_ino == before
    status, screen = on_terminal(["compress", *O0, "a.txt"], b"y\n")
    assert status == 0
    assert (folder / "a.txt.kmo").stat().st_ino != before


def test_terminal_cannot_be_commanded(folder: Path) -> None:
    name = "evil\x1b[2J"
    done = spawn(["test", name])
    assert b"\x1b" not in done.stderr
    assert b"evil\\x1b[2J" in done.stderr


def start_endless(folder: Path, preexec: Callable[[], object] | None = None) -> subprocess.Popen[bytes]:
    """A compression that waits for more input after it has written blocks under a temporary name."""
    process = subprocess.Popen(
        [*COMMAND, "compress", *O0, "--block-size", "1K", "-T", "2", "-o", "out.kmo"],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=preexec,
    )
    assert process.stdin is not None
    process.stdin.write(DATA * 9)
    process.stdin.flush()
    for _ in range(600):
        if any(name.endswith(".tmp") for name in names(folder)):
            return process
        time.sleep(0.05)
    raise AssertionError("never started")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(folder: Path, number: signal.Signals, status: int) -> None:
    process = start_endless(folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert names(folder) == ["a.txt"]
    assert b"Traceback" not in errors


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_holds(folder: Path) -> None:
    process = start_endless(folder, preexec=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert "out.kmo" in names(folder)


def test_broken_pipe_is_quiet(folder: Path) -> None:
    packed = kolmo.compress(DATA * 200, predictor="order0", block_size=50000)
    (folder / "x.kmo").write_bytes(packed)
    process = subprocess.Popen(
        [*COMMAND, "decompress", "-c", "x.kmo", *["-q"] * SLOW],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_full_disk(folder: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    done = spawn(["compress", *O0, "-f", "-o", "/dev/full", "a.txt"])
    assert done.returncode == 1
    assert done.stderr.startswith(b"kolmo: /dev/full: No space left on device; free some space")
    with open("/dev/full", "wb") as full:
        spawned = subprocess.run(
            [*COMMAND, "compress", *O0, "-c", "a.txt"], env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE
        )
    assert spawned.returncode == 1
    assert b"(stdout): No space left" in spawned.stderr
    assert b"Traceback" not in spawned.stderr
