"""Folders of transformers, shrunk and expanded as a whole: a config.json, weights, and small files beside them.

The weights of a shrunk folder are one file, `model.kolmo.safetensors` (docs/weights-format.md). Its config.json names
kolmo as the quantisation method, so that `kolmo.transformers` opens it. Without that plug-in transformers look for
`model.safetensors` and report that it is missing; under that name they would read only the raw tensors, and initialise
the others at random. docs/shrink.md lists the other files that are copied. What it is not: a reader of weights, or a
user of transformers; it runs nothing of what it copies.
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
VARIANT = METHOD  # transformers call the middle part of such a name the variant
WEIGHTS = f"model.{VARIANT}.safetensors"
QUANTISATION = {"quant_method": METHOD, "version": VERSION}  # in the config.json of a shrunk folder
FILES = (".safetensors", ".kolmo")  # names of outputs that are files, not folders
TENSORS = (
    ".safetensors",
    ".kolmo",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".gguf",
    ".ot",
)
PICKLES = (".pkl", ".pickle", ".joblib")
INDEX = (".safetensors.index.json", ".bin.index.json")
MAX_COPIED_BYTES = 64 << 20  # size of a file up to which it is copied
MAX_CONFIG_BYTES = 16 << 20
MAX_FILES = 10_000


def is_model(folder: str | Path) -> bool:
    """Whether a path is a folder with a config.json."""
    return os.path.isfile(os.path.join(folder, CONFIG))


def makes_folder(source: object, target: str) -> bool:
    """Whether the target is a folder: the source is the folder of a model, and the target is not named like a file."""
    return isinstance(source, str | Path) and is_model(source) and not target.endswith(FILES)


def weights_of(path: str | Path) -> Path:
    """The file with the shrunk weights; of a folder, the one in it.

    Raises:
        FormatError: the folder has no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    if not (path / WEIGHTS).is_file():
        raise FormatError(f"{path}: has no {WEIGHTS}, so it is not a folder that kolmo shrank; name the file")
    return path / WEIGHTS


@dataclass
class Companions:
    """The files beside the weights, as paths within the folder.

    Attributes:
        taken: files that are copied.
        left: files and folders that are not copied though they may be missed, each with the reason.
    """

    taken: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def companions(folder: str | Path) -> Companions:
    """Decide which files of a folder are copied; config.json is left out.

    Raises:
        KolmoError: there are more files than a model has.
        OSError: the folder cannot be listed.
    """
    root = Path(folder)
    found, seen, waiting = Companions(), 0, [""]
    while waiting:
        inner = waiting.pop()
        for entry in sorted(os.scandir(root / inner), key=lambda entry: entry.name):
            name = os.path.join(inner, entry.name)
            seen += 1
            if seen > MAX_FILES:
                raise KolmoError(f"{root}: holds more than {MAX_FILES} files, unlike a model; name its weights instead")
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
    """The reason why a file is not copied; None if it is."""
    if path.is_symlink() and not _leads_within(root, path):
        return "a link out of the folder"
    try:
        status = path.stat()
    except OSError:
        return "a link to nothing"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if path.name.endswith(PICKLES):
        return "a pickle"
    return f"larger than {MAX_COPIED_BYTES >> 20} MiB" if status.st_size > MAX_COPIED_BYTES else None


def _leads_within(root: Path, link: Path) -> bool:
    """Whether a link leads into the folder, or to the blobs of the hub cache of which the folder is a snapshot."""
    target, folder = Path(os.path.realpath(link)), Path(os.path.realpath(root))
    blobs = folder.parent.parent / "blobs"
    return folder in target.parents or (folder.parent.name == "snapshots" and target.parent == blobs)


class ModelTarget:
    """A folder in the making; what is written to `file` becomes its weights, as with `kolmo.targets.Target`.

    Args:
        source: the folder whose companions are copied.
        target: the folder to make.
        force: overwrite it.
        name: of the file of the weights.
        quantisation: the `quantization_config` of its config.json; None for none.

    Raises:
        KolmoError: the config.json of the source is malformed or names another quantisation method, or the target lies
            in the source.
        TargetExistsError: the target exists and `force` is not set.
    """

    def __init__(
        self,
        source: str | Path,
        target: str,
        force: bool,
        *,
        name: str = PLAIN,
        quantisation: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = Path(source)
        inside = Path(os.path.realpath(target))
        if (here := Path(os.path.realpath(source))) in (inside, *inside.parents):
            raise KolmoError(f"{target}: is {here}, or lies in it; choose another folder")
        self._config = config_of(self._source)
        quantised = self._config.pop("quantization_config", {})
        if quantised.get("quant_method", METHOD) != METHOD:
            by = str(quantised["quant_method"])[:40]
            raise KolmoError(f"{source}: is quantised by {by} already; take the model that it was made from")
        if quantisation is not None:
            self._config["quantization_config"] = quantisation
        self._folder = TargetFolder(target, force, is_model)
        self._weights = Target(os.path.join(self._folder.path, name), False)
        self.file = self._weights.file

    @property
    def place(self) -> str:
        """The path of the weights until the folder has its name."""
        return self._weights.place

    def __enter__(self) -> ModelTarget:
        return self

    def __exit__(self, *error: object) -> None:
        self._weights.__exit__(*error)
        self._folder.__exit__(*error)

    def keep(self, attributes: Attributes) -> None:
        """Finish the weights, add the other files, and give the folder its name."""
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
    """A `ModelTarget` if the target is a folder, else a `Target`."""
    if makes_folder(source, target):
        assert isinstance(source, str | Path)
        if shrunk:
            return ModelTarget(source, target, force, name=WEIGHTS, quantisation=QUANTISATION)
        return ModelTarget(source, target, force)
    return Target(target, force)


def config_of(folder: Path) -> dict[str, Any]:
    """The content of a config.json; a `quantization_config` that is null is left out, since transformers take it so.

    Raises:
        CorruptError: the file is not a JSON object, or is too large.
        OSError: the file cannot be read.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("too long")
        config = json.loads(path.read_bytes())
        if isinstance(config, dict) and config.get("quantization_config") is None:
            config.pop("quantization_config", None)
        if not isinstance(config, dict) or not isinstance(config.get("quantization_config", {}), dict):
            raise ValueError("it, or its quantization_config, is not an object")
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path}: is not a configuration ({error}); get it again") from None
    return config
