"""Trained networks with their weights made small, by kolmo and its peers: loss against bytes.

    KOLMO_DATA=DIR python benchmarks/weights_networks.py --markdown docs/benchmarks/weights.md --figure FILE.png

Networks: ResNet-56 for CIFAR-10 (weights of github.com/akamaster/pytorch_resnet_cifar10 below DIR/models; 2,000 test
images from DIR/bench/images; cross-entropy in nats and top-1), stories260K (tests/models; bits per character of 64
stories that the model itself told, so that what a quantiser adds is a divergence from the original), and, with
--language-model FOLDER, what `kolmo train` made (bits per character of the first 60,000 characters of
DIR/bench/text/wiki.test.raw, in windows of the model's context, of which the second half counts).

All methods code the same tensors, those that `kolmo shrink` codes, without norms; the others stay exact and are in no
size. Bits: all bytes of the coded ones, over their weights; for ours the whole file. harness/quantisers.py has the
peers.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from harness import models as models_made
from harness import quantisers, sections
from harness.measuring import log
from harness.quantisers import Method, Weights
from harness.tables import table
from kolmo.hyperfunctions.torus import PRESETS
from kolmo.weights.format.groups import is_coded

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
NORM = "running_mean", "running_var", "weight", "bias"
STORIES, LENGTH = 64, 256
CHARACTERS = 60_000
KEPT = ("*gain",)  # stacked norms, which look like a matrix, but are not what these methods are made for
BITS = 2.0, 2.5, 3.0, 3.5, 4.0, 5.0
LEVELS = -4, -6, -8, -10, -12, -14  # NNCodec's QPs, from that of the weights' deviation on
GGML = "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "IQ3_S", "Q2_K", "IQ2_S"
TARGETS = {4.0: 0.015, 3.1: 0.065}  # bits per weight: upper bound on the bits per character that are added
MIN_TORUS_RATIO = 1.5  # the bytes of torus should be at least this multiple of ours
MARKS = {
    "kolmo, 8 states": "o-",
    "kolmo, 64 states": "o--",
    "kolmo, 8 states, least error": "v:",
    "NNCodec": "s-",
    "NNCodec, lambda 0.5": "s--",
    "torus": "x-",
}

Scores = dict[str, float]


@dataclass(frozen=True)
class Network:
    """Weights by name, and what scores a model with them; the first score is the loss."""

    name: str
    unit: str
    weights: Weights
    score: Callable[[Weights], Scores]

    @property
    def coded(self) -> Weights:
        """What `kolmo shrink` codes, without norms."""
        return {name: w for name, w in self.weights.items() if is_coded(name, "F32", w.shape, KEPT)}


@dataclass(frozen=True)
class Point:
    """A method on a network: bits a weight, those of them in a header, and what it adds to the original's scores."""

    family: str
    setting: str
    bits: float
    header: float
    added: Scores

    @property
    def loss(self) -> float:
        """Added loss."""
        return next(iter(self.added.values()))


def resnet(data: Path, depth: int = 56, most: int = 2000) -> Network:
    """ResNet-56, or -20 (He et al. 2015, section 4.2), whose shortcuts drop pixels and add empty channels."""
    (file,) = (data / "models/resnet_cifar10").glob(f"resnet{depth}-*.th")
    found = torch.load(file, map_location="cpu", weights_only=True)
    weights = {name.removeprefix("module."): value.numpy() for name, value in found["state_dict"].items()}
    images, labels = (part[:: len(part) // most] for part in _images(data / "bench/images/cifar10_jpeg_test.tar"))

    def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
        def layer(x: Tensor, at: str, number: int, stride: int = 1) -> Tensor:
            x = functional.conv2d(x, state[f"{at}conv{number}.weight"], None, stride, 1)
            mean, variance, scale, shift = (state[f"{at}bn{number}.{part}"] for part in NORM)
            return functional.batch_norm(x, mean, variance, scale, shift)

        x = functional.relu(layer(x, "", 1))
        for group in range(3):
            for block in range((depth - 2) // 6):
                at, stride = f"layer{group + 1}.{block}.", 2 if group and not block else 1
                inner = layer(functional.relu(layer(x, at, 1, stride)), at, 2)
                empty = (inner.shape[1] - x.shape[1]) // 2
                x = functional.relu(inner + functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, empty, empty)))
        return functional.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])

    def score(weights: Weights) -> Scores:
        state = {name: torch.from_numpy(value) for name, value in weights.items()}
        with torch.inference_mode():
            logits = torch.cat([forward(state, part) for part in torch.split(images, 250)])
        top = float((logits.argmax(1) == labels).double().mean())
        return {"nats": float(functional.cross_entropy(logits.double(), labels)), "top-1": 100 * top}

    return Network(f"ResNet-{depth}", "nats an image", weights, score)


