"""What a network does with its weights on samples: covariances of inputs, and squared gradients of outputs.

    covariance of a layer     mean of x^T x over all rows x of its inputs             (inputs, inputs)
    weight of its outputs     sum of squares of dL/dy over all rows, per sample       (outputs,)

If the error of a weight row is e, the loss grows by about g e H e^T / 2 (Gauss-Newton, with inputs and gradients taken
as independent). The loss L of a language model is that of the next token. Of any other module it is its output, each
number with a random sign, so that g measures how much the whole output changes.

Sums are taken while a network runs, by hooks that are removed afterwards. What it is not: a choice of samples or of
steps, or the order of the blocks that run (`blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.targets import replacing
from kolmo.weights.calibration.network import Bound, Sample, call, rows_of, squares_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Seen = Callable[[str, torch.nn.Module, torch.Tensor, str], None]

SEED = 20260101  # of the random signs


@dataclass
class Inputs:
    """Sums over the rows of inputs of layers.

    Attributes:
        covariances: sums of x^T x by the name of the first tensor that multiplies these inputs.
        leaders: the name under which `covariances` has the inputs of each tensor, in the order of first calls.
        rows: number of rows of inputs, by tensor.
        shifts: sums of x^T (o - x) by the same names as `covariances`, o being the row of the original network; none
            where the two networks give a layer other rows.
    """

    covariances: dict[str, Floats] = field(default_factory=dict)
    leaders: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    shifts: dict[str, Floats] = field(default_factory=dict)

    @contextmanager
    def watching(
        self, bound: Mapping[str, Bound], originals: Mapping[str, Sequence[torch.Tensor]] | None = None
    ) -> Iterator[None]:
        """Add the inputs of layers until the block ends.

        Args:
            bound: the tensors with these layers.
            originals: what `recording` has found in the original network on the same sample, for the shifts.
        """
        import torch

        calls: dict[str, int] = {}
        whole = 0  # rows of the first layer; where the network chooses rows, as for experts, there are fewer

        def add(name: str, module: torch.nn.Module, value: torch.Tensor, first: str) -> None:
            nonlocal whole
            leader = self.leaders.setdefault(name, first)
            count = value.numel() // max(value.shape[-1], 1)
            if leader == name:
                rows = rows_of(module, value)
                count = len(rows)
                whole = whole or count
                square = (rows.T @ rows).cpu().numpy()
                if not np.isfinite(square).all():
                    raise KolmoError(f"the inputs of tensor {quoted(name)} are not finite; run the model in float32")
                self.covariances[name] = self.covariances.get(name, 0) + square
                number = calls[name] = calls.get(name, -1) + 1
                if originals is not None and number < len(known := originals.get(name, ())):
                    other = known[number]
                    if other.shape == rows.shape and count == whole:
                        self.shifts[name] = self.shifts.get(name, 0) + (rows.T @ (other - rows)).cpu().numpy()
            self.rows[name] = self.rows.get(name, 0) + count

        with torch.no_grad(), on_inputs(bound, add):
            yield

    def forget(self, names: set[str]) -> None:
        """Drop the covariances that only these tensors need; the numbers of rows stay."""
        kept = {leader for name, leader in self.leaders.items() if name not in names}
        for name in names - kept:
            self.covariances.pop(name, None)
            self.shifts.pop(name, None)


@contextmanager
def recording(bound: Mapping[str, Bound]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """The rows of inputs of all layers, call by call, under the name of the first tensor that multiplies them."""
    import torch

    found: dict[str, list[torch.Tensor]] = {}

    def add(name: str, module: torch.nn.Module, value: torch.Tensor, first: str) -> None:
        if first == name:
            found.setdefault(name, []).append(rows_of(module, value).clone())  # later layers may change it in place

    with torch.no_grad(), on_inputs(bound, add):
        yield found


@contextmanager
def on_inputs(bound: Mapping[str, Bound], seen: Seen) -> Iterator[None]:
    """Call `seen` before each call of a layer, until the block ends.

    It gets the name of the layer's tensor, the layer, its input, and the name of the tensor that this input met first:
    the layers of queries, keys and values share one.
    """
    last: list[tuple[torch.Tensor, str]] = []  # the input that was new last

    def enter(name: str) -> Any:
        def hook(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
            value = given[0]
            first = last[0][1] if last and last[0][0] is value else name
            if first == name:
                last[:] = [(value, name)]
            seen(name, module, value, first)

        return hook

    hooks = [module.register_forward_pre_hook(enter(name)) for name, one in bound.items() for module in one.layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass
class Moments:
    """What the samples so far have shown of a network.

    Attributes:
        inputs: sums over inputs; the covariances are those of the block that is measured, and of tensors whose
            covariances are needed later.
        importance: d of `factors`, by tensor, from covariances that are not kept.
        squares: sums of squared gradients, by tensor.
        table: sums of squared gradients of looked-up rows, by tensor that is an embedding too.
        measured: number of samples in the gradients.
        size: number of predicted numbers in the samples with gradients.
        block: number of blocks that have seen all samples.
        done: number of samples that the next block has seen.
    """

    inputs: Inputs = field(default_factory=Inputs)
    importance: dict[str, Doubles] = field(default_factory=dict)
    squares: dict[str, Doubles] = field(default_factory=dict)
    table: dict[str, float] = field(default_factory=dict)
    measured: int = 0
    size: int = 0
    block: int = 0
    done: int = 0

    def save(self, path: Path) -> None:
        """Write everything, in place of what was written earlier."""
        inputs = self.inputs
        arrays: dict[str, Any] = {f"covariance.{name}": value for name, value in inputs.covariances.items()}
        arrays |= {f"importance.{name}": value for name, value in self.importance.items()}
        arrays |= {f"squares.{name}": value for name, value in self.squares.items()}
        arrays |= {f"table.{name}": np.float64(value) for name, value in self.table.items()}
        names = list(inputs.leaders)
        facts = [[name, inputs.leaders[name]] for name in names]
        arrays["leaders"] = np.array(facts, np.str_) if facts else np.zeros((0, 2), "<U1")
        arrays["rows"] = np.array([inputs.rows.get(name, 0) for name in names], np.int64)
        arrays["counts"] = np.array([self.measured, self.size, self.block, self.done], np.int64)
        with replacing(path) as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Moments:
        """The mirror of `save`.

        Raises:
            ValueError, OSError, KeyError: the file is not one that `save` wrote.
        """
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:

            def part(kind: str) -> dict[str, Any]:
                return {key.partition(".")[2]: file[key] for key in file.files if key.startswith(f"{kind}.")}

            names = [str(name) for name in file["leaders"][:, 0]]
            leaders = dict(zip(names, map(str, file["leaders"][:, 1]), strict=True))
            rows = dict(zip(names, map(int, file["rows"]), strict=True))
            table = {name: float(value) for name, value in part("table").items()}
            inputs = Inputs(part("covariance"), leaders, rows)
            return cls(inputs, part("importance"), part("squares"), table, *map(int, file["counts"]))

    def add_gradients(self, model: torch.nn.Module, bound: Mapping[str, Bound], sample: Sample) -> None:
        """Run a network on one sample, forward and backward.

        Raises:
            KolmoError: no output depends on weights.
        """
        with _watching_gradients(bound, self):
            loss, size = _loss_of(model, sample, self.measured)
            loss.backward()
        self.measured, self.size = self.measured + 1, self.size + size


def _loss_of(model: torch.nn.Module, sample: Sample, number: int) -> tuple[Any, int]:
    """The loss of a sample, summed over its predictions, and their number."""
    import torch

    found = call(model, sample)
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
def _watching_gradients(bound: Mapping[str, Bound], sums: Moments) -> Iterator[None]:
    """Add the gradients of the outputs of all layers and embeddings to the sums."""
    hooks = []

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
            hooks += [module.register_forward_hook(leave(name, False)) for module in one.layers]
            hooks += [module.register_forward_hook(leave(name, True)) for module in one.tables]
        yield
    finally:
        for hook in hooks:
            hook.remove()
