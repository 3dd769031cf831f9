"""The paper's table: raw rates in percent of version 2, with the conditions under which they hold.

Some cells were copied by hand: cite them with care. Data: the first GB of enwik9, 488,281 patches of ImageNet and
chunks of LibriSpeech; models masked to 7 bits and scaled, classical compressors not; PNG torn; no stream of a model was
decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SETS = {"text": "enwik9", "images": "ImageNet", "audio": "LibriSpeech", "random": "random"}


@dataclass(frozen=True)
class PublishedRow:
    """A compressor of the paper: its rates in percent, for text, images, audio and random data."""

    codec: str
    chunked: bool
    rates: tuple[float, float, float, float]


ROWS = (
    PublishedRow("gzip", False, (32.3, 70.7, 36.4, 100.0)),
    PublishedRow("LZMA2", False, (23.0, 57.9, 29.9, 100.0)),
    PublishedRow("PNG, torn", False, (42.9, 58.5, 32.2, 100.0)),
    PublishedRow("FLAC", False, (89.5, 61.9, 30.9, 107.8)),
    PublishedRow("gzip", True, (48.1, 68.6, 38.5, 100.1)),
    PublishedRow("LZMA2", True, (50.0, 62.4, 38.2, 100.0)),
    PublishedRow("PNG, torn", True, (80.6, 61.7, 37.6, 103.2)),
    PublishedRow("FLAC", True, (88.9, 60.9, 30.3, 107.2)),
    PublishedRow("Transformer 200K", True, (30.9, 194.0, 146.6, 195.5)),
    PublishedRow("Transformer 800K", True, (21.7, 185.1, 131.1, 200.1)),
    PublishedRow("Transformer 3.2M", True, (17.0, 215.8, 228.2, 224.0)),
    PublishedRow("Llama 2 7B", True, (8.9, 53.4, 23.1, 103.2)),
    PublishedRow("Chinchilla 1B", True, (11.3, 62.2, 24.9, 108.8)),
    PublishedRow("Chinchilla 70B", True, (8.3, 48.0, 21.0, 100.8)),
)

BRIDGES = {  # compressors whose rates are known on both data, by the kind of data that they are of use for
    "text": ("gzip", "LZMA2"),
    "images": ("gzip", "LZMA2", "PNG, torn", "FLAC"),
    "audio": ("gzip", "LZMA2", "PNG, torn", "FLAC"),
}
MODELS = tuple(row for row in ROWS if row.codec.startswith(("Transformer", "Llama", "Chinchilla")))


def carried_over(row: PublishedRow, modality: str, rates: Mapping[str, float]) -> tuple[float, float] | None:
    """A published rate on other data, in percent: times what the data make of the bridges' rates, lowest and highest.

    Args:
        row: published.
        modality: of `BRIDGES`.
        rates: of bridges on the other data, in chunks with 8 bits, in percent; those that are not known are left out.

    Returns:
        None where no bridge is known.

    Example:
        >>> chinchilla = ROWS[-1]
        >>> [round(rate, 2) for rate in carried_over(chinchilla, "images", {"gzip": 34.3, "LZMA2": 62.4})]
        [24.0, 48.0]
    """
    at = list(SETS).index(modality)
    there = {one.codec: one.rates[at] for one in ROWS if one.chunked}
    found = [row.rates[at] * rates[name] / there[name] for name in BRIDGES[modality] if name in rates]
    return (min(found), max(found)) if found else None
