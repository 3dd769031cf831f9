"""A safetensors file: a header in JSON, then tensors."""

from __future__ import annotations

import json
from typing import Any

from independent.damage import check

WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4}
WIDTHS |= {"U64": 8, "I64": 8, "F64": 8}


def count(shape: list[int]) -> int:
    """The number of elements."""
    product = 1
    for size in shape:
        product *= size
    return product


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without a key twice."""
    check(len(dict(pairs)) == len(pairs), "a key twice")
    return dict(pairs)


def read_safetensors(file: bytes) -> tuple[dict[str, str], dict[str, tuple[str, list[int], bytes]]]:
    """The metadata, and of each tensor dtype, shape and bytes."""
    size = int.from_bytes(file[:8], "little")
    check(8 + size <= len(file), "a header longer than the file")
    header = json.loads(file[8 : 8 + size], object_pairs_hook=without_repeats)
    metadata = header.pop("__metadata__", {})
    data = file[8 + size :]
    tensors = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        check(set(entry) == {"dtype", "shape", "data_offsets"}, f"the entry of {name}")
        begin, stop = entry["data_offsets"]
        check(begin == end, f"a gap or an overlap before {name}")
        check(stop - begin == WIDTHS[entry["dtype"]] * count(entry["shape"]), f"the size of {name}")
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:stop])
        end = stop
    check(end == len(data), "bytes after the last tensor")
    return metadata, tensors
