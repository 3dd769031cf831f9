"""The example that converts a model of llama2.c: the model tells its story, and damaged files are refused."""

from __future__ import annotations

import importlib
import itertools
import logging
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="running a model needs torch: pip install 'kolmo-codelength[hf]'")
pytest.importorskip("transformers", reason="a model needs transformers: pip install 'kolmo-codelength[hf]'")

from harness.models import STORIES, llama2c, stories
from helpers.tokenizers_made import TEXT
from kolmo.errors import FormatError
from kolmo.predictors.language_models.vocabulary import Vocabulary, load_tokenizer

torch: Any = importlib.import_module("torch")
transformers: Any = importlib.import_module("transformers")
example: Any = llama2c()
MODEL, TOKENIZER = STORIES / "stories260K.bin", STORIES / "tok512.bin"
STORY = (  # what llama2.c itself writes at temperature 0
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
    "Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stories(tmp_path_factory.mktemp("stories260K"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What transformers logs."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logging.getLogger("transformers").addHandler(handler)
    yield messages
    logging.getLogger("transformers").removeHandler(handler)


def test_the_model_tells_its_story(folder: Path, said: list[str]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    begin = torch.tensor([[tokenizer.bos_token_id]])
    written = model.generate(begin, attention_mask=torch.ones_like(begin), max_new_tokens=150, do_sample=False)[0]
    assert tokenizer.decode(written, skip_special_tokens=True).startswith(STORY)
    assert said == []


def test_the_tokenizer_gives_the_text_back(folder: Path, said: list[str]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (STORY, TEXT, "", "☃ <0x41>\x00"):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer) == 512
    assert (tokenizer.unk_token_id, tokenizer.eos_token_id) == (0, 2)
    assert said == []


def test_merges_are_in_the_order_of_scores(folder: Path) -> None:
    """The pieces are those of llama2.c: at each step the pair whose whole has the highest score."""
    tokens = example.read_tokenizer(TOKENIZER, 512)
    ids = {text: token for token, (text, _) in enumerate(tokens)}
    words = Vocabulary(load_tokenizer(folder), 512)
    for text in STORY.split("\n")[0].split(". "):
        parts = list(text.replace(" ", "▁"))
        while True:
            joined = [ids.get("".join(pair)) for pair in itertools.pairwise(parts)]
            found = [(tokens[token][1], -at) for at, token in enumerate(joined) if token is not None]
            if not found:
                break
            at = -max(found)[1]
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        assert words.tokenise(text.encode()).ids.tolist() == [ids[part] for part in parts]


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parents[2] / "examples" / "llama2c.py")]
    done = subprocess.run(
        [*command, MODEL, TOKENIZER, tmp_path / "a" / "b"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert written >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    done = subprocess.run([*command, TOKENIZER, MODEL, tmp_path / "c"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"llama2c: {TOKENIZER}: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "c").exists()
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


def small(tied: bool) -> bytes:
    """A model of width 4: its sizes, and weights that count from zero."""
    shape = example.Shape(4, 6, 1, 2, 1, 5, 3, tied)
    count = sum(int(np.prod(dimensions)) for _, dimensions in shape.tensors())
    return struct.pack("<7i", 4, 6, 1, 2, 1, 5 if tied else -5, 3) + np.arange(count, dtype="<f4").tobytes()


@pytest.mark.parametrize("tied", [True, False])
def test_each_weight_has_its_place(tmp_path: Path, tied: bool) -> None:
    path = tmp_path / "small.bin"
    path.write_bytes(small(tied))
    shape, weights = example.read_model(path)
    named = dict(example.name_weights(shape, weights))
    layer = "model.layers.0"
    assert named["model.embed_tokens.weight"].tolist() == np.arange(20).reshape(5, 4).tolist()
    assert named[f"{layer}.input_layernorm.weight"].tolist() == [20, 21, 22, 23]
    assert named[f"{layer}.self_attn.q_proj.weight"][:, 0].tolist() == [
        24,
        28,
        32,
        36,
    ]  # heads of two rows stay
    assert named[f"{layer}.self_attn.k_proj.weight"].shape == (2, 4)
    assert named[f"{layer}.mlp.gate_proj.weight"].shape == named[f"{layer}.mlp.up_proj.weight"].shape == (6, 4)
    assert named[f"{layer}.mlp.down_proj.weight"].shape == (4, 6)
    assert ("lm_head.weight" in named) is not tied
    assert example.config(shape)["tie_word_embeddings"] is tied
    if not tied:
        end = (len(small(tied)) - 28) // 4
        assert named["lm_head.weight"].ravel().tolist() == list(range(end - 20, end))


def test_rows_are_turned_for_the_other_rotation() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert example.turn(rows, 1)[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert example.turn(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


HUGE = 2**31 - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no model"),
        (b"\0" * 27, "27 bytes are no model"),
        (b"\0" * 28, "the sizes 0, 0, 0, 0, 0, 0, 0 make no model"),
        (struct.pack("<7i", *[HUGE] * 7), "make no model"),
        (struct.pack("<7i", HUGE - 1, HUGE, HUGE, 1, 1, -HUGE, HUGE), "28 bytes, but a model of these sizes has"),
        (struct.pack("<7i", 4, 6, 1, 3, 1, 5, 3), "the sizes 4, 6, 1, 3, 1, 5, 3 make no model"),
        (struct.pack("<7i", 4, 6, 1, 4, 1, 5, 3), "make no model"),
        (struct.pack("<7i", 12, 6, 1, 3, 2, 5, 3), "make no model"),
        (struct.pack("<7i", 4, 6, -1, 2, 1, 5, 3), "make no model"),
        (small(True)[:-4], "but a model of these sizes has"),
        (small(False) + b"\0", "but a model of these sizes has"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as raised:
        example.convert(path, TOKENIZER, tmp_path / "out")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def entry(text: bytes, score: float = 0, length: int | None = None) -> bytes:
    return struct.pack("<fi", score, len(text) if length is None else length) + text


WHOLE = TOKENIZER.read_bytes()
LAST = WHOLE[: -len(entry("\u200a".encode()))]  # without the last token


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 tokens in 4 of 0 bytes, not 512"),
        (LAST, "511 tokens"),
        (WHOLE[:-1], "token 511 at byte 6216 has length 3"),
        (LAST + b"\0" * 7, "token 511 is cut short at byte 6216"),
        (WHOLE + b"\0", "512 tokens in 6227 of 6228 bytes, not 512 in all"),
        (LAST + entry(b"", length=0), "has length 0"),
        (LAST + entry(b"x", length=-1), "has length -1"),
        (LAST + entry(b"x", length=HUGE), f"has length {HUGE}"),
        (LAST + entry(b"x" * 257), "has length 257"),
        (LAST + entry(b"xyzzy", float("nan")), "score nan"),
        (LAST + entry(b"\xff"), "token 511 at byte 6216 is no UTF-8"),
        (LAST + entry(b" the"), "tokens 265 and 511 are both '▁the'"),
        (WHOLE.replace(b"<unk>", b"<UNK>"), "tokens 0 to 258 are not"),
        (WHOLE.replace(b"<0x41>", b"<0x42>"), "tokens 0 to 258 are not"),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as raised:
        example.convert(MODEL, path, tmp_path / "out")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
