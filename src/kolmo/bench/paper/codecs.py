"""Compressors under one interface, for chunks of bytes: classical ones, codecs of pictures and sound, predictors.

Each packs and unpacks bytes; nothing is counted that does not come back. What it is not: the rule by which headers
count (`bench.paper.cells`).
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kolmo.bench.paper.facts import facts_of
from kolmo.bench.paper.versions import code_version, library_version
from kolmo.codec.blocks import decode_block, encode_block
from kolmo.container.structures import STORED
from kolmo.errors import CorruptError, KolmoError
from kolmo.modalities.chunks import PATCH_COLUMNS, PATCH_ROWS
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.predictors.language_models.separate import decode_separately, encode_separately
from kolmo.predictors.settings import RunSettings
from kolmo.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kolmo.predictors.base import Predictor

RATE = 16_000  # Hz, of sounds
SETTINGS = RunSettings(verify=False)  # everything is decoded here
LANGUAGE_MODELS = ("hf:", "gguf:")  # measured alone, without the memory that files have (docs/memory.md)
FLAC_LEVEL = 1.0  # of soundfile: FLAC's level 8


class Codec(ABC):
    """A compressor.

    Attributes:
        key: its name on the command line.
        label: its name in tables.
        model: whether it is a model, whose headers all count; else its header counts once (the paper's rule).
        modalities: those that it is for; empty: all.
        uncounted: bytes of each packed chunk that do not count.
    """

    key: str
    label: str
    model: bool = False
    modalities: frozenset[str] = frozenset()
    uncounted: int = 0

    @abstractmethod
    def pack(self, data: bytes) -> bytes:
        """Compress."""

    @abstractmethod
    def unpack(self, packed: bytes, size: int) -> bytes:
        """Decompress: `size` bytes."""

    def pack_all(self, contents: Sequence[bytes], progress: Progress | None = None) -> list[bytes]:
        """Compress each, alone."""
        result = []
        for data in contents:
            result.append(self.pack(data))
            if progress:
                progress(len(data))
        return result

    def unpack_all(self, packed: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
        """Decompress each; `sizes` are those of the contents."""
        return [self.unpack(one, size) for one, size in zip(packed, sizes, strict=True)]

    @property
    def model_bytes(self) -> int | None:
        """Bytes of the model as it ships; 0 for a classical compressor, None where that is not known."""
        return 0

    @property
    def identity(self) -> str:
        """What tells it apart from others and from other versions of itself."""
        return self.label

    @property
    def version(self) -> str:
        """Of the code that packs."""
        return ""


class Functions(Codec):
    """A codec of two functions."""

    def __init__(
        self,
        key: str,
        label: str,
        pack: Callable[[bytes], bytes],
        unpack: Callable[[bytes], bytes],
        modalities: Sequence[str] = (),
        version: str = "",
    ) -> None:
        self.key, self.label = key, label
        self._pack, self._unpack = pack, unpack
        self.modalities = frozenset(modalities)
        self._version = version

    @property
    def version(self) -> str:
        """Of the library."""
        return self._version

    def pack(self, data: bytes) -> bytes:
        """Compress."""
        return self._pack(data)

    def unpack(self, packed: bytes, size: int) -> bytes:
        """Decompress."""
        return self._unpack(packed)


class Predicted(Codec):
    """A predictor with the arithmetic coder, as in the blocks of a `.kmo` file but for their heads and checksums.

    The first byte of a packed chunk says whether it is stored as it is; it does not count.
    """

    model = True
    uncounted = 1

    def __init__(self, spec: str, predictor: Predictor, label: str = "") -> None:
        self.facts = facts_of(spec, predictor)
        self.key, self.label = spec, label or self.facts.label
        self._predictor = predictor

    @property
    def predictor(self) -> Predictor:
        """The predictor."""
        return self._predictor

    def pack(self, data: bytes) -> bytes:
        """Compress."""
        kind, payload = encode_block(self._predictor, data)
        return bytes([kind]) + payload

    def unpack(self, packed: bytes, size: int) -> bytes:
        """Decompress."""
        return decode_block(self._predictor, packed[0], packed[1:], size)

    def score(self, data: bytes) -> npt.NDArray[np.float64]:
        """Bits of each byte of a chunk."""
        return self._predictor.start(len(data)).score(data)

    @property
    def model_bytes(self) -> int | None:
        """Of the files that decoding needs, as they ship."""
        return self.facts.shipped

    @property
    def identity(self) -> str:
        """Name, version, fingerprint."""
        return f"{self.label} {self._predictor.version} {self._predictor.fingerprint().hex()}"

    @property
    def version(self) -> str:
        """Of kolmo's code."""
        return code_version()


class Tokenised(Predicted):
    """A language model; all chunks are coded together, each from a fresh state, as blocks of one chunk of tokens.

    Nothing is stored as it is: what a model cannot predict takes more than its bytes, as in the paper.
    """

    uncounted = 0

    def __init__(self, spec: str, predictor: LanguageModel, label: str = "") -> None:
        super().__init__(spec, predictor, label)
        self._language_model = predictor

    def pack_all(self, contents: Sequence[bytes], progress: Progress | None = None) -> list[bytes]:
        """Compress each."""
        return encode_separately(self._language_model, contents, progress)

    def unpack_all(self, packed: Sequence[bytes], sizes: Sequence[int]) -> list[bytes]:
        """Decompress each."""
        try:
            return decode_separately(self._language_model, packed, sizes)
        except CorruptError:  # the noise was more than the tolerance: nothing comes back
            return [b""] * len(packed)

    def pack(self, data: bytes) -> bytes:
        """Compress."""
        return self.pack_all([data])[0]

    def unpack(self, packed: bytes, size: int) -> bytes:
        """Decompress."""
        return self.unpack_all([packed], [size])[0]


def _png(width: Callable[[int], int]) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def pack(data: bytes) -> bytes:
        from PIL import Image

        columns = width(len(data))
        out = io.BytesIO()
        Image.frombytes("L", (columns, len(data) // columns), data).save(out, "PNG", optimize=True)
        return out.getvalue()

    def unpack(packed: bytes) -> bytes:
        from PIL import Image

        with Image.open(io.BytesIO(packed)) as picture:
            return bytes(picture.tobytes())

    return pack, unpack


def torn_width(size: int) -> int:
    """The width of a picture as the paper's authors lay out bytes: the smaller of the two closest factors.

    A patch of 32 x 64 pixels thus becomes a picture 32 wide, whose rows are halves of the patch's.

    >>> torn_width(2048)
    32
    """
    width = math.isqrt(size)
    while size % width:
        width -= 1
    return width


def right_width(size: int) -> int:
    """The width of a patch, or of patches one above the other."""
    return PATCH_COLUMNS if size % PATCH_COLUMNS == 0 else 1


def _webp() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def pack(data: bytes) -> bytes:
        from PIL import Image

        width = right_width(len(data))
        out = io.BytesIO()
        picture = Image.frombytes("L", (width, len(data) // width), data).convert("RGB")
        picture.save(out, "WEBP", lossless=True, quality=100, method=6, exact=True)
        return out.getvalue()

    def unpack(packed: bytes) -> bytes:
        from PIL import Image

        with Image.open(io.BytesIO(packed)) as picture:
            return bytes(picture.convert("RGB").tobytes()[::3])

    return pack, unpack


def _jxl() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def pack(data: bytes) -> bytes:
        import imagecodecs
        import numpy as np

        pixels = np.frombuffer(data, np.uint8).reshape(-1, right_width(len(data)))
        return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=9))

    def unpack(packed: bytes) -> bytes:
        import imagecodecs

        return bytes(imagecodecs.jpegxl_decode(packed).tobytes())

    return pack, unpack


def _flac() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def pack(data: bytes) -> bytes:
        import numpy as np
        import soundfile

        out = io.BytesIO()
        samples = (np.frombuffer(data, np.uint8).astype(np.int32) - 128) << 24
        with soundfile.SoundFile(out, "w", RATE, 1, "PCM_S8", format="FLAC", compression_level=FLAC_LEVEL) as sound:
            sound.write(samples)
        return out.getvalue()

    def unpack(packed: bytes) -> bytes:
        import numpy as np
        import soundfile

        with soundfile.SoundFile(io.BytesIO(packed)) as sound:
            samples = sound.read(dtype="int32")
        return bytes(((samples >> 24) + 128).astype(np.uint8).tobytes())

    return pack, unpack


def _stdlib() -> list[Codec]:
    import bz2
    import gzip
    import lzma
    import zlib

    def packed(data: bytes) -> bytes:
        return gzip.compress(data, 9, mtime=0)

    return [
        Functions("gzip", "gzip", packed, gzip.decompress, version=zlib.ZLIB_RUNTIME_VERSION),
        Functions("bzip2", "bzip2", bz2.compress, bz2.decompress),
        Functions("lzma2", "LZMA2", lzma.compress, lzma.decompress),
    ]


def _optional() -> list[tuple[str, Callable[[], Codec]]]:
    """Codecs of packages that may not be installed: module, maker."""

    def zstd() -> Codec:
        import zstandard

        packer, unpacker = zstandard.ZstdCompressor(19), zstandard.ZstdDecompressor()
        version = library_version("zstandard")
        return Functions("zstd", "zstd -19", packer.compress, unpacker.decompress, version=version)

    def brotli() -> Codec:
        import brotli as library

        def packed(data: bytes) -> bytes:
            return bytes(library.compress(data, quality=11))

        return Functions("brotli", "brotli -q 11", packed, library.decompress, version=library_version("brotli"))

    pillow = library_version("pillow")
    return [
        ("zstandard", zstd),
        ("brotli", brotli),
        ("PIL", lambda: Functions("png-torn", "PNG, torn", *_png(torn_width), version=pillow)),
        ("PIL", lambda: Functions("png", "PNG", *_png(right_width), ["images"], pillow)),
        ("PIL", lambda: Functions("webp", "WebP", *_webp(), ["images"], pillow)),
        ("imagecodecs", lambda: Functions("jxl", "JPEG XL", *_jxl(), ["images"], library_version("imagecodecs"))),
        ("soundfile", lambda: Functions("flac", "FLAC", *_flac(), version=library_version("soundfile"))),
    ]


def classical() -> dict[str, Codec]:
    """The classical compressors that are installed, by key."""
    codecs = [*_stdlib(), *(make() for module, make in _optional() if find_spec(module))]
    return {codec.key: codec for codec in codecs}


def codecs_of(names: Sequence[str]) -> list[Codec]:
    """Codecs of these names: those of `classical`, and specs of predictors such as neural:5 or hf:FOLDER.

    Raises:
        KolmoError: there is no such codec.
    """
    from kolmo.predictors.registry import resolve

    known = classical()
    found: list[Codec] = []
    for name in names:
        if name in known:
            found.append(known[name])
            continue
        try:
            predictor = resolve(name, settings=SETTINGS, memory_tokens=0 if name.startswith(LANGUAGE_MODELS) else None)
        except ValueError as error:
            raise KolmoError(f"{name}: {error}") from None
        found.append(Tokenised(name, predictor) if isinstance(predictor, LanguageModel) else Predicted(name, predictor))
    return found


__all__ = [
    "PATCH_ROWS",
    "STORED",
    "Codec",
    "Functions",
    "Predicted",
    "Tokenised",
    "classical",
    "codecs_of",
    "torn_width",
]
