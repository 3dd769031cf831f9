"""One matrix coded with the covariance of its inputs: error feedback from input to input, with the trellis inside.

    for each input i:   line = weights of input i + what the earlier inputs did wrong        (factors.py)
                        decoded = trellis(line)

A line has the weights of one input for all outputs, and the trellis walks along it, so that the search is exact and
unchanged; what the line loses is fed into later lines. The payload is that of the matrix with one input per row: of the
transposed weight, except where a model stores it so. Scales of rows and columns make the step of an input proportional
to d_i^(-1/2), and that of an output to g_o^(-1/2), g_o the weight of its errors in the loss.

The bitshift trellis codes the rows of the weight itself, rotated, and feeds errors back along its search; only where a
model stores one row per input, from line to line. What it is not: bound to either. A `LineQuantiser` decides one line
at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kolmo.hyperfunctions.bitshift import Bitshift, Feedback
from kolmo.hyperfunctions.bitshift_lines import BitshiftLines
from kolmo.hyperfunctions.trellis import Trellis
from kolmo.hyperfunctions.trellis_lines import TrellisLines
from kolmo.progress import Progress
from kolmo.safetensors import BYTES
from kolmo.weights.calibration.factors import Factor, factorise
from kolmo.weights.format.codes import Code, without_wild
from kolmo.weights.format.groups import to_matrix
from kolmo.weights.format.record import PLACE_BYTES, Coded
from kolmo.weights.format.scales import nearest_exponents, pack, scales_of

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Exponents = npt.NDArray[np.int64]

ROTATED_DAMPING = 1e-7  # of a covariance that was damped before it was rotated
BLOCK = 64  # inputs whose errors are fed back one by one; those of earlier blocks in one product


class LineQuantiser(Protocol):
    """Decides the weights of a payload row by row."""

    def quantise(self, row: npt.NDArray[np.floating]) -> Floats:
        """The weights that a reader will decode for the next row."""
        ...

    def payload(self) -> bytes:
        """The payload, after the last row."""
        ...


@dataclass(frozen=True)
class Guide:
    """How errors of a matrix count.

    Attributes:
        importance: d, the weight of the error of each input after feedback (inputs,).
        outputs: g, the weight of the error of each output (outputs,); all above 0.
        by_input: whether the tensor has one row per input, as `Conv1D` of transformers; else one per output.
    """

    importance: Doubles
    outputs: Doubles
    by_input: bool = False

    @property
    def log_step(self) -> float:
        """The mean of log2 of the steps that the weights of the matrix should have, up to a common term."""
        return -0.5 * float(np.log2(self.importance).mean() + np.log2(self.outputs).mean())

    @property
    def exponents(self) -> tuple[Exponents, Exponents]:
        """The scales of inputs and outputs, with a geometric mean of about 1."""
        found = []
        for weight in (self.importance, self.outputs):
            logs = np.log2(weight)
            found.append(nearest_exponents(2.0 ** (-0.5 * (logs - logs.mean()))))
        return found[0], found[1]

    def lines(self, matrix: Floats) -> Floats:
        """The matrix with one row per input."""
        return matrix if self.by_input else np.ascontiguousarray(matrix.T)


def encode_guided(
    one: Coded,
    data: bytes,
    weights: Floats,
    function: Trellis | Bitshift,
    scale: float,
    guide: Guide,
    factor: Factor,
    progress: Progress | None = None,
) -> Code:
    """Code a tensor with loss; verbatim where that is not smaller. The mirror is `codes.decode`.

    Args:
        one: dtype, shape and columns.
        data: its bytes.
        weights: its weights, binary32, in a vector.
        function: the trellis, whose step is that of a weight with scales 1, or the bitshift trellis.
        scale: the tensor's scale, from which wild weights are told; 0 if there are none.
        guide: how errors count.
        factor: the covariance of the inputs.
        progress: called with the number of weights just done.
    """
    tame, tail = without_wild(weights, data, one, scale, function)
    matrix = to_matrix(tame, one.columns)
    if isinstance(function, Bitshift):
        payload = _fixed_rate(function, matrix, guide.by_input, factor, progress)
        return _smaller(one, data, Code(payload, function), tail)
    lines = guide.lines(matrix)
    inputs, outputs = guide.exponents
    rows, columns = scales_of(inputs), scales_of(outputs)
    try:
        quantiser = TrellisLines(function, lines / rows[:, None] / columns)
    except ValueError:  # a weight is too large for this step
        return Code(data)
    quantise_lines(quantiser, lines, rows, columns, factor.feedback, progress)
    packed = pack(inputs, outputs)
    found = Code(quantiser.payload() + packed, function, scales=len(packed), transposed=int(not guide.by_input))
    return _smaller(one, data, found, tail)


def _smaller(one: Coded, data: bytes, found: Code, tail: bytes) -> Code:
    """A code with its wild weights behind it, or the tensor verbatim where that is not larger."""
    if len(found.data) + len(tail) >= one.size:
        return Code(data)
    wild = len(tail) // (PLACE_BYTES + BYTES[one.dtype])
    return found._replace(data=found.data + tail, wild=wild)


def _fixed_rate(function: Bitshift, matrix: Floats, by_input: bool, factor: Factor, progress: Progress | None) -> bytes:
    """The payload of a matrix, with feedback along its rows; from row to row where a row belongs to an input."""
    if by_input:
        lines = BitshiftLines(function, matrix)
        ones = np.ones(max(matrix.shape), np.float32)
        quantise_lines(lines, matrix, ones, ones[: matrix.shape[1]], factor.feedback, progress)
        return lines.payload()
    function = replace(function, unbiased=False)  # the errors are already those by which the outputs lose least
    return function.encode(matrix, progress, rotated_feedback(function, factor))


def rotated_feedback(function: Bitshift, factor: Factor) -> Feedback:
    """The feedback along rows as they are coded: of R H R^T, where rows are coded as W R^T, and H is the covariance."""
    root = (factor.feedback + np.eye(len(factor.feedback))) * np.sqrt(factor.importance)
    turned = function.turned(np.ascontiguousarray(root.T, np.float32)).astype(np.float64)
    found = factorise(turned.T @ turned, ROTATED_DAMPING)
    return Feedback(found.importance.astype(np.float32), found.feedback)


def quantise_lines(
    quantiser: LineQuantiser,
    lines: Floats,
    rows: Floats,
    columns: Floats,
    feedback: Floats,
    progress: Progress | None = None,
) -> Floats:
    """Decide all lines, each after the errors of the earlier ones; returns the errors, (inputs, outputs).

    Args:
        quantiser: gets each line divided by its scales.
        lines: the weights, one row per input.
        rows: scales of the inputs.
        columns: scales of the outputs.
        feedback: B of `factors.Factor`, (inputs, inputs).
        progress: called with the number of weights just done.
    """
    errors = np.zeros_like(lines)
    for begin in range(0, len(lines), BLOCK):
        end = min(begin + BLOCK, len(lines))
        wanted = lines[begin:end] + feedback[:begin, begin:end].T @ errors[:begin]
        for i in range(begin, end):
            line = wanted[i - begin] + feedback[begin:i, i] @ errors[begin:i]
            decoded = quantiser.quantise(line / rows[i] / columns) * rows[i] * columns
            errors[i] = lines[i] - decoded
        if progress:
            progress(lines[begin:end].size)
    return errors
