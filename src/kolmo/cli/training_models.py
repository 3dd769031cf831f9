"""The model of `kolmo train`, and its settings, from the options of the command."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kolmo.predictors.embedded.pixel_network import PixelShape
    from kolmo.predictors.embedded.sample_network import SampleShape
    from kolmo.training.networks.models import AnyShape
    from kolmo.training.settings import Settings

RECURRENT = ("tiny", "small", "base", "large")
TRANSFORMERS = ("transformer-200k", "transformer-800k", "transformer-3.2m")
NUMERIC = {"pixels": (1024, 0.004), "samples": (512, 0.003)}  # bytes or samples in a batch, and the rate of Adam
SIZES = ("layers", "state", "embedding", "slot", "tables")  # of a recurrent network
LANES, STEPS = 32, 256  # of recurrent networks
TRANSFORMER_LANES = 8  # of a whole context each
PUBLISHED_LANES = 32  # the same, of "Language Modeling Is Compression"
TEXT_OPTIONS = ("embedding", "slot", "tables", "positions", "window", "dtype", "validate")


def choose_shape(given: dict[str, Any]) -> AnyShape:
    """The shape of the model that the options name.

    Raises:
        click.UsageError: options that the model does not have, or sizes that none has.
    """
    from kolmo.training.networks.models import SHAPES
    from kolmo.training.networks.transformer import TRANSFORMERS as SIZES_OF

    network = given["network"]
    sizes = {name: given[name] for name in SIZES if given[name] is not None}
    if network in NUMERIC:
        return _numeric_shape(given, sizes)
    if network in TRANSFORMERS:
        if sizes:
            raise click.UsageError(
                f"--{next(iter(sizes))} is for recurrent networks; --model {network} is a Transformer"
            )
        positions = given["positions"] or ("rotary" if given["published"] else None)
        changes = {"positions": positions, "context": given["window"]}
        return dataclasses.replace(SIZES_OF[network], **{k: v for k, v in changes.items() if v is not None})
    if given["positions"] is not None or given["vocabulary"] != "bytes" or given["published"]:
        option = "--positions" if given["positions"] is not None else "--vocabulary"
        option = "--published" if given["published"] else option
        raise click.UsageError(f"{option} is for Transformers; --model {network} is a recurrent network over bytes")
    shape = dataclasses.replace(SHAPES[network], **sizes)
    if problem := shape.problem():
        raise click.UsageError(f"no recurrent network has {problem}")
    return shape


def _numeric_shape(given: dict[str, Any], sizes: dict[str, Any]) -> AnyShape:
    from kolmo.predictors.embedded.pixel_network import PixelShape
    from kolmo.predictors.embedded.sample_network import SampleShape

    network = given["network"]
    wrong = [name for name in TEXT_OPTIONS if given[name] not in (None, ())]
    wrong += ["vocabulary"] * (given["vocabulary"] != "bytes") + ["published"] * given["published"]
    if wrong:
        raise click.UsageError(f"--{wrong[0]} is for models of text; --model {network} is a network of {network}")
    layers, width = sizes.get("layers"), sizes.get("state")
    shape: PixelShape | SampleShape
    if network == "pixels":
        shape = PixelShape(width or PixelShape.hidden, PixelShape.layers if layers is None else layers)
    else:
        shape = SampleShape(width or SampleShape.width, SampleShape.layers if layers is None else layers)
    if problem := shape.problem():
        raise click.UsageError(f"no network of {network} has {problem}")
    return shape


def choose_settings(given: dict[str, Any]) -> Settings:
    """The settings that the options give."""
    from kolmo.training.networks.transformer import TransformerShape
    from kolmo.training.settings import Settings

    network = given["network"]
    lanes, steps = LANES, STEPS
    if network in TRANSFORMERS:
        lanes, steps = PUBLISHED_LANES if given["published"] else TRANSFORMER_LANES, TransformerShape.context
    adam_rate = Settings.adam_rate
    if network in NUMERIC:
        (lanes, adam_rate), steps = NUMERIC[network], 1
    return Settings(
        given["budget"],
        given["lanes"] or lanes,
        given["window"] or steps,
        "float32" if network in NUMERIC else given["dtype"] or "auto",
        given["seed"],
        given["vocabulary"],
        given["quantise_from"],
        given["rate"],
        adam_rate=adam_rate,
        early_stop=not given["no_early_stop"],
    )
