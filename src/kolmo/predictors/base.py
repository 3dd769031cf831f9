"""The predictor protocol: what every model of data must offer to be a compressor.

A **predictor** is a recipe, cheap to make and safe to share between threads: a name, a version, parameters, and a
fingerprint of all that determines its probabilities. `start` makes a **model**, its running state for one block, which
either spends its probabilities on an arithmetic coder (`encode`, `decode`: mirror images) or reports what the data
would cost (`score`). After Deletang et al., "Language Modeling Is Compression" (2024), section 2: the expected code
length of arithmetic coding is the model's log-loss, within two bits a block.

What it is not: it knows nothing of files, blocks in a file, or threads (see `codec` and `container`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.native.dispatch import SLOW
from kolmo.predictors.choice import Choice, Randomness
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Model(Protocol):
    """A predictor's running state over one block. It serves once, in one direction, and one thread.

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


@runtime_checkable
class Predictor(Protocol):
    """A recipe for models. Immutable; `start` may be called from many threads.

    It may also have `exclusive = True` (one block at a time, with all threads), `caveat` (what else than damage may
    have made a block fail, for messages), `notes` (lines about the last block, for -v), `options` (names of what
    `from_spec` takes beside its argument), and `expansion(payload)` (upper bound on the raw bytes that a coded block
    may hold for each byte of its payload, so that a small file cannot ask for hours of decoding; by default 1,024), and
    `overhead` (what a file takes beyond what `score` says, in words, where that is more than the coder's last bytes).
    """

    @property
    def name(self) -> str:
        """The name that files record: 1..32 characters of `[a-z0-9_.:-]`."""
        ...

    @property
    def version(self) -> int:
        """Version of the probabilities: any change of bits is a new version."""
        ...

    def parameters(self) -> bytes:
        """What a file must carry to make this predictor again (see `registry.restore`)."""
        ...

    def fingerprint(self) -> bytes:
        """First 4 to 32 bytes of a SHA-256 over all that determines the probabilities."""
        ...

    def memory(self, size: int) -> int:
        """Upper bound in bytes on what a model of a block of `size` bytes allocates."""
        ...

    def start(self, size: int, threads: int = 1) -> Model:
        """Make a fresh model for a block of `size` bytes (size >= 1); up to `threads` may work on it.

        The bits do not depend on `threads`.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """A predictor that can also go on where a prompt ends. Optional: `kolmo.sampling` asks for it."""

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Draw from what the predictor expects after `prompt`.

        Yields the continuation in pieces, as they are made: `size` bytes together, more where a last token does not
        end there, fewer where the model ends the text. The caller may stop at any piece. The same randomness gives the
        same bytes. A predictor with a distribution draws by `choice.choose`.

        Raises:
            PredictorError: at once, where the predictor cannot honour the choice.
        """
        ...


SLICE = 1 << 10 if SLOW else 1 << 16  # bytes between calls of `progress`, of a fast model


def slices(size: int, progress: Progress | None, step: int | None = None) -> Iterator[tuple[int, int]]:
    """The slices (first, last + 1) of a block that a model takes at once, with a call of `progress` after each."""
    step = step or SLICE
    for first in range(0, size, step):
        last = min(first + step, size)
        yield first, last
        if progress:
            progress(last - first)
