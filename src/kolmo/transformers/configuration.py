"""The configuration of the quantization method `kolmo`: how a model is shrunk, or how a shrunk one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers.utils.quantization_config import QuantizationConfigMixin

from kolmo.errors import FormatError
from kolmo.foreign import quoted
from kolmo.hyperfunctions import BitshiftOptions, TrellisOptions
from kolmo.weights.format.record import VERSION
from kolmo.weights.goals import DEFAULT_GOAL, Bits, Goal, Selection, Step
from kolmo.weights.running.activations import ACTIVATIONS
from kolmo.weights.sources.folder import METHOD

OPENING = ("streamed", "cache", "resident", "activations")  # how a shrunk model is opened


class KolmoConfig(QuantizationConfigMixin):
    """The quantization configuration of kolmo, for `from_pretrained(..., quantization_config=KolmoConfig(bits=3))`.

    Args:
        bits: for a model that is not shrunk yet: bits per coded weight, as `kolmo.Bits`; 4 if no step is given either.
        method: how weights become integers: `"trellis"`, or `"bitshift"` for weights that stay codes.
        step: one quantisation step for all tensors instead, as `kolmo.Step`.
        states: number of states of the trellis; by default that of the method.
        prune, keep: as for `kolmo.Selection`.
        streamed: for a shrunk model: decode its layers when they are used, as `stream` does.
        cache: with `streamed`, as for `kolmo.stream`.
        resident: for a shrunk model: keep weights that were coded with the bitshift trellis as codes, and compute with
            these; otherwise all weights are decoded.
        activations: `"int8"` or `"float"`, as for `kolmo.resident`.
        version: version of the file format.

    Raises:
        FormatError: the version is not known here.
        ValueError: bits and step are both given, or an argument is out of its range.
    """

    def __init__(
        self,
        bits: float | None = None,
        *,
        method: str = "trellis",
        step: float | None = None,
        states: int | None = None,
        prune: float = 0.0,
        keep: Sequence[str] = (),
        streamed: bool = False,
        cache: int | None = None,
        resident: bool = True,
        activations: str = "int8",
        version: int = VERSION,
    ) -> None:
        if version != VERSION:
            raise FormatError(
                f"config.json: needs version {quoted(version)} of kolmo's format, but this kolmo reads {VERSION}; "
                "install a newer one"
            )
        self.quant_method: Any = METHOD
        self.version = version
        self.streamed = streamed
        self.cache = cache
        self.resident = resident
        self.activations = activations
        if activations not in ACTIVATIONS:
            raise ValueError(f"activations {activations!r} are not known; choose from {', '.join(ACTIVATIONS)}")
        if bits is not None and step is not None:
            raise ValueError("bits and step exclude each other; give one of them")
        self.goal: Goal = DEFAULT_GOAL if bits is None else Bits(bits)
        if step is not None:
            self.goal = Step(step)
        self.options = _options(method, states)
        if step is not None and not self.options.has_step:
            raise ValueError(f"the method {method} has no step; give bits")
        self.selection = Selection(keep, prune)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """The configuration that a config.json, or `stream`, describes."""
        opening = {key: config_dict[key] for key in OPENING if key in config_dict}
        made = cls(version=config_dict.get("version", 0), **opening)
        return (made, kwargs) if return_unused_kwargs else made

    def to_dict(self) -> dict[str, Any]:
        """The configuration for a config.json: what does not depend on how the model is opened."""
        return {"quant_method": self.quant_method, "version": self.version}

    def get_loading_attributes(self) -> dict[str, Any]:
        """The part that overrides the configuration of a shrunk model."""
        return {name: getattr(self, name) for name in OPENING}


def _options(method: str, states: int | None) -> TrellisOptions | BitshiftOptions:
    methods: dict[str, type[TrellisOptions] | type[BitshiftOptions]] = {
        family.name: family for family in (TrellisOptions, BitshiftOptions)
    }
    if method not in methods:
        raise ValueError(f"method {method!r} is not known; choose from {', '.join(methods)}")
    return methods[method]() if states is None else methods[method](states)
