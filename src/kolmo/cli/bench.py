"""`kolmo bench`: benchmarks on data of one's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import STDOUT, Console, may_overwrite, print_lines, standard_output

if TYPE_CHECKING:
    from kolmo.bench.files import FilesReport


KINDS = ("text", "images", "audio", "random")  # kolmo.modalities.chunks.MODALITIES


@click.group("bench")
def command() -> None:
    """Measure kolmo beside others, on your own data."""


def _levels(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    found = []
    for word in value.split(","):
        if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 9):
            raise click.BadParameter(f"{word!r} is not a level; write levels from 1 to 9, like 1,5,9", ctx, param)
        found.append(int(word))
    return list(dict.fromkeys(found))


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    found = [word for word in value.split(",") if word]
    for word in found:
        if not (word.isascii() and word.isdigit() and 300 <= int(word) <= 65536):
            raise click.BadParameter(f"{word!r} is not a size; write numbers from 300 to 65536", ctx, param)
    return list(map(int, dict.fromkeys(found)))


def _kinds(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    found = None if value is None else [word for word in value.split(",") if word]
    if found is not None and (wrong := [word for word in found if word not in KINDS] or not found):
        raise click.BadParameter(f"{wrong if found else value!r}: choose from {', '.join(KINDS)}", ctx, param)
    return found


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [word for word in value.split(",") if word]


@command.command("files")
@click.option("--levels", callback=_levels, default="1,5,9", show_default=True, metavar="N,...", help="kolmo's levels.")
@click.option(
    "--peers",
    callback=_names,
    metavar="NAME,...",
    help="Other compressors, like zstd,xz,jxl; default: all that are installed. An empty list: none.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs of each; medians count.",
)
@click.option("--markdown", metavar="OUT", help="Write the tables as Markdown.")
@click.option("--csv", metavar="OUT", help="Write a row for each tool and file.")
@click.option("--html", metavar="OUT", help="Write a page with tables and a picture.")
@options.recursive
@click.option("-f", "--force", is_flag=True, help="Overwrite; follow links.")
@options.quiet
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=options.PATH)
def files(
    *,
    paths: tuple[str, ...],
    levels: list[int],
    peers: list[str] | None,
    repeat: int,
    markdown: str | None,
    csv: str | None,
    html: str | None,
    recursive: bool,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Measure kolmo and the installed compressors on files.

    The tables have bytes, speed both ways and memory. Every output is unpacked and compared. Each tool runs alone, on
    one core, on one thread.
    """
    from kolmo.cli.inputs import expand

    sinks = {kind: path for kind, path in (("markdown", markdown), ("csv", csv), ("html", html)) if path is not None}
    if list(sinks.values()).count("-") + as_json > 1:
        raise click.UsageError("only one can have standard output; write the others elsewhere")
    console = Console(quiet, json=as_json, data_on_stdout="-" in sinks.values())
    with console.guarded("bench"):
        for path in sinks.values():
            if path != "-" and os.path.isfile(path) and not force and not may_overwrite(path, console, ask=True):
                from kolmo.targets import TargetExistsError

                raise TargetExistsError(f"{path}: already exists; overwrite it with -f, or choose another name")
        from kolmo.bench.files import bench_files

        found = []
        for path in expand(paths, console, recursive=recursive, force=force, packed=False):
            if path not in paths and not os.path.getsize(path):  # one that is named is refused
                console.warn(f"{path}: is empty, skipped")
            else:
                found.append(path)
        if console.status:
            return console.status
        report = bench_files(found, levels=levels, peers=peers, repeat=repeat, progress=console.progress)
        _show(report, sinks, console)
    return console.status


def _show(report: FilesReport, sinks: dict[str, str], console: Console) -> None:
    from kolmo.targets import Attributes, Target

    makers = {"markdown": report.markdown, "csv": report.csv, "html": report.html}
    for kind, path in sinks.items():
        out = standard_output(force=True) if path == "-" else path
        with console.writing_to(STDOUT if path == "-" else path), Target(out, True) as target:
            target.file.write(makers[kind]().encode())
            target.keep(Attributes())
    if console.json:
        console.record(report.record())
    elif "-" not in sinks.values():
        print_lines(report.text().split("\n"))
    for failure in report.failures:
        console.fail(failure, "bench")


