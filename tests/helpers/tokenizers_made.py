"""Small real tokenizers of the `tokenizers` library, each of a kind in use, trained on `harness.models.TEXT`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from harness.models import TEXT as TEXT
from harness.models import byte_level as byte_level


@cache
def byte_level_prefixed() -> Any:
    """A byte-level one that composes accents, puts a space first, cuts off, fills up, and has added words."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(byte_level().to_str())
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    made.add_tokens(
        [
            "<tool>",
            "    ",
            tokenizers.AddedToken("herring", single_word=True),
            tokenizers.AddedToken("é!", normalized=True),
            tokenizers.AddedToken("<both>", lstrip=True, rstrip=True),
        ]
    )
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", made.token_to_id("<|endoftext|>"))]
    )
    made.enable_truncation(5)
    made.enable_padding()
    return made


@cache
def llama() -> Any:
    """Llama 2: BPE over characters, a space as U+2581 and one put first, bytes for characters that it lacks."""
    import tokenizers

    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split("▁", "merged_with_next")  # of training: words, not sentences
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    made.pre_tokenizer = None
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    return _with_special(made, ("<unk>", "<s>", "</s>"))


@cache
def llama_metaspace() -> Any:
    """As later Llama files write it: Metaspace in place of the two normalizers."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(llama().to_str())
    made.normalizer = None
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return made


@cache
def unigram() -> Any:
    """Unigram with NFKC and Metaspace, and no bytes to fall back to."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=300, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return made


@cache
def t5() -> Any:
    """The same behind a pre-tokenizer that drops all space, so that one is put before every word."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(unigram().to_str())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    )
    return made


@cache
def word_piece() -> Any:
    """BERT: small letters, no accents, no spaces, `##` before a word's later pieces."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return made


@cache
def word_level() -> Any:
    """Whole words and nothing else."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.WordLevelTrainer(vocab_size=80, special_tokens=["[UNK]"], show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    return made


@cache
def word_level_strict() -> Any:
    """Whole words, and an error at any other."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "boy": 1, "fish": 2}))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made


@cache
def clip() -> Any:
    """BPE whose words end with `</w>`, in small letters."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.decoder = tokenizers.decoders.BPEDecoder("</w>")
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return made


def all_ways(tokenizer: Any) -> Any:
    """The tokenizer with all merges that make one of its tokens, as those of SentencePiece's vocabularies are."""
    import json

    import tokenizers

    facts = json.loads(tokenizer.to_str())
    vocabulary = facts["model"]["vocab"]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(facts["model"]["merges"]):
        ranks.setdefault(left + right, rank)
    ways = [(ranks[text], text[:at], text[at:]) for text in ranks for at in range(1, len(text))]
    kept = [[left, right] for _, left, right in sorted(ways) if left in vocabulary and right in vocabulary]
    assert len(kept) > len(ranks)
    facts["model"]["merges"] = kept
    return tokenizers.Tokenizer.from_str(json.dumps(facts))


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte_level": byte_level,
    "byte_level_prefixed": byte_level_prefixed,
    "llama": llama,
    "llama_metaspace": llama_metaspace,
    "unigram": unigram,
    "t5": t5,
    "word_piece": word_piece,
    "word_level": word_level,
    "word_level_strict": word_level_strict,
    "clip": clip,
}


def _with_special(made: Any, names: tuple[str, ...]) -> Any:
    """The tokenizer with these tokens special and no other: training makes all that it is given so."""
    import json

    import tokenizers

    facts = json.loads(made.to_str())
    facts["added_tokens"] = [added for added in facts["added_tokens"] if added["content"] in names]
    return tokenizers.Tokenizer.from_str(json.dumps(facts))
