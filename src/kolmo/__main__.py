"""`python -m kolmo`: the command line."""

from __future__ import annotations

from kolmo.cli import main

if __name__ == "__main__":
    main()
