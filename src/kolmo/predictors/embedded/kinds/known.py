"""The special kinds that this version knows, by code."""

from __future__ import annotations

from functools import cache

from kolmo.predictors.embedded.kinds.audio import Audio
from kolmo.predictors.embedded.kinds.base import Kind
from kolmo.predictors.embedded.kinds.image import Image
from kolmo.predictors.embedded.kinds.program import Program
from kolmo.predictors.embedded.kinds.record import Float, Record


@cache
def special_kinds() -> dict[int, Kind]:
    """Code -> kind, for the kinds beside text and the general ones."""
    kinds: list[Kind] = [Image(), Audio(), Program(), Record(), Float()]
    return {kind.code: kind for kind in kinds}
