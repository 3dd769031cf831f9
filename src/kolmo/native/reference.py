"""The kernels in NumPy and Python: the specification of the C kernels, and the fallback where none was built."""

from __future__ import annotations

from kolmo.native.reference_coder import BinaryDecoder, BinaryEncoder
from kolmo.native.reference_context_mixing import ContextMixer

PATHS = ("reference",)

__all__ = ["PATHS", "BinaryDecoder", "BinaryEncoder", "ContextMixer"]
