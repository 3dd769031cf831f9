"""Chooses the kernels once, at import: C where it was built, else the NumPy reference.

`KOLMO_KERNEL` forces a path: `reference`, or one of the C paths that this machine can run (`baseline`, `avx2`,
`avx512`, `amx`). All paths give the same bits; the variable exists for tests and for measuring.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError

REMEDY = "install a C compiler, then reinstall kolmo (without KOLMO_NO_NATIVE)"
choice = os.environ.get("KOLMO_KERNEL", "auto")

if TYPE_CHECKING:
    from kolmo.native import reference as kernels
else:
    if choice == "reference":
        from kolmo.native import reference as kernels
    else:
        try:
            from kolmo.native import _kernels as kernels
        except ImportError as error:
            if choice != "auto":
                raise KolmoError(
                    f"KOLMO_KERNEL={choice}: the C kernels are not built here ({error}); "
                    "reinstall with a C compiler, or unset the variable"
                ) from None
            from kolmo.native import reference as kernels
        else:
            if choice != "auto":
                try:
                    kernels.force_path(choice)
                except ValueError:
                    raise KolmoError(
                        f"KOLMO_KERNEL={choice}: not a path of this machine; "
                        f"choose from reference, {', '.join(kernels.PATHS)}"
                    ) from None

SLOW = kernels.PATHS == ("reference",)  # the NumPy reference: at most 1 KB a second


def describe() -> str:
    """Which kernels run here, for `kolmo --version`; without a C compiler, what to do about it."""
    if not SLOW:
        forced = "" if choice == "auto" else f", {choice} forced by KOLMO_KERNEL"
        return f"C kernels: {', '.join(kernels.PATHS)}{forced}"
    if choice == "reference":
        return "NumPy alone, as KOLMO_KERNEL=reference asks: 20 times slower or more"
    return f"NumPy alone, 20 times slower or more, as no C compiler was found at install: {REMEDY}"


__all__ = ["SLOW", "describe", "kernels"]
