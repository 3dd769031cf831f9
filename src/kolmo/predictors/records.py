"""What a file says of the language model that it needs.

What it is not: the model. A record is read, and shown, without it (`kolmo list`).
"""

from __future__ import annotations

from dataclasses import dataclass

from kolmo.foreign import short
from kolmo.predictors.byte_sources import PlainSource, varint

DTYPES = ("float32", "float64", "bfloat16", "float16")  # in files by their place here


@dataclass(frozen=True)
class Record:
    """What a file says of its model: the predictor's parameters.

    Attributes:
        spec: id, or the name of the folder or file without the path to it (see `predictors.whereabouts`).
        revision: of an id: the commit.
        weights, config, tokenizer: hashes, 8 bytes each.
        dtype: of the arithmetic.
        context: tokens that the model sees, 0 without a limit.
        chunk: tokens of a lane, at most.
    """

    spec: str
    revision: str
    weights: bytes
    config: bytes
    tokenizer: bytes
    dtype: str
    context: int
    chunk: int

    def to_bytes(self) -> bytes:
        """As in docs/language-models.md."""
        texts = b"".join(varint(len(text)) + text for text in (self.spec.encode(), self.revision.encode()))
        hashes = self.weights + self.config + self.tokenizer
        return texts + hashes + bytes([DTYPES.index(self.dtype)]) + varint(self.context) + varint(self.chunk)

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """From a file.

        Raises:
            ValueError: no version 1 wrote this.
        """
        source = PlainSource(data)
        spec, revision = (source.take(source.varint(len(data))).decode() for _ in range(2))
        weights, config, tokenizer = (source.take(8) for _ in range(3))
        dtype = DTYPES[min(source.take(1)[0], len(DTYPES) - 1)]
        record = cls(spec, revision, weights, config, tokenizer, dtype, source.varint(1 << 31), source.varint(1 << 31))
        if record.chunk < 1 or record.to_bytes() != data:
            raise ValueError("they are damaged or newer")
        return record

    def describe(self) -> str:
        """One line for people."""
        revision = f", revision {short(self.revision)}" if self.revision else ""
        context = f"context {self.context}" if self.context else "no limit of context"
        chunks = f"chunks of {self.chunk} tokens"
        return f"{short(self.spec)}{revision}, weights {self.weights.hex()}, {self.dtype}, {context}, {chunks}"

    def differences(self, here: Record) -> list[str]:
        """What of the model is another here than it was for the writer, in words."""
        parts = (("weights", "weights"), ("config", "configuration"), ("tokenizer", "tokenizer"))
        return [
            f"its {word} (hash {getattr(here, name).hex()} here, {getattr(self, name).hex()} in the file)"
            for name, word in parts
            if getattr(here, name) != getattr(self, name)
        ]
