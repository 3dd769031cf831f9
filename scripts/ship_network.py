"""Make a run's network the one that the predictor `neural` embeds: `python scripts/ship_network.py RUN`.

Copies it without its own priors, and writes its fingerprint into the predictor's source. What is left to do:
`scripts/train_prior.py`, the network's card, golden files, and after a release a new version of `neural`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from kolmo.predictors.embedded.network_file import load, save

EMBEDDED = Path(__file__).parent.parent / "src" / "kolmo" / "predictors" / "embedded"


def main(run: Path) -> None:
    """Write both files."""
    network = replace(load(run / "network.safetensors"), priors=b"")
    target = EMBEDDED / "networks" / "base.safetensors"
    save(network, target)
    source = EMBEDDED / "text.py"
    line = f'FINGERPRINT = bytes.fromhex("{network.fingerprint.hex()}")'
    text, count = re.subn(r"^FINGERPRINT = .*$", line, source.read_text("utf-8"), flags=re.MULTILINE)
    if count != 1:
        sys.exit(f"{source}: has no line FINGERPRINT = ...; write {line}")
    source.write_text(text, "utf-8")
    print(f"{target.stat().st_size:,} bytes, fingerprint {network.fingerprint.hex()}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/ship_network.py RUN")
    main(Path(sys.argv[1]))
