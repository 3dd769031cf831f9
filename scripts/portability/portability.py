"""Do the kernels give the same bits on other machines? `python scripts/portability/portability.py`.

Builds the kernels with every cross compiler that is installed and runs them under QEMU's user-mode emulation; a build
with the address and undefined-behaviour sanitizers runs along. Debian: apt install qemu-user gcc-aarch64-linux-gnu
gcc-s390x-linux-gnu (big-endian) gcc-riscv64-linux-gnu gcc-i686-linux-gnu. Missing ones are skipped, and named.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path

from kolmo.native import tables
from kolmo.native.dispatch import kernels
from kolmo.predictors.context_mixing import ContextMixing, configuration

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "src" / "kolmo" / "native"
GOLDEN = HERE.parent.parent / "tests" / "golden"
SOURCES = [HERE / "main.c", NATIVE / "context_mixing.c", NATIVE / "context_mixing_baseline.c"]
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-ffp-contract=off", "-static"]
MACHINES = {
    "this machine": (["gcc", *FLAGS, "-O3"], []),
    "this machine, no optimiser": (["gcc", *FLAGS, "-O0"], []),
    "this machine, clang": (["clang", *FLAGS, "-O3"], []),
    "sanitizers": (["gcc", *FLAGS[:-1], "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover"], []),
    "x86, 32 bits": (["i686-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-i386"]),
    "arm64 (NEON)": (["aarch64-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-aarch64"]),
    "riscv64": (["riscv64-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-riscv64"]),
    "s390x (big-endian)": (["s390x-linux-gnu-gcc", *FLAGS, "-O3"], ["qemu-s390x"]),
}


def declare(ctype: str, name: str, values: Iterable[int]) -> str:
    """A C array."""
    return f"static const {ctype} {name}[] = {{{','.join(map(str, values))}}};\n"


def fold(values: Iterable[int]) -> int:
    """FNV-1a over integers, as in main.c."""
    h = 14695981039346656037
    for value in values:
        h = (h ^ value) * 1099511628211 % (1 << 64)
    return h


def expected(level: int, data: bytes, header: Path) -> str:
    """Write the content header for a level; returns the line that main.c must print, from the kernels here."""
    predictor = ContextMixing(level)
    config, prior = configuration(predictor.shape, 18, 12), predictor.prior()
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
    scorer = kernels.ContextMixer(config, tables.packed(), prior, len(data))
    costs = array("H", scorer.costs(data))
    encoder = kernels.BinaryEncoder()
    kernels.ContextMixer(config, tables.packed(), prior, len(data)).encode(encoder, data)
    payload = encoder.finish()
    return f"{fold(costs):016x} {fold(payload):016x} {len(payload)}"


def main() -> int:
    """Build and run everything; returns the exit status."""
    data = b"".join(path.read_bytes() for path in sorted(GOLDEN.glob("*.raw")))
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        for level in (1, 5, 9):
            line = expected(level, data, Path(folder) / "content.h")
            print(f"level {level}, {len(data)} bytes: {line}")
            for name, (compiler, emulator) in MACHINES.items():
                missing = [tool for tool in (compiler[0], *emulator) if not shutil.which(tool)]
                if missing:
                    print(f"  {name:28} skipped: no {', '.join(missing)}")
                    continue
                program = str(Path(folder) / "program")
                build = [*compiler, f"-I{NATIVE}", f"-I{folder}", *map(str, SOURCES), "-o", program]
                run = subprocess.run(build, capture_output=True, text=True)
                if run.returncode == 0:
                    run = subprocess.run([*emulator, program], capture_output=True, text=True)
                same = run.returncode == 0 and run.stdout.strip() == line
                different += not same
                print(f"  {name:28} {'equal' if same else 'DIFFERENT: ' + (run.stdout + run.stderr)[:500]}")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
