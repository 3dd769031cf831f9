"""Golden files: for each release a folder of the files that it was the first to write. None is ever made again.

`make.py` and `make_weights.py` write those of the next release. `SHA256SUMS` in each folder has the hash of every file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

RELEASES = Path(__file__).parent
RELEASE = RELEASES / "v0.1.0"  # where new files go
SUMS = "SHA256SUMS"


def find(pattern: str) -> list[Path]:
    """The files of all releases by a pattern such as `*.kmo` or `weights/*.safetensors`."""
    return sorted(RELEASES.glob(f"v*/{pattern}"))


def sums(release: Path) -> dict[str, str]:
    """The hashes that a release records, by path."""
    lines = (release / SUMS).read_text("utf-8").splitlines() if (release / SUMS).exists() else []
    return {path: digest for digest, path in (line.split("  ") for line in lines)}


def measured(release: Path) -> dict[str, str]:
    """The hashes of the files of a release as they are, by path."""
    files = sorted(path for path in release.rglob("*") if path.is_file() and path.name != SUMS)
    return {path.relative_to(release).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def record() -> None:
    """Append the hashes of new files to those of the release; what is there stays."""
    known = sums(RELEASE)
    with open(RELEASE / SUMS, "a", encoding="utf-8") as file:
        file.writelines(f"{digest}  {path}\n" for path, digest in measured(RELEASE).items() if path not in known)
