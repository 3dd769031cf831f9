"""Builds the C kernels, if a compiler is at hand; without one the package works from its NumPy reference.

`KOLMO_NO_NATIVE=1` leaves them out on purpose.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

# No flag may change a result: no contraction to fused multiply-add; errno after sqrt is of no use to us.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno"]
NATIVE = Path("src/kolmo/native")
KERNELS = Extension(
    "kolmo.native._kernels",
    sources=sorted(map(str, NATIVE.rglob("*.c"))),
    depends=sorted(map(str, NATIVE.rglob("*.h"))),
    include_dirs=[str(NATIVE)],
    define_macros=[("Py_LIMITED_API", "0x030A0000")],
    py_limited_api=True,
    optional=True,
    extra_compile_args=["/std:c11", "/O2"] if sys.platform == "win32" else FLAGS,
)

setup(
    ext_modules=[] if os.environ.get("KOLMO_NO_NATIVE") == "1" else [KERNELS],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
