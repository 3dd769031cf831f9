"""Text, pictures, sounds and random bytes in chunks of 2,048 bytes, cut as the paper's authors cut them.

    text     the files in order; the last incomplete chunk is dropped
    images   the mean of red, green and blue, its fraction dropped; patches of 32 rows x 64 columns, row by row
    audio    the top byte of each 16-bit sample + 128; each sound's last incomplete chunk is dropped
    random   uniform bytes

After Deletang et al., "Language Modeling Is Compression" (2024), section 3.1, and their code. What it is not: it
compresses nothing (`kolmo.bench.paper`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kolmo.errors import KolmoError
from kolmo.modalities.decoding import PICTURE_SUFFIXES, SOUND_SUFFIXES, files_under, picture, sound

CHUNK_BYTES = 2048
PATCH_ROWS, PATCH_COLUMNS = 32, 64
TEXT_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".tex", ".html", ".xml", ".json", ".jsonl", ".csv", ".log", ".py", ".c"}
)
MODALITIES = ("text", "images", "audio", "random")
DEFAULT_SEED = 1


@dataclass(frozen=True)
class ChunkSet:
    """Chunks of one modality, of equal size.

    Attributes:
        modality: text, images, audio or random.
        source: where they are from, for people.
        chunks: the chunks, in order.
    """

    modality: str
    source: str
    chunks: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of all chunks."""
        return sum(map(len, self.chunks))

    @property
    def joined(self) -> bytes:
        """All chunks, one after another."""
        return b"".join(self.chunks)

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of a SHA-256 of the chunks and their sizes."""
        whole = hashlib.sha256(self.modality.encode())
        for chunk in self.chunks:
            whole.update(len(chunk).to_bytes(8, "little") + chunk)
        return whole.hexdigest()[:16]


def parted(every: ChunkSet, most: int, *, spread: bool = False) -> tuple[ChunkSet, bytes]:
    """At most so many chunks of a set, the first ones or evenly spread ones, and all others joined.

    >>> parted(ChunkSet("text", "", (b"a", b"b", b"c", b"d")), 2, spread=True)[0].chunks
    (b'a', b'c')
    """
    count = len(every.chunks)
    wanted = [k * count // most for k in range(most)] if spread and count > most else range(min(most, count))
    chosen = set(wanted)
    others = b"".join(chunk for k, chunk in enumerate(every.chunks) if k not in chosen)
    return ChunkSet(every.modality, every.source, tuple(every.chunks[k] for k in wanted)), others


def text_chunks(path: str | Path, *, most: int | None = None, size: int = CHUNK_BYTES) -> ChunkSet:
    """A file, or the text files of a folder joined.

    Raises:
        KolmoError: there is not a chunk of text.
    """
    return _gathered("text", path, _pieces(_joined(Path(path)), size), most)


def image_chunks(path: str | Path, *, most: int | None = None) -> ChunkSet:
    """Grey patches of a picture, or of the pictures of a folder.

    Raises:
        KolmoError: there is no picture as large as a patch.
        MissingExtraError: Pillow is not installed.
    """
    pictures = files_under(Path(path), PICTURE_SUFFIXES)
    return _gathered("images", path, (patch for one in pictures for patch in patches(one)), most)


def patches(path: Path) -> Iterator[bytes]:
    """The grey patches of a picture, row by row of patches."""
    import numpy as np

    grey = picture(path).mean(axis=-1).astype(np.uint8)
    rows, columns = grey.shape[0] // PATCH_ROWS, grey.shape[1] // PATCH_COLUMNS
    for row in range(rows):
        for column in range(columns):
            top, left = row * PATCH_ROWS, column * PATCH_COLUMNS
            yield grey[top : top + PATCH_ROWS, left : left + PATCH_COLUMNS].tobytes()


def audio_chunks(path: str | Path, *, most: int | None = None, size: int = CHUNK_BYTES) -> ChunkSet:
    """8-bit samples of a sound, or of the sounds of a folder.

    Raises:
        KolmoError: there is not a chunk of sound.
        MissingExtraError: soundfile is not installed.
    """
    sounds = files_under(Path(path), SOUND_SUFFIXES)
    return _gathered("audio", path, (piece for one in sounds for piece in _pieces([top_bytes(one)], size)), most)


def top_bytes(path: Path) -> bytes:
    """The top byte of each 16-bit sample of a sound, plus 128."""
    import numpy as np

    return ((sound(path).astype(np.int32) >> 8) + 128).astype(np.uint8).tobytes()


def random_chunks(most: int, *, seed: int = DEFAULT_SEED, size: int = CHUNK_BYTES) -> ChunkSet:
    """Uniform random bytes; the same seed gives the same bytes.

    >>> random_chunks(2, seed=1).chunks == random_chunks(3, seed=1).chunks[:2]
    True
    """
    chunks = (hashlib.shake_256(f"kolmo {seed} {k}".encode()).digest(size) for k in range(most))
    return ChunkSet("random", f"seed {seed}", tuple(chunks))


def masked(modality: str, chunk: bytes) -> tuple[bytes, int]:
    r"""A chunk as the paper's models get it, which have an alphabet of 7 bits, and the number of bits that are lost.

    Of text, a byte above 127 loses its top bit; anything else is shifted right, so that every byte loses its lowest.

    >>> masked("text", b"a\xe4"), masked("images", b"\x81\x02")
    ((b'ad', 1), (b'@\x01', 2))
    """
    if modality == "text":
        return bytes(byte & 127 for byte in chunk), sum(byte > 127 for byte in chunk)
    return bytes(byte >> 1 for byte in chunk), len(chunk)


def _joined(path: Path) -> Iterator[bytes]:
    try:
        for file in files_under(path, TEXT_SUFFIXES):
            yield file.read_bytes()
    except OSError as error:
        raise KolmoError(f"{path}: {error.strerror}; name a file or folder that can be read") from None


def _pieces(contents: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Complete pieces of the contents, which are joined."""
    rest = b""
    for content in contents:
        data = rest + content
        end = len(data) // size * size
        yield from (data[at : at + size] for at in range(0, end, size))
        rest = data[end:]


def _gathered(modality: str, path: str | Path, chunks: Iterable[bytes], most: int | None) -> ChunkSet:
    found = tuple(islice(chunks, most))
    if not found:
        raise KolmoError(f"{path}: has not even one chunk of {modality}; name a larger file or folder")
    return ChunkSet(modality, Path(path).name, found)
