"""The tokens of a model in llama.cpp, which cuts the texts too."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kolmo.predictors.language_models.gguf_models.library import Model, library
from kolmo.predictors.language_models.vocabulary import Vocabulary

PIECE = 1 << 10  # bytes that llama.cpp's tokenizer gets at once: it recurses, some 500 bytes deep for each letter
REACH = 32  # bytes of a text that a token may leave out before it
BYTES = frozenset(b"<0x%02X>" % byte for byte in range(256))
SENTENCEPIECE = 1  # a kind of vocabulary
FROM_BYTES = (
    SENTENCEPIECE,
    4,
    6,
)  # those that fall back to a token for each byte, with T5 and PLaMo
ADDED, BYTE, NOTHING = 16, 32, 1 | 2 | 8  # attributes of tokens; NOTHING: unknown, unused, control


class LlamaCppVocabulary(Vocabulary):
    """The tokens of a model in llama.cpp, which cuts the texts too.

    Args:
        model: the model.
        size: how many logits it has.
    """

    piece = PIECE

    def __init__(self, model: Model, size: int) -> None:
        llama = library()
        self._model = model
        attributes = [llama.llama_vocab_get_attr(model.words, token) for token in range(size)]
        text = ctypes.create_string_buffer(1 << 16)  # llama.cpp's longest tokens have some hundred bytes
        table = [b"" if kind & NOTHING else _spell(model, token, text) for token, kind in enumerate(attributes)]
        ranks = [2 if kind & BYTE else 1 if kind & ADDED else 0 for kind in attributes]
        used = [token for token in range(size) if table[token]]
        self._set_table(table, sorted(used, key=lambda token: (ranks[token], token)))
        # Where a byte has no token, llama.cpp ends the program.
        falls = llama.llama_vocab_type(model.words) in FROM_BYTES
        self._cuts = not falls or {llama.llama_vocab_get_text(model.words, token) for token in range(size)} >= BYTES

    def _encode(self, texts: list[str]) -> list[Any]:
        return [self._cut(text.encode()) if self._cuts else None for text in texts]

    def _cut(self, text: bytes) -> _Cut:
        llama = library()
        room = len(text) + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            count = llama.llama_tokenize(self._model.words, text, len(text), ids, room, False, False)
            if count >= 0:
                return _Cut(ids[:count], text, self)
            room = -count


@dataclass
class _Cut:
    """What llama.cpp says of a text; where its tokens lie is found when asked, which is seldom."""

    ids: list[int]
    text: bytes
    words: Vocabulary

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """First and last + 1 of the characters that each token is made from."""
        begins = [place for place, byte in enumerate(self.text) if byte & 0xC0 != 0x80]
        found, at = [], 0
        for token in self.ids:
            piece = self.words.bytes_of(token)
            place = self.text.find(piece, at, at + len(piece) + REACH) if piece else -1
            if place < 0:  # a token that changes the text
                found.append((0, 0))
                continue
            at = place + len(piece)
            found.append((bisect_right(begins, place) - 1, bisect_right(begins, at - 1)))
        return found


def _spell(model: Model, token: int, text: ctypes.Array[ctypes.c_char]) -> bytes:
    """The bytes of a token; none where they do not fit into `text`."""
    size = library().llama_token_to_piece(model.words, token, text, len(text), 0, False)
    return ctypes.string_at(text, max(size, 0))
