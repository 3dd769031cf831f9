"""A shrunk checkpoint of docs/weights-format.md."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from independent.damage import check
from independent.safetensors import WIDTHS, count, read_safetensors, without_repeats
from independent.weights import residual, trellis

LARGEST = {"F16": 65504.0, "BF16": float.fromhex("0x1.fep127"), "F32": float.fromhex("0x1.fffffep127")}


@dataclass
class Tensor:
    """A tensor as a reader returns it."""

    dtype: str
    shape: list[int]
    data: bytes
    checksum: str


def rounded(weights: npt.NDArray[np.float32], dtype: str) -> bytes:
    """Binary32 rounded to the nearest number of a dtype, ties to even, never to infinity."""
    if dtype == "F64":
        return weights.astype("<f8").tobytes()
    limit = np.float32(LARGEST[dtype])
    kept = np.clip(weights, -limit, limit)
    if dtype == "BF16":
        bits = kept.view(np.uint32).astype(np.uint64)
        return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2").tobytes()
    return kept.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def entries(table: list[Any]) -> list[dict[str, Any]]:
    """The rows of the table of hyperfunctions, each with its group's name."""
    rows = []
    for name, version, parameters, *values in table:
        check((name, version, parameters) == ("trellis", 1, ["step", "states"]), f"hyperfunction {name}")
        rows += [dict(zip(parameters, row, strict=True)) for row in values]
    check(len({tuple(row.values()) for row in rows}) == len(rows), "two equal entries")
    return rows


def decode_code(code: bytes, dtype: str, rows: int, columns: int, entry: dict[str, Any] | None, extra: Any) -> bytes:
    """The bytes of a tensor."""
    if entry is None:
        return code
    wild = extra.get("wild", 0)
    width = WIDTHS[dtype]
    payload = code[: extra["base"]] if "base" in extra else code[: len(code) - wild * (8 + width)]
    fields = trellis.read_payload(payload, rows, columns)
    check(fields.states == entry["states"] and np.float32(entry["step"]) == np.float32(fields.step), "an entry")
    if "base" in extra:
        return residual.decode(payload, code[extra["base"] :], dtype, rows, columns)
    data = bytearray(rounded(trellis.decode(payload, rows, columns), dtype))
    places = struct.unpack(f"<{wild}Q", code[len(payload) : len(payload) + 8 * wild])
    check(list(places) == sorted(set(places)), "the places of wild weights")
    for i, place in enumerate(places):
        at = len(payload) + 8 * wild + i * width
        data[place * width : (place + 1) * width] = code[at : at + width]
    return bytes(data)


def read_checkpoint(file: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors, aliases included, each checked, and the metadata of the original file."""
    metadata, stored = read_safetensors(file)
    record = json.loads(metadata["kolmo"], object_pairs_hook=without_repeats)
    check(record["version"] == 1, "the version of the record")
    table = entries(record["hyperfunctions"])
    codes = stored.pop("kolmo.codes", ("U8", [0], b""))[2]
    tensors: dict[str, Tensor] = {}
    check(set(stored) == set(record["raw"]), "the raw tensors")
    for name, (dtype, shape, data) in stored.items():
        tensors[name] = Tensor(dtype, shape, data, record["raw"][name])
    at = 0
    for name, (dtype, shape, columns, size, checksum, index, *extra) in record["coded"].items():
        weights = count(shape)
        check(weights % columns == 0, f"the columns of {name}")
        entry = None if index is None else table[index]
        code = codes[at : at + size]
        at += size
        data = decode_code(code, dtype, weights // columns, columns, entry, extra[0] if extra else {})
        tensors[name] = Tensor(dtype, shape, data, checksum)
    check(at == len(codes), "the lengths of the codes")
    for name, tensor in tensors.items():
        check(hashlib.sha256(tensor.data).hexdigest()[:16] == tensor.checksum, f"the checksum of {name}")
    for alias, name in record["aliases"].items():
        tensors[alias] = tensors[name]
    lines = b""
    for name in sorted(tensors, key=lambda name: name.encode()):
        tensor = tensors[name]
        sizes = ",".join(map(str, tensor.shape))
        lines += f"{name}\t{tensor.dtype}\t{sizes}\t{tensor.checksum}\n".encode()
    check(hashlib.sha256(lines).hexdigest() == record["sha256"], "the content's hash")
    return tensors, record["metadata"]
