"""What a model is: its parameters, its bytes as it ships, and what it was trained on.

A Transformer of `kolmo train` says how it was trained in `training.json` of its folder, a recurrent network in its
metadata. What it is not: a measurement; nothing here is found by coding data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolmo.errors import KolmoError
from kolmo.foreign import short

if TYPE_CHECKING:
    from kolmo.predictors.base import Predictor

TRAINING = "training.json"  # in a folder of transformers that `kolmo train` wrote
NOT_STATED = "training not stated"
UNTRAINED = "untrained"
MB = 1_000_000
NOT_SHIPPED = frozenset({TRAINING, ".gitattributes"})  # files of a folder that decoding does not need,
NOT_SHIPPED_SUFFIXES = frozenset({".md", ".txt", ".lock"})  # and these
NAMES = {
    "transformer-200k": "Transformer 200K",
    "transformer-800k": "Transformer 800K",
    "transformer-3.2m": "Transformer 3.2M",
}


@dataclass(frozen=True)
class ModelFacts:
    """A model in numbers and words.

    Attributes:
        label: its name in tables; says so where the model is untrained.
        parameters: learned numbers of its networks; None: not known.
        shipped: bytes of the files that decoding needs; None: not known.
        beside: bytes among these of priors and tokenizers, which are not networks.
        training: in words: data, bytes seen, steps.
        small: whether the networks ship as small weights already, as `kolmo shrink` makes them.
        vocabulary: symbols of a Transformer of `kolmo train`; 0 for others.
        kind: name of its shape, of a Transformer of `kolmo train`; "" for others.
    """

    label: str
    parameters: int | None = None
    shipped: int | None = None
    beside: int = 0
    training: str = NOT_STATED
    small: bool = False
    vocabulary: int = 0
    kind: str = ""

    @property
    def two_bytes(self) -> int | None:
        """Bytes of the model at 2 bytes a parameter, the paper's rule, and what is beside the networks."""
        return None if self.parameters is None else 2 * self.parameters + self.beside


def facts_of(spec: str, predictor: Predictor) -> ModelFacts:
    """What is known of the model of a spec.

    Raises:
        KolmoError: a file that says how the model was trained is damaged.
    """
    if predictor.name in ("cm", "neural"):
        return _embedded(spec, predictor.name)
    if predictor.name == "network":
        return _own(spec, predictor)
    path = Path(spec.partition(":")[2])
    if predictor.name == "hf" and path.is_dir():
        return _folder(spec, path)
    if predictor.name == "gguf" and path.is_file():
        return ModelFacts(spec, None, path.stat().st_size)
    return ModelFacts(spec)


def _embedded(spec: str, name: str) -> ModelFacts:
    from kolmo.predictors import embedded

    folder = Path(embedded.__file__).parent
    priors = sum(path.stat().st_size for path in folder.glob("priors/**/*.bin"))
    if name == "cm":
        return ModelFacts(spec, 0, priors, priors, "priors, as in the package", True)
    parameters, size = _shipped_networks(folder)
    return ModelFacts(spec, parameters, size + priors, priors, "networks and priors, as in the package", True)


def _shipped_networks(folder: Path, *, text: bool = True) -> tuple[int, int]:
    """Parameters and bytes of the networks of pictures and sounds and, with `text`, of text."""
    from kolmo.predictors.embedded import network_file, pixel_network, sample_network

    places = {name: folder / "networks" / f"{name}.safetensors" for name in ("pixels", "samples", "base")}
    parameters = pixel_network.load(places["pixels"]).shape.parameters
    parameters += sample_network.load(places["samples"]).shape.parameters
    if text:
        parameters += network_file.load(places["base"]).shape.parameters
    else:
        del places["base"]
    return parameters, sum(path.stat().st_size for path in places.values())


def _own(spec: str, predictor: Any) -> ModelFacts:
    """A network of one's own, which takes the place of that of text."""
    from kolmo.predictors import embedded

    folder, weights = Path(embedded.__file__).parent, predictor.source.weights
    parameters, size = _shipped_networks(folder, text=False)
    about, own = weights.about, Path(predictor.source.path).stat().st_size
    seen = int(about.get("trained_bytes", "0"))
    words = f"{short(about.get('texts', 'texts not stated'))}; {_amount(seen)} seen" if about else NOT_STATED
    untrained = bool(about) and not seen
    label = f"{spec}, {UNTRAINED}" if untrained else spec
    beside = sum(path.stat().st_size for path in folder.glob("priors/**/*.bin"))
    training = UNTRAINED if untrained else words
    return ModelFacts(label, parameters + weights.shape.parameters, size + own + beside, beside, training, True)


def _folder(spec: str, path: Path) -> ModelFacts:
    files = [one for one in path.rglob("*") if one.is_file() and not one.name.startswith(".")]
    files = [one for one in files if one.name not in NOT_SHIPPED and one.suffix not in NOT_SHIPPED_SUFFIXES]
    weights = [one for one in files if one.suffix == ".safetensors"]
    parameters = _count(weights)
    shipped = sum(one.stat().st_size for one in files)
    beside = shipped - sum(one.stat().st_size for one in weights)
    known = ModelFacts(spec, parameters, shipped, beside)
    if not (path / TRAINING).is_file():
        return known
    try:
        found = json.loads((path / TRAINING).read_text("utf-8"))
        steps, seen, vocabulary = int(found["steps"]), int(found["bytes"]), int(found["vocabulary"])
        kind, texts = str(found["model"]), ", ".join(map(str, found["texts"]))
        lanes, window, seconds = int(found["lanes"]), int(found["window"]), float(found["seconds"])
        before = int(found.get("bytes_before", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KolmoError(f"{path / TRAINING}: damaged ({type(error).__name__}); remove it") from None
    name = NAMES.get(kind, short(kind)) + ("" if vocabulary == 256 else f", BPE {vocabulary:,}")
    if not seen + before:
        return ModelFacts(f"{name}, {UNTRAINED}", parameters, shipped, beside, UNTRAINED, False, vocabulary, kind)
    words = (
        f"{steps:,} steps of {lanes} x {window}, {_amount(seen + before)} of {short(texts)}, {seconds / 60:,.0f} min"
        + (f", of it {_amount(before)} in the run that it began with" if before else "")
    )
    label = f"{name}, {_amount(seen + before)}"
    return ModelFacts(label, parameters, shipped, beside, words, False, vocabulary, kind)


def _count(files: list[Path]) -> int | None:
    """Floats in safetensors files; None where there are none, or where they hold small weights."""
    from kolmo.safetensors import read_header

    if not files:
        return None
    count = 0
    for file in files:
        for place in read_header(file).places.values():
            if not place.dtype.startswith(("F", "BF")):
                return None
            count += place.count
    return count


def _amount(size: int) -> str:
    return f"{size / MB:,.1f} MB" if size < 1000 * MB else f"{size / 1000 / MB:,.1f} GB"