def _images(path: Path) -> tuple[Tensor, Tensor]:
    from PIL import Image

    pixels, labels = [], []
    with tarfile.open(path) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:
                image = np.asarray(Image.open(io.BytesIO(file.read())), np.float32)
                pixels.append((image / 255 - MEAN) / DEVIATION)
                labels.append(CLASSES.index(member.name.split("/")[-2]))
    return torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2).copy()), torch.tensor(labels)


def stories() -> Network:
    """stories260K, a Llama of 5 layers: that of tests/models."""
    with tempfile.TemporaryDirectory() as work:
        folder = models_made.stories(Path(work))
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model.eval()
    torch.manual_seed(1)
    with torch.inference_mode():
        start = torch.full((STORIES, 1), 1)
        told = model.generate(start, do_sample=True, temperature=1.0, top_k=0, max_length=LENGTH, eos_token_id=None)
    characters = sum(len(text) for text in tokenizer.batch_decode(told, skip_special_tokens=True))

    def score(weights: Weights) -> Scores:
        load(model, weights)
        with torch.inference_mode():
            logits = model(told[:, :-1]).logits.double()
        nats = functional.cross_entropy(logits.flatten(0, 1), told[:, 1:].flatten(), reduction="sum")
        return {"bits/char": float(nats) / math.log(2) / characters}

    weights = {name: value.numpy() for name, value in model.state_dict().items() if name != "lm_head.weight"}
    return Network("stories260K", "bits per character", {name: w.copy() for name, w in weights.items()}, score)


