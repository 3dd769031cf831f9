"""The tokenizer of a server's model, read from a local folder, so that tokens are those of the model itself.

The rule "exact" is that of `vocabulary`. "default" and "plain" call transformers if it is installed, else `tokenizers`.

What it is not: it does not use the tokenizer of the server (`servers.server_tokens`).
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from kolmo.errors import MissingExtraError, PredictorError
from kolmo.evaluation.scorers.scorers import Tokenised
from kolmo.evaluation.scorers.token_scorers import tokenise_losslessly
from kolmo.evaluation.windows.modes import TokenRule
from kolmo.installing import install
from kolmo.predictors.language_models.pretrained import open_tokenizer
from kolmo.predictors.language_models.vocabulary import Vocabulary, load_tokenizer

TOKENIZER_FILES = [
    "tokenizer*",
    "*config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
]


class OwnTokens:
    """A tokenizer in a local folder.

    Args:
        folder: the folder of tokenizer.json and of the configurations that name the tokens for beginning and end of
            text.

    Attributes:
        vocabulary: the table of tokens.
        hash: hexadecimal hash of the vocabulary.
        start: the id of the start token.
        window: the context length in the configuration; None if it has none.

    Raises:
        PredictorError: the tokenizer cannot be opened, or names neither beginning nor end of text.
        MissingExtraError: the `tokenizers` library is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        config = _facts(folder / "config.json")
        text = config.get("text_config")
        config = {**config, **text} if isinstance(text, dict) else config
        known = 1 + max(self._tokenizer.get_vocab().values(), default=0)
        size = config.get("vocab_size")
        self.vocabulary = Vocabulary(self._tokenizer, min(known, size) if isinstance(size, int) else known)
        self.hash = self.vocabulary.table_hash.hex()
        self._full = _of_transformers(folder)
        self.start = self._start(folder, config)
        window = config.get("max_position_embeddings")
        self.window = window if isinstance(window, int) and window > 0 else None

    def _start(self, folder: Path, config: dict[str, Any]) -> int:
        """The start token, found as in `predictors.language_models.torch_models`, so that both give the same costs."""
        names = ("bos_token", "eos_token", "pad_token")
        spelt = {name: word_of(_facts(folder / "tokenizer_config.json").get(name)) for name in names}
        own = {f"{name}_id": self._tokenizer.token_to_id(word) for name, word in spelt.items() if word}
        if self._full is not None:
            own = {f"{name}_id": getattr(self._full, f"{name}_id", None) for name in names}
        for facts in (own, _facts(folder / "generation_config.json"), config):
            for name in names:
                found = facts.get(f"{name}_id")
                if isinstance(found, int) and 0 <= found < self.vocabulary.size:
                    return found
        raise PredictorError(
            f"{folder}: names neither beginning nor end of text; put the model's tokenizer_config.json and config.json "
            "there"
        )

    def encode(self, text: str, how: TokenRule) -> Tokenised:
        """Tokenise one text (see `Scorer.tokenise`)."""
        if how == "exact":
            return tokenise_losslessly(self.vocabulary, text.encode())
        special = how == "default"
        if self._full is not None:
            found = self._full(text, add_special_tokens=special, return_offsets_mapping=True, verbose=False)
            ids, offsets = found["input_ids"], found["offset_mapping"]
        else:
            encoding = self._tokenizer.encode(text, add_special_tokens=special)
            ids, offsets = encoding.ids, encoding.offsets
        ends = np.maximum.accumulate(np.array([0, *(end for _, end in offsets)]))
        sizes = np.cumsum([0, *(len(character.encode()) for character in text)])
        return Tokenised(np.array(ids, np.int32), np.diff(sizes[ends]).astype(np.int32))


def find_folder(spec: str, cache_dir: str | None) -> Path:
    """The folder of a tokenizer; an id of the hub is downloaded.

    Raises:
        PredictorError: the tokenizer does not exist, or cannot be downloaded.
        MissingExtraError: an id is given, and `huggingface_hub`, which comes with `tokenizers`, is not installed.
    """
    path = Path(spec)
    if path.is_dir():
        return path
    if path.name == "tokenizer.json" and path.is_file():
        return path.parent
    name, _, revision = spec.partition("@")
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise PredictorError(f"{spec}: no such folder; give a tokenizer's folder, or an id like openai-community/gpt2")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError(f"a model's tokenizer needs tokenizers ({error}); {install('hf')}") from None
    try:
        return Path(
            snapshot_download(name, revision=revision or None, allow_patterns=TOKENIZER_FILES, cache_dir=cache_dir)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PredictorError(f"{spec}: cannot be downloaded ({reason}); give the tokenizer's folder") from None


def _of_transformers(folder: Path) -> Any:
    """The tokenizer of transformers; None if that is not installed, or the folder has no fast tokenizer for it."""
    if not (folder / "tokenizer_config.json").is_file():
        return None
    if importlib.util.find_spec("transformers") is None:
        return None
    found = open_tokenizer(folder)
    return found if getattr(found, "is_fast", False) else None


def _facts(path: Path) -> dict[str, Any]:
    """The content of a configuration file; empty if the file does not exist."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise PredictorError(f"{path}: cannot be read as JSON; get the file again") from None
    return found if isinstance(found, dict) else {}


def word_of(found: Any) -> str:
    """The text of a special token in a configuration; empty if there is none."""
    word = found.get("content") if isinstance(found, dict) else found
    return word if isinstance(word, str) else ""
