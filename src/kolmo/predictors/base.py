"""The base class of predictors, and the protocol of their models: what a compressor needs of a model of data.

A **predictor** is a recipe, cheap to make and safe to share between threads: a name, a version, parameters, and a
fingerprint of all that determines its probabilities. `start` makes a **model**, its running state for one block, which
either codes the block with an arithmetic coder (`encode`, `decode`: mirror images) or computes the code length of each
byte (`score`). After Deletang et al., "Language Modeling Is Compression" (2024), section 2: the expected code
length of arithmetic coding is the model's log-loss, within two bits a block.

What it is not: aware of files, of other blocks, or of threads (see `codec` and `container`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import PredictorError
from kolmo.native.dispatch import SLOW
from kolmo.predictors.choice import Choice, Randomness
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


DEFAULT_EXPANSION = 1 << 10  # raw bytes for each byte of payload, where a predictor does not choose: as deflate's


class Model(Protocol):
    """A predictor's running state over one block. It is used once, in one direction, by one thread at a time.

    Long work calls `progress` now and then with the number of bytes just done; a callback that raises stops the work.
    """

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Code the block, `data`."""
        ...

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Decode the block: the mirror of `encode`.

        Raises:
            CorruptError: the payload ends before the block does.
        """
        ...

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Code length of each of the block's bytes in bits, shape (len(data),).

        The sum is what `encode` writes, within 0.1 % and the coder's last bytes.
        """
        ...


@dataclass(frozen=True)
class BlockPart:
    """What a predictor took a part of a block for: its kind, such as `image`, with named parameters."""

    kind: str
    first: int
    size: int
    parameters: Mapping[str, int]


class Predictor(ABC):
    """A recipe for models, and the base class of every predictor. Immutable; `start` may be called from many threads.

    A predictor defines `name`, `version`, `parameters`, `fingerprint`, `memory` and `start`, and the class methods
    `from_spec` and `restore` where the registry makes it. The other members have defaults.

    Attributes:
        name: the name that files record: 1..32 characters of `[a-z0-9_.:-]`.
        version: of the probabilities: any change of bits is a new version.
        exclusive: whether it codes one block at a time, with all threads; others code a block on each thread.
        notes: lines about the last block, for `-v`.
        options: names of the keyword arguments that `from_spec` takes beside its argument.
        uses_settings: whether `from_spec` and `restore` also take `settings`, a `predictors.settings.RunSettings`.

    Example:
        See `tests/helpers/order0.py`, a whole predictor.
    """

    name: str
    version: int
    exclusive: bool = False
    notes: Sequence[str] = ()
    options: ClassVar[tuple[str, ...]] = ()
    uses_settings: ClassVar[bool] = False

    @classmethod
    def from_spec(cls, argument: str) -> Predictor:
        """Make the predictor from the part of its spec behind the colon; the part is empty where there is none.

        Raises:
            PredictorError, ValueError: there is no such predictor.
        """
        raise PredictorError(f"predictor {cls.name!r} has no specs; make it in Python, and pass it as predictor")

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Predictor:
        """Make the predictor that wrote a file, from what the file records.

        Raises:
            PredictorError, ValueError: another version, or parameters that no predictor wrote.
        """
        raise PredictorError(f"predictor {cls.name!r} does not decode; install the version that wrote the file")

    @abstractmethod
    def parameters(self) -> bytes:
        """What a file must carry to make this predictor again (see `registry.restore`)."""

    @abstractmethod
    def fingerprint(self) -> bytes:
        """First 4 to 32 bytes of a SHA-256 over all that determines the probabilities."""

    @abstractmethod
    def memory(self, size: int) -> int:
        """Upper bound in bytes on what a model of a block of `size` bytes allocates."""

    @abstractmethod
    def start(self, size: int, threads: int = 1) -> Model:
        """Make a fresh model for a block of `size` bytes (size >= 1); up to `threads` may work on it.

        The bits do not depend on `threads`.
        """

    def expansion(self, payload: bytes) -> int:
        """Upper bound on the raw bytes that a coded block may hold for each byte of its payload.

        It keeps a small file from asking for hours of decoding: a predictor chooses it by its speed.
        """
        return DEFAULT_EXPANSION

    def parts(self, payload: bytes, size: int) -> list[BlockPart]:
        """The parts of a coded block of `size` bytes, as its payload records them; an empty list: it records none.

        Raises:
            CorruptError: the payload begins with what no writer writes.
        """
        return []

    @property
    def caveat(self) -> str:
        """What else than damage may have made a block fail, for messages; empty where nothing else does."""
        return ""

    @property
    def overhead(self) -> str:
        """What a file takes beyond what `score` returns, in words, where that is more than the coder's last bytes."""
        return ""

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Draw from what the predictor expects after `prompt`; by default a predictor does not sample.

        Yields the continuation in pieces, as they are made: `size` bytes together, more where a last token does not
        end there, fewer where the model ends the text. The caller may stop at any piece. The same randomness gives the
        same bytes. A predictor with a distribution draws by `choice.choose`.

        Raises:
            PredictorError: at once, where the predictor does not sample or cannot honour the choice.
        """
        raise PredictorError(f"predictor {self.name!r} does not sample; choose another, such as cm or neural")

    def of_kind(self, kind: str, parameters: Mapping[str, int]) -> Predictor:
        """The predictor for data of a known kind; by default itself, which makes no difference between kinds.

        Args:
            kind: as in `BlockPart`, such as image.
            parameters: of the kind, by name.

        Raises:
            PredictorError: the predictor has kinds, but not this one, or not with these parameters.
        """
        return self


def unknown_version(name: str, version: int, here: int) -> PredictorError:
    """The error for a file of a version of a predictor that is not `here`, the only one that is known.

    >>> unknown_version("cm", 3, 2)
    PredictorError('cm version 3 is not known here; upgrade kolmo')
    """
    remedy = "upgrade kolmo" if version > here else "it was never released; decode with the kolmo that wrote it"
    return PredictorError(f"{name} version {version} is not known here; {remedy}")


SLICE = 1 << 10 if SLOW else 1 << 16  # bytes between calls of `progress`, of a fast model


def slices(size: int, progress: Progress | None, step: int | None = None) -> Iterator[tuple[int, int]]:
    """The slices (first, last + 1) of a block that a model takes at once, with a call of `progress` after each."""
    step = step or SLICE
    for first in range(0, size, step):
        last = min(first + step, size)
        yield first, last
        if progress:
            progress(last - first)
