"""Options of the command line: one vocabulary over all verbs, the habits of gzip, xz and zstd; inputs of all kinds."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click
import pytest

import kolmo
from helpers import order0
from helpers.command import COMMAND, DATA, ENVIRONMENT, O0, names, on_terminal, spawn
from kolmo.cli import VERBS, group, main
from kolmo.cli.flags import add_verb, split

FULL = "/dev/full"
NO_FOLDER = "kolmo: none/x: No such file or directory; check the name"
ROOT = os.name != "nt" and os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(DATA)
    return tmp_path


def call(arguments: list[str]) -> tuple[int, str, str]:
    """Run in this process, which is quicker than a new one: the status, standard output, standard error."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    try:
        with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as left:
            main(arguments)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (output, errors)]
    return int(left.value.code or 0), texts[0], texts[1]


def lines_of(arguments: list[str], status: int) -> list[str]:
    """The lines of standard error."""
    got, _, errors = call(arguments)
    assert got == status, errors
    return errors.splitlines()


def only_line(arguments: list[str], status: int) -> str:
    (line,) = lines_of(arguments, status)
    assert line.startswith("kolmo: ")
    return line


def table() -> dict[str, dict[str, click.Option]]:
    """Option -> verb -> what it is there."""
    found: dict[str, dict[str, click.Option]] = defaultdict(dict)
    context = click.Context(group)
    for verb in VERBS:
        command = group.get_command(context, verb)
        assert command is not None
        for param in command.params:
            if isinstance(param, click.Option):
                for name in param.opts:
                    assert verb not in found[name], f"{verb} {name} is declared twice"
                    found[name][verb] = param
    return found


def meaning(option: click.Option) -> tuple[object, ...]:
    """What a user has to know to give the option: its long name, its kind of value, its unit."""
    kind: object = "flag"
    if not option.is_flag:
        kind = tuple(option.type.choices) if isinstance(option.type, click.Choice) else option.type.name
        if option.callback is not None and option.callback.__name__ == "parse_target":
            kind = "size"
    return max(option.opts, key=len), kind, option.metavar


CHOICES = {"--model": "train"}  # verbs whose option names a kind to choose, where others name a place of the same thing


def test_one_name_has_one_meaning() -> None:
    verbs_of = {n: {v: o for v, o in verbs.items() if CHOICES.get(n) != v} for n, verbs in table().items()}
    several = {name: verbs for name, verbs in verbs_of.items() if len({meaning(o) for o in verbs.values()}) > 1}
    assert not several, {name: {verb: meaning(o) for verb, o in verbs.items()} for name, verbs in several.items()}


def test_one_meaning_has_one_name() -> None:
    """Parameters of one Python name that take a value are one option, whatever the verb."""
    spelled: dict[str, set[str]] = defaultdict(set)
    for name, verbs in table().items():
        for option in verbs.values():
            if name.startswith("--") and not option.is_flag:
                spelled[option.name or ""].add(name)
    doubles = {python: flags for python, flags in spelled.items() if len(flags) > 1}
    assert not doubles
    assert "--batch" not in table()
    assert {meaning(option)[1] for option in table()["--dtype"].values()} == {"dtype"}


@pytest.mark.parametrize(("given", "meant"), [("bf16", "bfloat16"), ("float16", "float16"), ("fp32", "float32")])
def test_short_names_of_dtypes(given: str, meant: str) -> None:
    option = table()["--dtype"]["eval"]
    assert option.type.convert(given, option, None) == meant
    assert "not one of float32" in only_line(["compress", "--dtype", "int8", "x"], 2)


@pytest.mark.parametrize("flag", ["-12", "-19", "-10", "-0", "-k12", "-22f"])
@pytest.mark.parametrize("verb", ["compress", "explain", "sample", None])
def test_levels_have_one_digit(folder: Path, verb: str | None, flag: str) -> None:
    line = only_line([*([verb] if verb else []), flag, "a.txt"], 2)
    assert "is not a level; levels are -1 (fast) to -9 (small)" in line
    assert names(folder) == ["a.txt"]


