"""`network:PATH`: a network that `kolmo train` made, in place of the shipped one; all else is as in `neural`.

PATH is a run's folder, or its network.safetensors; `network:PATH:7` is level 7, which chooses the mixer. A file records
the level, the first bytes of the network's fingerprint, and a short name; no path. A reader needs the same network: it
is found by its fingerprint among those that were opened here (`predictors.model_locations`), or in `RunSettings.model`.

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
from kolmo.predictors.embedded.context_mixing import Shape, inflated_prior, prior, prior_of
from kolmo.predictors.embedded.network import NetworkShape, Weights
from kolmo.predictors.embedded.network_file import load
from kolmo.predictors.embedded.neural import LEVELS, Neural, fingerprint_of, hears_network
from kolmo.predictors.model_locations import recall, remember
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings

PRODUCT = "network.safetensors"  # in a run's folder
MARK = 4  # bytes of the fingerprint that a file records; 4 more bytes, which cover it too, are the predictor's
LONGEST_NAME = 32  # bytes
KEPT = 2  # networks in memory that nobody uses
LOOSE = 64  # rows that a network's scratch memory has at least (native/network/network.h: NETWORK_BATCH)
MEMBERS = 16  # threads that share a step, at most (native/network/team.h: KOLMO_TEAM)
SHIPPED_PRODUCTS = NetworkShape().products
LEAST_EXPANSION = 64  # raw bytes for each byte of payload that the largest network may still code


class OwnNetwork:
    """A network from a file, and the priors in it, or the shipped ones where it has none."""

    def __init__(self, weights: Weights, path: str) -> None:
        self.weights, self.path = weights, path
        self._kernel: kernels.Network | None = None
        self._priors: dict[str, bytes] = {}

    @property
    def fingerprint(self) -> bytes:
        """Of network and priors."""
        return self.weights.fingerprint

    @property
    def memory(self) -> int:
        """Bytes that the network takes: as it was read, as it runs, and a model's scratch."""
        shape = self.weights.shape
        scratch = LOOSE * (4 * (shape.width + 4 * shape.state + 1024) + MEMBERS * max(shape.width, shape.state))
        return 3 * len(self.weights.weights) + len(self.weights.priors) + scratch

    @property
    def lane_memory(self) -> int:
        """Bytes of the states of a lane, and of a copy."""
        return 8 * self.weights.shape.layers * self.weights.shape.state

    def kernel(self) -> kernels.Network:
        """The network, ready to run."""
        if self._kernel is None:  # two threads may both make one; either is good
            self._kernel = kernels.Network(self.weights.config, self.weights.weights)
        return self._kernel

    def prior(self, shape: Shape) -> bytes:
        """The prior of a mixer."""
        if not self.weights.priors:
            return prior(shape)
        if shape.name not in self._priors:
            self._priors[shape.name] = prior_of(shape, self.inflated_prior(shape))
        return self._priors[shape.name]

    def inflated_prior(self, shape: Shape) -> bytes:
        """The same, as it is stored."""
        return self.weights.prior(shape.name.removeprefix("neural-")) or inflated_prior(shape)


