"""Hashes of weight files that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kolmo.predictors import model_locations, weight_hashes
from kolmo.predictors.weight_hashes import index, kept_hash

OLD = 1_600_000_000


class Counted:
    """Counts how often a hash is computed."""

    def __init__(self, value: bytes = b"8 bytes.") -> None:
        self.times, self.value = 0, value

    def __call__(self) -> bytes:
        self.times += 1
        return self.value


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setattr(weight_hashes, "SETTLED_SECONDS", -60.0)  # files of a test are new


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    os.utime(path, (OLD, OLD))
    return path


def test_a_hash_is_computed_once_for_each_kind(weights: Path) -> None:
    compute = Counted()
    assert [kept_hash("a", [weights], compute) for _ in range(3)] == [compute.value] * 3
    assert compute.times == 1
    kept_hash("b", [weights], compute)
    assert compute.times == 2
    assert model_locations.known() == {}  # the locations of models are in another file


def test_a_changed_file_is_hashed_again(weights: Path) -> None:
    compute = Counted()
    kept_hash("a", [weights], compute)
    weights.write_bytes(b"WEIGHTS")  # of the same size
    compute.value = b"another."
    assert kept_hash("a", [weights], compute) == b"another."
    os.utime(weights, (OLD, OLD))  # the time of the content is as it was; that of the last change is not
    kept_hash("a", [weights], compute)
    assert compute.times == 3
    weights.rename(weights.with_name("b"))
    with pytest.raises(FileNotFoundError):
        kept_hash("a", [weights], weights.read_bytes)


def test_a_file_that_was_just_written_is_not_kept(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_hashes, "SETTLED_SECONDS", 2.0)
    compute = Counted()
    for _ in range(2):
        kept_hash("a", [weights], compute)
    assert compute.times == 2
    assert not index().exists()


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(weights: Path) -> None:
    def change() -> bytes:
        weights.write_bytes(b"more weights")
        return b"8 bytes."

    kept_hash("a", [weights], change)
    assert not index().exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"%s": 1}', '{"%s": "not hexadecimal"}', '{"%s": "aabb"}', "[" * 5000])
def test_a_damaged_cache_is_ignored(weights: Path, content: str) -> None:
    compute = Counted()
    kept_hash("a", [weights], compute)
    (name,) = model_locations.read_entries(index())
    index().write_text(content.replace("%s", name))
    assert kept_hash("a", [weights], compute) == compute.value
    assert compute.times == 2
    assert kept_hash("a", [weights], compute) == compute.value
    assert compute.times == 2


def test_a_cache_that_cannot_be_written_is_no_error(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")  # a file in place of the folder
    assert kept_hash("a", [weights], Counted()) == b"8 bytes."


def test_the_oldest_hashes_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_hashes, "MAX_HASHES", 2)
    paths = [tmp_path / str(k) for k in range(3)]
    for path in paths:
        path.write_bytes(b"")
        kept_hash("a", [path], Counted())
    again = Counted()
    for path in reversed(paths):
        kept_hash("a", [path], again)
    assert again.times == 1
