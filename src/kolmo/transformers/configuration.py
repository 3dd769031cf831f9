"""The configuration of the quantization method `kolmo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers.utils.quantization_config import QuantizationConfigMixin

from kolmo.errors import FormatError
from kolmo.foreign import quoted
from kolmo.weights.format.record import VERSION
from kolmo.weights.sources.folder import METHOD

if TYPE_CHECKING:
    pass


class KolmoConfig(QuantizationConfigMixin):
    """How weights are quantised, or are to be.

    Args:
        bits, step, states, prune, keep: for a model that is not shrunk yet, as for `kolmo.shrink`.
        streamed: for one that is: decode its layers as they are used, as `stream` does.
        version: of the format.

    Raises:
        FormatError: the version is a later one.
    """

    def __init__(
        self,
        bits: float | None = None,
        *,
        step: float | None = None,
        states: int = 8,
        prune: float = 0.0,
        keep: Sequence[str] = (),
        streamed: bool = False,
        version: int = VERSION,
    ) -> None:
        if version != VERSION:
            raise FormatError(
                f"config.json: names version {quoted(version)} of kolmo, here is {VERSION}; install a newer one"
            )
        self.quant_method: Any = METHOD
        self.version = version
        self.streamed = streamed
        self.settings: dict[str, Any] = {
            "bits": bits,
            "step": step,
            "states": states,
            "prune": prune,
            "keep": list(keep),
        }

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """From a config.json, or from `stream`."""
        made = cls(version=config_dict.get("version", 0), streamed=bool(config_dict.get("streamed", False)))
        return (made, kwargs) if return_unused_kwargs else made

    def to_dict(self) -> dict[str, Any]:
        """For a config.json: what does not depend on how it is opened."""
        return {"quant_method": self.quant_method, "version": self.version}

    def get_loading_attributes(self) -> dict[str, Any]:
        """What counts of a configuration that is given for a model that has its own."""
        return {"streamed": self.streamed}
