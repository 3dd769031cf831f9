"""Which files of a folder are the corpus: texts, or shards by configuration and split, as data sets of the hub lie.

The rules, in this order (`select`):

1. README.md begins with YAML that has `configs`: they name the files of each configuration and split.
2. Else a configuration is a folder of that name (CONFIG/ or data/CONFIG/), or the data files CONFIG.* and CONFIG-*.
3. A split is a word in a data file's name, or else in the innermost of its folders that has one. Where every file has
   one and nobody asks, the first of test, validation, train that there is; where one has none, all files.
4. Files are data where nothing but papers lies beside them (README, LICENSE, *.json, *.md ...); else all are texts.

What it is not: the whole of the hub's rules. It downloads nothing, and paths lead nowhere but into the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from kolmo.corpus.documents import DEFAULT_COLUMNS, Columns
from kolmo.corpus.extras import extra
from kolmo.corpus.files import opened
from kolmo.corpus.folders import Shards, Texts, is_data
from kolmo.errors import KolmoError

SPLITS = ("test", "validation", "train")  # the default is the first that there is
WORDS = {
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("train", "training"), "train"),
}
PAPERS = re.compile(  # may lie beside data
    r"(.*/)?((readme|licen[cs]e|notice|citation|copying|authors|sha256sums)(\.[^/]*)?|[^/]*\.(json|ya?ml|toml|lock|log))",
    re.DOTALL | re.IGNORECASE,
)
NOTES = re.compile(r".*\.md", re.DOTALL | re.IGNORECASE)  # may too, and are mentioned
HEADER = 1 << 20  # bytes of a README in which its YAML must end
DEEPEST = 20  # lists and mappings within each other, in that YAML
MAX_LISTED_NAMES = 10  # names that a message lists


def select(
    folder: str,
    files: Sequence[str],
    config: str | None,
    split: str | None,
    columns: Columns = DEFAULT_COLUMNS,
) -> Shards | Texts:
    """The files that a corpus consists of.

    Args:
        folder: where they are.
        files: all under it: relative paths, sorted.
        config: asked for, or None.
        split: asked for, or None.
        columns: of data, to take other than the default ones.

    Raises:
        KolmoError: there is no such configuration or split, several configurations and none is asked for, or texts and
            a column is asked for.
        MissingExtraError: the README needs a YAML reader.
    """
    if not files:
        raise KolmoError(f"{folder}: holds no files; name a file, or a folder of texts or data")
    if configs := _described(folder) if "README.md" in files else {}:
        return Shards(folder, tuple(_described_files(folder, files, configs, config, split)), columns=columns)
    root = ""
    if config is not None:
        root, files = _within(folder, files, config)
    data = [file for file in files if is_data(file)]
    others = [file for file in files if not is_data(file)]
    texts = [file for file in others if not PAPERS.fullmatch(file)]
    if data and all(NOTES.fullmatch(file) for file in texts):
        splits = {file: _split_of(file[len(root) :]) for file in data}
        return Shards(folder, tuple(_of_split(folder, splits, split)), tuple(texts), columns)
    if split is not None:
        raise KolmoError(f"{folder}: holds texts, which have no splits; leave out @{split}")
    if columns.named:
        raise KolmoError(f"{folder}: holds texts, which have no columns; ask for none, or name a file of data in it")
    if {"state.json", "dataset_dict.json"} & set(files) and any(file.endswith(".arrow") for file in files):
        raise KolmoError(f"{folder}: was written by save_to_disk, which is not read here; use to_parquet or to_json")
    return Texts(folder, tuple(files))


def choose_split(splits: Iterable[str], split: str | None, place: str) -> str:
    """The split that is asked for, or the default: the first of `SPLITS`, or the only one.

    Raises:
        KolmoError: there is none such; the message begins with `place`.
    """
    names = list(dict.fromkeys(splits))
    if split is None:
        wanted = [name for name in SPLITS if name in names] or (names if len(names) == 1 else [])
    else:
        wanted = [name for name in names if name == split]
    if not wanted:
        asked = "none of the usual splits" if split is None else f"no split {split}"
        remedy = f"give one with @SPLIT: {_list(names)}" if names else "leave it out, as no file names one"
        raise KolmoError(f"{place}: has {asked}; {remedy}")
    return wanted[0]


def _described(folder: str) -> dict[str, dict[str, Any]]:
    """The configurations in a README's YAML, by name; none where it has none."""
    path = os.path.join(folder, "README.md")
    with opened(path) as file:
        head = file.read(HEADER)
    match = re.match(rb"\s*---[ \t]*\r?\n(.*?\n)---[ \t]*(\r?\n|$)", head, re.DOTALL)
    if not match or b"configs" not in match[1]:
        return {}
    header = _parse(match[1], path)
    configs = header.get("configs") if isinstance(header, dict) else None
    found = {}
    for config in configs if isinstance(configs, list) else ():
        if isinstance(config, dict):
            found[str(config.get("config_name", "default"))] = config
    return found


