"""The model that is exported: the tensors of its folder, shrunk or plain, and what became of them.

What it is not: a writer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kolmo.errors import FormatError, KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Progress
from kolmo.safetensors import Kind
from kolmo.weights.export.facts import Facts
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.table import names_in
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.folder import CONFIG, METHOD, WEIGHTS, config_of, is_model


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        size: of the weights' file, in bytes.
        notes: sentences about what the other program does differently.
        error: squared error of the type alone, relative to the squares of the weights that have it; None if it was not
            measured.
    """

    size: int
    notes: tuple[str, ...] = ()
    error: float | None = None


@dataclass(frozen=True)
class Source:
    """The tensors of a folder, shrunk or plain.

    Attributes:
        name: of the weights, for messages.
        config: the model's config.json.
        kinds: dtypes and shapes by name.
        tied: names of tensors that are stored as another one.
        stored: number of bytes that they take in the folder.
        is_slow: whether they are decoded by a trellis, which takes long without the C kernels.
        read: the bytes of tensors, in the order of the names; calls what it is given with the bytes done.
        steps: distances between the levels of tensors, by name, where that is known.
    """

    name: str
    config: Facts
    kinds: dict[str, Kind]
    tied: frozenset[str]
    stored: int
    is_slow: bool
    read: Callable[[list[str], Progress | None], Iterator[tuple[str, bytes]]]
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of bytes of all tensors."""
        return sum(kind.size for kind in self.kinds.values())


def open_source(folder: str | Path, *, base: bool = False, threads: int = 0) -> Source:
    """The tensors of a folder.

    Args:
        folder: with a config.json, and weights that `kolmo.shrink` or transformers wrote.
        base: as for `kolmo.load`.
        threads: number of threads that decode; 0 is one for each core.

    Raises:
        FormatError: it is not such a folder.
        KolmoError: `base` is set and the weights are not shrunk without a loss; or another program quantised them.
        CorruptError: the weights or the config.json are damaged.
    """
    path = Path(folder)
    if not is_model(path):
        raise FormatError(f"{folder}: is not a folder with a {CONFIG}; name the model's folder")
    config = Facts(path / CONFIG, config_of(path))
    if (by := config.inner("quantization_config").values.get("quant_method", METHOD)) != METHOD:
        raise KolmoError(f"{folder}: is quantised by {quoted(by)} already; take the model that it was made from")
    if not (path / WEIGHTS).is_file():
        if base:
            raise KolmoError(f"{folder}: has no residuals, so it has no bases; read it without `base`")
        plain = open_checkpoint(path)

        def read(names: list[str], progress: Progress | None) -> Iterator[tuple[str, bytes]]:
            for name in names:
                data = plain.tensors[name].read()
                if progress:
                    progress(len(data))
                yield name, data

        return Source(plain.name, config, dict(plain.tensors), frozenset(), plain.size, False, read)
    file = ShrunkFile(path)
    if base and not any(one.base for one in file.record.coded.values()):
        raise KolmoError(f"{folder}: has no residuals, so it has no bases; read it without `base`")
    aliases = file.record.aliases
    steps = {}
    for name in file.names:
        one = file.record.coded.get(aliases.get(name, name))
        function = file.record.function_of(one) if one else None
        if function and "step" in function.parameters:
            steps[name] = float(function.parameters["step"])
    return Source(
        str(file.path),
        config,
        {name: file.kind(name) for name in file.names},
        frozenset(aliases) | frozenset(aliases.values()),
        os.path.getsize(file.path),
        "trellis" in names_in(file.record.hyperfunctions),
        lambda names, progress: file.read_all(names, threads, progress, base=base),
        steps,
    )
