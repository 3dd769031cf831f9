"""The tokenizer of a model as llama.cpp reads it, from tokenizer.json.

Two kinds have a counterpart there: BPE over bytes (GPT-2, Llama 3, Qwen2, SmolLM2), and BPE over characters with bytes
to fall back to (Llama 2, Mistral, Gemma). llama.cpp does not run the steps before BPE; it knows some lists of them by
name. What it is not: a tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted
from kolmo.weights.export.facts import MAX_BYTES, Facts, read

FILE, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
NORMAL, UNKNOWN, CONTROL, ADDED, UNUSED, BYTE = range(1, 7)  # types of tokens in GGUF
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
MAX_PADDING = 1 << 16  # rows of the embedding without a token
SPACE = "▁"

_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3, QWEN2 = _CASES + r"\p{N}{1,3}" + _REST, _CASES + r"\p{N}" + _REST
WORDS, BYTES, DIGITS = "ByteLevel with its words", "ByteLevel", "Digits"
NAMES: dict[
    tuple[tuple[str | None, ...], bool], str
] = {  # (steps, whether whole words skip the merges) -> name in llama.cpp
    ((WORDS,), False): "gpt-2",
    ((DIGITS, WORDS), False): "smollm",
    ((LLAMA3, BYTES), True): "llama-bpe",
    ((LLAMA3, BYTES), False): "smaug-bpe",
    ((QWEN2, BYTES), False): "qwen2",
}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF states it.

    Attributes:
        model: "gpt2" (over bytes) or "llama" (over characters).
        pre: name of the steps before.
        texts, types: of each token.
        scores: of each token; only over characters.
        merges: in their order; only over bytes.
        special: ids of "bos", "eos", "unk", "pad", as far as known.
        add_bos, add_eos: whether a text begins or ends with that token.
        add_space: whether a space is put before a text; only over characters.
        template: of a chat, or "".
        notes: sentences about what llama.cpp does differently.
    """

    model: str
    pre: str
    texts: list[str]
    types: list[int]
    scores: list[float]
    merges: list[str]
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    add_space: bool
    template: str
    notes: tuple[str, ...]

    def add_to(self, writer: Any) -> None:
        """State it in a file; `writer` is a `gguf.GGUFWriter`."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.texts)
        writer.add_token_types(self.types)
        if self.model == "gpt2":
            writer.add_token_merges(self.merges)
        else:
            writer.add_token_scores(self.scores)
        writer.add_add_space_prefix(self.add_space)
        for name, identity in self.special.items():
            getattr(writer, f"add_{name}_token_id")(identity)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        if self.template:
            writer.add_chat_template(self.template)


def vocabulary_of(folder: Path, config: Facts, rows: int) -> Vocabulary:
    """The tokenizer in a folder.

    Args:
        folder: with tokenizer.json.
        config: its config.json, which may name the special tokens.
        rows: number of rows of the embedding; those without a token get one that is unused.

    Raises:
        FormatError: there is none, or one of a kind that llama.cpp does not know.
        CorruptError: a file is damaged.
    """
    if not (folder / FILE).is_file():
        raise FormatError(f"{folder}: has no {FILE}, of which the tokenizer in GGUF is made; save it with transformers")
    facts = read(folder / FILE)
    model = facts.inner("model")
    steps = [step for step in _flat(facts.values.get("pre_tokenizer"), "pretokenizers") if not _is_idle(step, facts)]
    over_bytes = any(step.get("type") == "ByteLevel" for step in steps)
    fallback = model.values.get("byte_fallback") is True
    if model.values.get("type") != "BPE" or over_bytes == fallback:
        kind = f"{model.values.get('type')} {'with' if over_bytes or fallback else 'without'} bytes"
        raise FormatError(f"{facts.path}: is {quoted(kind)}; GGUF is made of BPE over bytes, or with byte_fallback")
    ids = _ids(facts, model, rows)
    texts = [f"[PAD{identity}]" for identity in range(rows)]
    types = [UNUSED] * rows
    unknown = model.values.get("unk_token")
    for text, identity in ids.items():
        texts[identity] = text
        byte = fallback and BYTE_TOKEN.fullmatch(text)
        types[identity] = BYTE if byte else UNKNOWN if fallback and text == unknown else NORMAL
    for token in _added(facts):
        identity = ids[token["content"]]
        if types[identity] == NORMAL:
            types[identity] = CONTROL if token.get("special") is True else ADDED
    pairs = _pairs(facts, model)
    settings = read(folder / CONFIG) if (folder / CONFIG).is_file() else Facts(folder / CONFIG, {})
    special = _special(settings, config, ids)
    first, last = _template_ends(facts)
    pre = "default"
    notes: list[str] = []
    scores: list[float] = []
    if over_bytes:
        pre, notes = _name(facts, steps, model.values.get("ignore_merges") is True)
    else:
        scores = _scores(facts, texts, types, pairs, steps)
    return Vocabulary(
        model="gpt2" if over_bytes else "llama",
        pre=pre,
        texts=texts,
        types=types,
        scores=scores,
        merges=[" ".join(pair) for pair in pairs],
        special=special,
        add_bos=first is not None and ids.get(first) == special["bos"],
        add_eos=last is not None and ids.get(last) == special["eos"],
        add_space=not over_bytes and _puts_space(facts, steps),
        template=_chat(folder, settings),
        notes=tuple(notes),
    )


def _flat(part: Any, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a part of tokenizer.json, a sequence of them taken apart."""
    found = part.get(inner) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    for step in found if isinstance(found, list) else []:
        if isinstance(step, dict):
            yield step


