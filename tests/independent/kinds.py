"""The models of the streams of a block: docs/kinds.md. Pictures, sounds and deflate streams are not decoded here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from independent.arithmetic import Decoder
from independent.binary_contexts import SHAPES, Programs, Records
from independent.binary_views import unview
from independent.container import Frame, digest
from independent.damage import check
from independent.mixing import Mixer, Prior, Source
from independent.network import Forecast, Network
from independent.segments import Stream, decode_block
from independent.shapes import LEVELS, NEURAL, NEURAL_LEVELS, NEURAL_PLAIN, PLAIN, Shape

TEXT, PLAIN_DATA, PACKED, PROGRAM, RECORD, FLOAT = 0, 1, 2, 5, 6, 7


def lanes_of(level: int, size: int) -> int:
    """In how many lanes a text is coded."""
    return 1 if level > 5 else 4 if size >= 8 << 20 else 2 if size >= 4 << 20 else 1


class Models:
    """Models of one predictor at one level. `files` is the folder of priors and networks of the package."""

    def __init__(self, files: Path, predictor: str, level: int, network: Network | None) -> None:
        self.files, self.predictor, self.level, self.network = files, predictor, level, network

    def prior(self, name: str, shape: Shape) -> Prior:
        """A prior of the package."""
        return Prior.read((self.files / "priors" / f"{name}.bin").read_bytes(), shape)

    def mixer(self, stream: Stream, size: int) -> Mixer:
        """The model of a stream."""
        if stream.code == TEXT:
            check(self.network is not None, "text without a network")
            assert self.network
            name, most = NEURAL_LEVELS[self.level]
            shape = NEURAL[name]
            lanes = lanes_of(self.level, size)
            prior = self.network.prior(shape) if self.network.priors else self.prior(name, shape)
            return Mixer(shape, most, size, prior, [Forecast(self.network) for _ in range(lanes)])
        name, most = LEVELS[self.level]
        if stream.code == PACKED:
            name, most = LEVELS[min(self.level, 4)]
        if stream.code == PLAIN_DATA and self.predictor != "cm":
            name, most = NEURAL_PLAIN[self.level], NEURAL_LEVELS[self.level][1]
        if stream.code in (PLAIN_DATA, PACKED):
            return Mixer(PLAIN[name], most, size, self.prior(name, PLAIN[name]))
        check(stream.code in (PROGRAM, RECORD, FLOAT), f"kind {stream.code} is not decoded here")
        name = "program" if stream.code == PROGRAM else "record"
        name += "-fast" if self.level <= 2 else "-light" if self.level <= 4 else ""
        source: Source
        source = Programs(stream.parameters[0]) if stream.code == PROGRAM else Records(*stream.parameters[:2])
        return Mixer(SHAPES[name], most, size, self.prior(f"binary/{name}", SHAPES[name]), [source])

    def decode(self, stream: Stream, size: int, coder: Decoder) -> bytes:
        """The bytes of a stream."""
        mixer = self.mixer(stream, size)
        data = mixer.decode(coder, size)
        return unview(stream.code, stream.parameters, data) if stream.code >= PROGRAM else data


def decode_frame(frame: Frame, models: Callable[[str, bytes], Models]) -> bytes:
    """The content of a frame, each block checked against its digest, and the whole against its own."""
    predictor = frame.predictor
    content = b""
    for block in frame.blocks:
        raw = block.payload
        if block.coded:
            raw = decode_block(block.payload, block.size, models(predictor.name, predictor.parameters).decode)
        check(digest(raw) == block.digest, "a block's digest")
        content += raw
    check(digest(content) == frame.digest, "the content's digest")
    return content
