"""Fuzz target for the other readers of untrusted files: checkpoints, networks, payloads, corpora, results, recipes.

    python fuzz/readers.py [CORPUS] -max_total_time=600
    python fuzz/readers.py [FOLDER_OR_FILE ...]

Every input is given to every reader, under the name that the reader expects. A finding is any exception other than
`KolmoError`. Seeds: the golden weights and networks, and small files that are made. What it is not: a check of what is
read; the readers of `.kmo` files and of shrunk checkpoints have targets of their own.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzzing import main

from kolmo import safetensors
from kolmo.corpus import open_corpus
from kolmo.errors import KolmoError
from kolmo.hyperfunctions.bitshift import Bitshift
from kolmo.hyperfunctions.bitshift_payload import HEADER, checksum
from kolmo.predictors.embedded import network_file
from kolmo.predictors.embedded.kinds.deflate.streams import find_streams
from kolmo.weights.sources import hyper_compression as published
from kolmo.weights.sources.checkpoint import open_checkpoint

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
SHAPE = (3, 40)
LARGEST_SEED = 1 << 18  # bytes
RECORDS = [{"content": "One text.", "subset": "a", "date": "2026-10-01"}, {"content": "Zwei", "meta": {"x": [1, None]}}]
PUBLISHED = {  # a folder of the published code: twelve weights in pairs, and five as they are
    published.SIZES: struct.pack("<Q", 225),
    published.PADDING: bytes(2),
    published.CHOICE: bytes(2),
    published.RINGS: b"\1\0",
    published.CENTRES: struct.pack("<4f", 0.1, -0.1, 0, 0),
    published.FARTHEST: struct.pack("<4f", 0.3, 0.2, 0, 0),
    "0_3_4_9_2.bin": bytes(7),
    "1_5_0_0.bin": struct.pack("<5f", *range(5)),
}
PAYLOAD = Bitshift().encode(np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32))


def check(data: bytes) -> list[str]:
    """What each reader says of `data`."""
    with tempfile.TemporaryDirectory() as folder:
        return [_said(reader, data, Path(folder)) for reader in READERS]


def _said(reader: Callable[[bytes, Path], object], data: bytes, folder: Path) -> str:
    try:
        reader(data, folder)
    except KolmoError as error:
        return str(error).replace(str(folder), "")
    return "read"


def _checkpoint(data: bytes, folder: Path) -> None:
    """A file of safetensors, PyTorch or ONNX as a source of weights, every tensor."""
    path = folder / "model.safetensors"
    path.write_bytes(data)
    for tensor in open_checkpoint(str(path)).tensors.values():
        tensor.read()


def _network(data: bytes, folder: Path) -> None:
    """A network of one's own."""
    network_file.load(data)


def _bitshift(data: bytes, folder: Path) -> None:
    """A payload whose checksum fits; the input is written over a sound one, head or body."""
    at = (data[0] if data else 0) % (len(PAYLOAD) - 1)
    whole = (PAYLOAD[:at] + data[1:] + PAYLOAD[at + len(data) - 1 :])[: max(len(PAYLOAD), HEADER.size)]
    head, body = whole[: HEADER.size - 4], whole[HEADER.size :]
    whole = head + struct.pack("<I", checksum(head + bytes(4), body, SHAPE)) + body
    found = Bitshift().decode(whole, SHAPE)
    assert found.shape == SHAPE


def _published(data: bytes, folder: Path) -> None:
    """A folder of the published code; two bytes say into which of its files the rest is written, and where."""
    root = folder / "net_l_01"
    root.mkdir(exist_ok=True)
    number, at, *_ = data[:2] + bytes(2)
    chosen = sorted(PUBLISHED)[number % 128 % len(PUBLISHED)]
    for name, content in PUBLISHED.items():
        if name == chosen:
            rest = data[2:]
            grown = content[:at] + rest + content[at + len(rest) :]
            content = grown if number >= 128 else grown[: len(content)]
        (root / name).write_bytes(content)
    found = published.PublishedFolder(root)
    for index in range(len(found.parameters)):
        found.read(index)


def _streams(data: bytes, folder: Path) -> None:
    """Deflate streams in some data, as a writer looks for them."""
    for stream in find_streams(data):
        assert all(0 <= first <= first + size <= len(data) for first, size in stream.pieces)


def _corpus(suffix: str) -> Callable[[bytes, Path], None]:
    """A corpus of one file."""

    def read(data: bytes, folder: Path) -> None:
        path = folder / f"corpus{suffix}"
        path.write_bytes(data)
        for document in open_corpus(str(path)):
            document.content.encode()

    return read


def _result(data: bytes, folder: Path) -> None:
    """A result of an evaluation, in a leaderboard."""
    from kolmo.evaluation.results.results import load_results

    (folder / "result").mkdir(exist_ok=True)
    (folder / "result" / "result.json").write_bytes(data)
    load_results(folder)


def _manifest(data: bytes, folder: Path) -> None:
    """The recipe of a collection."""
    from kolmo.collection.manifest import read_manifest

    path = folder / "manifest-cc.json"
    path.write_bytes(data)
    read_manifest(str(path))


READERS = [_checkpoint, _network, _bitshift, _published, _streams, _corpus(".txt"), _corpus(".jsonl"), _corpus(".json")]
READERS += [_corpus(".jsonl.gz"), _corpus(".csv"), _corpus(".parquet"), _result, _manifest]


def make_seeds(folder: Path) -> None:
    """Small files of all kinds."""
    for path in (*GOLDEN.glob("*/weights/*.safetensors"), *GOLDEN.glob("*/networks/*.safetensors")):
        if path.stat().st_size <= LARGEST_SEED:
            shutil.copy(path, folder)
    tensors = [("a", "F32", (2, 3)), ("b", "BF16", (4,)), ("c", "I64", ())]
    places = safetensors.lay_out(tensors)
    (folder / "plain.safetensors").write_bytes(safetensors.write_header({"format": "pt"}, places) + bytes(40))
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    (folder / "lines.jsonl").write_bytes(lines)
    (folder / "list.json").write_bytes(json.dumps(RECORDS).encode())
    (folder / "lines.jsonl.gz").write_bytes(gzip.compress(100 * lines, mtime=0))
    (folder / "table.csv").write_bytes(b"content,date\nOne text,2026-10-01\n")
    (folder / "result.json").write_bytes(b'{"format": 1, "model": {"name": "a"}, "metrics": {"nats": 1.5}}')
    (folder / "manifest.json").write_bytes(
        b'{"format": 1, "pipeline": "cc", "files": [{"path": "cc/x"}], "recipe": []}'
    )
    _make_foreign_seeds(folder)


def _make_foreign_seeds(folder: Path) -> None:
    """Those that take packages which may be missing."""
    try:
        import torch
    except ImportError:
        pass
    else:
        state = {"weight": torch.arange(12.0).reshape(3, 4), "half": torch.ones(5, dtype=torch.bfloat16)}
        torch.save({"model": state, "step": 3}, folder / "new.pt")
        torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    sink = io.BytesIO()
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    pyarrow.parquet.write_table(pyarrow.table({"content": ["One text.", "Zwei"]}), sink)
    (folder / "table.parquet").write_bytes(sink.getvalue())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        make_seeds(Path(made))
        sys.exit(main(check, Path(made), sys.argv[1:]))
