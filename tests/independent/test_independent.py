"""What the decoder from the pages returns is what the package wrote.

This file alone imports the package, to find its files and to compare.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import kolmo
from independent.arithmetic import Decoder
from independent.binary_views import unview
from independent.container import Bytes, find_blocks, read_frame, read_frames
from independent.damage import Damage
from independent.files.make import START
from independent.files.make_bitshift import activations
from independent.kinds import Models, decode_frame
from independent.network import Network
from independent.segments import read_segments
from independent.weights import bitshift
from independent.weights.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/v0.1.0"
FILES = Path(__file__).parent / "files"
PACKAGE = Path(kolmo.__file__).parent / "predictors/embedded"


@cache
def network(name: str) -> Network | None:
    """The network of a predictor."""
    if name == "cm":
        return None
    path = PACKAGE / "networks/base.safetensors" if name == "neural" else GOLDEN / "networks/v1-tiny.safetensors"
    return Network.read(path.read_bytes())


def models(name: str, parameters: bytes) -> Models:
    """The models of a predictor."""
    own = network(name)
    if name == "network":
        assert own
        assert parameters[1:5] == own.fingerprint[:4]
    return Models(PACKAGE, name, parameters[0], own)


@pytest.mark.parametrize(
    "name",
    [
        *("v1-empty", "v1-one-byte", "v1-random", "v1-mixed", "v1-frames"),
        *("v1-prose-1", "v1-prose-5", "v1-prose-7", "v1-neural-prose-5"),
        *("networks/v1-network-prose-1", "networks/v1-network-prose-4"),
    ],
)
def test_a_golden_file_is_decoded(name: str) -> None:
    frames = read_frames((GOLDEN / f"{name}.kmo").read_bytes())
    content = b"".join(decode_frame(frame, models) for frame in frames)
    assert content == (GOLDEN / f"{name}.raw").read_bytes()


@pytest.mark.parametrize(
    ("name", "steps"), [("v1-program", 300), ("v1-neural-program", 120), ("v1-records", 192), ("v1-float", 160)]
)
def test_the_first_bytes_of_binary_data_are_decoded(name: str, steps: int) -> None:
    block = read_frames((GOLDEN / f"{name}.kmo").read_bytes())[0]
    coder = Decoder(block.blocks[0].payload)
    ((stream, size),) = read_segments(coder, block.blocks[0].size)
    level = block.predictor.parameters[0]
    data = Models(PACKAGE, block.predictor.name, level, None).mixer(stream, size).decode(coder, steps)[:steps]
    *others, offset = stream.parameters
    raw = (GOLDEN / f"{name}.raw").read_bytes()
    whole = steps - 8  # the last value may be cut
    assert unview(stream.code, (*others, 0), data)[:whole] == raw[offset : offset + whole]


def test_the_first_bytes_of_each_lane_are_decoded() -> None:
    frame = read_frames((FILES / "lanes.kmo").read_bytes())[0]
    coder = Decoder(frame.blocks[0].payload)
    ((stream, size),) = read_segments(coder, frame.blocks[0].size)
    mixer = models(frame.predictor.name, frame.predictor.parameters).mixer(stream, size)
    data = mixer.decode(coder, START)
    assert len(mixer.lanes) == 2
    starts = b"".join(data[lane.origin : lane.position] for lane in mixer.lanes)
    assert starts == (FILES / "lanes.starts").read_bytes()


def test_the_index_finds_the_blocks() -> None:
    data = (GOLDEN / "v1-blocks.kmo").read_bytes()
    blocks = read_frames(data)[0].blocks
    for (at, raw), block in zip(find_blocks(data, len(data)), blocks, strict=True):
        assert raw == block.size
        assert block.digest + block.payload in data[at:]
        assert data[at] == 2


@pytest.mark.parametrize("name", ["v1-one-byte", "v1-empty"])
def test_every_flipped_bit_is_found(name: str) -> None:
    data = (GOLDEN / f"{name}.kmo").read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damage):
            decode_frame(read_frame(Bytes(bytes(flipped))), models)


def test_the_page_lists_the_fingerprints() -> None:
    page = (ROOT / "docs/kinds.md").read_text(encoding="utf-8")
    for path in GOLDEN.glob("v1-*.kmo"):
        predictor = read_frames(path.read_bytes())[0].predictor
        level = predictor.parameters[0]
        row = re.search(rf"\| `{predictor.name}` \|(.*)\|\n", page)
        assert row
        given = [cell.strip(" `") for cell in row[1].split("|")]
        assert given[level - 1] == predictor.fingerprint.hex()


@pytest.mark.parametrize("name", ["trellis-8", "trellis-pruned", "lossless"])
def test_a_checkpoint_is_decoded(name: str) -> None:
    path = GOLDEN / f"weights/v1-{name}.safetensors"
    tensors, metadata = read_checkpoint(path.read_bytes())
    assert metadata == {}
    expected = kolmo.load(path)
    assert set(tensors) == set(expected)
    for key, tensor in tensors.items():
        assert tensor.data == np.asarray(expected[key]).tobytes()


def test_a_flipped_bit_of_a_code_is_found() -> None:
    data = bytearray((GOLDEN / "weights/v1-trellis-coarse.safetensors").read_bytes())
    data[-478 + 20] ^= 1  # all codes together have 478 bytes, and 18 belong to the first one's head
    with pytest.raises(Damage, match="checksum"):
        read_checkpoint(bytes(data))


@pytest.mark.parametrize("name", ["rotated", "plain", "large"])
def test_bitshift_is_decoded_and_multiplied(name: str) -> None:
    case = json.loads((FILES / "bitshift.json").read_text())[name]
    payload, (rows, columns) = bytes.fromhex(case["payload"]), case["shape"]
    coded = bitshift.decode(payload, rows, columns)
    assert hashlib.sha256(coded.weights().tobytes()).hexdigest() == case["weights"]
    assert hashlib.sha256(coded.product(activations(columns)).tobytes()).hexdigest() == case["product"]
    with pytest.raises(Damage):
        bitshift.decode(payload[:-1] + bytes([payload[-1] ^ 1]), rows, columns)
