"""What the examples of small weights share: their options, training that can be interrupted, and rows of the table.

An example names its `Subject`s: a module, and how to measure it. `rows` stores a subject's weights in seven forms. Each
is a file that `kolmo.shrink` wrote; it is decoded by `kolmo.load`, put back into the module, and measured there.

What it is not: fine-tuning. Nothing is trained after it was pruned or coded.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import kolmo
from kolmo.errors import KolmoError
from kolmo.hyperfunctions import TorusOptions
from kolmo.weights.format.groups import is_coded

SMOKE_STEPS = 20
SAVE_EVERY = 60.0  # seconds between checkpoints
PERPLEXITY = "perplexity a token"
HEAD = ("model", "metric", "weights", "bytes", "ratio", "before", "after", PERPLEXITY)


@dataclass(frozen=True)
class Subject:
    """A trained network.

    Attributes:
        name: for the table.
        module: with its weights; they are replaced by each form's in turn, and are back at the end.
        preset: the published setting of `torus` for its family.
        prune: part of its weights that pruning makes 0.
        measure: the module's metrics as it is, the first being the table's.
    """

    name: str
    module: nn.Module
    preset: str
    prune: float
    measure: Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Row:
    """One form of a network's weights: bytes of its file, what was measured, and the step, if it has one."""

    model: str
    form: str
    size: int
    scores: dict[str, float]
    step: float | None

    @property
    def metric(self) -> str:
        """The name of the table's metric."""
        return next(iter(self.scores))

    @property
    def score(self) -> float:
        """The table's metric."""
        return self.scores[self.metric]

    def cells(self, original: Row) -> tuple[str, ...]:
        """Of the table, beside the original form."""
        digits = 4 if self.metric == "bits/char" else 2
        after = f"{self.score:.{digits}f} ({self.score - original.score:+.{digits}f})"
        both = [f"{row.scores[PERPLEXITY]:.2f}" for row in (original, self) if PERPLEXITY in row.scores]
        sizes = (f"{self.size:,}", f"{original.size / self.size:.2f}")
        return (self.model, self.metric, self.form, *sizes, f"{original.score:.{digits}f}", after, " → ".join(both))


def rows(subject: Subject) -> Iterator[Row]:
    """Seven forms of a subject's weights, measured one by one, the original first."""
    module, preset, prune = subject.module, subject.preset, subject.prune
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "form"

        def form(name: str, goal: Any = None, tensors: dict[str, Any] = weights, **settings: Any) -> Row:
            report = kolmo.shrink(tensors, path, *([goal] if goal else []), force=True, **settings)
            loaded = kolmo.load(path, framework="pt")
            module.load_state_dict(loaded if tensors is weights else from_sparse(loaded, weights))
            return Row(subject.name, name, path.stat().st_size, subject.measure(), report.step)

        torus_way: dict[str, Any] = {"hyperfunction": TorusOptions(preset)}
        exact: dict[str, Any] = {"selection": kolmo.Selection(keep="*")}
        pruned: dict[str, Any] = {"selection": kolmo.Selection(prune=prune)}

        yield form("original", **exact)
        yield form(f"{prune:.0%} pruned", tensors=to_sparse(module.state_dict(), prune), **exact)
        yield (torus := form("torus", **torus_way))
        yield form("trellis, torus's size", kolmo.Bytes(torus.size))
        yield (trellis := form("trellis, 4 bits", kolmo.Bits(4)))
        yield form("pruned + torus", **torus_way, **pruned)
        assert trellis.step is not None
        yield form("pruned + trellis, same step", kolmo.Step(trellis.step), **pruned)
    module.load_state_dict(weights)


