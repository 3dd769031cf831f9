"""Which step each tensor of a network gets: rules compared, by the task's loss at equal file size.

    KOLMO_DATA=DIR python benchmarks/weights_steps.py [--networks NAME,...] [--speech FILE.pt] [--pixels FILE.pt]
        [--gguf FILE.gguf] --markdown docs/benchmarks/weights.md

A rule gives tensor t the step s * scale(t)^a; s is chosen so that all payloads take equally many bytes, to 0.4 %.
Scales: the root mean square of the weights; their mean magnitude, which a few outliers do not move; the step at which
the tensor by itself has so many bits a weight ("equal bits"), or has the same relative error as all others. a = 0 is
one step for all.

Networks: those of weights_networks.py; two character LSTMs (bits per character of text that they wrote themselves); the
network of the predictor `neural` (bits per byte of wiki.test.raw, floats); networks for samples of speech and for
pixels, as state dicts of the shapes below (bits per sample and per pixel of files not trained on); a GGUF file of
SmolLM2 (bits per token of wiki.test.raw), whose search is on a sample.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harness import sections
from harness.measuring import log
from harness.tables import table
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.weights.format.groups import columns_of
from weights_networks import Network, Scores, language_model, resnet, stories

BITS = 2.0, 2.5, 3.0, 4.0
SAMPLE_WEIGHTS = 1 << 14  # of a tensor, for the curves of bits and errors
TOLERANCE = 0.004  # relative difference of two sizes that count as equal
LARGE_NETWORK_WEIGHTS = 600_000
Steps = dict[str, float]  # logarithms to base 2, up to a common constant


def sampled(weights: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Rows of each matrix, evenly spread."""
    found = {}
    for name, value in weights.items():
        matrix = value.reshape(-1, columns_of(value.shape))
        rows = max(1, min(len(matrix), most // matrix.shape[1]))
        found[name] = matrix[np.linspace(0, len(matrix) - 1, rows).astype(int)]
    return found


class Curves:
    """Bits a weight and relative error of a sample of each tensor, over steps relative to its deviation."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self.octaves = np.arange(-6, 2.01, 0.5)
        self.scale: Steps = {}
        self.bits: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        for name, sample in sampled(weights, SAMPLE_WEIGHTS).items():
            deviation = float(np.sqrt(np.square(sample, dtype=np.float64).mean()))
            self.scale[name] = math.log2(deviation)
            bits, errors = [], []
            for octave in self.octaves:
                function = Trellis(deviation * 2.0**octave)
                code = function.encode(sample)
                lost = function.decode(code, sample.shape) - sample
                bits.append(8 * len(code) / sample.size)
                errors.append(float(np.square(lost).sum() / np.square(sample).sum()))
            self.bits[name], self.errors[name] = np.array(bits), np.log2(np.maximum(errors, 1e-12))

    def at_bits(self, bits: float) -> Steps:
        """The step of each tensor alone at so many bits."""
        return {n: self.scale[n] + float(np.interp(-bits, -self.bits[n], self.octaves)) for n in self.scale}

    def at_error(self, bits: float, counts: Mapping[str, int]) -> Steps:
        """The steps of equal relative error that have so many bits in all."""
        low, high = -12.0, 2.0
        for _ in range(40):
            middle = (low + high) / 2
            octaves = {n: float(np.interp(middle, self.errors[n], self.octaves)) for n in self.scale}
            spent = sum(counts[n] * float(np.interp(octaves[n], self.octaves, self.bits[n])) for n in octaves)
            low, high = (middle, high) if spent > bits * sum(counts.values()) else (low, middle)
        return {n: self.scale[n] + octaves[n] for n in octaves}


def rules(weights: Mapping[str, Any], curves: Curves, bits: float, more: bool) -> dict[str, Steps]:
    """Steps of each rule."""
    deviation = {n: math.log2(math.sqrt(np.square(w, dtype=np.float64).mean())) for n, w in weights.items()}
    magnitude = {n: math.log2(np.abs(w, dtype=np.float64).mean()) for n, w in weights.items()}
    found = {
        "one step": dict.fromkeys(weights, 0.0),
        "half-way: mean magnitude^0.5": {n: step / 2 for n, step in magnitude.items()},
        "deviation": deviation,
        "equal relative error": curves.at_error(bits, {n: w.size for n, w in weights.items()}),
    }
    if more:
        own = curves.at_bits(bits)
        count = {n: math.log2(w.size) for n, w in weights.items()}
        found["half-way, and count^0.25"] = {n: step / 2 + count[n] / 4 for n, step in magnitude.items()}
        found["mean magnitude^0.25"] = {n: step / 4 for n, step in magnitude.items()}
        found["mean magnitude"] = magnitude
        found["deviation^0.5"] = {n: step / 2 for n, step in deviation.items()}
        found["equal bits^0.5"] = {n: step / 2 for n, step in own.items()}
        found["equal bits"] = own
    return found


def coded(weights: Mapping[str, Any], steps: Steps, budget: float, most: int) -> tuple[int, dict[str, Any]]:
    """Payloads of so many bytes: their size, and what they decode to."""
    codes: dict[str, bytes] = {}
    small = sampled(weights, most)

    def size(base: float, whole: bool) -> float:
        total = 0.0
        for name, value in weights.items():
            matrix = value.reshape(-1, columns_of(value.shape)) if whole else small[name]
            function = Trellis(2.0 ** (base + steps[name]))
            code = function.encode(np.ascontiguousarray(matrix))
            total += len(code) * value.size / matrix.size
            if whole:
                codes[name] = code
        return total

    count = sum(w.size for w in weights.values())
    centre = sum(w.size * steps[n] for n, w in weights.items()) / count
    power = sum(w.size * math.log2(np.abs(w, dtype=np.float64).mean() * 1.25) for w in weights.values()) / count
    place, whole, ratio = power - centre + 1.3 - 8 * budget / count, False, 1.0
    known: list[tuple[float, float]] = []
    for _ in range(24):
        found = ratio * size(place, whole)
        if abs(found - budget) <= TOLERANCE * budget:
            if whole:
                break
            whole, known = True, []
            continue
        known.append((place, found))
        known = sorted(known, key=lambda one: abs(one[1] - budget))[:2]
        slope = -count / 8
        if len(known) == 2 and known[0][0] != known[1][0]:
            slope = min((known[0][1] - known[1][1]) / (known[0][0] - known[1][0]), slope / 8)
        place = known[0][0] + min(max((budget - known[0][1]) / slope, -1.0), 1.0)
    decoded = {}
    for name, value in weights.items():
        shape = value.size // columns_of(value.shape), columns_of(value.shape)
        decoded[name] = Trellis(1.0).decode(codes[name], shape).reshape(value.shape)
    return sum(map(len, codes.values())), decoded


def lstm(data: Path, name: str) -> Network:
    """A character LSTM of two layers of 128 (gates i, j, f, o; a forget bias of 1)."""
    folder = data / "models/charrnn" / name
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = {
        key: np.fromfile(folder / one["filename"], "<f4").reshape(one["shape"])
        for key, one in manifest.items()
        if len(one["shape"])
    }

    def run(state: Mapping[str, Tensor], hidden: list[Any], tokens: Tensor) -> Tensor:
        x = state["embedding"][tokens]
        for layer in range(2):
            at = f"rnnlm/multi_rnn_cell/cell_{layer}/basic_lstm_cell/"
            h, c = hidden[layer]
            i, j, f, o = (torch.cat([x, h], 1) @ state[at + "weights"] + state[at + "biases"]).chunk(4, 1)
            c = c * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j)
            x = torch.tanh(c) * torch.sigmoid(o)
            hidden[layer] = x, c
        return x @ state["rnnlm/softmax_w"] + state["rnnlm/softmax_b"]

    lanes, length = 64, 250

    def start() -> list[Any]:
        return [(torch.zeros(lanes, 128), torch.zeros(lanes, 128)) for _ in range(2)]

    original = {key: torch.from_numpy(value) for key, value in weights.items()}
    generator, hidden = torch.Generator().manual_seed(0), start()
    told = [torch.zeros(lanes, dtype=torch.int64)]
    with torch.inference_mode():
        for _ in range(length):
            p = run(original, hidden, told[-1]).softmax(1)
            told.append(torch.multinomial(p, 1, generator=generator)[:, 0])

    def score(values: Any) -> Scores:
        state = {key: torch.from_numpy(value) for key, value in values.items()}
        hidden, nats = start(), 0.0
        with torch.inference_mode():
            for before, after in pairwise(told):
                nats += float(functional.cross_entropy(run(state, hidden, before).double(), after, reduction="sum"))
        return {"bits/char": nats / math.log(2) / (lanes * length)}

    return Network(f"LSTM {name}", "bits per character", weights, score)


def neural(data: Path) -> Network:
    """The network of the package, its integers as floats, each layer's matrices by themselves."""
    from kolmo.native.network.reference import Hasher
    from kolmo.predictors.embedded.network import NetworkShape
    from kolmo.training.networks.models import GatedRecurrent, fill

    model = GatedRecurrent(NetworkShape())
    fill(model, Path(__file__).parents[1] / "src/kolmo/predictors/embedded/networks/base.safetensors")
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    split = ("inward", "outward")
    weights = {name: value.copy() for name, value in state.items() if name not in split}
    for name in split:
        for k, value in enumerate(state[name]):
            weights[f"{name}.{k}"] = value.reshape(-1, value.shape[-1]).copy()
    lanes = 64
    text = np.frombuffer((data / "bench/text/wiki.test.raw").read_bytes()[: lanes * 1024], np.uint8)
    symbols = np.ascontiguousarray(text.reshape(lanes, -1).T)
    hashes = torch.from_numpy(Hasher(model.shape.tables, lanes).step(symbols))
    tokens = torch.from_numpy(symbols.astype(np.int64))

    def score(values: Any) -> Scores:
        whole = {name: torch.from_numpy(value) for name, value in values.items() if "." not in name or "tables" in name}
        for name in split:
            parts = [torch.from_numpy(values[f"{name}.{k}"]) for k in range(model.shape.layers)]
            whole[name] = torch.stack(parts).reshape(state[name].shape)
        model.load_state_dict(whole)
        hidden, nats = model.start(lanes), 0.0
        with torch.inference_mode():
            for at in range(0, len(tokens) - 1, 128):
                part = slice(at, min(at + 128, len(tokens) - 1))
                logits = model(tokens[part], hashes[:, part], hidden)
                targets = tokens[part.start + 1 : part.stop + 1]
                nats += float(functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        return {"bits/byte": nats / math.log(2) / (lanes * (len(tokens) - 1))}

    return Network("network of `neural`", "bits per byte", weights, score)


def prototype(script: Path, file: Path, argv: list[str], name: str) -> Network:
    """A network that a training script of the same shape saved as a state dict.

    The script defines `Network`, `features` and what it scores: its source up to the training is run for these.
    """
    source = script.read_text()
    head = source[: source.index("network = Network(")]
    space: dict[str, Any] = {"__name__": "prototype"}
    sys.argv = [str(script), *argv]
    exec(compile(head, str(script), "exec"), space)
    speech = "chunks" in space
    if speech:
        files = sorted((Path(argv[0]) / "bench/audio").glob("*.flac"))
        batches = [one[None] for one in list(space["chunks"](files))[:40]]
        network = space["Network"]()
    else:
        batches = [space["test"][i : i + 8] for i in range(0, min(len(space["test"]), 160), 8)]
        network = space["Network"](len(space["NEIGHBOURS"]) + 6)
    ready = [space["features"](batch) for batch in batches]
    state = torch.load(file, weights_only=True)

    def score(values: Any) -> Scores:
        network.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in values.items()})
        with torch.no_grad():
            nats = torch.cat([network.nats(*one) for one in ready])
        return {"bits": float(nats.double().mean()) / math.log(2)}

    unit = "bits per sample" if speech else "bits per pixel"
    return Network(name, unit, {key: value.numpy().copy() for key, value in state.items()}, score)


def smol(file: Path, data: Path) -> Network:
    """SmolLM2-135M of a GGUF file, by transformers."""
    import transformers

    how: Any = {"gguf_file": file.name, "dtype": torch.float32}
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(file.parent, trust_remote_code=False, **how)
    model.eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False
    )
    text = (data / "bench/text/wiki.test.raw").read_text("utf-8")[:12_000]
    ids = torch.tensor([tokenizer(text)["input_ids"]])[:, :2048]
    weights = {n: v.detach().numpy().copy() for n, v in model.named_parameters() if n != "lm_head.weight"}

    def score(values: Any) -> Scores:
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(torch.from_numpy(value))
            nats = functional.cross_entropy(model(ids[:, :-1]).logits[0].double(), ids[0, 1:])
        return {"bits/token": float(nats) / math.log(2)}

    return Network("SmolLM2-135M", "bits per token", weights, score)


