"""Quantisation methods that transformers support only after a module of this package is imported.

Those modules are on a higher floor, so they are registered here by name instead of being imported; `kolmo/__init__.py`
registers those of the package.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A quantisation method, named by the `quant_method` of a configuration.

    Attributes:
        module: to import before a model's class is made; it registers the method with transformers.
        weights: name of the file that holds such a model's weights.
    """

    module: str
    weights: str


METHODS: dict[str, Method] = {}  # by `quant_method`


def register(name: str, module: str, weights: str) -> None:
    """Register a method; it replaces an earlier one of the same name."""
    METHODS[name] = Method(module, weights)
