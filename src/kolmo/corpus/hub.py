"""Data sets of the Hugging Face hub, through the `datasets` library.

No code of theirs runs. A whole data set is downloaded once, into the library's cache, and later needs no network; with
a limit, and where it is not there yet, only what is read travels. What it is not: exact in the meta. The library infers
types, so that a day may come out as a time of that day, and fields that a record lacks as None. Content is exact.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kolmo.corpus.documents import DEFAULT_COLUMNS, Columns, Document, document_of, no_column, plain
from kolmo.corpus.extras import extra
from kolmo.corpus.layouts import SPLITS, choose_split
from kolmo.errors import KolmoError

REPOSITORY = "hkust-nlp/llm-compression"  # of the paper "Compression Represents Intelligence Linearly"
NAMES = ("cc", "python", "arxiv_math")  # its configurations
FIELDS = ("content", "text", "subset", "meta")
REVISION = re.compile(r"[0-9a-f]{40}")
UNREACHABLE = ("httpx", "httpcore", "requests", "urllib3", "aiohttp")  # whose errors are the network's


@dataclass(frozen=True)
class Rows:
    """The rows of a split, named "row N" from 0.

    Attributes:
        builder: the library's, for one configuration.
        split: which one.
        place: the spec, for errors.
        streaming: read no more than is asked for, and keep none of it.
        columns: to take other than the default ones.
    """

    builder: Any
    split: str
    place: str
    streaming: bool
    columns: Columns = DEFAULT_COLUMNS

    def __iter__(self) -> Iterator[Document]:
        with told(self.place):
            with quiet():
                rows = self._load()
            for number, row in enumerate(rows):
                texts = ("content", "text", self.columns.text)
                record = {key: value if key in texts else plain(value) for key, value in row.items()}
                yield document_of(record, f"row {number}", f"{self.place}, row {number}", self.columns)

    def _load(self) -> Any:
        if self.streaming and not os.path.isdir(self.builder.cache_dir):
            rows = self.builder.as_streaming_dataset(split=self.split)
        else:
            self.builder.download_and_prepare()
            rows = self.builder.as_dataset(split=self.split)
        features = rows.features or {}  # unknown before the first row of some streams
        asked = self.columns.named
        if features and (missing := [column for column in asked if column not in features]):
            raise KolmoError(no_column(self.place, missing[0], features))
        kept = [
            key
            for key, kind in features.items()
            if key in FIELDS or key in asked or type(kind).__name__ in ("Value", "ClassLabel")
        ]
        return rows.select_columns(kept) if kept else rows  # without images and the like, which would be decoded


def open_rows(
    repository: str,
    config: str | None,
    split: str | None,
    *,
    place: str,
    cache_dir: str | None,
    columns: Columns = DEFAULT_COLUMNS,
    streaming: bool,
) -> tuple[Rows, str]:
    """The rows of a data set, and its revision where the hub names one.

    Args:
        repository: as ORG/NAME.
        config: its configuration; it may have a default.
        split: by default the first of `SPLITS` that it has.
        place: the spec, for errors.
        cache_dir: of the library; by default its own.
        columns: see `Rows`.
        streaming: see `Rows`.

    Raises:
        KolmoError: there is no such data set, configuration or split, or no network.
        MissingExtraError: datasets is not installed.
    """
    datasets = extra("datasets", place)
    with told(place), quiet():
        builder = datasets.load_dataset_builder(repository, config, cache_dir=cache_dir)
    names = [str(name) for name in builder.info.splits or builder.config.data_files or ()]
    chosen = choose_split(names or [split or SPLITS[0]], split, place)
    revision = str(builder.hash or "")
    return Rows(builder, chosen, place, streaming, columns), revision if REVISION.fullmatch(revision) else ""


@contextmanager
def told(place: str) -> Iterator[None]:
    """Turn what the library raises, which may be anything, into one line."""
    try:
        yield
    except (KolmoError, MemoryError):
        raise
    except Exception as error:
        raise KolmoError(f"{place}: {_reason(error)}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and the log of the library and of the hub's client."""
    bars = [extra("datasets.utils", ""), extra("huggingface_hub.utils", "")]
    shown = [module for module in bars if not module.are_progress_bars_disabled()]
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for module in shown:
        module.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for module in shown:
            module.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """What is wrong, and what to do about it."""
    text = " ".join(str(error).split())[:300]
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if "DatasetNotFoundError" in kinds:
        return (
            "no such file or folder, and no such data set on the hub, or a private one; "
            "check the name, or log in (hf auth login)"
        )
    library = type(error).__module__.split(".")[0]
    if "ConnectionError" in kinds or "OfflineModeIsEnabled" in kinds or library in UNREACHABLE:
        return (
            "no such file or folder, and the hub cannot be reached; download the data set where there is a network "
            "(hf download --repo-type dataset ORG/NAME --local-dir FOLDER), and name it as FOLDER:CONFIG"
        )
    return f"cannot be loaded ({text}); a data set of the hub is ORG/NAME:CONFIG@SPLIT"