def _is_idle(step: Mapping[str, Any], facts: Facts) -> bool:
    """Whether a step splits at spaces, of which the normalizer leaves none (Gemma)."""
    normalizers = _flat(facts.values.get("normalizer"), "normalizers")
    return (step.get("type"), step.get("pattern")) == ("Split", {"String": " "}) and any(
        (one.get("type"), one.get("pattern"), one.get("content")) == ("Replace", {"String": " "}, SPACE)
        for one in normalizers
    )


def _ids(facts: Facts, model: Facts, rows: int) -> dict[str, int]:
    """The ids of all tokens by their texts, each within the rows of the embedding, and none twice."""
    ids = dict(model.inner("vocab").values)
    for token in _added(facts):
        ids[token["content"]] = token["id"]
    if not all(type(identity) is int and 0 <= identity < rows for identity in ids.values()):
        raise CorruptError(f"{facts.path}: has a token beyond the {rows} rows of the embedding; get both again")
    if len(set(ids.values())) != len(ids):
        raise CorruptError(f"{facts.path}: has two tokens of one number; get it again")
    if strange := next((text for text in ids if not is_text(text)), None):
        raise CorruptError(f"{facts.path}: token {quoted(strange)} is not a text in Unicode; get it again")
    if rows - len(ids) > MAX_PADDING:
        raise CorruptError(f"{facts.path}: has {len(ids)} tokens for the {rows} rows of the embedding; get both again")
    return ids


def _added(facts: Facts) -> list[dict[str, Any]]:
    added = facts.values.get("added_tokens") or []
    if not isinstance(added, list) or not all(
        isinstance(token, dict) and isinstance(token.get("content"), str) and "id" in token for token in added
    ):
        raise CorruptError(f"{facts.path}: its added_tokens are not a list of tokens; get it again")
    return added


def _pairs(facts: Facts, model: Facts) -> list[tuple[str, str]]:
    """The merges, in both ways that the library tokenizers writes them."""
    vocabulary, pairs = model.inner("vocab").values, []
    found = model.values.get("merges") or []
    for merge in found if isinstance(found, list) else [found]:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        match pair:
            case [str(left), str(right)] if left in vocabulary and right in vocabulary:
                pairs.append((left, right))
            case _:
                raise CorruptError(f"{facts.path}: {quoted(pair)} is not a pair of tokens to merge; get it again")
    return pairs


