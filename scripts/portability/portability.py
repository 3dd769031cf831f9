"""Do the kernels give the same bits on other machines? `python scripts/portability/portability.py`.

Builds the kernels with every cross compiler that is installed and runs them under QEMU's user-mode emulation; a build
with the address and undefined-behaviour sanitizers runs along. Debian: apt install qemu-user gcc-aarch64-linux-gnu
gcc-s390x-linux-gnu (big-endian) gcc-riscv64-linux-gnu gcc-i686-linux-gnu. Missing ones are skipped, and named.
"""

from __future__ import annotations

import math
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path

from kolmo.native import tables
from kolmo.native.dispatch import kernels
from kolmo.native.samples.mixture import SampleMixture
from kolmo.predictors.embedded.context_mixing import FULL, LEVELS, Shape, configuration, plain_prior
from kolmo.predictors.embedded.context_mixing import prior as prior_of
from kolmo.predictors.embedded.network import NetworkShape
from kolmo.predictors.embedded.pixel_network import PixelShape
from kolmo.predictors.embedded.sample_network import SampleShape

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "src" / "kolmo" / "native"
GOLDEN = HERE.parent.parent / "tests" / "golden"
MIXER = [NATIVE / "mixer" / name for name in ("context_mixing.c", "context_mixing_baseline.c")]
NETWORK = [NATIVE / "network" / f"network{part}.c" for part in ("", "_baseline", "_avx2", "_avx512")]
PIXELS = [NATIVE / "pixels" / f"pixel_{part}.c" for part in ("network", "baseline", "avx2", "avx512")]
SAMPLES = [NATIVE / "samples" / f"sample_{part}.c" for part in ("network", "mixture", "baseline", "avx2", "avx512")]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-ffp-contract=off", "-fno-math-errno", "-static"]
MACHINES = {
    "this machine": (["gcc", *FLAGS, "-O3"], []),
    "this machine, no optimiser": (["gcc", *FLAGS, "-O0"], []),
    "this machine, clang": (["clang", *FLAGS, "-O3"], []),
    "sanitizers": (["gcc", *FLAGS[:-1], "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"], []),
    "x86, 32 bits": (["i686-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-i386"]),
    "arm64 (NEON)": (["aarch64-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-aarch64"]),
    "arm64 (dot products)": (
        ["aarch64-linux-gnu-gcc", *FLAGS, "-O3", "-march=armv8.2-a+dotprod"],
        ["qemu-aarch64", "-cpu", "max"],
    ),
    "riscv64": (["riscv64-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-riscv64"]),
    "s390x (big-endian)": (["s390x-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-s390x"]),
}
# A network of random weights, and a mixer with all inputs, contexts and selectors that depend on a network.
SMALL = NetworkShape(2, 64, 64, 32, ((2, 6), (0, 5)))
NETWORK_MIXER = Shape("network-mixer", (*FULL.contexts[:12], 36, 37, 38, 39), (1, 2, 11, 12, 13, 14, 15), network=True)
LANES = 3  # as in neural.c


def declare(ctype: str, name: str, values: Iterable[int]) -> str:
    """A C array."""
    return f"static const {ctype} {name}[] = {{{','.join(map(str, values))}}};\n"


def fold(values: Iterable[int]) -> int:
    """FNV-1a over integers, as in main.c."""
    h = 14695981039346656037
    for value in values:
        h = (h ^ value) * 1099511628211 % (1 << 64)
    return h


def write_content(config: bytes, prior: bytes, data: bytes, header: Path) -> None:
    """Write the header of a mixer and its content."""
    header.write_text(
        "#include <stdint.h>\n"
        + declare("int32_t", "config", array("i", config))
        + declare("int32_t", "prior", array("i", prior))
        + declare("int16_t", "stretch", tables.stretch())
        + declare("uint16_t", "squash", tables.squash())
        + declare("uint8_t", "next", tables.automaton()[0])
        + declare("uint8_t", "priority", tables.priorities())
        + declare("uint8_t", "kind", tables.kinds())
        + declare("uint16_t", "reciprocal", tables.reciprocal())
        + declare("uint8_t", "data", data)
    )