def compare(network: Network, more: bool) -> str:
    """The table of a network."""
    original = network.score(network.weights)
    weights = network.coded
    count, loss = sum(w.size for w in weights.values()), next(iter(original))
    log(f"{network.name}: {count} weights in {len(weights)} tensors, {original}")
    curves = Curves(weights)
    most = SAMPLE_WEIGHTS if count > LARGE_NETWORK_WEIGHTS else count  # a sample of large networks is searched
    rows: dict[str, list[str]] = {}
    for bits in BITS:
        for rule, steps in rules(weights, curves, bits, more).items():
            size, decoded = coded(weights, steps, bits * count / 8, most)
            scores = network.score({**network.weights, **decoded})
            added = ", ".join(f"{scores[key] - original[key]:+.4f}" for key in scores)
            log(f"{network.name}, {bits} bits, {rule}: {8 * size / count:.3f}, {added}")
            rows.setdefault(rule, []).append(added)
    spread = [math.log2(float(np.abs(w).mean())) for w in weights.values()]
    head = [f"added {', '.join(original)}", *(f"{bits:g} bit" for bits in BITS)]
    lines = [
        f"### {network.name}",
        "",
        f"{count:,} weights in {len(weights)} tensors, whose mean magnitudes differ by ",
    ]
    lines[-1] += f"{2 ** (max(spread) - min(spread)):.1f} : 1. The original: {original[loss]:.4f} {network.unit}."
    return "\n".join([*lines, "", table(head, [[rule, *values] for rule, values in rows.items()])])


