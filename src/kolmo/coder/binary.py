"""The binary arithmetic coder: `BinaryEncoder` and `BinaryDecoder`, from C where it was built, else in Python.

A carry-propagating range coder (Martin 1979; Schindler 1998) over binary decisions with 16-bit probabilities: the
interval arithmetic is in docs/format.md, "The arithmetic coder". Both implementations give the same bytes.
"""

from __future__ import annotations

from kolmo.native.dispatch import kernels

BinaryEncoder = kernels.BinaryEncoder
BinaryDecoder = kernels.BinaryDecoder

__all__ = ["BinaryDecoder", "BinaryEncoder"]
