"""Perplexity by KenLM models that the user brings: n-gram models over SentencePiece pieces, one a language.

The text is normalised line by line as the models' training text was, cut into pieces, and scored in log10; the
perplexity is 10^(-sum / (pieces + lines)). kenlm and sentencepiece are imported when a text is scored. What it is not:
a trainer (docs/collection.md says how a model is made).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from kolmo.corpus.writing import file_digest
from kolmo.errors import KolmoError, MissingExtraError

ENDINGS = (".arpa.bin", ".binary", ".arpa")
PIECES = ".sp.model"
DIGITS = 1  # of a perplexity that is written
ASCII = {
    **dict(zip("，。、∶：？！（）；–．～’━〈〉【】％►´", [*",.,::?!();-", ". ", *"~'-<>[]%-'"], strict=True)),
    **dict.fromkeys("„”“«»１」「《》", '"'),
    "—": " - ",
    "…": "...",
}
TO_ASCII = str.maketrans(ASCII)
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class KenLM:
    """Perplexity under a language's model; of other languages there is none.

    Attributes:
        models: by language, the files of the n-gram model and of SentencePiece.
        digests: by language, SHA-256 of both files.
    """

    models: Mapping[str, tuple[str, str]]
    digests: Mapping[str, str]
    key: str = "perplexity"

    @classmethod
    def of(cls, folder: str) -> KenLM:
        """The models of a folder: LANGUAGE.arpa.bin (or .binary, .arpa) with LANGUAGE.sp.model.

        Raises:
            KolmoError: it has none.
        """
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise KolmoError(f"{folder}: {error.strerror}; name a folder with KenLM models") from None
        models: dict[str, tuple[str, str]] = {}
        for ending in ENDINGS:
            for name in names:
                language = name.removesuffix(ending)
                if name.endswith(ending) and language not in models and f"{language}{PIECES}" in names:
                    models[language] = os.path.join(folder, name), os.path.join(folder, f"{language}{PIECES}")
        if not models:
            raise KolmoError(f"{folder}: has no KenLM model; put LANGUAGE.arpa.bin and LANGUAGE.sp.model there")
        digests = {language: f"{file_digest(lm)} {file_digest(sp)}" for language, (lm, sp) in sorted(models.items())}
        return cls(models, digests)

    def score(self, text: str, language: str) -> float | None:
        """See `Scorer`."""
        if language not in self.models:
            return None
        lm, pieces = _loaded(*self.models[language])
        total, length = 0.0, 0
        for line in text.split("\n"):
            cut = pieces.encode_as_pieces(normalise(line))
            total += lm.score(" ".join(cut))
            length += len(cut) + 1
        return round(float(10.0 ** (-total / length)), DIGITS)


def normalise(line: str) -> str:
    """A line as the models' training text was: lower case, without accents and controls, digits as 0, marks as ASCII.

    >>> normalise(" Élan 42… ")
    'elan 00...'
    """
    line = line.strip().lower()
    if not line.isascii():
        decomposed = unicodedata.normalize("NFD", line)
        line = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        line = DIGIT.sub("0", line).translate(TO_ASCII)
    else:
        line = DIGIT.sub("0", line)
    return CONTROLS.sub("", line)


@cache
def _loaded(lm: str, pieces: str) -> tuple[Any, Any]:
    try:
        import kenlm
        import sentencepiece
    except ImportError as error:
        raise MissingExtraError(f"{lm}: needs two packages ({error}); pip install kenlm sentencepiece") from None
    try:
        return kenlm.Model(lm), sentencepiece.SentencePieceProcessor(model_file=pieces)
    except (OSError, RuntimeError) as error:
        raise KolmoError(f"{lm}: cannot be loaded ({error}); check both files of the model") from None
