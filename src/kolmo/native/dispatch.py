"""Chooses the kernels once, at import: C where it was built, else the NumPy reference.

`KOLMO_KERNEL` forces a path: `reference`, or one of the C paths that this machine can run (`baseline`, `avx2`,
`avx512`). All paths give the same bits; the variable exists for tests and for measuring.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kolmo.errors import KolmoError

if TYPE_CHECKING:
    from kolmo.native import reference as kernels
else:
    choice = os.environ.get("KOLMO_KERNEL", "auto")
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

SLOW = kernels.PATHS == ("reference",)  # 1 KB a second or less

__all__ = ["SLOW", "kernels"]
