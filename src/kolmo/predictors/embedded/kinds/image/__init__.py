"""Pictures in a block: where they are, and their model (docs/image.md)."""

from kolmo.predictors.embedded.kinds.image.kind import NETWORK, Image

__all__ = ["NETWORK", "Image"]