def main() -> None:
    """Compare, print, and write the section."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default="stories,darwin,shakespeare,resnet20,resnet56,neural")
    parser.add_argument("--more", action="store_true", help="more rules")
    parser.add_argument("--language-model", type=Path)
    parser.add_argument("--prototypes", type=Path, help="folder of samples.py and pixels.py")
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--pixels", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    data = Path(os.environ["KOLMO_DATA"])
    makers: dict[str, Callable[[], Network]] = {
        "stories": stories,
        "darwin": partial(lstm, data, "darwin"),
        "shakespeare": partial(lstm, data, "shakespeare"),
        "resnet20": partial(resnet, data, 20, 1000),
        "resnet56": partial(resnet, data, 56, 500),
        "neural": partial(neural, data),
    }
    chosen = {name: makers[name] for name in options.networks.split(",") if name}
    for name, file, script in (("speech", options.speech, "samples.py"), ("pixels", options.pixels, "pixels.py")):
        if file:
            argv = [str(data), *(["8", "96"] if name == "speech" else ["64"])]
            chosen[name] = partial(prototype, options.prototypes / script, file, argv, f"network for {name}")
    if options.language_model:
        chosen["language"] = partial(language_model, options.language_model, data)
    if options.gguf:
        chosen["smol"] = partial(smol, options.gguf, data)
    found = []
    for make in chosen.values():
        found.append(compare(make(), options.more))
        print(found[-1] + "\n", flush=True)
    if options.markdown:
        sections.replace(options.markdown, "Steps", "\n\n".join(found))


if __name__ == "__main__":
    main()
