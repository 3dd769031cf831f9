"""The vocabulary and the encoded texts of a run, kept in its folder: encoding is not repeated when training goes on.

What it is not: it trains no vocabulary itself (`training.texts.vocabulary`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from kolmo.targets import replacing
from kolmo.training.texts.data import Passage, TrainingCorpus, encode
from kolmo.training.texts.vocabulary import BytePairs, ByteVocabulary, Vocabulary, require_tokenizers


def prepare(corpus: TrainingCorpus, name: str, tokenizer: Path, cache: Path) -> tuple[Vocabulary, TrainingCorpus]:
    """A vocabulary, and the texts in its symbols.

    Args:
        corpus: bytes.
        name: `bytes` or `bpe:N`.
        tokenizer: where to write a vocabulary that is trained.
        cache: where to keep it with the encoded texts, and to find both again.
    """
    if name == "bytes":
        return ByteVocabulary(), corpus
    require_tokenizers()
    key = json.dumps([name, [s.describe() for s in corpus.sources], corpus.extra_facts])
    found = _read_cache(cache, key)
    if found is None:
        vocabulary = BytePairs.train(corpus.sources, int(name.removeprefix("bpe:")))
        encoded = encode(corpus, vocabulary)
        _write_cache(cache, key, vocabulary, encoded)
    else:
        vocabulary, arrays = BytePairs.load(str(found["tokenizer"]), name), found
        encoded = _unpack(corpus, arrays)
    with replacing(tokenizer, durable=True) as file:
        file.write(vocabulary.text().encode())
    return vocabulary, encoded


def _write_cache(cache: Path, key: str, vocabulary: BytePairs, corpus: TrainingCorpus) -> None:
    arrays: dict[str, Any] = {"key": np.array(key), "tokenizer": np.array(vocabulary.text())}
    for i, source in enumerate(corpus.sources):
        arrays[f"source{i}"], arrays[f"held_out{i}"] = source.text, np.array(source.held_out)
    for i, passage in enumerate(corpus.extra):
        arrays |= {f"extra{i}.{j}": piece for j, piece in enumerate(passage.pieces)}
    with replacing(cache) as file:
        np.savez(file, **arrays)


def _read_cache(cache: Path, key: str) -> dict[str, Any] | None:
    if not cache.exists():
        return None
    try:
        with np.load(cache, allow_pickle=False) as file:
            return {name: file[name] for name in file.files} if str(file["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # damaged: make it anew
        return None


def _unpack(corpus: TrainingCorpus, arrays: dict[str, Any]) -> TrainingCorpus:
    sources = tuple(
        dataclasses.replace(s, text=arrays[f"source{i}"], held_out=tuple(map(tuple, arrays[f"held_out{i}"].tolist())))
        for i, s in enumerate(corpus.sources)
    )
    extra = tuple(
        Passage(p.name, tuple(arrays[f"extra{i}.{j}"] for j in range(len(p.pieces))))
        for i, p in enumerate(corpus.extra)
    )
    return TrainingCorpus(sources, extra, corpus.extra_facts)
