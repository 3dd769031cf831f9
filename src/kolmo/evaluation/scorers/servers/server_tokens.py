"""The tokenizer of a server, used through /tokenize and /detokenize of vLLM, SGLang and llama.cpp.

Servers return token ids, and some also the text of each token. If these texts, decoded in one of the usual ways,
concatenate to the input, they give the number of bytes that each token covers. Else the server must detokenise groups
of tokens.

What it is not: the user's copy of the tokenizer (`servers.own_tokens`), which is faster and more exact.
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
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.foreign import quoted
from kolmo.predictors.language_models.token_table import byte_alphabet

MAX_TOKENS_PER_BYTE = 16  # tokens for one byte: U+FDFA has 3 bytes, and normalisation expands it to 33
MAX_ADDED_TOKENS = 64  # tokens that a tokenizer may add to a text of any length
DETOKENISED_TOKENS = 64  # tokens that a server detokenises in one request
BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
TOKENIZER_REMEDY = "give the model's tokenizer in the argument tokenizer"

Ids = npt.NDArray[np.int32]


class ServerTokens:
    """The tokenizer of a server.

    Args:
        server: the server.
        model: the name of the model on the server.

    Attributes:
        start: the id of the start token.

    Raises:
        PredictorError: the server has no tokenizer, or does not name beginning or end of text.
    """

    window: int | None = None
    hash: str = "server"

    def __init__(self, server: Server, model: str) -> None:
        self._server, self._model = server, model
        self._request = self._find_request()
        plain = self._request("a", False)[0]
        special = self._request("a", True)[0]
        at = next((k for k in range(len(special)) if special[k : k + len(plain)] == plain), None)
        if at is None:
            raise PredictorError(f"{server.url}/tokenize: special tokens change the others; {TOKENIZER_REMEDY}")
        self._before, self._after = special[:at], special[at + len(plain) :]
        self.start = self._before[0] if self._before else self._named_start()

    def _find_request(self) -> Callable[[str, bool], tuple[list[int], list[Any] | None]]:
        """The method whose request this server understands."""
        for request in (self._request_vllm, self._request_llama_cpp):
            try:
                if request("a", False)[0]:
                    return request
            except PredictorError as error:
                if isinstance(error, RefusedError) and error.status in (401, 403):
                    raise
        raise PredictorError(f"{self._server.url}/tokenize: the server has no tokenizer; {TOKENIZER_REMEDY}")

    def _request_vllm(self, text: str, special: bool) -> tuple[list[int], list[Any] | None]:
        payload = {"model": self._model, "prompt": text, "add_special_tokens": special, "return_token_strs": True}
        answer = self._post("/tokenize", payload)
        words = answer.get("token_strs")
        return self._check_ids(answer.get("tokens", [])), words if isinstance(words, list) else None

    def _request_llama_cpp(self, text: str, special: bool) -> tuple[list[int], list[Any] | None]:
        answer = self._post("/tokenize", {"content": text, "add_special": special, "with_pieces": True})
        tokens = answer.get("tokens", [])
        if isinstance(tokens, list) and tokens and all(isinstance(token, dict) for token in tokens):
            pieces = [token.get("piece") for token in tokens]
            return self._check_ids([token.get("id") for token in tokens]), pieces
        return self._check_ids(tokens), None

    def _named_start(self) -> int:
        """The start token if the tokenizer adds none: some servers return its text."""
        for path in ("/props", "/tokenizer_info"):
            try:
                facts = self._server.get(path)
            except PredictorError:
                continue
            for name in ("bos_token", "eos_token"):
                word = word_of(facts.get(name)) if isinstance(facts, dict) else ""
                if word and len(found := self._request(word, False)[0]) == 1:
                    return found[0]
        raise PredictorError(f"{self._server.url}/tokenize: does not say which token begins a text; {TOKENIZER_REMEDY}")

    def encode(self, text: str, how: TokenRule) -> Tokenised:
        """Tokenise one text (see `Scorer.tokenise`).

        Raises:
            PredictorError: the rule is "exact", and the tokens do not restore the text.
        """
        data = text.encode()
        ids, words = self._request(text, False) if text else ([], [])
        if len(ids) > MAX_ADDED_TOKENS + MAX_TOKENS_PER_BYTE * len(data):  # each token would cost time and memory here
            raise PredictorError(
                f"{self._server.url}/tokenize: gives {len(ids)} tokens for {len(data)} bytes; {TOKENIZER_REMEDY}"
            )
        lengths = _lengths_of(words, data) if words is not None and len(words) == len(ids) else None
        if lengths is None:
            if how == "exact" and self._detokenise(ids) != text:
                raise PredictorError(
                    f"{self._server.url}/detokenize: does not restore the text that begins with "
                    f"{quoted(text[:40])}; {TOKENIZER_REMEDY}"
                )
            lengths = self._approximate_lengths(ids, len(data))
        if how == "default":
            ids = [*self._before, *ids, *self._after]
            lengths = np.pad(lengths, (len(self._before), len(self._after)))
        return Tokenised(np.array(ids, np.int32), lengths)

    def _detokenise(self, ids: Sequence[int]) -> str:
        payload = {"model": self._model, "tokens": list(ids), "skip_special_tokens": False}
        try:
            answer = self._post("/detokenize", payload)
        except RefusedError as error:
            raise PredictorError(f"{error}; or {TOKENIZER_REMEDY}") from None
        for name in ("prompt", "text", "content"):
            if isinstance(answer.get(name), str):
                return str(answer[name])
        raise PredictorError(f"{self._server.url}/detokenize: answers without a text; {TOKENIZER_REMEDY}")

    def _approximate_lengths(self, ids: list[int], size: int) -> Ids:
        """The approximate number of bytes of each token: the bytes of a group of tokens, divided evenly.

        Args:
            ids: the token ids.
            size: the sum of the returned numbers.
        """
        spans = [ids[k : k + DETOKENISED_TOKENS] for k in range(0, len(ids), DETOKENISED_TOKENS)]
        sizes = [max(len(self._detokenise(span).encode()), 1) for span in spans]
        shares = np.concatenate([np.full(len(span), one / len(span)) for span, one in zip(spans, sizes, strict=True)])
        ends = np.round(np.cumsum(shares) * size / sum(sizes)).astype(np.int32)
        return np.diff(ends, prepend=np.int32(0))

    def _post(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        answer = self._server.post(path, payload)
        if not isinstance(answer, dict):
            raise PredictorError(f"{self._server.url}{path}: does not answer with an object; {TOKENIZER_REMEDY}")
        return answer

    def _check_ids(self, found: Any) -> list[int]:
        if not isinstance(found, list) or not all(type(one) is int and 0 <= one < 1 << 31 for one in found):
            raise PredictorError(
                f"{self._server.url}/tokenize: does not answer with a list of token ids; {TOKENIZER_REMEDY}"
            )
        return found


def _lengths_of(words: list[Any], data: bytes) -> Ids | None:
    """The number of bytes of each token, if the texts of the tokens, decoded in a usual way, add up to the data."""
    for read in (_read_bytes, _read_spaces, _read_plain):
        pieces = [read(word) for word in words]
        if None in pieces:
            continue
        lengths = np.array([len(piece or b"") for piece in pieces], np.int32)
        whole = b"".join(piece or b"" for piece in pieces)
        if whole == b" " + data and whole and lengths[0]:  # SentencePiece adds a space before the text
            lengths[0] -= 1
            whole = whole[1:]
        if whole == data:
            return lengths
    return None


_alphabet = cache(byte_alphabet)


def _read_bytes(word: Any) -> bytes | None:
    """Decode the text of a token of GPT-2: one printable character for each byte."""
    if not isinstance(word, str):
        return None
    byte_of = _alphabet()
    if all(character in byte_of for character in word):
        return bytes(byte_of[character] for character in word)
    return word.encode("utf-8", "surrogatepass")


def _read_spaces(word: Any) -> bytes | None:
    """Decode the text of a token of SentencePiece: U+2581 for a space, and <0xNN> for a byte."""
    if not isinstance(word, str):
        return None
    byte = BYTE_TOKEN.fullmatch(word)
    return bytes.fromhex(byte[1]) if byte else word.replace("\u2581", " ").encode("utf-8", "surrogatepass")


def _read_plain(word: Any) -> bytes | None:
    """Decode the text of a token of llama.cpp: plain text, or a list of bytes if it is not UTF-8."""
    if isinstance(word, str):
        return word.encode("utf-8", "surrogatepass")
    if isinstance(word, list) and all(type(one) is int and 0 <= one < 256 for one in word):
        return bytes(word)
    return None
