"""`network:PATH`: a network that `kolmo train` made, in place of the shipped one; otherwise like `neural`.

PATH is a run's folder, or its network.safetensors; `network:PATH:7` is level 7, which chooses the mixer: 1 to 9, and by
default one whose time is in proportion to the network's (`default_level`). A file records the level, the first bytes of
the network's fingerprint, and a short name; no path. A reader needs the same network: it is found by its fingerprint
among those that were opened here (`predictors.model_locations`), or in `RunSettings.model`.

What it is not: the network's file (`predictors.embedded.network`), and its training (`kolmo.training`).
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path

from kolmo.errors import PredictorError
from kolmo.foreign import quoted, short
from kolmo.native.dispatch import kernels
from kolmo.predictors.base import unknown_version
from kolmo.predictors.embedded.context_mixing import Shape, inflated_prior, prior, prior_of
from kolmo.predictors.embedded.network import NetworkShape, Weights
from kolmo.predictors.embedded.network_file import load
from kolmo.predictors.embedded.neural import Neural, fingerprint_of
from kolmo.predictors.embedded.neural_levels import LEVELS, SMALL_LEVELS
from kolmo.predictors.model_locations import recall, remember
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings

PRODUCT = "network.safetensors"  # in a run's folder
MARK_BYTES = 4  # bytes of the network's fingerprint that a file records, in addition to the predictor's fingerprint
MAX_NAME_BYTES = 32  # length of the name that a file records
MAX_CACHED_NETWORKS = 2  # networks that stay in memory without a user
MIN_SCRATCH_ROWS = 64  # rows of a network's scratch memory (native/network/network.h: NETWORK_BATCH)
MAX_TEAM_THREADS = 16  # threads that share a step (native/network/team.h: KOLMO_TEAM)
# With a network of at most this many products for each byte (tiny has 491,520, small 1,114,112), the mixer of level 5
# would take most of the time: the default is then level 3.
MAX_SMALL_PRODUCTS = 1 << 20


class OwnNetwork:
    """A network from a file, with its priors, or the shipped priors where it has none."""

    def __init__(self, weights: Weights, path: str) -> None:
        self.weights, self.path = weights, path
        self._kernel: kernels.Network | None = None
        self._priors: dict[str, bytes] = {}

    @property
    def fingerprint(self) -> bytes:
        """Fingerprint of the network and its priors."""
        return self.weights.fingerprint

    @property
    def products(self) -> int:
        """Products of a weight and an input for each byte."""
        return self.weights.shape.products

    @property
    def memory(self) -> int:
        """Bytes of memory of the network: as read from the file, as a kernel, and a model's scratch memory."""
        shape = self.weights.shape
        scratch = MIN_SCRATCH_ROWS * (
            4 * (shape.width + 4 * shape.state + 1024) + MAX_TEAM_THREADS * max(shape.width, shape.state)
        )
        return 3 * len(self.weights.weights) + len(self.weights.priors) + scratch

    @property
    def lane_memory(self) -> int:
        """Bytes of the states of a lane, and of a copy of them."""
        return 8 * self.weights.shape.layers * self.weights.shape.state

    def kernel(self) -> kernels.Network:
        """The kernel of the network."""
        if self._kernel is None:  # two threads may both make one; either is good
            self._kernel = kernels.Network(self.weights.config, self.weights.weights)
        return self._kernel

    def prior(self, shape: Shape) -> bytes:
        """The prior of a mixer with this shape."""
        if not self.weights.priors:
            return prior(shape)
        if shape.name not in self._priors:
            self._priors[shape.name] = prior_of(shape, self.inflated_prior(shape))
        return self._priors[shape.name]

    def inflated_prior(self, shape: Shape) -> bytes:
        """The same prior as it is stored."""
        return self.weights.prior(shape.name.removeprefix("neural-")) or inflated_prior(shape)


