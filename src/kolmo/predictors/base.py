"""The predictor protocol: what every model of data must offer to be a compressor.

A **predictor** is a recipe, cheap to make and safe to share between threads: a name, a version, parameters, and a
fingerprint of all that determines its probabilities. `start` makes a **model**, its running state for one block, which
either spends its probabilities on an arithmetic coder (`encode`, `decode`: mirror images) or reports what the data
would cost (`score`). After Deletang et al., "Language Modeling Is Compression" (2024), section 2: the expected code
length of arithmetic coding is the model's log-loss, within two bits a block.

What it is not: it knows nothing of files, blocks in a file, or threads (see `codec` and `container`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Model(Protocol):
    """A predictor's running state over one block. Not safe to share between threads.

    A block may be passed in slices of any size; the bits do not depend on the slicing. A model serves one direction
    only, from the block's first byte to its last.
    """

    def encode(self, encoder: BinaryEncoder, data: bytes) -> None:
        """Code `data`, the block's next bytes, and learn from them."""
        ...

    def decode(self, decoder: BinaryDecoder, size: int) -> bytes:
        """Decode the block's next `size` bytes and learn from them: the mirror of `encode`."""
        ...

    def score(self, data: bytes) -> npt.NDArray[np.float64]:
        """Code length of each of the block's next bytes in bits, shape (len(data),), learning from them.

        The sum is what `encode` writes, within 0.1 % and the coder's last bytes.
        """
        ...


@runtime_checkable
class Predictor(Protocol):
    """A recipe for models. Immutable; `start` may be called from many threads."""

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

    def start(self, size: int) -> Model:
        """Make a fresh model for a block of `size` bytes (size >= 1)."""
        ...
