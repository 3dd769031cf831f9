"""Rate against tokenizer: text as bytes, and as byte pairs of larger and larger vocabularies.

After Deletang et al. (2024), section 3.5. There, Transformers are trained on tokens of each vocabulary; here the coder
is adaptive, so nothing is trained but the vocabulary: the tokens as 16-bit numbers, under the context mixer.
Transformers of `kolmo train --vocabulary bpe:N` among the compressors are put beside it (`with_models`).

Byte pairs are learned one after another, so a vocabulary of N symbols is the beginning of one with more. What it is
not: a part of the table of compressors (`bench.paper.cells`).
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kolmo.bench.paper.cells import Figure
from kolmo.bench.paper.drawing.canvas import Canvas
from kolmo.bench.paper.drawing.panel import Panel, Series, logarithmic
from kolmo.bench.paper.facts import ModelFacts
from kolmo.bench.paper.versions import code_version
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.errors import MissingExtraError
from kolmo.installing import install
from kolmo.modalities.chunks import ChunkSet
from kolmo.predictors.language_models.token_table import byte_alphabet
from kolmo.predictors.language_models.vocabulary import Tokens, Vocabulary
from kolmo.predictors.registry import resolve

VERSION = 1  # of this experiment: stored points of others are not taken
BYTES = 256  # symbols of the vocabulary that is the bytes
SIZES = (1000, 2000, 5000, 10_000, 20_000)  # symbols of byte pairs
CODER = "cm:4"
MOST_CODED = 1 << 20  # bytes of text that are coded
MOST_LEARNED = 1 << 22  # bytes of text that the vocabularies are learned from
NOTE = (
    "Text as tokens of byte pairs. The adaptive coder is that of cm:4: whole, the tokens as 16-bit numbers, and for "
    "comparison the bytes as bytes and as 16-bit numbers; its priors were learned from bytes of text. Everything was "
    "decoded to the text and compared. With the vocabulary: its symbols, packed with LZMA2, count as well. "
    "Transformers are in chunks, as in the tables above."
)


@dataclass(frozen=True)
class TokenPoint:
    """Text under a coder and a vocabulary.

    Attributes:
        coder: label.
        vocabulary: symbols; 256: bytes.
        tokens: of the text; 0: not known.
        raw: bytes of the text.
        packed: bytes of the packed tokens.
        vocabulary_bytes: of the packed symbols of the vocabulary.
        compared: whether the text came back.
    """

    coder: str
    vocabulary: int
    tokens: int
    raw: int
    packed: float
    vocabulary_bytes: int
    compared: bool

    @property
    def rate(self) -> float:
        """Packed bytes for each raw byte."""
        return self.packed / self.raw

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def texts_of(data: ChunkSet, behind: bytes) -> tuple[bytes, bytes]:
    """The text that vocabularies are learned from, and the text that is coded: never the same.

    Args:
        data: chunks of text.
        behind: the text behind the chunks; where it is shorter than they are, the first half of them is learned from.
    """
    chunks = data.joined
    if len(behind) >= len(chunks):
        return behind[:MOST_LEARNED], chunks[:MOST_CODED]
    half = len(data.chunks) // 2 * len(data.chunks[0])
    return chunks[:half][:MOST_LEARNED], chunks[half:][:MOST_CODED]


def learn(text: bytes, symbols: int) -> dict[str, Any]:
    """Byte pairs of a text, as in GPT-2: the content of a `tokenizer.json`, with fewer symbols where it has no more.

    Raises:
        MissingExtraError: tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError:
        raise MissingExtraError(f"vocabularies need tokenizers; {install('hf')}") from None
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=symbols, initial_alphabet=list(byte_alphabet()), show_progress=False)
    lines = text.decode("utf-8", "ignore").splitlines(keepends=True)
    tokenizer.train_from_iterator(lines, trainer)
    found: dict[str, Any] = json.loads(tokenizer.to_str())
    return found


def beginning(content: dict[str, Any], symbols: int) -> Vocabulary:
    """The vocabulary of the first `symbols` symbols of a larger one."""
    from tokenizers import Tokenizer

    model = content["model"]
    vocab = {token: number for token, number in model["vocab"].items() if number < symbols}
    merges = model["merges"][: len(vocab) - BYTES]
    return Vocabulary(
        Tokenizer.from_str(json.dumps({**content, "model": {**model, "vocab": vocab, "merges": merges}})), len(vocab)
    )


