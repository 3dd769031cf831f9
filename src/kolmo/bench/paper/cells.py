"""One figure of the paper's table: a compressor on chunks, and the rules by which bytes are counted.

Rules (Deletang et al., 2024, section 3.2, and their code):

- in chunks, each chunk alone; of a classical compressor the header counts once: the length of a single packed zero
  byte is subtracted for every chunk but the first; of a model everything counts;
- whole, all chunks joined; for classical compressors alone;
- with the mask, data lose their eighth bit (`modalities.masked`), and lengths are scaled by bits / (bits - lost bits).

What it is not: a table (`bench.paper.report`).
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass
from typing import Any

from kolmo.bench.paper.codecs import Codec
from kolmo.modalities.chunks import ChunkSet, masked
from kolmo.progress import Progress

VERSION = 1  # of the rules: stored figures of others are not taken


@dataclass(frozen=True)
class Ask:
    """A figure that is wanted: whether chunks are packed one by one, and whether data are masked."""

    chunked: bool
    mask: bool


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        codec: label of the compressor.
        modality: of the data.
        chunked, mask: see `Ask`.
        raw: bytes of the data.
        packed: bytes that they take by the rules, a fraction with the mask.
        model_bytes: of the compressor's model; None: not known.
        compared: whether everything came back.
        encode_seconds, decode_seconds: of CPU time.
    """

    codec: str
    modality: str
    chunked: bool
    mask: bool
    raw: int
    packed: float
    model_bytes: int | None
    compared: bool
    encode_seconds: float
    decode_seconds: float

    @property
    def rate(self) -> float:
        """Packed bytes for each raw byte."""
        return self.packed / self.raw

    @property
    def adjusted(self) -> float | None:
        """The same with the model counted as data, as it ships."""
        return None if self.model_bytes is None else (self.packed + self.model_bytes) / self.raw

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def key_of(codec: Codec, data: ChunkSet, ask: Ask) -> str:
    """What the figure depends on, as 16 hexadecimal digits."""
    parts = (str(VERSION), codec.identity, codec.version, data.digest, str(ask.chunked), str(ask.mask))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def measure(codec: Codec, data: ChunkSet, ask: Ask, progress: Progress | None = None) -> Figure:
    """Compute a figure: pack, unpack, compare, count."""
    chunks, lost = list(data.chunks), 0
    if ask.mask:
        pairs = [masked(data.modality, chunk) for chunk in chunks]
        chunks, lost = [chunk for chunk, _ in pairs], sum(bits for _, bits in pairs)
    pieces = chunks if ask.chunked else [b"".join(chunks)]
    began = time.process_time()
    packed = codec.pack_all(pieces, progress)
    middle = time.process_time()
    back = codec.unpack_all(packed, [len(piece) for piece in pieces])
    seconds = middle - began, time.process_time() - middle
    sizes = [len(one) - codec.uncounted for one in packed]
    bits = 8 * data.size
    counted = sum(sizes) * bits / (bits - lost)
    if ask.chunked and not codec.model:
        counted -= len(codec.pack(b"\0")) * (len(pieces) - 1)
    return Figure(
        codec.label,
        data.modality,
        ask.chunked,
        ask.mask,
        data.size,
        counted,
        codec.model_bytes,
        back == pieces,
        *seconds,
    )
