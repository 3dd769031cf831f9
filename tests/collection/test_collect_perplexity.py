"""Scores, cut-offs and buckets: by the embedded predictor, and by KenLM models."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from archives_made import english

from kolmo.collection.common_crawl import perplexity
from kolmo.collection.common_crawl.kenlm import KenLM, normalise
from kolmo.collection.common_crawl.perplexity import (
    BitsPerCharacterScorer,
    Buckets,
    FindCutoffs,
    Sample,
    Score,
    bucket_of,
    choose,
    percentiles,
    read_cutoffs,
)
from kolmo.collection.stages import Shard, Work, write_json
from kolmo.corpus import Document
from kolmo.errors import KolmoError


def test_bits_per_character_rank_text() -> None:
    scorer = BitsPerCharacterScorer("cm:1", 300)
    prose = scorer.score(" ".join(english(1, 9)), "en")
    noise = scorer.score("".join(random.Random(1).choices("abcdefghij;:/%$QXZ", k=300)), "en")
    assert prose is not None
    assert noise is not None
    assert prose < noise
    assert scorer.score("", "en") is None
    assert scorer.score("é" * 500, "fr") == scorer.score("é" * 300, "fr")


def test_percentiles_and_buckets() -> None:
    scores = [float(one) for one in range(100)]
    random.Random(1).shuffle(scores)
    assert percentiles(scores) == (30.0, 60.0)
    assert [bucket_of(one, (30.0, 60.0)) for one in (29.9, 30.0, 59.9, 60.0)] == ["head", "middle", "middle", "tail"]
    assert bucket_of(None, (1, 2)) == bucket_of(5.0, None) == "all"


def test_a_sample_does_not_depend_on_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "SAMPLE", 10)
    items = [(lot, float(lot)) for lot in range(50)]
    found = []
    for seed in range(3):
        random.Random(seed).shuffle(items)
        sample = Sample()
        for lot, score in items:
            sample.add("en", lot, score)
        found.append(sample.record())
    assert found[0] == found[1] == found[2] == {"en": [(lot, float(lot)) for lot in range(10)]}


def meta(language: str, n: int) -> dict[str, Any]:
    return {"n": n, "language": language, "perplexity": None, "bucket": "all", "cc_segment": "s"}


def test_the_steps_over_shards(tmp_path: Path) -> None:
    work = Work(str(tmp_path))
    scored = []
    for index in range(2):
        shard = Shard(index, 2, "scores", work)
        documents = [
            Document(" ".join(english(20 * index + n, 3)), "cc", f"{index} {n}", meta("en", n)) for n in range(12)
        ] + [Document("Ein Satz.", "cc", f"de {index}", meta("de", 99))]
        scored.append(list(Score(BitsPerCharacterScorer("cm:1", 100), 7).run(documents, shard)))
        shard.finish()
    write_json(f"{work.stage('scores')}/done.json", {"shards": 2, "counts": {}})
    assert list(scored[0][0].meta) == ["n", "language", "perplexity", "bits_per_character", "bucket", "cc_segment"]
    cuts = Shard(0, 1, "cutoffs", work)
    assert list(FindCutoffs("scores").run([], cuts)) == []
    cuts.finish()
    shard = Shard(0, 1, "buckets", work)
    every = Buckets("cutoffs", "bits_per_character", ("head", "middle", "tail", "all"))
    found = [one.meta["bucket"] for part in scored for one in every.run(part, shard)]
    assert (found.count("head"), found.count("middle"), found.count("tail"), found.count("all")) == (7, 7, 10, 2)
    head = Buckets("cutoffs", "bits_per_character")
    shard = Shard(0, 1, "buckets", work)
    assert len(list(head.run(scored[0] + scored[1], shard))) == 7
    assert shard.counts.record()["buckets"]["dropped"] == {"bucket all": 2, "bucket middle": 7, "bucket tail": 10}


def test_a_table_of_cutoffs(tmp_path: Path) -> None:
    table = tmp_path / "cutoff.csv"
    table.write_text(",de,en\n10,1,2\n30,200.5,340\n60,400,520\n")
    assert read_cutoffs(str(table)) == {"de": (200.5, 400.0), "en": (340.0, 520.0)}
    assert choose(None, str(table), "cm:1").cutoffs == read_cutoffs(str(table))
    for text in ("", ",en\n30,1\n", ",en\n30,x\n60,y\n", ",en,de\n30,1\n60,2\n"):
        table.write_text(text)
        with pytest.raises(KolmoError, match="rows 30 and 60"):
            read_cutoffs(str(table))


def test_normalisation_before_pieces() -> None:
    assert normalise("  L\u2019Été №12… ») ") == "l'ete №00... \")"
    assert normalise("A—B\x07 “q”") == 'a - b "q"'
    assert normalise("plain 3") == "plain 0"


def test_kenlm_models(tmp_path: Path) -> None:
    """An n-gram model written by hand: two words, each of probability 10^-1, line ends 10^-0.5, unknown ones 10^-2."""
    pytest.importorskip("kenlm", reason="needs kenlm: pip install kenlm sentencepiece")
    sentencepiece: Any = pytest.importorskip("sentencepiece", reason="needs pip install kenlm sentencepiece")
    (tmp_path / "en.arpa").write_text(
        "\\data\\\nngram 1=5\nngram 2=1\n\n\\1-grams:\n-2\t<unk>\n-99\t<s>\t0\n-0.5\t</s>\n"
        "-1\t\u2581a\t0\n-1\t\u2581b\t0\n\n\\2-grams:\n-1\t\u2581b \u2581b\n\n\\end\\\n"
    )
    text = tmp_path / "text"
    text.write_text("\n".join(["a b a b", "b a", "a a b"] * 50))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "en.sp"), vocab_size=5, model_type="word", minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    scorer = KenLM.of(str(tmp_path))
    assert scorer.score("A B", "en") == pytest.approx(10 ** (2.5 / 3), abs=0.06)  # 2 pieces and a line
    assert scorer.score("a\nb", "en") == pytest.approx(10 ** (3 / 4), abs=0.06)
    assert scorer.score("a c", "en") == pytest.approx(10 ** (3.5 / 3), abs=0.06)
    assert scorer.score("a", "de") is None
    assert choose(str(tmp_path), None).cutoffs == {"en": (340.0, 520.0)}
    with pytest.raises(KolmoError, match="has no KenLM model"):
        KenLM.of(str(Path(__file__).parent))
