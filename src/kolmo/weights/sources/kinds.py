"""The kind of a file of weights, by its first bytes; its name does not matter.

What it is not: a check. A file with the right beginning may still be damaged, which its own reader reports.
"""

from __future__ import annotations

import struct
from pathlib import Path

from kolmo.errors import FormatError
from kolmo.safetensors import MAX_HEADER_BYTES, Header, NotSafetensorsError, read_header

HEAD_BYTES = 16  # number of first bytes that are examined
SAFETENSORS, TORCH, ONNX = "safetensors", "torch", "ONNX"  # the kinds that can be read
FIELDS = (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42)  # tags of fields that follow the version in a model in ONNX
OTHERS: dict[bytes, str] = {  # beginning -> what it is and what to do
    b"GGUF": "a GGUF file; shrink it without a loss, or take the model that it was made of",
    b"GGML": "a GGML file; take the model that it was made of",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as of Keras; save its weights as safetensors",
    b"\x93NUMPY": "an array of NumPy; give kolmo.shrink a dictionary of arrays",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"\x28\xb5\x2f\xfd": "a zstandard file; unpack it first",
    b"\xfd7zXZ\0": "an xz file; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"\xb5KMO": "an archive of kolmo; unpack it with kolmo decompress",
    b"version https://": "a pointer of Git LFS, not the file itself; fetch it with git lfs pull",
    b"<": "a page in HTML or XML; fetch the file itself",
}


def kind_of_file(path: Path) -> str:
    """`SAFETENSORS`, `TORCH` or `ONNX`; else what the file is and what to do; "" if it is unknown.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return kind_of(file.read(HEAD_BYTES), path.name)


def is_gguf(path: str | Path) -> bool:
    """Whether a file begins as GGUF files do.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(4) == b"GGUF"


def kind_of(head: bytes, name: str = "") -> str:
    """The kind by the first bytes; the name distinguishes archives in the ZIP format."""
    if len(head) > 8 and struct.unpack_from("<Q", head)[0] <= MAX_HEADER_BYTES and head[8:9] == b"{":
        return SAFETENSORS
    for beginning, what in OTHERS.items():
        if head.startswith(beginning):
            return what
    if head.startswith(b"PK\x03\x04"):
        known = {".npz": "arrays of NumPy; give kolmo.shrink a dictionary of them", ".keras": "a model of Keras"}
        return next((f"a ZIP archive, {what}" for end, what in known.items() if name.endswith(end)), TORCH)
    if head[:1] == b"\x80" and head[1:2] in (
        b"\x02",
        b"\x03",
        b"\x04",
        b"\x05",
    ):  # a pickle: an older file of torch
        return TORCH
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite; take the model that it was made of"
    if head[:1] == b"\x08" and len(head) > 2 and 0 < head[1] < 64 and head[2] in FIELDS:  # ir_version, then a field
        return ONNX
    if not head:
        return "empty; get it again"
    return ""


def header_of(path: Path) -> Header:
    """The safetensors header of a file of weights; the error for another kind of file names that kind.

    Raises:
        FormatError, CorruptError, OSError: as for `kolmo.safetensors.read_header`.
    """
    try:
        return read_header(path)
    except NotSafetensorsError:
        what = kind_of_file(path)
        remedy = "" if ";" in what else "; name another"
        what = f"a file of {what}" if what in (TORCH, ONNX) else what
        what = f", but {what}" if what and what != SAFETENSORS else ""
        raise FormatError(f"{path}: is not a safetensors file{what}{remedy}") from None
