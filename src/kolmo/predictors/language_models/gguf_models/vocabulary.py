"""The tokens of a model in llama.cpp, which also splits the texts."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kolmo.predictors.language_models.gguf_models.library import Model, library
from kolmo.predictors.language_models.vocabulary import Vocabulary

PIECE_BYTES = 1 << 10  # bytes that llama.cpp's tokenizer is given at once: it recurses with 500 bytes of stack a letter
MAX_SKIPPED_BYTES = 32  # bytes of a text that may be left out before a token
BYTE_TOKENS = frozenset(b"<0x%02X>" % byte for byte in range(256))
SENTENCEPIECE = 1  # a type of vocabulary in llama.cpp
BYTE_FALLBACK_TYPES = (
    SENTENCEPIECE,
    4,
    6,
)  # types of vocabularies that fall back to a token for each byte: SentencePiece, T5, PLaMo
ADDED, BYTE, NO_BYTES = 16, 32, 1 | 2 | 8  # attributes of tokens; NO_BYTES: unknown, unused, control


class LlamaCppVocabulary(Vocabulary):
    """The tokens of a model in llama.cpp, which also splits the texts.

    Args:
        model: the model.
        size: number of logits.
    """

    piece = PIECE_BYTES

    def __init__(self, model: Model, size: int) -> None:
        llama = library()
        self._model = model
        attributes = [llama.llama_vocab_get_attr(model.words, token) for token in range(size)]
        text = ctypes.create_string_buffer(1 << 16)  # the longest tokens have a few hundred bytes
        table = [b"" if kind & NO_BYTES else _spell(model, token, text) for token, kind in enumerate(attributes)]
        ranks = [2 if kind & BYTE else 1 if kind & ADDED else 0 for kind in attributes]
        used = [token for token in range(size) if table[token]]
        self._set_table(table, sorted(used, key=lambda token: (ranks[token], token)))
        # llama.cpp ends the program where a byte has no token.
        falls_back = llama.llama_vocab_type(model.words) in BYTE_FALLBACK_TYPES
        self._splits = (
            not falls_back or {llama.llama_vocab_get_text(model.words, token) for token in range(size)} >= BYTE_TOKENS
        )

    def _encode(self, texts: list[str]) -> list[Any]:
        return [self._split(text.encode()) if self._splits else None for text in texts]

    def _split(self, text: bytes) -> _Encoding:
        llama = library()
        room = len(text) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = llama.llama_tokenize(self._model.words, text, len(text), ids, room, False, False)
            if count >= 0:
                return _Encoding(ids[:count], text, self)
            room = -count


@dataclass
class _Encoding:
    """The tokens of a text; their offsets are computed on demand, since they are rarely needed."""

    ids: list[int]
    text: bytes
    words: Vocabulary

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """First and last + 1 of the characters that each token stands for."""
        begins = [place for place, byte in enumerate(self.text) if byte & 0xC0 != 0x80]
        found, at = [], 0
        for token in self.ids:
            piece = self.words.bytes_of(token)
            place = self.text.find(piece, at, at + len(piece) + MAX_SKIPPED_BYTES) if piece else -1
            if place < 0:  # the token changes the text
                found.append((0, 0))
                continue
            at = place + len(piece)
            found.append((bisect_right(begins, place) - 1, bisect_right(begins, at - 1)))
        return found


def _spell(model: Model, token: int, text: ctypes.Array[ctypes.c_char]) -> bytes:
    """The bytes of a token; empty where they do not fit into `text`."""
    size = library().llama_token_to_piece(model.words, token, text, len(text), 0, False)
    return ctypes.string_at(text, max(size, 0))
