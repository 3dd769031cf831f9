"""Ways of quantising a model that transformers do not know until a module of this package is imported.

Those modules stand above the predictors, so they are registered here instead of being imported: `kolmo/__init__.py`
does so for the package's own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A way of quantising, as the `quant_method` of a configuration names it.

    Attributes:
        module: to import before a model's class is made; it registers the method with transformers.
        weights: name of the file that holds such a model's weights.
    """

    module: str
    weights: str


METHODS: dict[str, Method] = {}  # by `quant_method`


def register(name: str, module: str, weights: str) -> None:
    """Make a method known; a later one of the same name replaces it."""
    METHODS[name] = Method(module, weights)