class Network(Neural):
    """The predictor `network` at a level from 5 to 9 (small).

    Example:
        >>> network = Network.from_spec("runs/notes", level=7)        # doctest: +SKIP
        >>> packed = kolmo.compress(data, predictor=network)          # doctest: +SKIP
    """

    name = "network"
    version = 1
    options = ("level",)
    uses_settings = True

    def __init__(self, source: OwnNetwork, level: int = 5, label: str = "") -> None:
        super().__init__(level)
        self.source: OwnNetwork = source
        self.label = label  # what files call it
        self._fingerprint = fingerprint_of(level, source)

    @classmethod
    def from_spec(cls, argument: str, *, level: int | None = None, settings: RunSettings = DEFAULT_SETTINGS) -> Network:
        """From the part of a spec behind `network:`, a path, and a level after a colon.

        Args:
            argument: the path of a run's folder or of a network's file, and `:LEVEL` or nothing.
            level: the same; 5 where neither says.
            settings: not used here; `restore` uses them.

        Raises:
            PredictorError: there is no network, it is not one, or there is no such level.
        """
        path = argument
        head, colon, tail = argument.rpartition(":")
        if colon and tail.isascii() and tail.isdigit() and not os.path.lexists(argument):
            path = head
            if level is not None and level != int(tail):
                raise PredictorError(f"network:{argument} and level {level} exclude each other; give one of them")
            level = int(tail)
        level = 5 if level is None else level
        if level not in LEVELS:
            raise PredictorError(f"network has levels 5 to 9, not {level}; use network:PATH:5 to network:PATH:9")
        if not path:
            raise PredictorError("network: names no file; give a run's folder, as network:runs/notes")
        source = open_network(path)
        return cls(source, level, _label(Path(source.path)))

    @classmethod
    def restore(cls, version: int, parameters: bytes, settings: RunSettings = DEFAULT_SETTINGS) -> Network:
        """From what a file recorded: finds the network here, and compares its fingerprint.

        Raises:
            PredictorError: it is not here, or another; the message names both.
        """
        if version != cls.version:
            raise PredictorError(f"network version {version} is not known here; upgrade kolmo")
        level, mark, label = parse(parameters)
        named = f"the network {quoted(label)}" if label else "a network"
        path = (settings.model or "").removeprefix("network:") or recall(mark)
        if not path:
            raise PredictorError(
                f"written with {named} of hash {mark.hex()}, which is not known on this machine; give its run's folder "
                f"or its {PRODUCT} as RunSettings(model=PATH)"
            )
        source = open_network(path)
        if source.fingerprint[:MARK] != mark:
            raise PredictorError(
                f"written with {named} of hash {mark.hex()}, and {short(source.path)} is another, of hash "
                f"{source.fingerprint[:MARK].hex()}; give the writer's as RunSettings(model=PATH)"
            )
        return cls(source, level, label)

    def parameters(self) -> bytes:
        """The level, one byte; 4 bytes of the network's fingerprint; the name in UTF-8."""
        return bytes([self.level]) + self.source.fingerprint[:MARK] + self.label.encode()

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over constants, shapes, sizes, priors and the network."""
        return self._fingerprint

    def expansion(self, payload: bytes) -> int:
        """As of `neural`; blocks that a larger network codes hold fewer bytes, in proportion to its work."""
        most, products = super().expansion(payload), self.source.weights.shape.products
        if not hears_network(payload) or products <= SHIPPED_PRODUCTS:
            return most
        return max(most * SHIPPED_PRODUCTS // products, LEAST_EXPANSION)

    def memory(self, size: int) -> int:
        """Bytes that a model of a block of `size` bytes allocates, and the network's own."""
        return super().memory(size) + self.source.memory + self.lanes(size) * self.source.lane_memory


def parse(parameters: bytes) -> tuple[int, bytes, str]:
    """Level, first bytes of the network's fingerprint, and name, of what a file recorded.

    Raises:
        PredictorError: no version 1 wrote this.
    """
    try:
        label = parameters[1 + MARK :].decode()
    except ValueError:
        label = "\n"
    sizes = len(parameters) > MARK and len(parameters) <= 1 + MARK + LONGEST_NAME
    if not sizes or parameters[0] not in LEVELS or not label.isprintable():
        raise PredictorError(
            f"network version 1 has no parameters {quoted(parameters.hex())}; the file is damaged or newer"
        )
    return parameters[0], parameters[1 : 1 + MARK], label


def open_network(path: str) -> OwnNetwork:
    """The network in a file, or in a run's folder; noted as known on this machine.

    Raises:
        PredictorError: there is none, or it is damaged.
    """
    file = find(path)
    try:
        status = os.stat(file)
    except OSError as error:
        raise PredictorError(f"{file}: {error.strerror}; name a network that `kolmo train` exported") from None
    source = _opened(str(file.absolute()), status.st_mtime_ns, status.st_size, status.st_ino)
    remember(source.fingerprint[:MARK], file)
    return source


def find(path: str) -> Path:
    """The file of a network: a path's own, or the one in a run's folder.

    Raises:
        PredictorError: the folder has none.
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


@lru_cache(KEPT)
def _opened(path: str, changed: int, size: int, node: int) -> OwnNetwork:
    """The network in a file; opened again where the file has changed."""
    return OwnNetwork(load(path), path)


def _label(path: Path) -> str:
    """What files call a network: its run's folder, or its own name where it was renamed; printable and short."""
    name = path.parent.name if path.name == PRODUCT else path.name.removesuffix(".safetensors")
    return (
        "".join(c for c in name if c.isprintable()).encode("utf-8", "ignore")[:LONGEST_NAME].decode("utf-8", "ignore")
    )


__all__ = ["Network", "OwnNetwork", "find", "open_network", "parse"]
