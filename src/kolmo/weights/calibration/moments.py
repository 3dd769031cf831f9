"""What a network does with its weights on samples: covariances of inputs, and squared gradients of outputs.

    covariance of a layer     mean of x^T x over all rows x of its inputs             (inputs, inputs)
    weight of its outputs     sum of squares of dL/dy over all rows, per sample       (outputs,)

If the error of a weight row is e, the loss grows by about g e H e^T / 2 (Gauss-Newton, with inputs and gradients taken
as independent). The loss L of a language model is that of the next token. Of any other module it is its output, each
number with a random sign, so that g measures how much the whole output changes.

The sums are kept in a file, and again every few samples, so that a pass that was interrupted goes on. What it is not:
a choice of samples, or of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Progress
from kolmo.targets import replacing
from kolmo.weights.calibration.network import Bound, rows_of, squares_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

Sample = Any  # a tensor, a tuple of arguments, or a dictionary of keyword arguments
SEED = 20260101  # of the random signs
SAVES = 8  # times that the sums of a pass are saved


@dataclass
class Moments:
    """Sums over the samples so far.

    Attributes:
        covariances: sums of x^T x by the name of the first tensor that multiplies these inputs.
        leaders: the name under which `covariances` has the inputs of each tensor.
        rows: number of rows of inputs, by tensor.
        squares: sums of squared gradients, by tensor.
        table: sums of squared gradients of looked-up rows, by tensor that is an embedding too.
        done: number of samples in the covariances.
        measured: number of samples in the gradients.
        size: number of predicted numbers in the samples with gradients.
    """

    covariances: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    squares: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    table: dict[str, float] = field(default_factory=dict)
    done: int = 0
    measured: int = 0
    size: int = 0

    def save(self, path: Path) -> None:
        """Write the sums, in place of older ones."""
        arrays: dict[str, Any] = {f"covariance.{name}": value for name, value in self.covariances.items()}
        arrays |= {f"squares.{name}": value for name, value in self.squares.items()}
        names = sorted(self.leaders)
        facts = [[name, self.leaders[name]] for name in names]
        arrays["leaders"] = np.array(facts, np.str_) if facts else np.zeros((0, 2), "<U1")
        arrays["rows"] = np.array([self.rows.get(name, 0) for name in names], np.int64)
        arrays |= {f"table.{name}": np.float64(value) for name, value in self.table.items()}
        arrays["counts"] = np.array([self.done, self.measured, self.size], np.int64)
        with replacing(path) as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Moments:
        """The mirror of `save`.

        Raises:
            ValueError, OSError, KeyError: the file is not one that `save` wrote.
        """
        with np.load(path, allow_pickle=False) as file:
            names = [str(name) for name in file["leaders"][:, 0]]
            done, measured, size = map(int, file["counts"])
            return cls(
                {key.partition(".")[2]: file[key] for key in file.files if key.startswith("covariance.")},
                dict(zip(names, map(str, file["leaders"][:, 1]), strict=True)),
                dict(zip(names, map(int, file["rows"]), strict=True)),
                {key.partition(".")[2]: file[key] for key in file.files if key.startswith("squares.")},
                {key.partition(".")[2]: float(file[key]) for key in file.files if key.startswith("table.")},
                done,
                measured,
                size,
            )


def collect(
    model: torch.nn.Module,
    bound: Mapping[str, Bound],
    samples: Sequence[Sample],
    measured: int,
    path: Path,
    progress: Progress | None = None,
) -> Moments:
    """Run a network over samples, from where the sums in a file end.

    Args:
        model: the network.
        bound: its tensors.
        samples: what it is called with.
        measured: number of samples whose gradients are computed, the first ones.
        path: the file of the sums.
        progress: called with the number of samples just done.

    Raises:
        KolmoError: an activation is not finite.
        OSError: the sums cannot be written.
    """
    import torch

    found = Moments.load(path) if path.exists() else Moments()
    if progress:
        progress(found.done)
    every = max(-(-len(samples) // SAVES), 1)
    with _inference(model):
        for i in range(found.done, len(samples)):
            with _watching(bound, found, with_gradients=i < measured), torch.set_grad_enabled(i < measured):
                loss, size = _loss_of(model, samples[i], i) if i < measured else (_call(model, samples[i]), 0)
                if i < measured:
                    loss.backward()
                    found.measured, found.size = found.measured + 1, found.size + size
            found.done += 1
            if found.done % every == 0 or found.done == len(samples):
                found.save(path)
            if progress:
                progress(1)
    return found


def _call(model: torch.nn.Module, sample: Sample) -> Any:
    """Call a network with a sample."""
    if isinstance(sample, Mapping):
        return model(**sample)
    return model(*sample) if isinstance(sample, tuple) else model(sample)


def _loss_of(model: torch.nn.Module, sample: Sample, number: int) -> tuple[Any, int]:
    """The loss of a sample, summed over its predictions, and their number."""
    import torch

    found = _call(model, sample)
    if (logits := getattr(found, "logits", None)) is not None and isinstance(sample, Mapping) and "input_ids" in sample:
        tokens = sample["input_ids"][:, 1:]
        nats = torch.nn.functional.cross_entropy(
            logits[:, :-1].float().flatten(0, 1), tokens.flatten().to(logits.device), reduction="sum"
        )
        return nats, tokens.numel()
    output = next((value for value in _tensors(found) if value.requires_grad), None)
    if output is None:
        raise KolmoError("the module returns no tensor that depends on its weights, so it cannot be calibrated")
    random = torch.Generator().manual_seed(SEED + number)
    signs = torch.randint(0, 2, output.shape, generator=random).to(output) * 2 - 1
    return (output * signs).sum(), output.numel()


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


@contextmanager
def _inference(model: torch.nn.Module) -> Iterator[None]:
    """No dropout, and no gradients of weights, until the block ends."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, required in wanted.items():
            parameter.requires_grad_(required)


