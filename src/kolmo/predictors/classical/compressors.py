"""Classical compressors as predictors: `classical:gzip`, `:bz2`, `:xz`, `:zstd`, `:brotli`, to compare with.

A compressor C defines the probability of a continuation x of a context by how much longer x makes the result:
p(x | context) is proportional to 2^-(|C(context x)| - |C(context)|), lengths in bits (Deletang et al., "Language
Modeling Is Compression", 2024, section 2). Here x is every byte in turn. Lengths are whole bytes, so most candidates
tie, and the next costs a factor of 256: this follows from the rule (docs/sample.md).

What it is not: a way to compress. The compressor itself compresses; a distribution for each byte would take 256 runs.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.errors import MissingExtraError, PredictorError
from kolmo.foreign import quoted
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness, choose
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BYTES = [bytes([x]) for x in range(256)]
NATS_PER_BYTE = -8 * math.log(2)  # change of the logit for each byte of compressed length
UNREACHED_BYTES = 300  # bytes at the end of deflate's window that its matches do not reach: 262, and a margin
MAX_PREFIXES = 256  # prefixes of a content that are compressed to measure where its length grows
MAX_PREFIX_BYTES = 1 << 20  # bytes of all these prefixes together, approximately


class Compressor(ABC):
    """A compressor at its strongest common setting."""

    tool: str  # the command that compresses files with it

    @abstractmethod
    def version(self) -> str:
        """Name and version of the library, where it reports them: lengths may differ between versions.

        Raises:
            MissingExtraError: the library is not installed.
        """

    @abstractmethod
    def compress(self, data: bytes) -> bytes:
        """The content as the tool compresses it."""

    def bare_size(self, data: bytes) -> int:
        """Size of the result in bytes, without padding and without bytes that are the same for all contents."""
        return len(self.compress(data))

    def context(self, data: bytes) -> Context:
        """A context that begins with `data`."""
        return Context(self, data)


class Context:
    """The bytes so far. Each candidate is compressed after all of them."""

    def __init__(self, compressor: Compressor, data: bytes) -> None:
        self._compressor, self._data = compressor, data

    def sizes(self) -> list[int]:
        """Compressed size with each of the 256 bytes appended, up to a constant."""
        return [self._compressor.bare_size(self._data + x) for x in BYTES]

    def learn(self, x: int) -> None:
        """Append the next byte."""
        self._data += BYTES[x]


class Gzip(Compressor):
    """Deflate, by zlib."""

    tool = "gzip"

    def version(self) -> str:
        """Version of zlib."""
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def compress(self, data: bytes) -> bytes:
        """As gzip -9 without a name."""
        deflate = zlib.compressobj(9, wbits=31)
        return deflate.compress(data) + deflate.flush()

    def context(self, data: bytes) -> Context:
        """A context whose work does not grow with its length."""
        return DeflateContext(data)


class DeflateContext(Context):
    """One compressor follows the context; for each candidate a copy of it is finished.

    Its window is as small as the context allows, since copying the window is most of the work.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._begin()

    def sizes(self) -> list[int]:
        """As in `Context`."""
        sizes = []
        for x in BYTES:
            copy = self._deflate.copy()
            sizes.append(len(copy.compress(x)) + len(copy.flush()))
        return sizes

    def learn(self, x: int) -> None:
        """As in `Context`."""
        self._data += BYTES[x]
        if len(self._data) > self._reach:
            self._begin()
        else:
            self._deflate.compress(BYTES[x])

    def _begin(self) -> None:
        bits = min(max((len(self._data) + 2 * UNREACHED_BYTES).bit_length(), 10), 15)
        self._reach = (
            (1 << bits) - UNREACHED_BYTES if bits < 15 else math.inf
        )  # contexts up to this size compress as with a full window
        self._deflate = zlib.compressobj(9, wbits=-bits)
        self._deflate.compress(self._data)  # its output so far is the same for all candidates


