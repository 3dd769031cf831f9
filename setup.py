"""Builds the C kernels, if a compiler is at hand, and the description that a package index shows.

Without the kernels the package works from its NumPy reference; `KOLMO_NO_NATIVE=1` leaves them out on purpose.
"""

import os
import re
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

RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def description(root: Path) -> str:
    """README.md for a package index, where relative links lead nowhere: with links to the tag of this version.

    The address is `Repository` of [project.urls] in pyproject.toml; without it the links stay as they are.
    """
    text = (root / "README.md").read_text("utf-8")
    project = (root / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    address = re.search(r'^Repository = "(.+?)/*"$', project, re.MULTILINE)
    if not version or not address:
        return text

    def absolute(link: "re.Match[str]") -> str:
        image, label, path = link.groups()
        return f"{image}[{label}]({address[1]}/{'raw' if image else 'blob'}/v{version[1]}/{path})"

    return RELATIVE_LINK.sub(absolute, text)


if __name__ == "__main__":
    setup(
        long_description=description(Path(__file__).resolve().parent),
        long_description_content_type="text/markdown",
        ext_modules=[] if os.environ.get("KOLMO_NO_NATIVE") == "1" else [KERNELS],
        options={"bdist_wheel": {"py_limited_api": "cp310"}},
    )