def expected(level: int, data: bytes, header: Path) -> str:
    """Write the content header for a level; returns the line that main.c must print, from the kernels here."""
    shape, _ = LEVELS[level]
    config, prior = configuration(shape, 18, 12), prior_of(shape)
    write_content(config, prior, data, header)
    scorer = kernels.ContextMixer(config, tables.packed(), prior, len(data))
    costs = array("H", scorer.costs(data))
    encoder = kernels.BinaryEncoder()
    kernels.ContextMixer(config, tables.packed(), prior, len(data)).encode(encoder, data)
    payload = encoder.finish()
    return f"{fold(costs):016x} {fold(payload):016x} {len(payload)}"


def small_weights() -> bytes:
    """Weights of the small network, the same every time."""
    draw, blob = random.Random(1), b""
    for name, dtype, sizes, _, _ in SMALL.tensors():
        count = math.prod(sizes)
        if dtype == "I8":
            blob += bytes(draw.choice((*range(128), *range(129, 256))) for _ in range(count))
        elif dtype == "U8":
            blob += bytes(draw.randrange(1, 16) << 4 | draw.randrange(1, 16) for _ in range(count))
        else:
            size = 1.0 if "bias" in name else 0.05 if "e_scale" in name or "g_scale" in name else 1e-4
            values = [draw.gauss(0, size) for _ in range(count)]
            blob += struct.pack(f"<{count}{'e' if dtype == 'F16' else 'f'}", *values)
    return blob


def expected_network(header: Path, symbols: bytes) -> str:
    """The same for the small network: the line that network.c must print."""
    blob = small_weights()
    header.write_text(
        "#include <stdint.h>\n"
        + declare("int32_t", "config", array("i", SMALL.config()))
        + declare("uint8_t", "weights", blob)
        + declare("uint32_t", "exp2_weights", tables.exp2_weights())
        + declare("uint16_t", "logarithms", tables.logarithms())
        + declare("uint8_t", "symbols", symbols)
    )
    sums = array("I", kernels.Network(SMALL.config(), blob).start(3).step(symbols))
    stretched = sum(k * kernels.network_stretch(sums[2 * k], sums[2 * k + 1]) for k in range(1, 256))
    return f"{fold(sums):016x} {stretched}"


def expected_pixels(header: Path) -> str:
    """The same for a network of pixels and a picture of 7 x 5 pixels of 4 bytes: the line that pixels.c must print."""
    draw, shape, channels, columns, rows = random.Random(4), PixelShape(64, 1), 4, 5, 7
    parts = []
    for name, place in shape.places().items():
        if place.dtype == "F32":
            size = {"head_scale": 5e-4, "head_bias": 3.0}.get(name, 5.0 if name.endswith("bias") else 2e-3)
            parts.append(struct.pack(f"<{place.count}f", *(draw.uniform(-size, size) for _ in range(place.count))))
        else:
            kind, most = ("h", 3000) if place.dtype == "I16" else ("b", 127)
            parts.append(struct.pack(f"<{place.count}{kind}", *(draw.randint(-most, most) for _ in range(place.count))))
    blob, picture = b"".join(parts), bytes(draw.randrange(256) for _ in range(rows * columns * channels))
    header.write_text(
        "#include <stdint.h>\n"
        + f"enum {{ STRIDE = {columns * channels}, CHANNELS = {channels} }};\n"
        + declare("int32_t", "config", array("i", shape.config()))
        + declare("uint8_t", "weights", blob)
        + declare("uint32_t", "exp2_weights", tables.exp2_weights())
        + declare("uint16_t", "logarithms", tables.logarithms())
        + declare("int8_t", "squeezed", tables.squeezed())
        + declare("uint8_t", "picture", picture)
    )
    network, sums, order = kernels.PixelNetwork(shape.config(), blob), array("I"), (1, 0, 2, 3)
    for pixel in range(rows * columns):
        for turn in range(channels):
            row, column = divmod(pixel, columns)
            sums.frombytes(network.predict(picture, columns * channels, channels, order, row, column, turn))
    return f"{fold(sums):016x}"


