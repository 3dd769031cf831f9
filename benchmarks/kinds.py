"""Measure kolmo on contents that are not text, beside general compressors and codecs made for pixels and samples.

Other general compressors run as their users run them (see benchmarks/lossless.py); kolmo is called within this process,
so its times are without the start of Python. PNG, WebP, JPEG XL and FLAC are called through Pillow, imagecodecs and
soundfile on the pixels or samples of a file. Every output is decoded and compared before its size counts.

Besides files, chunks of 2048 bytes of pictures and of speech are coded one by one, as in "Language Modeling Is
Compression". A classical codec's header counts once: from the total, the size of a file with one zero value is taken
off for every chunk but the first. Of kolmo, the payload of each chunk's block counts, and once the rest of a file;
nothing is learnt from other chunks.

    KOLMO_DATA=DIR python benchmarks/kinds.py --list
    KOLMO_DATA=DIR python benchmarks/kinds.py --tools kolmo,zpaq,special --json OUT --markdown OUT.md
    KOLMO_DATA=DIR python benchmarks/kinds.py --tools kolmo --known OUT --markdown AFTER.md

`DIR` holds bench/ and train/ (see harness/kinds_files.py). `--more FOLDER` measures the files of a folder too;
`--known` takes cells of an earlier run that this one does not measure. paq8px is run
on files up to `--slow-bytes` only.
What it is not: a comparison on text (benchmarks/lossless.py).
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import lzma
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

import kolmo
from harness import kinds_files, specialists
from harness.files import KB
from harness.measuring import log, measure, one_core
from harness.tables import table
from harness.tools import PEERS
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.predictors.registry import for_level

CHUNKED = {
    "patches": ("32 x 64 grey patches of photographs", kinds_files.patches),
    "lj": ("8-bit speech, a speaker of no training", lambda: kinds_files.chunks("lj")),
    "arctic": ("8-bit speech, held-out utterances", lambda: kinds_files.chunks("arctic")),
}
SPECIAL = {**specialists.PIXELS, **specialists.SAMPLES}


XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 16}]  # no 64 MiB for each chunk
Row = tuple[str, int, float, float]  # what, bytes, CPU seconds of encoding and of decoding
Chunks = Sequence[npt.NDArray[np.uint8]]


def chunked_general(chunks: Chunks) -> list[Row]:
    """Deflate (zlib, level 9) and LZMA2 (xz, preset 9e) of each chunk."""
    rows: list[Row] = []
    tools: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "zlib -9": (lambda raw: zlib.compress(raw, 9), zlib.decompress),
        "xz -9e": (lambda raw: lzma.compress(raw, filters=XZ), lzma.decompress),
    }
    for label, (encode, decode) in tools.items():
        began = time.process_time()
        packed = [encode(chunk.tobytes()) for chunk in chunks]
        encoded = time.process_time()
        for chunk, one in zip(chunks, packed, strict=True):
            if decode(one) != chunk.tobytes():
                raise ValueError(f"{label}: other bytes came back")
        decoded = time.process_time()
        header = len(encode(b"\0")) * (len(chunks) - 1)
        rows.append((label, sum(map(len, packed)) - header, encoded - began, decoded - encoded))
    return rows


def chunked_special(chunks: Chunks) -> list[Row]:
    """The codecs made for pixels (chunks of two dimensions) or for samples (of one)."""
    rows: list[Row] = []
    for codec in (specialists.PIXELS if chunks[0].ndim == 2 else specialists.SAMPLES).values():
        contents: list[npt.NDArray[Any]] = list(chunks)
        if chunks[0].ndim == 1:
            contents = [(chunk.astype(np.int32) - 128) << 24 for chunk in chunks]
        costs = [specialists.round_trip(codec, content) for content in contents]
        header = len(codec.encode(np.zeros_like(contents[0][:1, :1] if chunks[0].ndim == 2 else contents[0][:1]), 8))
        size, encoding, decoding = (sum(column) for column in zip(*costs, strict=True))
        rows.append((codec.label, int(size) - header * (len(chunks) - 1), encoding, decoding))
    return rows


def chunked_own(chunks: Chunks, level: int) -> Row:
    """Kolmo at a level."""
    predictor = for_level(level)
    raws = [chunk.tobytes() for chunk in chunks]
    began = time.process_time()
    blocks = [encode_block(predictor, raw) for raw in raws]
    encoded = time.process_time()
    for raw, (kind, payload) in zip(raws, blocks, strict=True):
        if decode_block(predictor, kind, payload, len(raw)) != raw:
            raise ValueError(f"kolmo -{level}: other bytes came back")
    decoded = time.process_time()
    rest = len(kolmo.compress(b"\0", level=level, threads=1)) - 1
    return f"kolmo -{level}", rest + sum(len(payload) for _, payload in blocks), encoded - began, decoded - encoded


class Entry(TypedDict):
    """What one tool made of one file or of one set of chunks: bytes, CPU seconds; or why there is nothing."""

    raw: int
    size: int | None
    encode: float
    decode: float
    error: str | None


Entries = dict[str, dict[str, Entry]]  # by file (name and the start of its digest), then by tool


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure kolmo on contents that are not text.")
    parser.add_argument("--files", default="*", help="comma-separated patterns of files' names, or none")
    parser.add_argument("--chunks", default="", help=f"comma-separated: {', '.join(CHUNKED)} (default: none)")
    parser.add_argument(
        "--tools", default="kolmo,special", help=f"kolmo, special (all of {', '.join(SPECIAL)}), {', '.join(PEERS)}"
    )
    parser.add_argument("--levels", default="1,4,5,9", help="kolmo's levels (default: %(default)s)")
    parser.add_argument(
        "--slow-bytes", type=int, default=300 * KB, help="largest file of paq8px (default: %(default)s)"
    )
    parser.add_argument("--more", type=Path, metavar="FOLDER", help="also measure the files of this folder")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="write the files there and keep them")
    parser.add_argument("--known", type=Path, metavar="IN", help="cells of an earlier run (its --json)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every cell there, after each file")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="also write the tables there")
    parser.add_argument("--list", action="store_true", help="only write the files and print their names and sizes")
    return parser.parse_args(arguments)


def measure_file(path: Path, options: argparse.Namespace, entries: dict[str, Entry], work: Path) -> None:
    """Fill in the cells of a file that are not known."""
    raw = path.stat().st_size
    plain = work / path.name  # tools run in that folder
    shutil.copyfile(path, plain)
    wanted = options.tools.split(",")
    for key, tool in PEERS.items():
        if key not in wanted or tool.label in entries or (key.startswith("paq8px") and raw > options.slow_bytes):
            continue
        cell = measure({key: tool}, {path.name: plain}, work, 1)[key, path.name]
        if cell.error or cell.sizes:
            entries[tool.label] = {
                "raw": raw,
                "size": cell.size if cell.sizes else None,
                "encode": cell.encodes[0].cpu if cell.encodes else 0.0,
                "decode": cell.decodes[0].cpu if cell.decodes else 0.0,
                "error": cell.error,
            }
    plain.unlink()
    found = specialists.content_of(path) if {"special", *SPECIAL} & set(wanted) else None
    for key, codec in found[0].items() if found else ():
        if found and codec.label not in entries and (key in wanted or "special" in wanted):
            log(f"{path.name}, {codec.label}")
            size, encode, decode = _round_trip(codec, found[1], found[2])
            entries[codec.label] = {"raw": raw, "size": size, "encode": encode, "decode": decode, "error": None}
    for level in map(int, options.levels.split(",")) if "kolmo" in wanted else ():
        if f"kolmo -{level}" not in entries:
            log(f"{path.name}, kolmo -{level}")
            entries[f"kolmo -{level}"] = own(path.read_bytes(), level)


def own(data: bytes, level: int) -> Entry:
    """Kolmo at a level, within this process."""
    began = time.process_time()
    packed = kolmo.compress(data, level=level, threads=1)
    encoded = time.process_time()
    same = kolmo.decompress(packed, threads=1) == data
    decoded = time.process_time()
    error = None if same else "WRONG: the decompressed bytes differ"
    size = len(packed) if same else None
    return {"raw": len(data), "size": size, "encode": encoded - began, "decode": decoded - encoded, "error": error}


_done: dict[tuple[str, bytes], tuple[int, float, float]] = {}


def _round_trip(codec: specialists.Specialist, content: npt.NDArray[Any], bits: int) -> tuple[int, float, float]:
    """As in `specialists`, but once for all files that hold the same values."""
    key = codec.label, hashlib.sha256(repr((content.shape, bits)).encode() + content.tobytes()).digest()
    if key not in _done:
        _done[key] = specialists.round_trip(codec, content, bits)
    return _done[key]


def measure_chunks(name: str, options: argparse.Namespace, entries: dict[str, Entry]) -> None:
    """Fill in the cells of a set of chunks that are not known."""
    contents = CHUNKED[name][1]()
    raw = sum(content.size for content in contents)
    wanted = options.tools.split(",")
    rows: list[Row] = []
    if "special" in wanted and "xz -9e" not in entries:
        log(f"chunks of {name}: peers")
        rows += chunked_general(contents) + chunked_special(contents)
    for level in map(int, options.levels.split(",")) if "kolmo" in wanted else ():
        if f"kolmo -{level}" not in entries:
            log(f"chunks of {name}: kolmo -{level}")
            rows.append(chunked_own(contents, level))
    for label, size, encode, decode in rows:
        entries[label] = {"raw": raw, "size": size, "encode": encode, "decode": decode, "error": None}


def shown(entry: Entry | None, text: str) -> str:
    """A cell of a table."""
    if entry is None:
        return "-"
    if entry["size"] is None:
        return "**failed**"
    if text == "size":
        return f"{entry['size']:,}"
    return f"{entry['encode']:.2f} / {entry['decode']:.2f}"


def report(all_entries: Entries) -> str:
    """The tables: sizes, then CPU seconds."""
    order = [*(tool.label for tool in PEERS.values()), "zlib -9"]
    order += [codec.label for codec in SPECIAL.values()]
    order += [f"kolmo -{level}" for level in range(1, 10)]
    used = [label for label in order if any(label in entries for entries in all_entries.values())]
    parts = []
    for title, text in (("Sizes: bytes", "size"), ("CPU seconds, encoding / decoding", "time")):
        rows = [
            [name.rpartition(" ")[0].rstrip(","), f"{next(iter(entries.values()))['raw']:,}"]
            + [shown(entries.get(label), text) for label in used]
            for name, entries in all_entries.items()
            if entries
        ]
        parts.append(f"## {title}\n\n" + table(["file", "raw", *used], rows))
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Measure what the options ask for and print the tables; 1 if a tool failed or gave other bytes back."""
    options = parse(arguments)
    known: Entries = json.loads(options.known.read_text()) if options.known else {}
    measured: Entries = {}
    with tempfile.TemporaryDirectory(prefix="kolmo-kinds-") as scratch, one_core():
        folder = options.folder or Path(scratch) / "files"
        folder.mkdir(parents=True, exist_ok=True)
        patterns = options.files.split(",")
        names = [n for n in kinds_files.makers() if any(fnmatch.fnmatch(n, pattern) for pattern in patterns)]
        files = kinds_files.write(folder, names, options.more)
        if options.list:
            for name, path in files.items():
                print(f"{path.stat().st_size:>10,}  {name}")
            return 0
        for name in [n for n in options.chunks.split(",") if n]:
            key = f"chunks of {name}, 1"
            measured[key] = dict(known.get(key, {}))
            measure_chunks(name, options, measured[key])
            if options.json:
                options.json.write_text(json.dumps(known | measured, indent=1) + "\n")
        for name, path in files.items():
            if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                continue
            key = f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
            measured[key] = dict(known.get(key, {}))
            measure_file(path, options, measured[key], Path(scratch))
            if options.json:
                options.json.write_text(json.dumps(known | measured, indent=1) + "\n")
    text = report(known | measured)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    return int(any(entry["error"] for entries in measured.values() for entry in entries.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