def test_digits_elsewhere_are_no_levels() -> None:
    command = group.get_command(click.Context(group), "sample")
    assert command is not None
    for given in (["--prompt", "-12"], ["--prompt=-12"], ["-n12"], ["-n", "-12"], ["--", "-12"]):
        list(split(given, command.params))
    with pytest.raises(click.UsageError):
        list(split(["--echo", "-12"], command.params))


@pytest.mark.parametrize(
    ("flags", "level"),
    [(["--best"], 9), (["--fast"], 1), (["--level", "3"], 3), (["-9", "--fast"], 1), (["--level=2", "-4"], 4)],
)
def test_long_levels(folder: Path, flags: list[str], level: int) -> None:
    (folder / "a.txt").write_bytes(DATA[:100])
    assert lines_of(["compress", *flags, "a.txt"], 0) == []
    (frame,) = json.loads(call(["list", "--json", "a.txt.kmo"])[1])["frames"]
    assert frame["level"] == level


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["-d", "x"], ["decompress", "x"]),
        (["-dc", "x"], ["decompress", "-c", "x"]),
        (["-9", "-d"], ["decompress"]),
        (["-9d", "-T2", "x"], ["decompress", "-T2", "x"]),
        (["-m", "cm:9", "-d", "x"], ["decompress", "x"]),
        (["--uncompress", "x"], ["decompress", "x"]),
        (["-tv", "x"], ["test", "-v", "x"]),
        (["-l", "--json", "x"], ["list", "--json", "x"]),
        (["-d", "-z", "x"], ["compress", "x"]),
        (["-9k", "x"], ["compress", "-9", "-k", "x"]),
        (["-o", "-d", "x"], ["compress", "-o", "-d", "x"]),
        (["--output", "-d", "x"], ["compress", "--output", "-d", "x"]),
        (["-d", "--", "-t"], ["decompress", "--", "-t"]),
        (["-"], ["compress", "-"]),
        (["--help"], ["--help"]),
        (["list", "-d"], ["list", "-d"]),
        (["-d", "-h"], ["decompress", "-h"]),
        (["nothing"], ["nothing"]),
    ],
)
def test_calls_without_a_verb(folder: Path, given: list[str], meant: list[str]) -> None:
    assert add_verb(given, group, click.Context(group)) == meant


def test_files_without_a_verb(folder: Path) -> None:
    assert lines_of(["-1", "a.txt"], 0) == []
    os.rename("a.txt", "before")
    assert lines_of(["-d", "a.txt.kmo"], 0) == []
    assert (folder / "a.txt").read_bytes() == DATA
    assert lines_of(["-f", "-1", "a.txt"], 0) == lines_of(["-t", "a.txt.kmo"], 0) == []
    assert "a.txt.kmo" in call(["-l", "a.txt.kmo"])[1]
    assert lines_of(["before", "-1"], 0) == []
    assert kolmo.decompress((folder / "before.kmo").read_bytes()) == DATA
    packed = spawn([], DATA).stdout
    assert kolmo.decompress(packed) == DATA
    assert spawn(["-d"], packed).stdout == DATA
    assert "comes first: kolmo list -v" in only_line(["-v", "list", "a.txt.kmo"], 2)
    status, screen = on_terminal([])
    assert status == 2
    assert b"decompress" in screen


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
def test_tar(folder: Path) -> None:
    program = folder / "kolmo-here"
    program.write_text(f"#!{sys.executable}\nfrom kolmo.cli import main\nmain()\n")
    program.chmod(0o755)
    (folder / "d").mkdir()
    (folder / "d" / "b").write_bytes(DATA)

    def tar(*arguments: str) -> bytes:
        return subprocess.run(["tar", *arguments], check=True, env=ENVIRONMENT, stdout=subprocess.PIPE).stdout

    if b"GNU" not in tar("--version"):
        pytest.skip("needs GNU tar")
    tar("-I", f"{program} -1", "-cf", "x.tar.kmo", "a.txt", "d")
    assert (folder / "x.tar.kmo").read_bytes().startswith(b"\xb5KMO")
    assert b"d/b" in tar("-I", str(program), "-tf", "x.tar.kmo")
    (folder / "out").mkdir()
    tar("-I", f"{program} -1", "-xf", "x.tar.kmo", "-C", "out")
    assert (folder / "out" / "d" / "b").read_bytes() == DATA


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["compres", "a.txt"], "did you mean compress"),
        (["lst"], "did you mean list?"),
        (["compress", "--levl", "3", "a.txt"], "did you mean --level?"),
        (["compress", "--recursiv", "a.txt"], "did you mean --recursive?"),
        (["eval", "--batch_size", "3", "x"], "did you mean --batch-size?"),
        (["."], "kolmo compress -r ."),
    ],
)
def test_near_names(folder: Path, arguments: list[str], suggestion: str) -> None:
    line = only_line(arguments, 2)
    assert suggestion in line
    assert "Usage: kolmo" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "-o", "x", "a.txt"],
        ["-o", "", "a.txt"],
        ["-u", "-c", "a.txt"],
        ["-u", "-o", "-", "a.txt"],
    ],
)
def test_contradictions(folder: Path, arguments: list[str]) -> None:
    for verb in ("compress", "decompress"):
        only_line([verb, *arguments], 2)
    assert names(folder) == ["a.txt"]