@contextmanager
def _watching(bound: Mapping[str, Bound], sums: Moments, *, with_gradients: bool) -> Iterator[None]:
    """Add the inputs of all layers, and the gradients of their outputs, to the sums."""
    last: list[tuple[Any, str]] = []  # the inputs that were added last, which the next layers may share
    hooks = []

    def enter(name: str) -> Any:
        def hook(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
            value = given[0]
            leader = last[0][1] if last and last[0][0] is value else name
            leader = sums.leaders.setdefault(name, leader)
            count = value.numel() // max(value.shape[-1], 1)
            if leader == name:
                rows = rows_of(module, value)
                count = len(rows)
                square = (rows.T @ rows).cpu().numpy()
                if not np.isfinite(square).all():
                    raise KolmoError(f"the inputs of tensor {quoted(name)} are not finite; run the model in float32")
                sums.covariances[name] = sums.covariances.get(name, 0) + square
            last[:] = [(value, leader)] if leader == name else last
            sums.rows[name] = sums.rows.get(name, 0) + count

        return hook

    def leave(name: str, is_table: bool) -> Any:
        def hook(module: torch.nn.Module, _: Any, output: torch.Tensor) -> Any:
            replaced = output if output.requires_grad else output.detach().requires_grad_(True).clone()

            def add(gradient: torch.Tensor) -> None:
                squares = squares_of(module, gradient).cpu().numpy()
                if is_table:
                    sums.table[name] = sums.table.get(name, 0.0) + float(squares.sum())
                else:
                    sums.squares[name] = sums.squares.get(name, 0) + squares

            replaced.register_hook(add)  # type: ignore[no-untyped-call]
            return replaced

        return hook

    try:
        for name, one in bound.items():
            for module in one.layers:
                hooks.append(module.register_forward_pre_hook(enter(name)))
            if with_gradients:
                for module in one.layers:
                    hooks.append(module.register_forward_hook(leave(name, False)))
                for module in one.tables:
                    hooks.append(module.register_forward_hook(leave(name, True)))
        yield
    finally:
        for hook in hooks:
            hook.remove()