def to_sparse(weights: dict[str, Tensor], prune: float) -> dict[str, Any]:
    """The smallest weights of all that `kolmo.shrink` codes become 0: a mask of bits for each, and what is left.

    `kolmo.Selection(prune=...)` prunes the same ones.
    """
    coded = {name for name, tensor in weights.items() if is_coded(name, "F32", tensor.shape)}
    distinct = {weights[name].data_ptr(): weights[name].abs().flatten() for name in coded}
    threshold = np.quantile(torch.cat(list(distinct.values())).numpy(), prune)
    found: dict[str, Any] = {}
    for name, tensor in weights.items():
        if name in coded:
            values = tensor.numpy().ravel()
            mask = np.abs(values) >= threshold
            found |= {f"{name}.mask": np.packbits(mask), f"{name}.values": values[mask]}
        else:
            found[name] = tensor.clone()
    return found


def from_sparse(found: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights again: the mirror of `to_sparse`; shapes are those of `like`."""
    weights = {}
    for name, tensor in like.items():
        weights[name] = found[name] if name in found else torch.zeros(tensor.shape)
        if name not in found:
            mask = np.unpackbits(found[f"{name}.mask"].numpy(), count=tensor.numel()).astype(bool)
            weights[name].view(-1)[torch.from_numpy(mask)] = found[f"{name}.values"]
    return weights


def table(found: Iterable[Row]) -> str:
    """Rows in Markdown."""
    lines: list[tuple[str, ...]] = [HEAD, ("---", "---", "---", "---:", "---:", "---:", "---:", "---:")]
    originals: dict[str, Row] = {}
    for row in found:
        lines.append(row.cells(originals.setdefault(row.model, row)))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def train(module: nn.Module, loss: Callable[[int], Tensor], *, steps: int, rate: float, path: Path | None) -> None:
    """Train with AdamW, a warm-up and half a cosine; a finished or interrupted training goes on from its file.

    Args:
        module: in which the weights will be.
        loss: of the batch of a step, which must depend on the step's number alone, so that an interrupted training
            ends as another would.
        steps: in all.
        rate: the highest learning rate.
        path: where the checkpoint is and will be; None keeps none.
    """
    optimiser = torch.optim.AdamW(module.parameters(), rate, weight_decay=0.02)
    first, saved = 0, time.monotonic()
    if path is not None and path.exists():
        content = torch.load(path, weights_only=True)
        module.load_state_dict(content["model"])
        optimiser.load_state_dict(content["optimiser"])
        first = content["step"]
    module.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for step in range(first, steps):
        part = (step + 1) / steps
        for group in optimiser.param_groups:
            group["lr"] = rate * min(20 * part, 0.5 + 0.5 * math.cos(math.pi * part))
        optimiser.zero_grad()
        value = loss(step)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        last = step + 1 == steps
        if path is not None and (last or time.monotonic() > saved + SAVE_EVERY):
            content = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
            saved = time.monotonic()
            print(f"{path.name}: step {step + 1} of {steps}, loss {value.item():.4f}", file=sys.stderr)
    module.eval()


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all examples have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = os.environ.get("KOLMO_DATA")
    made.add_argument("--data", type=Path, default=place, help="folder of texts, images and models; or KOLMO_DATA")
    made.add_argument("--folder", type=Path, default=Path("runs/examples"), help="of trained networks: %(default)s")
    made.add_argument("--smoke", action="store_true", help="made data, tiny networks, 20 steps: seconds, to try it")
    return made


def place(options: argparse.Namespace, *parts: str) -> Path:
    """A file of the data's folder.

    Raises:
        KolmoError: it is not there.
    """
    if options.data is None:
        raise KolmoError("the data's folder is not known; give --data or KOLMO_DATA, or --smoke, which needs none")
    path = Path(options.data, *parts)
    if not path.exists():
        raise KolmoError(f"{path}: is not there; give the data's folder with --data or KOLMO_DATA")
    return path


def main(
    description: str | None,
    subjects: Callable[[argparse.Namespace], Iterable[Subject]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Of an example: train what is not trained yet, then print its rows."""
    options = parser(description).parse_args(arguments)
    try:
        torch.manual_seed(1)
        print(table(row for subject in subjects(options) for row in rows(subject)), end="")
    except (KolmoError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")