class Network(Neural):
    """The predictor `network` at a level from 1 (fast) to 9 (small).

    Example:
        >>> network = Network.from_spec("runs/notes", level=7)        # doctest: +SKIP
        >>> packed = kolmo.compress(data, predictor=network)          # doctest: +SKIP
    """

    name = "network"
    version = 2
    options = ("level",)
    uses_settings = True
    levels = SMALL_LEVELS | LEVELS

    def __init__(self, source: OwnNetwork, level: int = 5, label: str = "") -> None:
        super().__init__(level)
        self.source: OwnNetwork = source
        self.label = label  # the name that files record
        self._fingerprint = fingerprint_of(self.levels, level, source)

    @classmethod
    def no_level(cls, given: str) -> PredictorError:
        """The error for a level that there is not."""
        return PredictorError(f"network has levels 1 to 9, not {given}; use network:PATH:1 to network:PATH:9")

    @classmethod
    def from_spec(cls, argument: str, *, level: int | None = None, settings: RunSettings = DEFAULT_SETTINGS) -> Network:
        """From the part of a spec behind `network:`, a path, and a level after a colon.

        Args:
            argument: the path of a run's folder or of a network's file, and `:LEVEL` or nothing.
            level: the level; by default that of `argument`, or else `default_level` of the network.
            settings: not used here; `restore` uses them.

        Raises:
            PredictorError: the path does not hold a network, or there is no such level.
        """
        path = argument
        head, colon, tail = argument.rpartition(":")
        if colon and tail.isascii() and tail.isdigit() and not os.path.lexists(argument):
            path = head
            if level is not None and level != int(tail):
                raise PredictorError(f"network:{argument} and level {level} exclude each other; give one of them")
            level = int(tail)
        if level is not None and level not in cls.levels:
            raise cls.no_level(str(level))
        if not path:
            raise PredictorError("network: names no file; give a run's folder, as network:runs/notes")
        source = open_network(path)
        level = default_level(source.weights.shape) if level is None else level
        return cls(source, level, _label(Path(source.path)))

    @classmethod
    def restore(cls, version: int, parameters: bytes, settings: RunSettings = DEFAULT_SETTINGS) -> Network:
        """From what a file recorded: finds the network here, and compares its fingerprint.

        Raises:
            PredictorError: the network is not here, or is another one; the message names both.
        """
        if version != cls.version:
            raise unknown_version(cls.name, version, cls.version)
        level, mark, label = parse(parameters)
        named = f"the network {quoted(label)}" if label else "a network"
        path = (settings.model or "").removeprefix("network:") or recall(mark)
        if not path:
            raise PredictorError(
                f"written with {named} of hash {mark.hex()}, which is not known on this machine; give its run's folder "
                f"or its {PRODUCT} as RunSettings(model=PATH)"
            )
        source = open_network(path)
        if source.fingerprint[:MARK_BYTES] != mark:
            raise PredictorError(
                f"written with {named} of hash {mark.hex()}, and {short(source.path)} is another, of hash "
                f"{source.fingerprint[:MARK_BYTES].hex()}; give the writer's as RunSettings(model=PATH)"
            )
        return cls(source, level, label)

    def parameters(self) -> bytes:
        """The level, one byte; 4 bytes of the network's fingerprint; the name in UTF-8."""
        return bytes([self.level]) + self.source.fingerprint[:MARK_BYTES] + self.label.encode()

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shapes, sizes, priors and the network."""
        return self._fingerprint


def default_level(shape: NetworkShape) -> int:
    """The level of `network:PATH` without one: 3 for a small network, 5 for others.

    >>> default_level(NetworkShape()), default_level(NetworkShape(3, 192, 64, 64, ((2, 13), (3, 14))))
    (5, 3)
    """
    return 3 if shape.products <= MAX_SMALL_PRODUCTS else 5


def parse(parameters: bytes) -> tuple[int, bytes, str]:
    """Level, first bytes of the network's fingerprint, and name, from what a file recorded.

    Raises:
        PredictorError: this version does not write such parameters.
    """
    try:
        label = parameters[1 + MARK_BYTES :].decode()
    except ValueError:
        label = "\n"
    sizes = len(parameters) > MARK_BYTES and len(parameters) <= 1 + MARK_BYTES + MAX_NAME_BYTES
    if not sizes or parameters[0] not in Network.levels or not label.isprintable():
        raise PredictorError(
            f"network version 2 has no parameters {quoted(parameters.hex())}; the file is damaged or newer"
        )
    return parameters[0], parameters[1 : 1 + MARK_BYTES], label


def open_network(path: str) -> OwnNetwork:
    """The network in a file, or in a run's folder; its location is recorded on this machine.

    Raises:
        PredictorError: there is no network, or it is damaged.
    """
    file = find(path)
    try:
        status = os.stat(file)
    except OSError as error:
        raise PredictorError(f"{file}: {error.strerror}; name a network that `kolmo train` exported") from None
    source = _opened(str(file.absolute()), status.st_mtime_ns, status.st_size, status.st_ino)
    remember(source.fingerprint[:MARK_BYTES], file)
    return source


def find(path: str) -> Path:
    """The file of a network: the path itself, or the file in a run's folder.

    Raises:
        PredictorError: the folder does not have one.
    """
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return Path(path)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise PredictorError(f"{path}: {said}; name a run's folder or its {PRODUCT}") from None
    file = Path(path, PRODUCT)
    if file.exists():
        return file
    if Path(path, "model.safetensors").exists():
        raise PredictorError(
            f"{path}: holds a model in floating point, and not a {PRODUCT}; only recurrent networks of kolmo train are "
            "exact on all machines"
        )
    if Path(path, "checkpoint.pt").exists():
        raise PredictorError(
            f"{path}: its training has not ended, so there is no {PRODUCT} yet; go on with the same kolmo train command"
        )
    raise PredictorError(f"{path}: has no {PRODUCT}; name the folder of a run of kolmo train, or a network's file")


@lru_cache(MAX_CACHED_NETWORKS)
def _opened(path: str, changed: int, size: int, node: int) -> OwnNetwork:
    """The network in a file, cached until the file changes."""
    return OwnNetwork(load(path), path)


def _label(path: Path) -> str:
    """The name of a network for files: its run's folder, or its own name where it was renamed; printable and short."""
    name = path.parent.name if path.name == PRODUCT else path.name.removesuffix(".safetensors")
    return (
        "".join(c for c in name if c.isprintable()).encode("utf-8", "ignore")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    )


__all__ = ["Network", "OwnNetwork", "default_level", "find", "open_network", "parse"]