def _special(settings: Facts, config: Facts, ids: Mapping[str, int]) -> dict[str, int]:
    """Ids of the special tokens: by tokenizer_config.json, else by config.json."""
    special = {}
    for name in ("bos", "eos", "unk", "pad"):
        named, number = settings.values.get(f"{name}_token"), config.values.get(f"{name}_token_id")
        text = named.get("content") if isinstance(named, dict) else named
        first = number[0] if isinstance(number, list) and number else number
        if isinstance(text, str) and text in ids:
            special[name] = ids[text]
        elif type(first) is int and first in ids.values():
            special[name] = first
    if "eos" not in special:  # llama.cpp would take an ordinary token
        raise FormatError(f"{config.path}: has no eos_token_id, and {CONFIG} no eos_token; add one of them")
    return {"bos": special["eos"], **special}


def _template_ends(facts: Facts) -> tuple[str | None, str | None]:
    """The special tokens that a single text gets at its beginning and at its end."""
    for step in _flat(facts.values.get("post_processor"), "processors"):
        single = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            ends = [one.get("SpecialToken") if isinstance(one, dict) else None for one in (single[0], single[-1])]
            names = [end.get("id") if isinstance(end, dict) else None for end in ends]
            first, last = (name if isinstance(name, str) else None for name in names)
            return first, last
    return None, None


def _name(facts: Facts, steps: list[dict[str, Any]], whole_words: bool) -> tuple[str, list[str]]:
    """The name of the steps before BPE, and a note if llama.cpp has none for them."""
    known = tuple(map(_step, steps))
    if (name := NAMES.get((known, whole_words))) and not _changes_text(facts):
        return name, []
    return "default", [
        f"{facts.path}: llama.cpp has no name for its pre-tokenizer, so 'default' is written and tokens may differ"
    ]


def _step(step: Mapping[str, Any]) -> str | None:
    match step:
        case {"type": "ByteLevel"} if step.get("add_prefix_space") is False:
            return WORDS if step.get("use_regex", True) is True else BYTES
        case {"type": "Digits", "individual_digits": True}:
            return DIGITS
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated"}:
            return None if step.get("invert") else pattern
    return None


def _changes_text(facts: Facts) -> bool:
    """Whether there is a normalizer beyond NFC, which changes few texts, and which converters leave out."""
    return any(step.get("type") != "NFC" for step in _flat(facts.values.get("normalizer"), "normalizers"))


def _puts_space(facts: Facts, steps: list[dict[str, Any]]) -> bool:
    normalizers = _flat(facts.values.get("normalizer"), "normalizers")
    prepends = any(step.get("type") == "Prepend" and step.get("prepend") == SPACE for step in normalizers)
    return prepends or any(step.get("prepend_scheme", "always") != "never" for step in steps)


def _scores(
    facts: Facts, texts: list[str], types: list[int], pairs: list[tuple[str, str]], steps: list[dict[str, Any]]
) -> list[float]:
    """Scores with which llama.cpp merges in the order of the merges.

    It merges any two neighbours that are a token together, that of the highest score first. So a token scores by the
    first merge that makes it, and each way to make it must be a merge; SentencePiece's vocabularies are of that kind.
    """
    if any(step.get("type") != "Metaspace" or step.get("split", True) is not False for step in steps):
        raise FormatError(f"{facts.path}: splits texts in a way that llama.cpp does not; GGUF cannot be made of it")
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(pairs):
        ranks.setdefault(left + right, rank)
    normal = {text for text, kind in zip(texts, types, strict=True) if kind == NORMAL}
    ways = sum(text[:at] in normal and text[at:] in normal for text in normal for at in range(1, len(text)))
    if ways != sum(left in normal and right in normal and left + right in normal for left, right in set(pairs)):
        raise FormatError(
            f"{facts.path}: its merges are not those of a SentencePiece vocabulary; GGUF needs such a one"
        )
    return [
        -1.0 - ranks.get(text, len(pairs)) if kind == NORMAL else 0.0 for text, kind in zip(texts, types, strict=True)
    ]


def _chat(folder: Path, settings: Facts) -> str:
    path = folder / TEMPLATE
    if path.is_file() and path.stat().st_size <= MAX_BYTES:
        return path.read_text("utf-8", errors="replace")
    found = settings.values.get("chat_template")
    return found if isinstance(found, str) and is_text(found) else ""


def is_text(text: str) -> bool:
    """Whether it can be written in UTF-8, which half of a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
