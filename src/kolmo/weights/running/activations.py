"""How activations enter a product with weights that stay codes (docs/resident.md, "Activations").

What it is not: a product. It loads nothing, so that a configuration can check a name.
"""

from __future__ import annotations

INTEGERS = "int8"  # rounded to 8 bits: products are sums of integers, exact on any machine
FLOATS = "float"  # as they are: weights are decoded tile by tile
ACTIVATIONS = INTEGERS, FLOATS
