"""Folders of transformers: a config.json, weights, and small files that belong to them, shrunk and expanded as one.

The weights of a shrunk folder are one file, `model.kolmo.safetensors` (docs/weights-format.md); its config.json names
kolmo as the way they are quantised, so that `kolmo.transformers` opens it. transformers alone look for
`model.safetensors` and say that it is not there; under that name they would take all weights for missing, and make
random ones.
Which other files come along: docs/shrink.md.
What it is not: it reads no weights, runs nothing of what it copies, and needs no transformers.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.targets import Attributes, Target, TargetFolder
from kolmo.weights.format.record import VERSION

CONFIG, METHOD, PLAIN = "config.json", "kolmo", "model.safetensors"
VARIANT = METHOD  # as transformers call the middle of such a name
WEIGHTS = f"model.{VARIANT}.safetensors"
FILES = (".safetensors", ".kolmo")  # outputs named so are files, not folders
TENSORS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".ot")
PICKLES = (".pkl", ".pickle", ".joblib")
INDEX = (".safetensors.index.json", ".bin.index.json")
LARGEST = 64 << 20  # bytes of a file that comes along
LARGEST_CONFIG = 16 << 20
MOST = 10_000  # files


def is_model(folder: str | Path) -> bool:
    """Whether it is a folder with a config.json."""
    return os.path.isfile(os.path.join(folder, CONFIG))


def makes_folder(source: object, target: str) -> bool:
    """Whether what is made of a source is a folder: of a model's folder, unless the target is named like a file."""
    return isinstance(source, str | Path) and is_model(source) and not target.endswith(FILES)


def weights_of(path: str | Path) -> Path:
    """The file with the shrunk weights: of a folder, the one in it.

    Raises:
        FormatError: the folder has none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / WEIGHTS).is_file():
        raise FormatError(f"{path}: has no {WEIGHTS}, so it is no folder that kolmo shrank; name the file")
    return path / WEIGHTS


@dataclass
class Companions:
    """What lies beside the weights, as paths within the folder.

    Attributes:
        taken: files that come along.
        left: files and folders that do not, though a person may miss them, each with the reason.
    """

    taken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def companions(folder: str | Path) -> Companions:
    """Sort a folder's files, but config.json.

    Raises:
        KolmoError: they are too many for a model's.
        OSError: it cannot be listed.
    """
    root = Path(folder)
    found, seen, waiting = Companions(), 0, [""]
    while waiting:
        inner = waiting.pop()
        for entry in sorted(os.scandir(root / inner), key=lambda entry: entry.name):
            name = os.path.join(inner, entry.name)
            seen += 1
            if seen > MOST:
                raise KolmoError(f"{root}: holds more than {MOST} files, as no model does; name its weights instead")
            if entry.name.startswith(".") or name == CONFIG:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif entry.name.endswith((*TENSORS, *INDEX)):
                if inner:
                    found.left.append(f"{name} (weights in a sub-folder)")
            elif reason := _refusal(root, root / name):
                found.left.append(f"{name} ({reason})")
            else:
                found.taken.append(name)
    return found


def _refusal(root: Path, path: Path) -> str | None:
    """Why a file does not come along, if it does not."""
    if path.is_symlink() and not _leads_within(root, path):
        return "a link out of the folder"
    try:
        status = path.stat()
    except OSError:
        return "a link to nothing"
    if not stat.S_ISREG(status.st_mode):
        return "no regular file"
    if path.name.endswith(PICKLES):
        return "a pickle"
    return f"larger than {LARGEST >> 20} MiB" if status.st_size > LARGEST else None


def _leads_within(root: Path, link: Path) -> bool:
    """Whether a link ends in the folder, or in the blobs of the hub's cache that the folder is a snapshot of."""
    target, folder = Path(os.path.realpath(link)), Path(os.path.realpath(root))
    blobs = folder.parent.parent / "blobs"
    return folder in target.parents or (folder.parent.name == "snapshots" and target.parent == blobs)


class ModelTarget:
    """A folder in the making: `file` becomes its weights, as with `kolmo.targets.Target`.

    Args:
        source: the folder whose companions come along.
        target: the folder to make.
        force: overwrite it.
        shrunk: whether its weights are.

    Raises:
        KolmoError: the source's config.json is none, or says that others quantised it; or the target is in the source.
        TargetExistsError: the target exists and `force` is not set.
    """

    def __init__(self, source: str | Path, target: str, force: bool, *, shrunk: bool) -> None:
        self._source = Path(source)
        inside = Path(os.path.realpath(target))
        if (here := Path(os.path.realpath(source))) in (inside, *inside.parents):
            raise KolmoError(f"{target}: is {here}, or lies in it; choose another folder")
        self._config = config_of(self._source)
        quantised = self._config.pop("quantization_config", {})
        if quantised.get("quant_method", METHOD) != METHOD:
            by = str(quantised["quant_method"])[:40]
            raise KolmoError(f"{source}: is quantised by {by} already; take the model that it was made of")
        if shrunk:
            self._config["quantization_config"] = {"quant_method": METHOD, "version": VERSION}
        self._folder = TargetFolder(target, force, is_model)
        self._weights = Target(os.path.join(self._folder.path, WEIGHTS if shrunk else PLAIN), False)
        self.file = self._weights.file

    @property
    def place(self) -> str:
        """Where the weights are until the folder has its name."""
        return self._weights.place

    def __enter__(self) -> ModelTarget:
        return self

    def __exit__(self, *error: object) -> None:
        self._weights.__exit__(*error)
        self._folder.__exit__(*error)

    def keep(self, attributes: Attributes) -> None:
        """The weights are complete: add the rest, and give the folder its name."""
        self._weights.keep(attributes)
        made = Path(self._folder.path)
        for name in companions(self._source).taken:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._source / name, made / name)
        (made / CONFIG).write_text(json.dumps(self._config, indent=2, ensure_ascii=False) + "\n", "utf-8")
        self._folder.keep()


def open_target(
    source: str | Path | Mapping[str, Any], target: str, force: bool, *, shrunk: bool
) -> Target | ModelTarget:
    """A `ModelTarget` where a folder is to be made, else a `Target`."""
    if makes_folder(source, target):
        assert isinstance(source, str | Path)
        return ModelTarget(source, target, force, shrunk=shrunk)
    return Target(target, force)


def config_of(folder: Path) -> dict[str, Any]:
    """What a config.json says.

    Raises:
        CorruptError: it is no JSON object, or of no sensible size.
        OSError: it cannot be read.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError("too long")
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict) or not isinstance(config.get("quantization_config", {}), dict):
            raise ValueError("no object, or quantization_config is none")
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: is no configuration ({error}); get it again") from None
    return config
