"""What coding did to the weights: the codes of a file in the making, decoded and compared with the source.

What it is not: a judgement of the model. Errors are squared errors of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Progress
from kolmo.safetensors import BYTES
from kolmo.weights.choice.survey import Survey
from kolmo.weights.choice.values import TYPICAL_SCALES, is_wild
from kolmo.weights.format.codes import checksum_of
from kolmo.weights.format.writer import Packer
from kolmo.weights.sources.checkpoint import Checkpoint
from kolmo.weights.sources.dtypes import SLAB, to_floats


@dataclass(frozen=True)
class TensorError:
    """What coding did to one tensor; wild weights do not count.

    Attributes:
        error: sum of squared errors.
        typical: the same for the weights up to `values.TYPICAL_SCALES` scales.
        pruned: number of weights that became 0 before coding.
    """

    error: float
    typical: float
    pruned: int


def compare(
    checkpoint: Checkpoint, packer: Packer, survey: Survey, progress: Progress | None
) -> tuple[dict[str, TensorError], dict[str, str]]:
    """Decode all codes, and compare them with the source.

    Args:
        checkpoint: the source.
        packer: what was coded last.
        survey: what was found of the source.
        progress: called with the bytes just compared, in binary32.

    Returns:
        For each coded tensor, by name: its error, and the checksum of what its code decodes to.

    Raises:
        KolmoError: a tensor that must be exact is not, because the source changed meanwhile.
    """
    errors, checksums = {}, {}
    for name, data in packer.decoded():
        tensor, look, one = checkpoint.tensors[name], survey.looks[name], packer.record.coded[name]
        errors[name] = _compare_tensor(name, tensor.read(), data, survey, tensor.dtype)
        checksums[name] = checksum_of(data)
        if (one.base or look.nature.grid) and checksums[name] != look.checksum:
            raise KolmoError(
                f"{checkpoint.name}: tensor {quoted(name)} changed while it was read; leave it alone and repeat"
            )
        if progress:
            progress(4 * tensor.count)
    return errors, checksums


def _compare_tensor(name: str, source: bytes, data: bytes, survey: Survey, dtype: str) -> TensorError:
    scale, has_wild = survey.looks[name].nature.scale, survey.looks[name].nature.wild > 0
    threshold, most = np.float32(survey.thresholds[name]), np.float32(TYPICAL_SCALES * scale)
    error, typical, pruned, width = 0.0, 0.0, 0, SLAB * BYTES[dtype]
    for at in range(0, len(data) if source != data else 0, width):
        before, after = (to_floats(part[at : at + width], dtype) for part in (source, data))
        if has_wild:
            tame = ~is_wild(before, scale)
            before, after = before[tame], after[tame]
        squares = np.square(after - before, dtype=np.float64)
        error += float(squares.sum())
        typical += float(squares.sum(where=np.abs(before) <= most))
        pruned += int(np.count_nonzero((before != 0) & (np.abs(before) < threshold)))
    return TensorError(error, typical, pruned)