def test_outputs_are_checked_first(folder: Path) -> None:
    (folder / "d").mkdir()
    long = "n" * 253
    (folder / long).write_bytes(DATA)
    for arguments, message in (
        (["compress", "a.txt", "-o", "d"], "kolmo: d: is a folder; name a file in it"),
        (["compress", "a.txt", "-o", "none/x"], NO_FOLDER),
        (["compress", long], f"kolmo: {long}.kmo: File name too long; choose a shorter name"),
        (["explain", "a.txt", "-o", "d"], "kolmo: d: is a folder; name a file in it"),
        (["explain", "a.txt", "-o", "none/x"], NO_FOLDER),
        (["sample", "-o", "none/x"], NO_FOLDER),
        (["sample", "-o", "n" * 300], f"kolmo: {'n' * 300}: File name too long; choose a shorter name"),
        (["eval", "cm:1", "--corpus", "a.txt", "-o", "a.txt"], "kolmo: a.txt: is not a folder; choose another place"),
        (["report", ".", "-o", "none/x"], NO_FOLDER),
        (["train", "a.txt", "-o", "a.txt"], "kolmo: a.txt: is not a folder; choose another place"),
    ):
        assert only_line(arguments, 1) == message
    assert names(folder) == ["a.txt", "d", long]


def test_outputs_that_hold_nothing_keep_the_input(folder: Path) -> None:
    for target in (os.devnull, "/dev/stderr"):
        lines = lines_of(["compress", *O0, "--rm", "-f", "-o", target, "a.txt"], 0)
        assert lines == [f"kolmo: a.txt: is kept, since {target} is not a regular file"]
    assert (folder / "a.txt").read_bytes() == DATA


