"""`kolmo list`: what files hold, without decoding them."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from kolmo.cli import options
from kolmo.cli.console import STDIN, Console, print_lines
from kolmo.cli.inputs import expand, open_input

if TYPE_CHECKING:
    from kolmo.archive.listing import FrameInfo, Listing

COLUMNS = "{:>6} {:>6} {:>12} {:>13} {:>7}  {:<10} {}"
KINDS_WIDTH = 80 - 17 - 1  # behind the name of a detail, with room for a comma
HEAD = COLUMNS.format("Frames", "Blocks", "Compressed", "Uncompressed", "Ratio", "Predictor", "Filename")


@click.command("list")
@options.recursive
@options.verbose
@options.json_lines
@click.option("-q", "--quiet", is_flag=True, help="Leave out the heading.")
@click.option("-f", "--force", is_flag=True, help="Follow links; read from a terminal.")
@click.argument("files", nargs=-1, type=options.PATH)
def command(*, files: tuple[str, ...], recursive: bool, verbose: bool, as_json: bool, quiet: bool, force: bool) -> int:
    """List what FILES hold: frames, blocks, sizes, predictors.

    With -v, every frame with its checksum, fingerprint and stored name, and what its blocks were taken for.
    """
    console = Console(quiet, verbose, as_json)
    listed: list[Listing] = []
    for path in expand(files, console, recursive=recursive, force=force, packed=True):
        shown = STDIN if path == "-" else path
        with console.guarded(shown):
            from kolmo.archive.listing import list_stream

            with open_input(path, force=force) as file:
                listing = list_stream(file, name=shown, kinds=verbose or as_json)
            if as_json:
                console.record(_json(shown, listing))
            else:
                if not listed and not quiet:
                    print_lines([HEAD])
                _print(shown, listing, verbose)
            listed.append(listing)
            if listing.is_extreme:
                console.warn(f"{shown}: {listing.describe_extreme()}")
            if listing.error:
                raise listing.error
    if len(listed) > 1 and not as_json:
        blocks = sum(frame.blocks for listing in listed for frame in listing.frames)
        frames = sum(len(listing.frames) for listing in listed)
        sizes = sum(listing.packed_size for listing in listed), sum(listing.raw_size for listing in listed)
        print_lines([_row(frames, blocks, *sizes, "", f"{len(listed)} files")])
    return console.status


def _print(path: str, listing: Listing, verbose: bool) -> None:
    frames = listing.frames
    predictors = {_predictor(frame) for frame in frames}
    predictor = predictors.pop() if len(predictors) == 1 else "several" if predictors else "-"
    blocks = sum(frame.blocks for frame in frames)
    print_lines([_row(len(frames), blocks, listing.packed_size, listing.raw_size, predictor, path)])
    if not verbose:
        return
    for number, frame in enumerate(frames, 1):
        details = (f"    {key:<13}{value}" for key, value in _details(frame))
        print_lines([f"  frame {number} at byte {frame.offset}", *details])


def _row(frames: int, blocks: int, packed: int, raw: int, predictor: str, name: str) -> str:
    ratio = f"{raw / packed:.3f}" if raw and packed else "-"
    return COLUMNS.format(frames, blocks, packed, raw, ratio, predictor, name)


def _details(frame: FrameInfo) -> list[tuple[str, str]]:
    details = [
        ("sizes", f"{frame.raw_size} => {frame.packed_size} bytes in {frame.blocks} blocks"),
        ("predictor", f"{_predictor(frame)}, version {frame.version}, fingerprint {frame.fingerprint}"),
        *([("model", frame.model)] if frame.model else []),
        *_kinds(frame),
        ("checksum", f"{frame.checksum or 'missing'} (BLAKE2b, 8 bytes)"),
    ]
    if frame.name is not None:
        details.append(("name", frame.name))
    if frame.mtime is not None:
        details.append(("modified", _time(frame.mtime)))
    if frame.mode is not None:
        details.append(("mode", f"{frame.mode:04o}"))
    return details


def _kinds(frame: FrameInfo) -> list[tuple[str, str]]:
    """The kinds of data in a frame, on lines of at most 80 columns."""
    from kolmo.predictors.parts import described

    lines = [""]
    for phrase in described(frame.kinds or ()):
        joined = f"{lines[-1]}, {phrase}" if lines[-1] else phrase
        if lines[-1] and len(joined) > KINDS_WIDTH:
            lines[-1] += ","
            lines.append(phrase)
        else:
            lines[-1] = joined
    return [("kinds" if not number else "", text) for number, text in enumerate(lines) if text]


def _predictor(frame: FrameInfo) -> str:
    return frame.predictor if frame.level is None else f"{frame.predictor}:{frame.level}"


def _time(nanoseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc)
    except (OverflowError, ValueError, OSError):  # past the year 9999
        return f"{nanoseconds} ns after 1970"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _json(path: str, listing: Listing) -> dict[str, object]:
    return {
        "file": path,
        "raw_size": listing.raw_size,
        "packed_size": listing.packed_size,
        "frames": [_frame_record(frame) for frame in listing.frames],
        "error": str(listing.error) if listing.error else None,
    }


def _frame_record(frame: FrameInfo) -> dict[str, object]:
    kinds = None if frame.kinds is None else [share.record() for share in frame.kinds]
    return {**asdict(replace(frame, kinds=None)), "kinds": kinds, "ratio": frame.ratio}