@command.command("paper")
@click.option("--data", metavar="DIR", type=options.PATH, help="Folder with text, images, audio; default: samples.")
@click.option(
    "--text", metavar="PATH", type=options.PATH, help="File, folder or data set of texts in place of those of --data."
)
@click.option("--images", metavar="PATH", type=options.PATH, help="The same for pictures.")
@click.option("--audio", metavar="PATH", type=options.PATH, help="The same for sounds.")
@click.option(
    "--compressors",
    callback=_names,
    metavar="NAME,...",
    help="Like gzip,lzma2,flac,neural:5,hf:FOLDER; default: classical ones that are installed, cm:1, cm:4, neural:5.",
)
@click.option(
    "--chunks", type=click.IntRange(min=1), default=64, show_default=True, metavar="N", help="Chunks of each kind."
)
@click.option(
    "--chunk-size",
    type=click.IntRange(min=16, max=1 << 24),
    default=2048,
    show_default=True,
    metavar="N",
    help="Bytes of a chunk; a picture's always have 32 x 64 pixels.",
)
@click.option("--only", callback=_kinds, metavar="KIND,...", help="Of text, images, audio, random; default: all.")
@click.option("--spread", is_flag=True, help="Chunks spread evenly over all the data; default: the first ones.")
@options.seed("Seed of random bytes and of continuations.", default=1, show_default=True)
@click.option(
    "--continuations/--no-continuations",
    default=True,
    show_default=True,
    help="Let gzip and predictors go on from parts of the data: texts, pictures, sounds.",
)
@click.option(
    "--vocabularies",
    callback=_numbers,
    default="1000,2000,5000,10000,20000",
    show_default=True,
    metavar="N,...",
    help="Sizes of byte-pair vocabularies to try on the text; an empty list: none.",
)
@click.option("--no-shrink", is_flag=True, help="Do not measure hf: models also with small weights.")
@options.output("Folder of figures and reports; a later run takes figures from there.", default="bench-paper")
@options.quiet
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
def paper(
    *,
    data: str | None,
    text: str | None,
    images: str | None,
    audio: str | None,
    compressors: list[str] | None,
    chunks: int,
    chunk_size: int,
    only: list[str] | None,
    spread: bool,
    seed: int,
    vocabularies: list[int],
    no_shrink: bool,
    continuations: bool,
    output: str,
    quiet: bool,
    as_json: bool,
) -> int:
    """Make the table of "Language Modeling Is Compression" on your data.

    Text, grey pictures, 8-bit sound and random bytes, in chunks of 2,048 bytes and whole, under classical compressors,
    codecs and predictors. Everything is unpacked and compared. A run that is interrupted goes on where it was.
    """
    console = Console(quiet, json=as_json)
    with console.guarded("bench"):
        from pathlib import Path

        from kolmo.bench.paper.continued import FOLDER as CONTINUATIONS
        from kolmo.bench.paper.run import bench_paper
        from kolmo.targets import Attributes, Target, check_folder
        from kolmo.weights.shrink import shrink as shrink_folder

        check_folder(output)
        report = bench_paper(
            data=data,
            text=text,
            images=images,
            audio=audio,
            compressors=compressors,
            chunks=chunks,
            chunk_size=chunk_size,
            spread=spread,
            only=KINDS if only is None else only,
            seed=seed,
            continuations=continuations,
            output=output,
            symbols=vocabularies,
            shrink=None if no_shrink else shrink_folder,
            progress=console.progress,
        )
        files = report.files()
        if report.continuations:
            Path(output, CONTINUATIONS).mkdir(parents=True, exist_ok=True)
            files |= {f"{CONTINUATIONS}/{name}": content for name, content in report.continuations.files.items()}
        for name, content in files.items():
            path = str(Path(output, name))
            with console.writing_to(path), Target(path, True) as target:
                target.file.write(content)
                target.keep(Attributes())
        if as_json:
            console.record(report.record())
        else:
            print_lines(report.text().split("\n"))
        for line in report.wrong:
            console.fail(line, "bench")
    return console.status