def language_model(folder: Path, data: Path) -> Network:
    """A Transformer of `kolmo train`."""
    from kolmo.training.networks.models import load as load_model
    from kolmo.training.texts.vocabulary import BytePairs

    model: Any = load_model(str(folder)).eval()
    vocabulary = BytePairs.load((folder / "tokenizer.json").read_text("utf-8"), "bpe:1024")
    text = (data / "bench/text/wiki.test.raw").read_text("utf-8")[:CHARACTERS]
    tokens = torch.from_numpy(vocabulary.encode(np.frombuffer(text.encode(), np.uint8)).astype(np.int64))
    length = model.shape.context
    starts = range(0, len(tokens) - length, length // 2)
    windows = torch.stack([tokens[at : at + length] for at in starts], 1)  # (context, windows)
    counted = vocabulary_bytes(vocabulary, tokens[length // 2 : starts[-1] + length])
    characters = len(counted.decode("utf-8", "replace"))

    def score(weights: Weights) -> Scores:
        load(model, weights)
        nats = 0.0
        with torch.inference_mode():
            for part in torch.split(windows, 8, 1):
                logits = model(part[:-1], None, None)[length // 2 - 1 :].double()
                nats += float(
                    functional.cross_entropy(logits.flatten(0, 1), part[length // 2 :].flatten(), reduction="sum")
                )
        return {"bits/char": nats / math.log(2) / characters}

    weights = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    return Network("Transformer of 3.7 M weights", "bits per character", weights, score)


def vocabulary_bytes(vocabulary: Any, tokens: Tensor) -> bytes:
    """The bytes that tokens stand for."""
    return bytes(vocabulary.decode(tokens.numpy()))


def load(model: Any, weights: Weights) -> None:
    """Put weights into a module; tied ones follow."""
    with torch.no_grad():
        own = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, value in weights.items():
            own[name].copy_(torch.from_numpy(value))


def methods_for(weights: Weights) -> tuple[list[Method], list[str]]:
    """All methods; NNCodec's QPs by the weights' deviation."""
    count = sum(w.size for w in weights.values())
    power = sum(float(np.square(w, dtype=np.float64).sum()) for w in weights.values())
    centre = round(4 * math.log2(math.sqrt(power / count)))
    makers: list[Callable[[], Method]] = [
        *(partial(quantisers.trellis, 8, bits) for bits in BITS),
        *(partial(quantisers.trellis, 64, bits) for bits in (3.0, 4.0)),
        *(partial(quantisers.trellis, 8, bits, True) for bits in (2.0, 2.5, 3.0)),
        *(partial(quantisers.nncodec, centre + level, rate) for rate in (0.0, 0.5) for level in LEVELS),
        *(partial(quantisers.ggml, kind) for kind in GGML),
        quantisers.nf4,
        *(partial(quantisers.hqq, bits) for bits in (4, 3, 2)),
        *(partial(quantisers.nearest, bits) for bits in (5, 4, 3, 2)),
        *(partial(quantisers.torus_preset, name) for name in PRESETS),
        *(partial(quantisers.torus_best, bits) for bits in (8, 10, 11, 12, 13)),
    ]
    return quantisers.available(makers)


def measure(network: Network, methods: Sequence[Method]) -> tuple[Scores, list[Point]]:
    """The original's scores, and all points."""
    original = network.score(network.weights)
    log(f"{network.name}: {original}")
    coded, points = network.coded, []
    count = sum(w.size for w in coded.values())
    for method in methods:
        size, decoded, header = method.code(coded)
        scores = network.score({**network.weights, **decoded})
        added = {name: value - original[name] for name, value in scores.items()}
        point = Point(method.family, method.setting, 8 * size / count, 8 * header / count, added)
        log(f"{network.name}, {method.family}, {method.setting}: {point.bits:.3f} bit, {point.added}")
        points.append(point)
    return original, points


@dataclass(frozen=True)
class Result:
    """All that a report says of a network."""

    name: str
    unit: str
    coded: int
    exact: int
    original: Scores
    points: list[Point]
    missing: list[str]


def result(network: Network) -> Result:
    """Measure a network with all methods."""
    methods, missing = methods_for(network.coded)
    original, points = measure(network, methods)
    count, whole = (sum(w.size for w in weights.values()) for weights in (network.coded, network.weights))
    return Result(network.name, network.unit, count, whole - count, original, points, missing)


def kept(path: Path | None) -> dict[str, Result]:
    """Results of earlier runs, by what made their networks."""
    if path is None or not path.exists():
        return {}
    found = {}
    for key, one in json.loads(path.read_text("utf-8")).items():
        found[key] = Result(**{**one, "points": [Point(**point) for point in one["points"]]})
    return found


def bits_for(points: Sequence[Point], loss: float) -> float:
    """Bits at which a curve adds so much loss, by its logarithm between two neighbours; not a number outside."""
    known = sorted((point.loss, point.bits) for point in points if point.loss > 0)
    if loss <= 0 or not known or not known[0][0] <= loss <= known[-1][0]:
        return math.nan
    return float(np.interp(math.log(loss), np.log([one[0] for one in known]), [one[1] for one in known]))


def loss_at(points: Sequence[Point], bits: float) -> float:
    """Loss that a curve adds at so many bits, between two neighbours; not a number outside.

    By its logarithm, as losses fall by powers; where one of the two added none, by itself.
    """
    known = sorted((point.bits, point.loss) for point in points)
    for (low, first), (high, last) in pairwise(known):
        if low <= bits <= high:
            part = (bits - low) / (high - low)
            return first ** (1 - part) * last**part if min(first, last) > 0 else first + part * (last - first)
    return math.nan


def of(points: Sequence[Point], family: str) -> list[Point]:
    """A family's curve."""
    return [point for point in points if point.family == family]


def verdicts(network: Result) -> list[list[str]]:
    """Targets beside what was measured; ours is the curve of 8 states."""
    points = network.points
    ours, rows = of(points, "kolmo, 8 states"), []
    if network.unit == "bits per character":
        for bits, most in TARGETS.items():
            loss = loss_at(ours, bits)
            rows.append([f"at {bits:g} bit: at most +{most}", f"{loss:+.4f}", _met(loss <= most)])
    for family in ("NNCodec", "NNCodec, lambda 0.5"):
        pairs = [(point, loss_at(ours, point.bits)) for point in of(points, family)]
        pairs = [(point, loss) for point, loss in pairs if not math.isnan(loss)]
        if pairs:
            shown = "; ".join(f"{point.bits:.2f} bit: {loss:+.4f}, {point.loss:+.4f}" for point, loss in pairs)
            rows.append([f"less loss than {family} at its sizes", shown, _met(all(loss < p.loss for p, loss in pairs))])
    ratios = [(point, point.bits / bits_for(ours, point.loss)) for point in of(points, "torus")]
    ratios = [(point, ratio) for point, ratio in ratios if not math.isnan(ratio)]
    if ratios:
        point, ratio = min(ratios, key=lambda pair: pair[1])
        what = f"torus needs {MIN_TORUS_RATIO} times our bytes for equal loss, at its best"
        shown = f"{ratio:.2f} at {point.loss:+.4f} ({point.setting}, {point.bits:.2f} bit)"
        rows.append([what, shown, _met(ratio >= MIN_TORUS_RATIO)])
    return rows


def _met(yes: bool) -> str:
    return "yes" if yes else "**no**"


def figure(path: Path, results: Sequence[Result]) -> None:
    """Added loss against bits, a panel for each network; linear between -0.01 and 0.01, logarithmic beyond."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from PIL import Image

    drawing, axes = pyplot.subplots(1, len(results), figsize=(4.6 * len(results), 4.2), squeeze=False)
    families = list(dict.fromkeys(point.family for one in results for point in one.points))
    colours = dict(zip(families, pyplot.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for axis, network in zip(axes[0], results, strict=True):
        for family in families:
            known = sorted((p.bits, p.loss) for p in of(network.points, family))
            if family == "torus":
                known = [one for one in known if not any(o[0] <= one[0] and o[1] < one[1] for o in known)]
            place, loss = [one[0] for one in known], [one[1] for one in known]
            axis.plot(place, loss, MARKS.get(family, "^"), label=family, color=colours[family], markersize=4)
        axis.set_yscale("symlog", linthresh=0.01)
        axis.set(title=network.name, xlabel="bits a weight", ylabel=f"added loss, {network.unit}", xlim=(1.5, 7))
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=7, loc="upper right")
    drawing.tight_layout()
    shown = io.BytesIO()
    drawing.savefig(shown, dpi=90)
    Image.open(shown).convert("RGB").quantize(64).save(path, optimize=True)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language-model", type=Path, metavar="FOLDER", help="of `kolmo train`")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep results here; networks that it has are read")
    parser.add_argument("--markdown", type=Path, help="write the section into this report")
    given = parser.parse_args()
    if "KOLMO_DATA" not in os.environ:
        raise SystemExit("set the environment variable KOLMO_DATA to the folder that holds bench and models")
    data = Path(os.environ["KOLMO_DATA"])
    makers: dict[str, Callable[[], Network]] = {
        "stories": stories,
        "resnet": partial(resnet, data),
        **({"lm": partial(language_model, given.language_model, data)} if given.language_model else {}),
    }
    results = kept(given.keep)
    for key, make in makers.items():
        if key not in results:
            results[key] = result(make())
            if given.keep:
                shown = {one: asdict(found) for one, found in results.items()}
                given.keep.write_text(json.dumps(shown, indent=1), "utf-8")
    if given.figure:
        figure(given.figure, list(results.values()))
    text = "\n".join([sections.command(), *map(describe, results.values())])
    print(text)
    if given.markdown:
        sections.replace(given.markdown, "In trained networks", text)


def describe(network: Result) -> str:
    """A network's part of the report."""
    rows = []
    for p in network.points:
        what = [f"{p.family}, {p.setting}", f"{p.bits:.2f}", f"{p.header:.2f}" if p.header else ""]
        rows.append([*what, *(f"{value:+.4f}" for value in p.added.values())])
    original = ", ".join(f"{value:.4f} {name}" for name, value in network.original.items())
    head = ["method", "bit", "of it header", *(f"added {name}" for name in network.original)]
    parts = [
        f"### {network.name}\n",
        f"{network.coded:,} coded weights, {network.exact:,} numbers beside them. The original: {original}.\n",
        table(["target", "measured; of two figures, ours first", "met"], verdicts(network)),
        table(head, rows),
        *(f"- not measured: {reason}" for reason in network.missing),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
