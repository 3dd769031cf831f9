"""Prints dependencies whose versions are not as in versions.txt, the last that passed; --write notes these."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIST = Path(__file__).with_name("versions.txt")


def installed(name: str) -> str:
    """The version of a distribution here, or a dash."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


known = dict(line.split("==") for line in LIST.read_text("utf-8").split())
here = {name: installed(name) for name in known}
if "--write" in sys.argv[1:]:
    LIST.write_text("".join(f"{name}=={here[name]}\n" for name in sorted(known)), "utf-8")
for name, before in sorted(known.items()):
    if here[name] != before:
        print(f"{name}: {before} passed, {here[name]} is here")
print(f"{sum(here[name] == known[name] for name in known)} of {len(known)} are the same")