def _parse(text: bytes, path: str) -> Any:
    """YAML whose scalars all are texts (its numbers and times can take minutes); without aliases, which multiply."""
    yaml = extra("yaml", path)
    loader, depth = getattr(yaml, "CBaseLoader", yaml.BaseLoader), 0
    try:
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                raise ValueError("aliases, or too deep")
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise KolmoError(f"{path}: its YAML cannot be read ({reason}); mend or remove it") from None


def _described_files(
    folder: str, files: Sequence[str], configs: dict[str, dict[str, Any]], config: str | None, split: str | None
) -> list[str]:
    if config is None:
        marked = [name for name, entry in configs.items() if str(entry.get("default")).lower() == "true"]
        defaults = marked or [name for name in configs if name == "default"]
        config = defaults[0] if defaults else next(iter(configs)) if len(configs) == 1 else None
    if config not in configs:
        reason = "has several configurations" if config is None else f"has no configuration {config}"
        raise KolmoError(f"{folder}: {reason}; give one as FOLDER:CONFIG: {_list(configs)}")
    base = str(configs[config].get("data_dir") or "")
    splits: dict[str, list[str]] = {}
    for name, pattern in _patterns(configs[config].get("data_files")):
        splits.setdefault(name, []).append(f"{base}/{pattern}" if base else pattern)
    if not splits:
        data = [file for file in files if is_data(file) and (not base or file.startswith(f"{_tidy(base)}/"))]
        return _of_split(folder, {file: _split_of(file) for file in data}, split)
    place = f"{folder}:{config}"
    chosen = dict[str, None]()
    for pattern in splits[choose_split(splits, split, place)]:
        wanted = _tidy(pattern).split("/")
        matches = [file for file in files if _matches(file.split("/"), wanted)]
        if not matches:
            raise KolmoError(f"{place}: README.md names {pattern}, which is not in the folder; download it too")
        chosen.update(dict.fromkeys(matches))
    for file in chosen:
        if not (is_data(file) or file.lower().endswith(".json")):
            raise KolmoError(
                f"{place}: {file} is neither JSONL nor Parquet; convert it, or load the data set by its name"
            )
    return list(chosen)


def _patterns(data_files: Any) -> Iterator[tuple[str, str]]:
    """Split and pattern, from any of the shapes that the hub allows: text, list, list of entries, mapping."""
    if isinstance(data_files, str):
        yield from [("train", data_files)] if data_files else []
    elif isinstance(data_files, dict):
        for split, paths in data_files.items():
            for path in paths if isinstance(paths, list) else [paths]:
                yield str(split), str(path)
    elif isinstance(data_files, list):
        for entry in data_files:
            if isinstance(entry, dict):
                yield from _patterns({entry.get("split", "train"): entry.get("path", [])})
            else:
                yield "train", str(entry)


def _tidy(pattern: str) -> str:
    """Without "./"; what leads out of the folder ("..", "/") matches no file of a listing."""
    return "/".join(part for part in pattern.split("/") if part != ".")


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a path matches a pattern: ** is any number of folders. Row by row, so no pattern takes long."""
    reached = [True] + [False] * len(parts)  # how many parts the pattern so far can have eaten
    for pattern in wanted:
        if pattern == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [i >= first for i in range(len(reached))]
        else:
            fits = [fnmatchcase(part, pattern) for part in parts]
            reached = [False] + [reached[i] and fits[i] for i in range(len(parts))]
    return reached[-1]


def _within(folder: str, files: Sequence[str], config: str) -> tuple[str, list[str]]:
    """A configuration's root and files, where no README describes it."""
    for root in (f"{config}/", f"data/{config}/"):
        if inner := [file for file in files if file.startswith(root)]:
            return root, inner
    named = []
    for file in files:
        stem = file.removeprefix("data/")
        if is_data(file) and "/" not in stem and re.match(re.escape(config) + r"[.-]", stem):
            named.append(file)
    if not named:
        raise KolmoError(f"{folder}: has no configuration {config}: no README.md, folder or data file names it")
    return "", named


def _split_of(file: str) -> str:
    """The split that a path names, or ""."""
    for part in reversed(file.split("/")):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in WORDS:
                return WORDS[word]
    return ""


def _of_split(folder: str, splits: dict[str, str], split: str | None) -> list[str]:
    """The files of a split, from files and the splits that they name."""
    if split is None and not all(splits.values()):
        return list(splits)
    chosen = choose_split(filter(None, splits.values()), split and WORDS.get(split, split), folder)
    return [file for file, name in splits.items() if name == chosen]


def _list(names: Iterable[str]) -> str:
    all_names = list(names)
    return ", ".join(all_names[:MAX_LISTED_NAMES] + ["..."] * (len(all_names) > MAX_LISTED_NAMES))
