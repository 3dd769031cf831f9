"""The tokenizer that a server has, over its /tokenize and /detokenize: those of vLLM, SGLang and llama.cpp.

Servers tell ids, and some how their tokens are spelt. Where these spellings, read in one of the usual ways, give the
text back, they also say how many bytes each token stands for. Else the server must undo its tokens, some at a time.

What it is not: the tokenizer that a user has (`servers.own_tokens`), which is faster and knows more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.evaluation.scorers.scorers import Tokenised
from kolmo.evaluation.scorers.servers.connection import RefusedError, Server
from kolmo.evaluation.scorers.servers.own_tokens import word_of
from kolmo.evaluation.windows.modes import Texts
from kolmo.foreign import quoted
from kolmo.predictors.language_models.token_table import byte_alphabet

TOKENS_PER_BYTE = 16  # at most: U+FDFA has 3 bytes, and becomes 33 where a tokenizer normalises it
MAX_ADDED_TOKENS = 64  # more than that, which a tokenizer may add
DETOKENISED_TOKENS = 64  # tokens that a server undoes at once
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
GIVE = "give the model's tokenizer as the argument tokenizer"

Ids = npt.NDArray[np.int32]


class ServerTokens:
    """The tokenizer of a server.

    Args:
        server: the server.
        model: whose tokenizer it is.

    Raises:
        PredictorError: the server has none to offer, or does not name beginning or end of text.
    """

    window: int | None = None
    digest: str = "server"

    def __init__(self, server: Server, model: str) -> None:
        self._server, self._model = server, model
        self._ask = self._way()
        plain = self._ask("a", False)[0]
        special = self._ask("a", True)[0]
        at = next((k for k in range(len(special)) if special[k : k + len(plain)] == plain), None)
        if at is None:
            raise PredictorError(f"{server.url}/tokenize: special tokens change the others; {GIVE}")
        self._before, self._after = special[:at], special[at + len(plain) :]
        self.start = self._before[0] if self._before else self._named_start()

    def _way(self) -> Callable[[str, bool], tuple[list[int], list[Any] | None]]:
        """The way of asking that this server understands."""
        for way in (self._ask_vllm, self._ask_llama_cpp):
            try:
                if way("a", False)[0]:
                    return way
            except PredictorError as error:
                if isinstance(error, RefusedError) and error.status in (401, 403):
                    raise
        raise PredictorError(f"{self._server.url}/tokenize: no tokenizer is there; {GIVE}")

    def _ask_vllm(self, text: str, special: bool) -> tuple[list[int], list[Any] | None]:
        payload = {"model": self._model, "prompt": text, "add_special_tokens": special, "return_token_strs": True}
        answer = self._post("/tokenize", payload)
        words = answer.get("token_strs")
        return self._numbers(answer.get("tokens", [])), words if isinstance(words, list) else None

    def _ask_llama_cpp(self, text: str, special: bool) -> tuple[list[int], list[Any] | None]:
        answer = self._post("/tokenize", {"content": text, "add_special": special, "with_pieces": True})
        tokens = answer.get("tokens", [])
        if isinstance(tokens, list) and tokens and all(isinstance(token, dict) for token in tokens):
            pieces = [token.get("piece") for token in tokens]
            return self._numbers([token.get("id") for token in tokens]), pieces
        return self._numbers(tokens), None

    def _named_start(self) -> int:
        """The start where the tokenizer adds none: servers may tell how it is spelt."""
        for path in ("/props", "/tokenizer_info"):
            try:
                facts = self._server.get(path)
            except PredictorError:
                continue
            for name in ("bos_token", "eos_token"):
                word = word_of(facts.get(name)) if isinstance(facts, dict) else ""
                if word and len(found := self._ask(word, False)[0]) == 1:
                    return found[0]
        raise PredictorError(f"{self._server.url}/tokenize: does not say which token begins a text; {GIVE}")

    def encode(self, text: str, how: Texts) -> Tokenised:
        """As in `Scorer`, of one text.

        Raises:
            PredictorError: "exact" is wanted, and the tokens do not give the text back.
        """
        data = text.encode()
        ids, words = self._ask(text, False) if text else ([], [])
        if len(ids) > MAX_ADDED_TOKENS + TOKENS_PER_BYTE * len(data):  # each asks for work here
            raise PredictorError(f"{self._server.url}/tokenize: gives {len(ids)} tokens for {len(data)} bytes; {GIVE}")
        lengths = _spelt(words, data) if words is not None and len(words) == len(ids) else None
        if lengths is None:
            if how == "exact" and self._undone(ids) != text:
                raise PredictorError(
                    f"{self._server.url}/detokenize: does not give back a text that begins {quoted(text[:40])}; {GIVE}"
                )
            lengths = self._shared(ids, len(data))
        if how == "default":
            ids = [*self._before, *ids, *self._after]
            lengths = np.pad(lengths, (len(self._before), len(self._after)))
        return Tokenised(np.array(ids, np.int32), lengths)

    def _undone(self, ids: Sequence[int]) -> str:
        payload = {"model": self._model, "tokens": list(ids), "skip_special_tokens": False}
        try:
            answer = self._post("/detokenize", payload)
        except RefusedError as error:
            raise PredictorError(f"{error}; or {GIVE}") from None
        for name in ("prompt", "text", "content"):
            if isinstance(answer.get(name), str):
                return str(answer[name])
        raise PredictorError(f"{self._server.url}/detokenize: answers without a text; {GIVE}")

    def _shared(self, ids: list[int], size: int) -> Ids:
        """About how many bytes each token stands for, `size` together: those of some tokens, shared evenly."""
        spans = [ids[k : k + DETOKENISED_TOKENS] for k in range(0, len(ids), DETOKENISED_TOKENS)]
        sizes = [max(len(self._undone(span).encode()), 1) for span in spans]
        shares = np.concatenate([np.full(len(span), one / len(span)) for span, one in zip(spans, sizes, strict=True)])
        ends = np.round(np.cumsum(shares) * size / sum(sizes)).astype(np.int32)
        return np.diff(ends, prepend=np.int32(0))

    def _post(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        answer = self._server.post(path, payload)
        if not isinstance(answer, dict):
            raise PredictorError(f"{self._server.url}{path}: answers no object; {GIVE}")
        return answer

    def _numbers(self, found: Any) -> list[int]:
        if not isinstance(found, list) or not all(type(one) is int and 0 <= one < 1 << 31 for one in found):
            raise PredictorError(f"{self._server.url}/tokenize: answers no list of token ids; {GIVE}")
        return found


def _spelt(words: list[Any], data: bytes) -> Ids | None:
    """Bytes of the tokens that are spelt so, if these spellings, read in some usual way, are the data."""
    for read in (_read_bytes, _read_spaces, _read_plain):
        pieces = [read(word) for word in words]
        if None in pieces:
            continue
        lengths = np.array([len(piece or b"") for piece in pieces], np.int32)
        whole = b"".join(piece or b"" for piece in pieces)
        if whole == b" " + data and whole and lengths[0]:  # a space put before a text
            lengths[0] -= 1
            whole = whole[1:]
        if whole == data:
            return lengths
    return None


_alphabet = cache(byte_alphabet)


def _read_bytes(word: Any) -> bytes | None:
    """GPT-2: a printable character for each byte."""
    if not isinstance(word, str):
        return None
    byte_of = _alphabet()
    if all(character in byte_of for character in word):
        return bytes(byte_of[character] for character in word)
    return word.encode("utf-8", "surrogatepass")


def _read_spaces(word: Any) -> bytes | None:
    """SentencePiece: U+2581 for a space, and names of bytes."""
    if not isinstance(word, str):
        return None
    byte = BYTE.fullmatch(word)
    return bytes.fromhex(byte[1]) if byte else word.replace("\u2581", " ").encode("utf-8", "surrogatepass")


def _read_plain(word: Any) -> bytes | None:
    """llama.cpp: as it is, or as numbers where that is not text."""
    if isinstance(word, str):
        return word.encode("utf-8", "surrogatepass")
    if isinstance(word, list) and all(type(one) is int and 0 <= one < 256 for one in word):
        return bytes(word)
    return None