class Bzip2(Compressor):
    """Sorted blocks."""

    tool = "bzip2"

    def version(self) -> str:
        """Unknown."""
        return "bzip2"

    def compress(self, data: bytes) -> bytes:
        """As bzip2 -9; in one block where the content fits, no larger than needed, which saves time."""
        return bz2.compress(data, min(1 + len(data) // 79_000, 9))


class Xz(Compressor):
    """LZMA2."""

    tool = "xz"

    def version(self) -> str:
        """Unknown."""
        return "xz"

    def compress(self, data: bytes) -> bytes:
        """As xz -9e."""
        return lzma.compress(data, check=lzma.CHECK_CRC64, filters=self._filters(data))

    def bare_size(self, data: bytes) -> int:
        """Without the container, which pads to four bytes."""
        return len(lzma.compress(data, lzma.FORMAT_RAW, filters=self._filters(data)))

    def _filters(self, data: bytes) -> list[dict[str, int]]:
        """The filters of -9e, with a window no larger than needed, which saves time."""
        window = min(max(1 << len(data).bit_length(), 1 << 16), 1 << 26)
        return [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window}]


class Zstandard(Compressor):
    """Zstandard, where the package zstandard is installed."""

    tool = "zstd"

    def version(self) -> str:
        """Version of zstd."""
        return f"zstd {'.'.join(map(str, self._module().ZSTD_VERSION))}"

    def compress(self, data: bytes) -> bytes:
        """As zstd -19 does without a checksum."""
        packed: bytes = self._module().ZstdCompressor(level=19).compress(data)
        return packed

    def _module(self) -> Any:
        return _imported("zstandard", "zstd")


class Brotli(Compressor):
    """Brotli, where the package brotli is installed."""

    tool = "brotli"

    def version(self) -> str:
        """Version of brotli."""
        return f"brotli {self._module().__version__}"

    def compress(self, data: bytes) -> bytes:
        """As brotli -q 11 -w 24."""
        packed: bytes = self._module().compress(data, quality=11, lgwin=24)
        return packed

    def _module(self) -> Any:
        return _imported("brotli", "brotli")


COMPRESSORS: dict[str, Compressor] = {
    "gzip": Gzip(),
    "bz2": Bzip2(),
    "xz": Xz(),
    "zstd": Zstandard(),
    "brotli": Brotli(),
}


class Classical(Predictor):
    """A classical compressor as a predictor that scores and samples; it cannot drive the coder."""

    name = "classical"
    version = 1

    def __init__(self, kind: str) -> None:
        if kind not in COMPRESSORS:
            raise PredictorError(
                f"classical takes {', '.join(COMPRESSORS)}, not {quoted(kind)}; use it like classical:gzip"
            )
        self.kind = kind
        self.compressor = COMPRESSORS[kind]

    @classmethod
    def from_spec(cls, argument: str) -> Classical:
        """From the part of a spec behind `classical:`.

        Raises:
            PredictorError: there is no such compressor.
        """
        return cls(argument)

    @classmethod
    def restore(cls, version: int, parameters: bytes) -> Classical:
        """From what a file recorded; only an empty file can record it.

        Raises:
            PredictorError: another version, or parameters that version 1 does not write.
        """
        if version != cls.version:
            raise PredictorError(f"classical version {version} is not known here; upgrade kolmo")
        return cls(parameters.decode("ascii", "backslashreplace"))

    def parameters(self) -> bytes:
        """The name of the compressor."""
        return self.kind.encode()

    def fingerprint(self) -> bytes:
        """First 4 bytes of a SHA-256 over the compressor and its library's version."""
        return hashlib.sha256(f"{self.kind} {self.compressor.version()}".encode()).digest()[:4]

    def memory(self, size: int) -> int:
        """Approximate number of bytes that a run over `size` bytes allocates."""
        return 16 * size + (256 << 20)

    def start(self, size: int, threads: int = 1) -> ClassicalModel:
        """A model that scores a content of `size` bytes on one thread.

        Raises:
            MissingExtraError: the compressor is not installed.
        """
        self.compressor.version()
        return ClassicalModel(self.kind, self.compressor)

    def compress(self, data: bytes) -> bytes:
        """The compressed content; eight times its length is the sum of `score`."""
        return self.compressor.compress(data)

    def distribution(self, context: bytes) -> npt.NDArray[np.float64]:
        """Probability of each byte after a context, shape (256,)."""
        import numpy as np

        weights = np.exp(logits_of(self.compressor.context(context)))
        probabilities: npt.NDArray[np.float64] = weights / weights.sum()
        return probabilities

    def continuation(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        """Go on where a prompt ends, byte by byte: see `predictors.base.Predictor`.

        Raises:
            MissingExtraError: the compressor is not installed.
        """
        self.compressor.version()
        return self._draw(prompt, size, randomness, choice)

    def _draw(self, prompt: bytes, size: int, randomness: Randomness, choice: Choice) -> Iterator[bytes]:
        context = self.compressor.context(prompt)
        for _ in range(size):
            logits = logits_of(context)
            x = choose(logits, randomness.uniform(), choice.temperature, choice.top_k, choice.top_p)
            yield BYTES[x]
            context.learn(x)


class ClassicalModel:
    """A compressor over one block."""

    def __init__(self, kind: str, compressor: Compressor) -> None:
        self._kind, self._compressor = kind, compressor

    def encode(self, encoder: BinaryEncoder, data: bytes, progress: Progress | None = None) -> None:
        """Not supported.

        Raises:
            PredictorError: always.
        """
        raise self._refusal()

    def decode(self, decoder: BinaryDecoder, progress: Progress | None = None) -> bytes:
        """Not supported.

        Raises:
            PredictorError: always.
        """
        raise self._refusal()

    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        """Bits of each byte, shape (len(data),): the growth of the compressed prefix, averaged over stretches of bytes.

        The sum is eight times the length of the compressed content. The first byte includes the cost of an empty
        content. A compressor decides over more than a byte, so the stretches are at least a 256th of the content. They
        are longer in a large content, whose prefixes would take too long; then mainly the sum is meaningful.
        """
        import numpy as np

        size = len(data)
        if not size:
            return np.zeros(0)
        points = min(MAX_PREFIXES, size, max(2 * MAX_PREFIX_BYTES // size, 1))
        ends = [size * k // points for k in range(1, points + 1)]
        sizes = np.array([len(self._compressor.compress(data[:end])) for end in ends], np.float64)
        header = min(float(len(self._compressor.compress(b""))), sizes.min())
        # A longer prefix may compress to fewer bytes; no prefix counts for more than the whole content.
        lengths = np.minimum.accumulate(sizes[::-1])[::-1]
        widths = np.diff(ends, prepend=0)
        bits = np.repeat(8 * np.diff(lengths, prepend=header) / widths, widths)
        bits[:1] += 8 * header
        if progress:
            progress(size)
        return bits

    def _refusal(self) -> PredictorError:
        return PredictorError(f"classical:{self._kind} cannot drive the coder; use {self._compressor.tool} itself")


def logits_of(context: Context) -> npt.NDArray[np.float64]:
    """Logits of the byte after a context, in nats, shape (256,), 0 for the likeliest."""
    import numpy as np

    sizes = np.array(context.sizes(), np.float64)
    logits: npt.NDArray[np.float64] = NATS_PER_BYTE * (sizes - sizes.min())
    return logits


def _imported(module: str, kind: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"classical:{kind} needs {module}; install it with: pip install {module}") from error