def expected_samples(header: Path) -> str:
    """The same for a network of samples and 90 samples of two channels: the line that samples.c must print."""
    draw, shape, count = random.Random(5), SampleShape(64, 2), 90
    blob = b""
    for name, place in shape.places().items():
        if place.dtype == "F32":
            size = 0.4 if name.endswith("bias") else 3e-4
            blob += struct.pack(f"<{place.count}f", *(draw.uniform(-size, size) for _ in range(place.count)))
        else:
            kind, most = ("i", 1 << 17) if place.dtype == "I32" else ("b", 127)
            blob += struct.pack(f"<{place.count}{kind}", *(draw.randint(-most, most) for _ in range(place.count)))
    own, other = (array("i", (draw.randint(-32768, 32767) >> draw.randrange(16) for _ in range(count))) for _ in "12")
    header.write_text(
        "#include <stdint.h>\n"
        + declare("int32_t", "config", array("i", shape.config()))
        + declare("uint8_t", "weights", blob)
        + declare("uint32_t", "sigmoid", tables.sigmoid())
        + declare("uint32_t", "exp2_weights", tables.exp2_weights())
        + declare("uint16_t", "logarithms", tables.logarithms())
        + declare("int32_t", "sound", own + other)
    )
    network, values = kernels.SampleNetwork(shape.config(), blob), list[int]()
    for beside in (None, other.tobytes()):
        found = network.predict(own.tobytes(), beside, 16)
        location, scale, weight = (array(kind, part) for kind, part in zip("qiI", found, strict=True))
        for i, sample in enumerate(own):
            parts = [numbers[8 * i : 8 * i + 8].tolist() for numbers in (location, scale, weight)]
            values += [number for component in zip(*parts, strict=True) for number in component]
            mixture, value = SampleMixture(16, *parts), sample & ~1
            values += [mixture.below(value), mixture.logit(-32768, value // 2, 32768)]
    return f"{fold(value % (1 << 64) for value in values):016x}"


def expected_neural(data: bytes, header: Path) -> str:
    """The same for a mixer with that network, over lanes: the line that neural.c must print."""
    config, prior, network = configuration(NETWORK_MIXER, 18, 12), plain_prior(NETWORK_MIXER), small_weights()
    write_content(config, prior, data, header)
    steps = -(-len(data) // LANES)

    def start() -> kernels.NeuralMixer:
        weights = kernels.Network(SMALL.config(), network)
        return kernels.NeuralMixer(config, tables.packed(), prior, len(data), LANES, 1, weights)

    scorer, encoder = start(), kernels.BinaryEncoder()
    scorer.score(data, steps)
    start().encode(encoder, data, steps)
    payload = encoder.finish()
    return f"{fold(array('H', scorer.costs())):016x} {fold(payload):016x} {len(payload)}"


def compare(folder: str, sources: list[Path], line: str) -> int:
    """Build and run `sources` for every machine; returns how many printed anything else than `line`."""
    different = 0
    for name, (compiler, emulator) in MACHINES.items():
        missing = [tool for tool in (compiler[0], *emulator[:1]) if not shutil.which(tool)]
        if missing:
            print(f"  {name:28} skipped: no {', '.join(missing)}")
            continue
        program = str(Path(folder) / "program")
        build = [*compiler, f"-I{NATIVE}", f"-I{folder}", *map(str, sources), "-lm", "-o", program]
        run = subprocess.run(build, capture_output=True, text=True)
        if run.returncode == 0:
            run = subprocess.run([*emulator, program], capture_output=True, text=True)
        same = run.returncode == 0 and run.stdout.strip() == line
        different += not same
        print(f"  {name:28} {'equal' if same else 'DIFFERENT: ' + (run.stdout + run.stderr)[:500]}")
    return different


def main() -> int:
    """Build and run everything; returns the exit status."""
    data = b"".join(path.read_bytes() for path in sorted(GOLDEN.glob("v*/*.raw")))
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        line = expected_network(Path(folder) / "network_content.h", data[:150])
        print(f"network, 150 bytes: {line}")
        different += compare(folder, [HERE / "network.c", *NETWORK], line)
        line = expected_pixels(Path(folder) / "pixels_content.h")
        print(f"network of pixels, 140 bytes: {line}")
        different += compare(folder, [HERE / "pixels.c", *PIXELS], line)
        line = expected_samples(Path(folder) / "samples_content.h")
        print(f"network of samples, 180 samples: {line}")
        different += compare(folder, [HERE / "samples.c", *SAMPLES], line)
        line = expected_neural(data, Path(folder) / "content.h")
        print(f"network and mixer, {len(data)} bytes in {LANES} lanes: {line}")
        different += compare(folder, [HERE / "neural.c", *MIXER, *NETWORK], line)
        for level in (1, 5, 9):
            line = expected(level, data, Path(folder) / "content.h")
            print(f"level {level}, {len(data)} bytes: {line}")
            different += compare(folder, [HERE / "main.c", *MIXER], line)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
