"""The location of a model of transformers: a folder, or an id of the hub, fetched or in the cache here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kolmo.errors import PredictorError
from kolmo.foreign import short
from kolmo.predictors.guard import reason
from kolmo.predictors.language_models.pretrained import need

FILES = ["*.json", "*.safetensors", "*.model", "merges.txt", "vocab.txt"]
HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)  # NAME or ORG/NAME
COMMIT = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)  # a commit of the hub, as files record it


def find(spec: str, *, download: bool, cache_dir: str | None = None) -> tuple[Path, str]:
    """(folder, revision) of a spec that the user gave; the revision of a folder is empty.

    Args:
        spec: folder or id.
        download: whether the network may be used.
        cache_dir: folder of the hub's cache, if not the default one.

    Raises:
        PredictorError: there is no such model.
    """
    if os.path.isdir(spec):
        return Path(spec), ""
    name, _, revision = spec.partition("@")
    if not HUB_ID.fullmatch(name):
        raise PredictorError(
            f"hf:{short(spec)}: no such folder; give a model's folder, or an id like openai-community/gpt2"
        )
    folder = fetch(name, revision, download=download, cache_dir=cache_dir)
    return folder, folder.name


def fetch(name: str, revision: str, *, download: bool, cache_dir: str | None = None) -> Path:
    """The folder of a model of the hub, in the cache here.

    Args:
        name: id, as `HUB_ID` matches it.
        revision: commit, branch or tag; empty for the newest.
        download: whether the network may be used.
        cache_dir: folder of the hub's cache, if not the default one.

    Raises:
        PredictorError: there is no such model.
    """
    need("transformers")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=FILES,
                local_files_only=not download,
                cache_dir=cache_dir,
            )
        )
    except Exception as error:  # from the hub's client, HTTP or the file system
        spec, command = f"hf:{name}", f"hf download {name}"
        if revision:
            spec, command = f"{spec}@{short(revision)}", f"{command} --revision {short(revision)}"
        why = "is not on this machine" if not download else f"cannot be fetched ({reason(error)})"
        raise PredictorError(f"{spec} {why}; run `{command}` where there is a network, or give its folder") from None