def key_of(learned_from: bytes, coded: bytes, symbols: int, wide: bool) -> str:
    """What a point depends on, as 16 hexadecimal digits."""
    predictor = resolve(CODER)
    whole = hashlib.sha256(f"tokens {VERSION} {symbols} {wide} {code_version()}".encode() + predictor.fingerprint())
    for text in (learned_from, coded):
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()[:16]


def measure_bytes(text: bytes, *, wide: bool) -> TokenPoint:
    """The text as bytes, or with `wide` each byte as a 16-bit number."""
    sent = np.frombuffer(text, np.uint8).astype("<u2").tobytes() if wide else text
    packed, back = _coded(sent)
    label = f"{CODER}, bytes as 16 bits" if wide else CODER
    return TokenPoint(label, BYTES, len(text), len(text), packed, 0, back == sent)


def measure(text: bytes, vocabulary: Vocabulary) -> TokenPoint:
    """The text as tokens, which are 16-bit numbers; every byte is a token, so no byte is left over."""
    tokens = vocabulary.tokenise(text)
    sent = tokens.ids.astype("<u2").tobytes()
    packed, back = _coded(sent)
    again = vocabulary.join(Tokens(np.frombuffer(back, "<u2").astype(np.int32), tokens.literals))
    symbols = b"".join(len(one).to_bytes(1, "little") + one for one in map(vocabulary.bytes_of, range(vocabulary.size)))
    beside = len(lzma.compress(symbols[2 * BYTES :]))
    return TokenPoint(
        CODER, vocabulary.size, len(tokens.ids), len(text), packed, beside, again == text and not tokens.literals
    )


def with_models(
    figures: Sequence[Figure], facts: Mapping[str, ModelFacts], shrunk: Mapping[str, str]
) -> list[TokenPoint]:
    """Points of the Transformers of `kolmo train` among the compressors, on the chunks of text."""
    found = []
    for one in figures:
        fact = facts.get(one.codec)
        if fact is None or not fact.kind or one.modality != "text" or not one.chunked or one.mask:
            continue
        if one.codec not in shrunk.values():
            found.append(TokenPoint(one.codec, fact.vocabulary, 0, one.raw, one.packed, 0, one.compared))
    return found


def tables(points: Sequence[TokenPoint]) -> Iterator[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, head and rows; none for no points."""
    if not points:
        return
    rows = [
        [
            one.coder,
            "bytes" if one.vocabulary == BYTES else f"{one.vocabulary:,}",
            f"{one.tokens:,}" if one.tokens else "",
            f"{one.raw / one.tokens:.2f}" if one.tokens else "",
            f"{100 * one.rate:.1f}" if one.compared else "WRONG",
            f"{100 * (one.packed + one.vocabulary_bytes) / one.raw:.1f}" if one.tokens else "",
        ]
        for one in points
    ]
    yield "Text by vocabulary", ("coder", "symbols", "tokens", "bytes each", "rate", "with vocabulary"), rows


def draw(points: Sequence[TokenPoint], facts: Mapping[str, ModelFacts]) -> tuple[list[Canvas], list[tuple[str, str]]]:
    """A panel, and its legend (label, colour)."""
    if len({one.vocabulary for one in points}) < 2:
        return [], []
    curves: dict[str, list[TokenPoint]] = {}
    for one in points:
        fact = facts.get(one.coder)
        curves.setdefault(fact.kind if fact and fact.kind else one.coder, []).append(one)
    highest = max(one.rate for one in points)
    y_ticks = [(k / 10, f"{10 * k} %") for k in range(int(highest * 10) + 2)]
    x_ticks = [(float(BYTES), "bytes"), *((float(size), f"{size // 1000}K") for size in SIZES)]
    panel = Panel("text", "symbols of the vocabulary", x_ticks, y_ticks, logarithmic)
    for k, (label, found) in enumerate(curves.items()):
        ordered = sorted(found, key=lambda one: one.vocabulary)
        panel.series.append((Series(label, tuple((float(p.vocabulary), p.rate) for p in ordered)), f"c{k % 8}"))
    return [panel.draw()], [(series.label, colour) for series, colour in panel.series]


def _coded(data: bytes) -> tuple[int, bytes]:
    """Bytes of the data under the context mixer, and the data as decoded."""
    predictor = resolve(CODER)
    kind, payload = encode_block(predictor, data)
    return len(payload), decode_block(predictor, kind, payload, len(data))
