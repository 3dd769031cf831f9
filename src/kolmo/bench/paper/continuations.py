"""What compressors expect after the first part of a text, of pictures and of sounds, and what the true rest costs them.

A compressor C is a model: p(x | context) is proportional to 2^-(|C(context x)| - |C(context)|), lengths in bits
(Deletang et al., 2024, section 2 and 3.4). gzip draws byte by byte by this rule, predictors from their own
probabilities; those that have kinds of data are told which one it is. The cost of the true rest is measured alike for
all: how much longer it makes the packed data, which are unpacked and compared.

What it is not: files or pages (`bench.paper.continued`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolmo.bench.paper.codecs import Codec, Predicted, classical
from kolmo.errors import KolmoError
from kolmo.foreign import reason
from kolmo.modalities.chunks import PATCH_COLUMNS, ChunkSet, grey_of, top_bytes
from kolmo.modalities.sources import pictures, sounds
from kolmo.predictors.base import Predictor
from kolmo.predictors.choice import Choice, Randomness
from kolmo.predictors.registry import resolve
from kolmo.progress import Phases, no_phases

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VERSION = 1  # of the rules: stored continuations of others are not taken
STORE = "continuations.jsonl"
# Of the draws: at 1 an unlikely byte leads all that follow astray, at less than this pictures and sounds come to rest.
TEMPERATURES = {"text": 0.7, "images": 0.9, "audio": 0.85}
PARTS = 3  # patches, and large pictures
CROP_ROWS, CROP_COLUMNS = 96, 128  # of a large picture
DRAWN_PART = 4  # of a long sound a second is given, and a quarter of one is drawn
RATE = 16_000  # Hz, of sounds whose rate is not known


@dataclass(frozen=True)
class Prompt:
    """A part of the data, of which compressors get the beginning.

    Attributes:
        name: of its files, such as picture-1.
        modality: text, images or audio.
        given: what compressors get.
        rest: what follows in truth.
        kind: of data, as predictors name it; "" for text.
        parameters: of the kind.
        large: whether only predictors that know kinds go on from it, since others take too long.
        rate: of a sound, in Hz.
    """

    name: str
    modality: str
    given: bytes
    rest: bytes
    kind: str = ""
    parameters: Mapping[str, int] = field(default_factory=dict)
    large: bool = False
    rate: int = RATE

    @property
    def width(self) -> int:
        """Columns of a picture."""
        return self.parameters["stride"]


@dataclass(frozen=True)
class Continuation:
    """What a compressor made of a prompt.

    Attributes:
        prompt: the prompt's name.
        codec: label of the compressor.
        made: what it drew after what is given; shorter where it ended early.
        bits: what the true rest costs it, a byte; None where that was not measured.
        compared: whether prompt and rest came back when they were unpacked.
        note: why nothing was made; "" where it was.
    """

    prompt: str
    codec: str
    made: bytes
    bits: float | None = None
    compared: bool = True
    note: str = ""

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "made": base64.b64encode(self.made).decode("ascii")}


@dataclass(frozen=True)
class Continuations:
    """All prompts, and what was made of them, in order."""

    prompts: tuple[Prompt, ...]
    made: tuple[Continuation, ...]
    seed: int

    def of(self, prompt: Prompt) -> list[Continuation]:
        """Of one prompt."""
        return [one for one in self.made if one.prompt == prompt.name]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        prompts = [
            {
                "prompt": one.name,
                "modality": one.modality,
                "kind": one.kind,
                **one.parameters,
                "given": base64.b64encode(one.given).decode("ascii"),
                "rest": base64.b64encode(one.rest).decode("ascii"),
            }
            for one in self.prompts
        ]
        return {
            "seed": self.seed,
            "temperatures": TEMPERATURES,
            "prompts": prompts,
            "continuations": [one.record() for one in self.made],
        }


def continue_all(
    codecs: Sequence[Codec],
    sets: Sequence[ChunkSet],
    places: Mapping[str, str | Path],
    *,
    seed: int,
    store: Path | None = None,
    progress: Phases = no_phases,
) -> Continuations:
    """Let each compressor that can go on from the beginnings of some of the data.

    Args:
        codecs: compressors; gzip and predictors go on, others are left out.
        sets: the chunks, of which one of text, some of pictures and one of sound are continued.
        places: where pictures and sounds are ("images", "audio"), for larger pieces.
        seed: of the draws.
        store: a file where continuations are kept as they are made; a later run takes them from there.
        progress: called with a title and a number of bytes.

    Raises:
        KolmoError: data cannot be read.
    """
    prompts = tuple(prompts_of(sets, places))
    known = _stored(store)
    made = []
    for prompt in prompts:
        for codec in codecs:
            predictor = predictor_of(codec)
            if predictor is None:
                continue
            told = predictor.of_kind(prompt.kind, prompt.parameters) if prompt.kind else predictor
            if prompt.large and told is predictor:
                continue
            key = _key(codec, prompt, seed)
            found = known.get(key)
            if found is None:
                with progress(f"{codec.label} goes on from {prompt.name}", len(prompt.rest)) as done:
                    found = _continue(codec, told, prompt, seed, done)
                _keep(store, key, found)
            made.append(found)
    return Continuations(prompts, tuple(made), seed)


def predictor_of(codec: Codec) -> Predictor | None:
    """The predictor that draws for a compressor; None: it takes too long, or has no bytes to draw from."""
    if isinstance(codec, Predicted):
        return codec.predictor
    return resolve("classical:gzip") if codec.key == "gzip" else None


# The data


def prompts_of(sets: Sequence[ChunkSet], places: Mapping[str, str | Path]) -> Iterator[Prompt]:
    """A text, patches, large pictures, a chunk of sound and a longer one.

    Of patches and of chunks of sound, those whose values vary most are taken, each from its own part of the data.
    """
    chunks = {one.modality: one.chunks for one in sets}
    if text := chunks.get("text"):
        middle = text[len(text) // 2]
        at = len(middle) * 3 // 4
        yield Prompt("text", "text", middle[:at], middle[at:])
    for number, patch in enumerate(_liveliest(chunks.get("images", ()), PARTS), 1):
        yield _picture(f"patch-{number}", patch, PATCH_COLUMNS)
    if "images" in places and chunks.get("images"):
        for number, crop in enumerate(islice(_crops(places["images"]), PARTS), 1):
            yield _picture(f"picture-{number}", crop.tobytes(), CROP_COLUMNS, large=True)
    for chunk in _liveliest(chunks.get("audio", ()), 1):
        yield _sound("sound", chunk, len(chunk) // 2, RATE)
    if "audio" in places and chunks.get("audio"):
        for one in sounds(places["audio"]):
            size = one.rate + one.rate // DRAWN_PART
            if len(one.samples) >= size:
                yield _sound("long-sound", top_bytes(one.samples[:size]), one.rate, one.rate, large=True)
                return


def _picture(name: str, pixels: bytes, width: int, *, large: bool = False) -> Prompt:
    at = len(pixels) // width // 2 * width
    parameters = {"stride": width, "channels": 1, "order": 0}
    return Prompt(name, "images", pixels[:at], pixels[at:], "image", parameters, large)


def _sound(name: str, samples: bytes, at: int, rate: int, *, large: bool = False) -> Prompt:
    parameters = {"bits": 8, "channels": 1, "big": 0, "unsigned": 1, "phase": 0}
    return Prompt(name, "audio", samples[:at], samples[at:], "audio", parameters, large, rate)


def _liveliest(chunks: Sequence[bytes], count: int) -> Iterator[bytes]:
    """From each of `count` equal parts of the chunks, the one whose bytes have the largest variance."""
    import numpy as np

    def variance(chunk: bytes) -> int:
        values = np.frombuffer(chunk, np.uint8).astype(np.int64)
        return int(len(values) * (values * values).sum() - values.sum() ** 2)

    count = min(count, len(chunks))
    for k in range(count):
        yield max(chunks[len(chunks) * k // count : len(chunks) * (k + 1) // count], key=variance)


def _crops(place: str | Path) -> Iterator[npt.NDArray[np.uint8]]:
    """The middles of pictures that are large enough."""
    for pixels in pictures(place):
        top, left = (pixels.shape[0] - CROP_ROWS) // 2, (pixels.shape[1] - CROP_COLUMNS) // 2
        if min(top, left) >= 0:
            yield grey_of(pixels[top : top + CROP_ROWS, left : left + CROP_COLUMNS])


# One continuation


def _continue(
    codec: Codec, predictor: Predictor, prompt: Prompt, seed: int, done: Callable[[int], None] | None
) -> Continuation:
    name, label = prompt.name, codec.label
    try:
        made = b"".join(_drawn(predictor, prompt, seed, done))
    except KolmoError as error:
        return Continuation(name, label, b"", note=reason(error))
    packer = Predicted(codec.key, predictor) if isinstance(codec, Predicted) else classical()["gzip"]
    whole = prompt.given + prompt.rest
    packed = packer.pack(whole)
    compared = packer.unpack(packed, len(whole)) == whole
    bits = 8 * (len(packed) - len(packer.pack(prompt.given))) / len(prompt.rest)
    return Continuation(name, label, made, round(bits, 5), compared)


def _drawn(predictor: Predictor, prompt: Prompt, seed: int, done: Callable[[int], None] | None) -> Iterator[bytes]:
    left = len(prompt.rest)
    for piece in predictor.continuation(prompt.given, left, Randomness(seed), Choice(TEMPERATURES[prompt.modality])):
        yield piece[:left]
        if done:
            done(min(len(piece), left))
        left -= len(piece)
        if left <= 0:
            return


def _key(codec: Codec, prompt: Prompt, seed: int) -> str:
    """What a continuation depends on, as 16 hexadecimal digits."""
    whole = hashlib.sha256()
    parameters = repr((prompt.name, prompt.kind, sorted(prompt.parameters.items()), len(prompt.given)))
    for part in (
        str(VERSION),
        codec.identity,
        codec.version,
        str(seed),
        str(TEMPERATURES[prompt.modality]),
        parameters,
    ):
        whole.update(part.encode() + b"\n")
    return hashlib.sha256(whole.digest() + prompt.given + prompt.rest).hexdigest()[:16]


def _keep(store: Path | None, key: str, found: Continuation) -> None:
    if store is None:
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    with open(store, "a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, **found.record()}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _stored(store: Path | None) -> dict[str, Continuation]:
    """Continuations of earlier runs, by their keys; a line that was cut short is left out."""
    found: dict[str, Continuation] = {}
    lines: Iterable[str] = ()
    if store is not None and store.exists():
        lines = store.read_text("utf-8", errors="replace").split("\n")
    for line in lines:
        try:
            record = json.loads(line)
            key, made = str(record.pop("key")), base64.b64decode(record.pop("made"), validate=True)
            found[key] = Continuation(made=made, **record)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return found


__all__ = [
    "STORE",
    "TEMPERATURES",
    "Continuation",
    "Continuations",
    "Prompt",
    "continue_all",
    "predictor_of",
    "prompts_of",
]
