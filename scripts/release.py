"""Names what still keeps a version from its release: `python scripts/release.py v0.1.0`; status 1 if anything does.

The version is in pyproject.toml; CITATION.cff, CHANGELOG.md and the tag repeat it. Pages that say that the version is
not released yet must no longer do so. The workflow of a release runs this first. What it is not: a test of the package
(`.ci/run`), or what makes the tag (CONTRIBUTING.md, "Release").
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def findings(root: Path, tag: str) -> list[str]:
    """What is not ready in the tree for a tag, a line each."""
    version = (
        found[1] if (found := re.search(r'^version = "(.+)"$', read(root / "pyproject.toml"), re.MULTILINE)) else ""
    )
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and pyproject.toml has the version {version}")
    if not re.search(rf"^version: {re.escape(version)}$", read(root / "CITATION.cff"), re.MULTILINE):
        wrong.append(f"CITATION.cff has another version than {version}")
    if not re.search(r"^date-released: \d{4}-\d\d-\d\d$", read(root / "CITATION.cff"), re.MULTILINE):
        wrong.append("CITATION.cff has no line date-released: YYYY-MM-DD")
    if not re.search(r'^Repository = "https://.+"$', read(root / "pyproject.toml"), re.MULTILINE):
        wrong.append('pyproject.toml has no [project.urls] with Repository = "https://..."')
    if "git clone ADDRESS" in read(root / "README.md"):
        wrong.append("README.md says git clone ADDRESS: write the repository's")
    changes = read(root / "CHANGELOG.md")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.MULTILINE):
        wrong.append(f"CHANGELOG.md has no heading ## [{version}] - YYYY-MM-DD")
    remark = re.compile(rf"{re.escape(version)}\]? (is|-) not (yet )?released|until {re.escape(version)} is released")
    for page in sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")]):
        for number, line in enumerate(read(page).splitlines(), 1):
            if remark.search(line):
                wrong.append(f"{page.relative_to(root).as_posix()}:{number} says that {version} is not released")
    return wrong


def read(path: Path) -> str:
    """The text of a file."""
    return path.read_text("utf-8")


def main(arguments: list[str]) -> int:
    """Print the findings; 1 if there are any."""
    if len(arguments) != 1:
        sys.exit("usage: python scripts/release.py TAG")
    wrong = findings(ROOT, arguments[0])
    print("\n".join(wrong) or f"{arguments[0]}: nothing is left to do in the tree")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
