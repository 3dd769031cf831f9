"""The covariance of a layer's inputs, as the weights of errors and the rule of their feedback.

    loss = sum over outputs of  e H e^T,    H = X^T X / samples,    e = w - decoded w, one output's row of errors
    H = R R^T, R upper triangular           so that with B_ji = R_ji / R_ii and d_i = R_ii^2
    loss = sum over inputs i of  d_i (e_i + sum over j < i of e_j B_ji)^2

Inputs are coded one after the other. What the earlier ones did wrong is fed into the weights of the next one, w_i + sum
e_j B_ji, and then the error of input i counts d_i: this is the order of GPTQ (Frantar et al. 2023) in the form of LDLQ
(Chee et al. 2023). The least loss at a given size has steps in proportion to d_i^(-1/2) (WaterSIC, Lifar et al. 2026).

What it is not: a coder; it sees no weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

MAX_DAMPING = 1.0  # from which on the covariance counts for nothing
CORRECTED_PART = 0.5  # of the change of weights that makes up for changed inputs; all of it follows the samples too far
RAISE = 10.0  # factor between two dampings that are tried


@dataclass(frozen=True)
class Factor:
    """A factorised covariance of n inputs.

    Attributes:
        feedback: B, strictly upper triangular, (n, n).
        importance: d, (n,), each above 0.
        damping: the part of itself and of the median variance that was added to each variance.
    """

    feedback: npt.NDArray[np.float32]
    importance: Doubles
    damping: float


def factorise(covariance: npt.NDArray[np.floating], damping: float) -> Factor:
    """Factorise a covariance, with as much damping as it takes.

    Inputs that are never used, constant multiples of others, or too few samples leave it singular. Damping adds to each
    variance a part of itself, which trusts correlations less, and as much of the median variance, so that an unused
    input keeps some importance; the mean would follow a few huge variances. Where that is not enough, ten times as much
    is tried, and at last no covariance remains: all inputs are independent, and as important as their variances say.

    Args:
        covariance: (n, n), symmetric.
        damping: the part to begin with, above 0.

    Raises:
        ValueError: a number of the covariance is not finite.
    """
    h = np.asarray(covariance, np.float64)
    if not np.isfinite(h).all():
        raise ValueError("a covariance is not finite")
    n = len(h)
    if not (np.diagonal(h) > 0).any():
        return Factor(np.zeros((n, n), np.float32), np.ones(n), MAX_DAMPING)
    while damping < MAX_DAMPING:
        try:
            r = np.linalg.cholesky(damped(h, damping)[::-1, ::-1])[::-1, ::-1]
        except np.linalg.LinAlgError:
            damping *= RAISE
            continue
        roots = np.diagonal(r)
        b = np.triu(r / roots, 1)
        if np.isfinite(b).all():
            return Factor(b.astype(np.float32), np.square(roots), damping)
        damping *= RAISE
    variances = np.maximum(np.diagonal(h), 0)
    return Factor(np.zeros((n, n), np.float32), variances + MAX_DAMPING * _median(variances), MAX_DAMPING)


def damped(covariance: Doubles, damping: float) -> Doubles:
    """A covariance with a part of itself and of the median of the variances above 0 added to each variance."""
    variances = np.maximum(np.diagonal(covariance), 0)
    found = covariance.copy()
    found[np.diag_indices(len(found))] += damping * (variances + _median(variances))
    return found


def correction(covariance: Doubles, shift: Doubles, factor: Factor) -> npt.NDArray[np.float32]:
    """The change C of weights that makes up for changed inputs in part: W + W C gives on z nearer what W gave on x.

    The transpose of (H + damping)^-1 times the mean of z^T (x - z) makes the squared difference of outputs the least,
    with the same damping of W C (GPTAQ, Li et al. 2025). C is `CORRECTED_PART` of that; 0 where the covariance counts
    for nothing.

    Args:
        covariance: H, the mean of z^T z, (n, n).
        shift: the mean of z^T (x - z), (n, n).
        factor: of the covariance.
    """
    if factor.damping >= MAX_DAMPING or not np.isfinite(shift).all():
        return np.zeros(shift.shape, np.float32)
    whole = np.linalg.solve(damped(covariance, factor.damping), shift).T
    return (CORRECTED_PART * whole).astype(np.float32)


def _median(variances: Doubles) -> float:
    return float(np.median(variances[variances > 0]))
