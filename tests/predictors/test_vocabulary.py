"""Tokens and bytes, there and back, under every kind of tokenizer in use."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="tokens of a model need tokenizers: pip install 'kolmo-codelength[hf]'")

from helpers.limits import ends_within
from helpers.tokenizers_made import (
    TEXT,
    TOKENIZERS,
    byte_level,
    byte_level_prefixed,
    clip,
    llama,
    t5,
    unigram,
    word_piece,
)
from kolmo.errors import CorruptError, MissingExtraError, PredictorError
from kolmo.predictors.language_models import vocabulary
from kolmo.predictors.language_models.vocabulary import Tokens, Vocabulary, load_tokenizer

VOCABULARIES = {name: Vocabulary(make(), make().get_vocab_size()) for name, make in TOKENIZERS.items()}
END = byte_level().token_to_id("<|endoftext|>")
BYTE_NAMES = ("byte_level", "byte_level_prefixed", "llama", "llama_metaspace")  # these have a token for every byte

AWKWARD = [  # what tokenizers change, drop, or take for something else
    *("<|endoftext|>", "<mask>", " <mask>", "<tool>", "<both>", " <both> ", "<s>", "</s>", "<unk>", "<pad>"),
    *("[UNK]", "[CLS]", "[PAD]", "<0x41>", "<0x0A>", "##ing", "##", "ing</w>", "</w>", "▁", "▁▁the", "Ġ", "Ġthe", "Ċ"),
    *("ﬁ", "ﬁsh", "é", "e\u0301", "e\u0301!", "\u00c5", "\u212b", "①", "\uff46\uff49sh", "İ", "ß", "\u0301"),
    *("한국", "\u1100\u1161\u11a8", "😀", "\U0001f469\u200d\U0001f680", "\U0010ffff", "\ue000", "\u202e", "\u200b"),
    *("\r\n", "\r", "\t", "\n\n\n", " ", "  ", "     ", "\xa0", "\u2003", "\u3000", "\ufeff", "\ufffd", "\x85"),
    *("\x00", "\x00\x00", "\x7f", "\x1b[0m", "herring", "herrings", "the", "The", "THE", " the", "the ", "123", "!?"),
]
STRANGE = [  # bytes that are no UTF-8: alone, cut short, lone surrogates, overlong, beyond the last character
    *(b"\xff", b"\x80", b"\xc3", b"\xe2\x96", b"\xf0\x9f\x98"),
    *(b"\xed\xa0\x80", b"\xed\xb2\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"),
]
texts = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=6), max_size=12).map("".join)
contents = st.lists(
    st.sampled_from([word.encode() for word in AWKWARD] + STRANGE)
    | st.text(max_size=8).map(str.encode)
    | st.binary(max_size=8),
    max_size=12,
).map(b"".join)


def check(words: Vocabulary, data: bytes) -> Tokens:
    """Tokenise, and hold the result to all that is promised of it."""
    tokens = words.tokenise(data)
    assert words.join(tokens) == data
    assert tokens.ids.dtype == np.int32
    assert tokens.ids.ndim == 1
    assert not tokens.ids.size or (tokens.ids.min() >= 0 and tokens.ids.max() < words.size)
    assert (words.lengths(tokens.ids) > 0).all()
    places = [place for place, _ in tokens.literals]
    assert places == sorted(set(places))
    assert all(literal for _, literal in tokens.literals)
    assert words.lengths(tokens.ids).sum() + sum(len(literal) for _, literal in tokens.literals) == len(data)
    return tokens


def literal_bytes(tokens: Tokens) -> int:
    return sum(len(literal) for _, literal in tokens.literals)


@pytest.fixture(params=sorted(TOKENIZERS))
def words(request: pytest.FixtureRequest) -> Vocabulary:
    return VOCABULARIES[request.param]


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@given(data=contents)
@settings(max_examples=60, deadline=None)
def test_any_bytes_come_back(name: str, data: bytes) -> None:
    tokens = check(VOCABULARIES[name], data)
    if name in BYTE_NAMES:
        assert not tokens.literals


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_any_text_comes_back(name: str, text: str) -> None:
    check(VOCABULARIES[name], text.encode())


def test_all_bytes_come_back(words: Vocabulary) -> None:
    check(words, bytes(range(256)) * 3)
    for byte in range(256):
        check(words, bytes([byte]))


def test_each_awkward_word_comes_back(words: Vocabulary) -> None:
    for word in AWKWARD:
        check(words, word.encode())
        check(words, f"so {word} it is".encode())
    for strange in STRANGE:
        check(words, b"the boy" + strange + b"the fish")


def test_nothing_is_no_tokens(words: Vocabulary) -> None:
    tokens = check(words, b"")
    assert tokens.ids.size == 0
    assert tokens.literals == ()


@pytest.mark.parametrize("name", ["byte_level", "unigram"])
def test_text_has_the_tokenizers_own_tokens(name: str) -> None:
    made = copy.deepcopy(TOKENIZERS[name]())
    text = TEXT if name == "byte_level" else "so the boats lay still in the harbour; the boy asked again"
    if name == "unigram":
        made.pre_tokenizer = type(made.pre_tokenizer)(prepend_scheme="never")
    tokens = check(VOCABULARIES[name], text.encode())
    assert tokens.ids.tolist() == made.encode(text, add_special_tokens=False).ids
    assert not tokens.literals


@pytest.mark.parametrize("name", ["llama", "llama_metaspace"])
def test_only_the_space_put_first_is_left_out(name: str) -> None:
    made = TOKENIZERS[name]()
    tokens = check(VOCABULARIES[name], TEXT.encode())
    own = made.encode(TEXT, add_special_tokens=False).ids
    assert not tokens.literals
    assert tokens.ids[-100:].tolist() == own[-100:]
    assert made.encode(" " + TEXT, add_special_tokens=False).ids != tokens.ids.tolist()


def test_a_changed_word_is_a_local_matter() -> None:
    """What the tokenizer changes costs its own tokens there, and nowhere else."""
    words, made = VOCABULARIES["byte_level_prefixed"], TOKENIZERS["byte_level"]()
    plain = "The boats lay still in the harbour. "
    own = made.encode(plain).ids
    tokens = check(words, f"{plain}cafe\u0301{plain}".encode()).ids.tolist()
    assert tokens[: len(own) - 1] == own[:-1]
    assert tokens[3 - len(own) :] == own[3:]


def test_special_names_in_a_text_are_text() -> None:
    words, made = VOCABULARIES["byte_level_prefixed"], TOKENIZERS["byte_level_prefixed"]()
    for name in ("<|endoftext|>", "<mask>"):
        special = made.token_to_id(name)
        assert words.bytes_of(special) == b""
        assert special not in check(words, f"an {name} here".encode()).ids
    tool = made.token_to_id("<tool>")
    assert words.bytes_of(tool) == b"<tool>"
    assert tool in check(words, b"an <tool> here").ids
    both = made.token_to_id("<both>")
    assert both in check(words, b"an  <both>  here").ids  # the spaces that it takes are covered by others


def test_the_original_is_not_changed() -> None:
    made = TOKENIZERS["byte_level_prefixed"]()
    before = made.to_str()
    check(Vocabulary(made, made.get_vocab_size()), b"a text with  <mask>")
    assert made.to_str() == before
    assert not made.encode_special_tokens


def test_small_letters_alone_cost_the_capitals() -> None:
    words = VOCABULARIES["word_piece"]
    tokens = check(words, b"The boy asked, and the father said: not today.")
    assert {words.bytes_of(token) for token in tokens.ids.tolist()} >= {b"boy", b"asked", b"father", b"today"}
    assert {literal for _, literal in tokens.literals} == {b"T", b" "}
    assert words.bytes_of(word_piece().token_to_id("##ing")) == b"ing"
    assert words.bytes_of(word_piece().token_to_id("[UNK]")) == b""


def test_a_space_dropped_and_put_before_each_word_is_found_again() -> None:
    words = VOCABULARIES["t5"]
    tokens = check(words, b"and the boats and the harbour")
    texts = [words.bytes_of(token) for token in tokens.ids.tolist()]
    assert texts[-5:] == [b" the", b" boats", b" and", b" the", b" harbour"]
    assert t5().encode("the boats").ids[-1] == tokens.ids[-4]


def test_ends_of_words_are_spaces() -> None:
    words = VOCABULARIES["clip"]
    assert words.bytes_of(clip().token_to_id("the</w>")) == b"the "
    tokens = check(words, b"and the boats and the harbour ")
    assert not tokens.literals
    assert tokens.ids.tolist() == clip().encode("and the boats and the harbour").ids


def test_bytes_fall_back() -> None:
    words, made = VOCABULARIES["llama"], llama()
    assert words.bytes_of(made.token_to_id("<0x41>")) == b"A"
    assert words.bytes_of(made.token_to_id("▁the")) == b" the"
    tokens = check(words, "☃\a".encode() + b"\xff")
    assert tokens.ids.tolist() == [3 + byte for byte in "☃\a".encode() + b"\xff"]
    assert check(words, b"a").ids.tolist() == [made.token_to_id("a")]  # not <0x61>
    assert check(words, b"<0x41>").ids[0] == 3 + ord("<")


def test_tokens_beyond_the_model_are_never_used() -> None:
    made = byte_level()
    words = Vocabulary(made, 300)
    tokens = check(words, TEXT.encode())
    assert not tokens.literals
    assert words.bytes_of(300) == words.bytes_of(-1) == b""
    wide = Vocabulary(made, made.get_vocab_size() + 64)
    assert wide.bytes_of(wide.size - 1) == b""
    assert check(wide, TEXT.encode()).ids.tolist() == made.encode(TEXT).ids
    assert check(Vocabulary(made, 1), b'say "!"').literals == ((0, b'say "'), (1, b'"'))
    for size in (0, -1, 1 << 40):
        with pytest.raises(PredictorError, match=f"a vocabulary of {size} tokens"):
            Vocabulary(made, size)


def test_lengths() -> None:
    words = VOCABULARIES["byte_level"]
    ids = np.array([[-1, 0, words.size - 1], [words.size, words.size + 9, 300]])
    wanted = [[len(words.bytes_of(token)) for token in row] for row in ids.tolist()]
    assert words.lengths(ids).tolist() == wanted
    assert words.lengths([]).tolist() == []


@pytest.mark.parametrize(
    ("ids", "literals", "message"),
    [
        ([-1], (), "token -1, number 0, stands for no bytes"),
        ([5, 10_000], (), "token 10000, number 1, stands for no bytes"),
        ([5, END], (), f"token {END}, number 1, stands for no bytes"),
        ([5], ((2, b"x"),), "1 literal bytes before token number 2 of 1"),
        ([5], ((-1, b"x"),), "before token number -1 of 1"),
        ([5], ((1, b""),), "0 literal bytes"),
        ([5, 5], ((1, b"x"), (1, b"y")), "token number 1 of 2, after those before number 1"),
        ([5, 5], ((2, b"x"), (1, b"y")), "token number 1 of 2, after those before number 2"),
        ([], ((0, b"x"), (0, b"y")), "token number 0 of 0"),
    ],
)
def test_join_refuses(ids: list[int], literals: tuple[tuple[int, bytes], ...], message: str) -> None:
    with pytest.raises(CorruptError, match=message) as raised:
        VOCABULARIES["byte_level"].join(Tokens(np.array(ids, np.int32), literals))
    assert "\n" not in str(raised.value)


def test_join_puts_literals_where_they_belong() -> None:
    words = VOCABULARIES["byte_level"]
    a, b = check(words, b"a").ids[0], check(words, b"b").ids[0]
    tokens = Tokens(np.array([a, b], np.int32), ((0, b"1"), (1, b"2"), (2, b"3")))
    assert words.join(tokens) == b"1a2b3"


def test_digest_is_of_the_table_alone() -> None:
    made = byte_level()
    words = Vocabulary(made, 600)
    texts = [words.bytes_of(token) for token in range(600)]
    numbers = np.array([600, *map(len, texts)], "<u4")
    assert words.table_hash == hashlib.sha256(numbers.tobytes() + b"".join(texts)).digest()[:8]
    assert words.table_hash == Vocabulary(made, 600).table_hash
    assert words.table_hash != Vocabulary(made, 601).table_hash
    assert VOCABULARIES["llama"].table_hash == VOCABULARIES["llama_metaspace"].table_hash  # however they cut
    facts = json.loads(made.to_str())
    facts["added_tokens"][0]["special"] = False
    changed = Vocabulary(type(made).from_str(json.dumps(facts)), 600)
    assert changed.bytes_of(END) == b"<|endoftext|>"
    assert changed.table_hash != words.table_hash


def test_long_texts_are_cut_at_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "PIECE_BYTES", 64)
    data = TEXT.encode() + b"x" * 300 + "é".encode() * 200 + b"\x80" * 200 + b" " * 200 + b"\n" * 200 + TEXT.encode()
    pieces = list(vocabulary.pieces(data))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= 64 for piece in pieces)
    assert all(len(piece) >= 29 for piece in pieces[:-1])
    for piece, after in itertools.pairwise(pieces):
        cut = piece[-1:] + after[:1]
        assert cut[:1] == b"\n" or cut[1:].isspace() or after[0] & 0xC0 != 0x80 or piece[-3:] == b"\x80" * 3
    for words in VOCABULARIES.values():
        check(words, data)
    own = byte_level().encode(TEXT).ids
    assert not set(check(VOCABULARIES["byte_level"], TEXT.encode()).ids.tolist()) - set(own)


def test_batches_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "PIECE_BYTES", 64)
    wanted = {name: check(words, TEXT.encode()) for name, words in VOCABULARIES.items()}
    monkeypatch.setattr(vocabulary, "BATCH_PIECES", 3)
    for name, words in VOCABULARIES.items():
        tokens = check(words, TEXT.encode())
        assert tokens.ids.tolist() == wanted[name].ids.tolist()
        assert tokens.literals == wanted[name].literals


def test_what_is_not_text_is_covered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    words = Vocabulary(llama(), llama().get_vocab_size())
    encode = words._encode

    def note(texts: list[str]) -> list[Any]:
        asked.extend(texts)
        return encode(texts)

    monkeypatch.setattr(words, "_encode", note)
    check(words, b"the boy\xff" * 2)
    assert asked == ["the boy\ufffd" * 2]
    check(words, bytes(range(128, 256)) + b"the boy")
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["llama", "word_level"])
@pytest.mark.parametrize("kind", ["random", "letters", "spaces", "snowmen"])
def test_hostile_data_takes_time_in_proportion(name: str, kind: str) -> None:
    size = 200_000
    data = {
        "random": np.random.default_rng(1).bytes(size),
        "letters": b"a" * size,
        "spaces": b" " * size,
        "snowmen": "☃".encode() * (size // 3),
    }[kind]
    with ends_within():  # it takes half a second of CPU time; quadratic time would be an hour
        check(VOCABULARIES[name], data)


def test_load_tokenizer(tmp_path: Path) -> None:
    made = unigram()
    (tmp_path / "tokenizer.json").write_text(made.to_str(), "utf-8")
    loaded = load_tokenizer(tmp_path)
    assert Vocabulary(loaded, 400).table_hash == Vocabulary(made, 400).table_hash


# The library takes the prefix off "b" without a look at its length.
PANIC = b"""{"version": "1.0", "model": {"type": "BPE", "continuing_subword_prefix": "##",
             "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no tokenizer.json; .* save_pretrained"),
        (b"", "not a tokenizer .*; get the file again"),
        (b"{}", "not a tokenizer .*; get the file again"),
        (b'{"version":"1.0",\n"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}', "not a tokenizer"),
        (b"[" * 100_000, "not a tokenizer"),
        (PANIC, "not a tokenizer"),
        (b'{"a\xff', "not UTF-8 at byte 3; get the file again"),
    ],
)
def test_a_bad_tokenizer_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(PredictorError, match=message) as raised:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(PredictorError, match=r"tokenizer.json"):
        load_tokenizer(tmp_path)


def test_without_the_library_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kolmo-codelength\[hf\]'"):
        load_tokenizer(tmp_path)


def test_the_module_is_light() -> None:
    script = "import sys, kolmo.predictors.language_models.vocabulary\n"
    script += "print(*{'tokenizers', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_no_space_is_put_first() -> None:
    """Whatever a tokenizer puts before a text, the private copy does not."""
    made: Any = byte_level_prefixed()
    assert made.encode("sea", add_special_tokens=False).ids != byte_level().encode("sea").ids
    assert check(VOCABULARIES["byte_level_prefixed"], b"sea").ids.tolist() == byte_level().encode("sea").ids
