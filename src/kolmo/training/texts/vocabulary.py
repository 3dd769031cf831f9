"""What a model's symbols stand for: bytes, or pairs of them merged again and again (byte-pair encoding).

Both are lossless on any bytes: what is not UTF-8 becomes one symbol a byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.installing import install
from kolmo.predictors.language_models.token_table import byte_alphabet
from kolmo.training.texts.data import Bytes, Source, Symbols

CHUNK_BYTES = 1 << 20  # bytes encoded at once, cut at a line's end
SAMPLE_BYTES = 1 << 26  # bytes of all sources that a vocabulary is trained on
SAMPLE_CHUNK_BYTES = 1 << 16
MIN_SYMBOLS, MAX_SYMBOLS = 257, 65536  # of a vocabulary of byte pairs
NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # how `surrogateescape` writes bytes that are not UTF-8


class Vocabulary(Protocol):
    """Symbols and the bytes that they stand for."""

    @property
    def name(self) -> str:
        """As on the command line: `bytes`, `bpe:N`."""
        ...

    @property
    def size(self) -> int:
        """Symbols."""
        ...

    @property
    def line_end(self) -> int | None:
        """The symbol that always ends a line, if there is one."""
        ...

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes that each symbol stands for, (size,)."""
        ...

    def encode(self, text: Bytes) -> Symbols:
        """Symbols of the bytes."""
        ...

    def decode(self, symbols: Symbols) -> bytes:
        """Their bytes."""
        ...


class ByteVocabulary:
    """256 symbols: the bytes themselves."""

    name = "bytes"
    size = 256
    line_end: int | None = 10

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """All one."""
        return np.ones(256, np.int64)

    def encode(self, text: Bytes) -> Symbols:
        """The bytes themselves."""
        return text

    def decode(self, symbols: Symbols) -> bytes:
        """The symbols themselves."""
        return symbols.astype(np.uint8).tobytes()


class BytePairs:
    """Byte-pair encoding on UTF-8, as in GPT-2, by the `tokenizers` library; `tokenizer` is one of its Tokenizers."""

    line_end: int | None = None

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        byte_of = byte_alphabet()
        texts = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
        self.bytes_of = [bytes(byte_of[c] for c in text) for text in texts]
        self.single = np.array([tokenizer.token_to_id(c) for c in byte_of], np.uint16)

    @classmethod
    def train(cls, sources: Sequence[Source], size: int) -> BytePairs:
        """Learn `size` symbols from the sources, by their weights; held-out pieces are not looked at."""
        tokenizers = require_tokenizers()
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=list(byte_alphabet()), show_progress=False
        )
        tokenizer.train_from_iterator(_sample(sources), trainer)
        return cls(tokenizer, f"bpe:{size}")

    @classmethod
    def load(cls, text: str, name: str) -> BytePairs:
        """The vocabulary of a `tokenizer.json` that `text` gave.

        Raises:
            KolmoError: it is none.
        """
        tokenizers = require_tokenizers()
        try:
            return cls(tokenizers.Tokenizer.from_str(text), name)
        except Exception as error:  # `tokenizers` raises nothing more exact
            raise KolmoError(f"tokenizer.json: not a tokenizer of kolmo ({error})") from None

    def text(self) -> str:
        """`tokenizer.json`, which other programs read too."""
        return str(self.tokenizer.to_str(pretty=True))

    @property
    def size(self) -> int:
        """Symbols; fewer than asked for where the text holds no more pairs."""
        return len(self.bytes_of)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes that each symbol stands for."""
        return np.array([len(text) for text in self.bytes_of], np.int64)

    def encode(self, text: Bytes) -> Symbols:
        """Symbols of the bytes, uint16."""
        parts = [self._encode(chunk) for chunk in _chunks(text)]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint16)

    def decode(self, symbols: Symbols) -> bytes:
        """Their bytes."""
        return b"".join(self.bytes_of[i] for i in symbols.tolist())

    def _encode(self, chunk: bytes) -> Symbols:
        runs = NOT_UTF8.split(chunk.decode("utf-8", "surrogateescape"))
        known = self.tokenizer.encode_batch(runs[::2], add_special_tokens=False)
        parts: list[Symbols] = []
        for i, encoding in enumerate(known):
            parts.append(np.array(encoding.ids, np.uint16))
            if 2 * i + 1 < len(runs):
                alien = runs[2 * i + 1].encode("utf-8", "surrogateescape")
                parts.append(self.single[np.frombuffer(alien, np.uint8)])
        return np.concatenate(parts)


def require_tokenizers() -> Any:
    """The `tokenizers` library.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise MissingExtraError(f"a vocabulary of byte pairs needs tokenizers ({error}); {install('train')}") from None
    return tokenizers


def _chunks(text: Bytes) -> Iterator[bytes]:
    """The text in pieces of about CHUNK_BYTES bytes that end with a line, where lines are shorter than that."""
    at = 0
    while at < len(text):
        piece = text[at : at + CHUNK_BYTES].tobytes()
        if at + CHUNK_BYTES < len(text):
            piece = piece[: piece.rfind(b"\n") + 1] or piece
        yield piece
        at += len(piece)


def _sample(sources: Sequence[Source]) -> Iterator[str]:
    """Text of the sources in proportion to their weights, evenly spaced."""
    total = sum(source.weight for source in sources)
    for source in sources:
        chunks = [
            (at, min(at + SAMPLE_CHUNK_BYTES, last))
            for first, last in source.gaps()
            for at in range(first, last, SAMPLE_CHUNK_BYTES)
        ]
        wanted = max(1, int(source.weight / total * SAMPLE_BYTES) // SAMPLE_CHUNK_BYTES)
        for i in range(min(wanted, len(chunks))):
            first, last = chunks[i * len(chunks) // min(wanted, len(chunks))]
            yield source.text[first:last].tobytes().decode("utf-8", "ignore")