def test_changed_inputs_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is appended while the input is compressed is not lost."""
    code = (
        "import kolmo.archive.files as files\n"
        "from helpers import order0\n"
        "whole = files.compress_stream\n"
        "def compress_stream(source, *rest, **more):\n"
        "    done = whole(source, *rest, **more)\n"
        "    open(source.name, 'ab').write(b'late')\n"
        "    return done\n"
        "files.compress_stream = compress_stream\n"
        "from kolmo.cli import main; main()"
    )
    (folder / "b.txt").write_bytes(DATA)
    command = [sys.executable, "-W", "ignore", "-c", code, "compress", *O0, "--rm", "a.txt", "b.txt"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 1
    for line, name in zip(done.stderr.decode().splitlines(), ("a.txt", "b.txt"), strict=True):
        assert line.startswith(f"kolmo: {name}: has changed since it was opened, so it is kept")
        assert (folder / name).read_bytes() == DATA + b"late"
        assert kolmo.decompress((folder / f"{name}.kmo").read_bytes()) == DATA


@pytest.fixture
def odd(folder: Path) -> list[str]:
    """Inputs that cannot be read, each of another kind."""
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    os.mkdir("folder")
    return ["none", "pipe", "socket", "dangling", "loop", "folder", "/dev/zero", "a.txt/x", "n" * 300]


def test_one_bad_input_stops_no_others(folder: Path, odd: list[str]) -> None:
    (folder / "x.kmo").write_bytes(kolmo.compress(DATA, predictor=order0.Order0()))
    for verb, good in (("compress", "a.txt"), ("decompress", "x.kmo"), ("test", "x.kmo"), ("list", "x.kmo")):
        lines = lines_of([verb, *(O0 if verb == "compress" else ()), *odd, good], 1)
        assert [line.split(": ")[1] for line in lines] == odd
    assert (folder / "x").read_bytes() == kolmo.decompress((folder / "a.txt.kmo").read_bytes()) == DATA
    assert len(lines_of(["info", *odd], 1)) == len(odd)
    for name in odd:
        for arguments in (["explain", name], ["shrink", name, "-o", "s"], ["expand", name, "-o", "s"]):
            assert only_line(arguments, 1).startswith(f"kolmo: {name}: ")


def test_pipes_by_force_and_of_the_shell(folder: Path) -> None:
    read, write = os.pipe()
    os.write(write, kolmo.compress(DATA, predictor=order0.Order0()))
    os.close(write)
    command = [
        *(sys.executable, "-c", "from helpers import order0; from kolmo.cli import main; main()"),
        "test",
        f"/dev/fd/{read}",
    ]
    assert subprocess.run(command, env=ENVIRONMENT, pass_fds=[read]).returncode == 0
    os.close(read)
    with open("a.txt", "rb") as file:
        command[-2:] = ["compress", *O0, "-c", "--rm", "/dev/stdin"]
        done = subprocess.run(command, env=ENVIRONMENT, stdin=file, stdout=subprocess.PIPE)
    assert kolmo.decompress(done.stdout) == DATA
    assert lines_of(["compress", *O0, "-f", "-o", "null.kmo", os.devnull], 0) == []
    assert kolmo.decompress((folder / "null.kmo").read_bytes()) == b""


@pytest.mark.skipif(ROOT, reason="root reads everything")
def test_unreadable_inputs(folder: Path) -> None:
    (folder / "secret").write_bytes(DATA)
    os.chmod("secret", 0)
    (folder / "closed").mkdir(mode=0)
    try:
        lines = lines_of(["compress", *O0, "-r", "secret", "closed", "a.txt"], 1)
    finally:
        os.chmod("closed", 0o700)
    assert lines == [f"kolmo: {name}: Permission denied; check the permissions" for name in ("secret", "closed")]
    assert kolmo.decompress((folder / "a.txt.kmo").read_bytes()) == DATA


def test_unreadable_folders_are_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kolmo.cli.console import Console
    from kolmo.cli.inputs import expand

    (folder / "t" / "closed").mkdir(parents=True)
    (folder / "t" / "b").write_bytes(DATA)
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    console = Console()
    assert list(expand(["t"], console, recursive=True, force=False, packed=False)) == ["t/b"]
    assert console.status == 1
    assert capsys.readouterr().err == "kolmo: t/closed: Permission denied; check the permissions\n"


def test_folders_skip_temporaries_and_loops(folder: Path) -> None:
    tree = folder / "t"
    (tree / ".kolmo-abcdefgh.tmp").mkdir(parents=True)
    (tree / ".kolmo-abcdefgh.tmp" / "weights").write_bytes(b"half")
    (tree / ".kolmo-x1_y2_z3.tmp").write_bytes(b"half")
    (tree / "deep").mkdir()
    (tree / "deep" / "b").write_bytes(DATA)
    (tree / "deep" / "up").symlink_to("..")
    (tree / "other").symlink_to("deep")
    os.mkfifo(tree / "pipe")
    assert lines_of(["compress", *O0, "-r", "t"], 0) == ["kolmo: t/pipe: is not a regular file, skipped"]
    assert lines_of(["compress", *O0, "-rf", "t"], 0) == ["kolmo: t/pipe: is not a regular file, skipped"]
    packed = [path for path, _, found in os.walk("t") for name in found if name.endswith(".kmo")]
    assert packed == ["t/deep"]


def test_an_archive_job_can_be_repeated(folder: Path) -> None:
    tree = folder / "t"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_bytes(DATA)
    job = ["compress", *O0, "-r", "t"]
    assert lines_of(job, 0) == lines_of(job, 0) == []
    before = {name: (tree / name).stat().st_ino for name in names(tree)}
    assert lines_of([*job, "--json"], 0) == []
    assert {name: (tree / name).stat().st_ino for name in names(tree)} == before
    records = map(json.loads, call([*job, "--json"])[1].splitlines())
    assert [(record["file"], record["skipped"]) for record in records] == [("t/a", True), ("t/b", True)]
    (tree / "a").write_bytes(DATA + b"more")
    stale = lines_of(job, 1)
    assert stale == ["kolmo: t/a.kmo: already exists, older than t/a; -u renews it, -f overwrites any"]
    assert lines_of([*job, "-u"], 0) == []
    assert kolmo.decompress((tree / "a.kmo").read_bytes()) == DATA + b"more"
    assert (tree / "b.kmo").stat().st_ino == before["b.kmo"]
    (tree / "b.kmo").write_bytes(b"not an archive, and newer")
    for again in (job, [*job, "-u"]):
        assert lines_of(again, 1) == ["kolmo: t/b.kmo: already exists; use -f to overwrite it"]
    assert lines_of(["compress", *O0, "t/a"], 1) == ["kolmo: t/a.kmo: already exists; use -f to overwrite it"]
    kept = lines_of(["compress", *O0, "-u", "--rm", "t/a"], 0)
    assert kept == ["kolmo: t/a: t/a.kmo is there already, skipped; test that, then remove t/a yourself"]
    assert (tree / "a").exists()


def test_extraction_can_be_repeated(folder: Path) -> None:
    (folder / "x.kmo").write_bytes(kolmo.compress(DATA, predictor=order0.Order0()))
    assert lines_of(["decompress", "-r", "."], 0) == lines_of(["decompress", "-r", "."], 0) == []
    with open("x", "ab") as file:
        file.write(b"edited")
    assert len(lines_of(["decompress", "-r", "."], 1)) == 1
    assert lines_of(["decompress", "-u", "x.kmo"], 0) == []  # the newer one is left alone
    assert (folder / "x").read_bytes() == DATA + b"edited"
    os.utime("x", ns=(1, 1))
    assert lines_of(["decompress", "-u", "x.kmo"], 0) == []
    assert (folder / "x").read_bytes() == DATA


@pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["compress", "--help"],
        ["list", "a.kmo", "a.kmo"],
        ["list", "--json", "a.kmo"],
        ["test", "--json", "a.kmo", "none"],
        ["compress", *O0, "--json", "a.txt", "b.txt"],
        ["fit"],
        ["sample", "-n", "5"],
        ["explain", "-1", "--json", "a.txt"],
        ["decompress", "-c", "a.kmo"],
    ],
)
def test_full_standard_output(folder: Path, arguments: list[str], unbuffered: bool) -> None:
    (folder / "a.kmo").write_bytes(kolmo.compress(DATA, predictor=order0.Order0()))
    (folder / "b.txt").write_bytes(DATA)
    command = [*COMMAND, *arguments]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    with open(FULL, "wb") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE)
    lines = [line for line in done.stderr.decode().splitlines() if "none: no such" not in line]
    assert done.returncode == 1
    assert len(lines) == 1
    assert lines[0].startswith("kolmo: (stdout): No space left on device")
    if arguments[0] == "compress" and "a.txt" in arguments:  # the work itself goes on
        assert {"a.txt.kmo", "b.txt.kmo"} <= set(names(folder))
    with open(FULL, "wb") as full:
        done = subprocess.run([*command[:3], "test", "none"], env=environment, stderr=full)
    assert done.returncode == 1


def test_closed_pipe_is_quiet(folder: Path) -> None:
    for arguments in (["--help"], ["list", "--help"], ["test", "--json", "none"]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert done.returncode in (1, 141)
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_file_size_limit(folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(200_000))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\nfrom kolmo.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "compress", "-1", "--rm", "big"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.startswith(b"kolmo: big.kmo: File too large; ")
    assert names(folder) == ["a.txt", "big"]


@pytest.mark.skipif(ROOT, reason="root writes everywhere")
def test_folder_without_permission(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d" / "b").write_bytes(DATA)
    os.chmod("d", stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert only_line(["compress", *O0, "--rm", "d/b"], 1).startswith("kolmo: d/b.kmo: Permission denied")
        assert names(folder / "d") == ["b"]
    finally:
        os.chmod("d", 0o700)
