"""Hashes that identify a model: of its tensors, its files, and its configuration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kolmo.errors import PredictorError
from kolmo.predictors.guard import guarded, reason
from kolmo.predictors.language_models.pretrained import read_json
from kolmo.predictors.weight_hashes import kept_hash


def hash_tensors(paths: list[Path]) -> bytes:
    """First 8 bytes of a SHA-256 over the tensors of safetensors files: name, dtype, shape, bytes, sorted by name.

    The hash depends neither on how the tensors are divided into files nor on the files' metadata. It is kept between
    runs (`predictors.weight_hashes`).

    Raises:
        PredictorError: a file is damaged.
    """
    return kept_hash("tensors", paths, lambda: _hash_tensors(paths))


def _hash_tensors(paths: list[Path]) -> bytes:
    places: dict[str, tuple[str, Path, int, int]] = {}
    for path in paths:
        begin, entries = _header(path)
        for name, entry in entries.items():
            first, last = entry["data_offsets"]
            kind = f"{name}|{entry['dtype']}|{entry['shape']}|"
            places[name] = kind, path, begin + first, last - first
    whole = hashlib.sha256()
    for _, (kind, path, place, left) in sorted(places.items()):
        whole.update(kind.encode("utf-8", "surrogatepass"))
        with guarded(str(path), "cannot be read"), open(path, "rb") as file:
            file.seek(place)
            while left and (part := file.read(min(left, 1 << 20))):
                whole.update(part)
                left -= len(part)
        if left:
            raise PredictorError(f"{path}: the file became shorter while it was read; fetch it again")
    return whole.digest()[:8]


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Offset of the tensors of a safetensors file, and the entry of each in its header.

    The library with which transformers read the file checks the entries: that all places lie within the file, fit
    dtypes and shapes, do not overlap, and leave nothing out.

    Raises:
        PredictorError: it is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "np"):
            pass
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries = json.loads(file.read(size))
        entries.pop("__metadata__", None)
    except Exception as error:  # SafetensorError, and what a file does that changes meanwhile
        raise PredictorError(f"{path}: not a safetensors file, or damaged ({reason(error)}); fetch it again") from None
    return 8 + size, entries


def hash_files(paths: list[Path]) -> bytes:
    """First 8 bytes of a SHA-256 over the SHA-256 of each file, in the order of their names; kept between runs."""
    ordered = sorted(paths)
    return kept_hash("files", ordered, lambda: _hash_files(ordered))


def _hash_files(paths: list[Path]) -> bytes:
    whole = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            whole.update(_digest(file))
    return whole.digest()[:8]


def _digest(file: Any) -> bytes:
    one = hashlib.sha256()
    while part := file.read(1 << 20):
        one.update(part)
    return one.digest()


def hash_config(path: Path) -> bytes:
    """First 8 bytes of a SHA-256 over a configuration, without the names and versions of its writer."""
    config = read_json(path)
    for name in ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"):
        config.pop(name, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest()[:8]
