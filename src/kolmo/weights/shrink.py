"""A checkpoint in, a shrunk one out (docs/weights-format.md): with a given step, or with the one that makes a size.

Where a size is to be reached, each tensor's step follows its scale half-way (`steps`); a given one is that of all.
What it is not: it calibrates nothing and runs no model.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.errors import KolmoError, ShrinkWarning
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.parallel import available_cores
from kolmo.progress import Phases, Progress, no_phases
from kolmo.safetensors import BYTES
from kolmo.targets import Attributes
from kolmo.weights.choice.budget import Budget, Loss, Trial, check, settle, spend
from kolmo.weights.choice.search import find_step
from kolmo.weights.choice.steps import Steps, by_scales
from kolmo.weights.choice.survey import Survey, survey
from kolmo.weights.choice.values import TYPICAL, is_wild
from kolmo.weights.format.lossless import BASE
from kolmo.weights.format.packing import Packer, ShrunkFile, digest
from kolmo.weights.report import Report, TensorReport
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.dtypes import SLAB, to_floats
from kolmo.weights.sources.folder import makes_folder, open_target

if TYPE_CHECKING:
    from kolmo.weights.sources.checkpoint import Checkpoint

BITS = 4.0  # a coded weight, where nothing else is asked for
METHODS = ("trellis", "torus")
EXACT = 0.6  # of what weights take as they are: with so much, it is tried whether all fit without a loss
USED = 0.98  # of a size; if a file uses less, that is said


def shrink(
    source: Any,
    target: str | Path,
    hyperfunction: Hyperfunction | str = "trellis",
    *,
    bits: float | None = None,
    step: float | None = None,
    target_bytes: int | None = None,
    max_delta_bpc: float | None = None,
    corpus: Any = None,
    mode: str | None = None,
    limit: int | None = None,
    device: str | None = None,
    max_loss: float | None = None,
    loss: Loss | None = None,
    framework: str | None = None,
    sensitivities: bool = False,
    preset: str | None = None,
    states: int = 8,
    least_error: bool = False,
    lossless: bool = False,
    prune: float = 0.0,
    prune_each: bool = False,
    keep: Sequence[str] = (),
    threads: int = 0,
    force: bool = False,
    progress: Phases | None = None,
) -> Report:
    """Shrink a checkpoint into a file, or a folder of transformers into a folder; read it with `kolmo.load`.

    Args:
        source: a safetensors file, a folder of them, a torch state dict, a model in ONNX, a dictionary of arrays, or
            a module of torch.
        target: the file to write; of a folder with a config.json, the folder, unless it ends in .safetensors or .kolmo.
        hyperfunction: `"trellis"`, `"torus"`, or one with all its settings.
        bits: of a coded weight on average, payloads counted whole; 4 if nothing else is given. Trellis.
        step: distance of two levels, of all tensors. Trellis.
        target_bytes: of the whole file, which takes at most so many. Trellis.
        max_delta_bpc: bits per character that the model may lose on `corpus`; the smallest file that loses no more.
            The source is a folder of transformers. Trellis.
        corpus: a spec, as of `kolmo.evaluate`, or a `Corpus`.
        mode: the rule of evaluation; strict, if None.
        limit: documents of the corpus, at most.
        device: where the model is evaluated: cpu, cuda; cuda where it is, if None.
        max_loss: of what `loss` gives; the smallest file that loses no more. Trellis.
        loss: called with decoded tensors by name, a number: error rate, 1 - Dice, anything that grows with the step.
            Tensors are decoded when they are asked for.
        framework: of these tensors: `"np"`, as `kolmo.load` has them, or `"pt"`; that of the source, if None.
        sensitivities: for `max_delta_bpc` and `max_loss`: measure the loss of each kind of tensors, and choose its step
            by that. One more measurement for each kind.
        preset: llm, unet or mobilenet. Torus; llm if none is given.
        states: of the trellis: 8, or 64 for 0.17 dB less error at four times the work.
        least_error: the least squared error for the bits, though networks lose more by it at 2 or 3 bits. Trellis.
        lossless: every tensor comes back exact; steps are chosen for the least size. Excludes all settings above.
        prune: part of the coded weights, the smallest in magnitude, that become 0 before coding.
        prune_each: prune each tensor by so much, not the whole model.
        keep: globs of names that are not coded.
        threads: tensors coded at once; 0 is one for each core.
        force: overwrite the target.
        progress: shows the phases and their bytes.

    Warns:
        ShrinkWarning: a tensor has lost more than half of itself, or a size cannot be used; also `Report.warnings`.

    Raises:
        ValueError: settings that contradict each other, or out of their range.
        KolmoError: the source is no checkpoint or damaged, the target exists, the size cannot be reached, or the
            limit of loss is exceeded with any step.
        OSError: reading or writing failed; nothing half-written stays.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small.safetensors", bits=3)
        >>> round(report.coded.bits, 1)
        3.0
    """
    make, fixed = plan(
        hyperfunction,
        bits,
        step,
        target_bytes,
        preset,
        states,
        least_error=least_error,
        prune=prune,
        lossless=lossless,
        max_delta_bpc=max_delta_bpc,
        max_loss=max_loss,
    )
    check(loss, max_loss, max_delta_bpc, corpus, sensitivities, mode=mode, limit=limit, device=device)
    checkpoint, path = open_checkpoint(source), os.fspath(target)
    if os.path.exists(path) and not os.path.isfile(path) and not makes_folder(source, path):
        raise KolmoError(f"{path}: is no regular file; a checkpoint is written to one")
    if isinstance(source, str | Path) and os.path.exists(path):
        own = [source, os.path.dirname(path) or "."] if os.path.isdir(source) else [source, path]
        if os.path.samefile(*own):
            raise KolmoError(f"{path}: is, or is beside, what is to be shrunk; choose another name, or another folder")
    phases = progress or no_phases
    cores = threads or available_cores()
    framework, allowed = framework or checkpoint.framework, max_loss
    measure = None
    if max_delta_bpc is not None:
        from kolmo.weights.choice.bpc import BitsPerCharacter

        if not isinstance(source, str | Path):
            raise KolmoError(
                "max_delta_bpc needs a folder of transformers; for what is in memory, give loss and max_loss"
            )
        measure = BitsPerCharacter(source, corpus, mode=mode, limit=limit, device=device, progress=progress)
        loss, framework, allowed = measure, "pt", max_delta_bpc
    before, spent = 0.0, None
    trials: tuple[Trial, ...] = ()
    factors: dict[str, float] = {}
    notes: list[str] = []
    with open_target(source, path, force, shrunk=True) as sink:
        with phases("reading", checkpoint.size) as done:
            found = survey(
                checkpoint,
                fixed or make(1.0),
                keep=keep,
                prune=prune,
                prune_each=prune_each,
                sampled=fixed is None,
                exact=lossless,
                threads=cores,
                progress=done,
            )
        packer = Packer(
            sink.file,
            path,
            checkpoint,
            found.record,
            cores,
            grids=found.grids,
            scales=None if lossless else found.scales,
        )

        def code(step: float, steps: Steps) -> int:
            own = {name: make(steps.of(name, step)) for name in steps.factors}
            return code_all(make(step), own)

        def code_all(function: Hyperfunction, own: Mapping[str, Hyperfunction], exact: bool = False) -> int:
            with phases("coding", 4 * found.count) as done:
                return packer.code(
                    function, found.prune, partial(_in_bytes, done) if done else None, own=own, exact=exact
                )

        if fixed is not None or not found.count:
            code_all(fixed or make(1.0), {}, lossless)
            if fixed is None:
                notes += _unused(checkpoint, packer, target_bytes, bits is not None or loss is not None)
        elif loss is not None and allowed is not None:
            before, trials, factors = spend(
                checkpoint, found, packer, make, code, loss, allowed, framework, sensitivities
            )
        else:
            notes += _search(checkpoint, found, packer, make, code, code_all, bits, target_bytes, cores)
        with phases("comparing", 4 * found.count) as done:
            errors = _compare(checkpoint, packer, found, done)
        if loss is not None and allowed is not None:
            final = settle(sink.place, loss, allowed, framework, cores)
            spent = Budget(allowed, before, final, trials, factors, measure.facts() if measure else {})
        sink.keep(Attributes())
    report = replace(_report(path, found, errors), budget=spent, notes=(*checkpoint.notes, *notes))
    for text in report.warnings:
        warnings.warn(f"{path}: {text}", ShrinkWarning, stacklevel=2)
    return report


def _in_bytes(progress: Progress, weights: int) -> None:
    progress(4 * weights)


def plan(
    hyperfunction: Hyperfunction | str,
    bits: float | None = None,
    step: float | None = None,
    target_bytes: int | None = None,
    preset: str | None = None,
    states: int = 8,
    least_error: bool = False,
    prune: float = 0.0,
    lossless: bool = False,
    max_delta_bpc: float | None = None,
    max_loss: float | None = None,
) -> tuple[Callable[[float], Hyperfunction], Hyperfunction | None]:
    """The hyperfunction of a step, and the one that was asked for, if no size is to be reached.

    Raises:
        ValueError: settings that contradict each other, or out of their range.
    """
    from kolmo.hyperfunctions.torus import PRESETS
    from kolmo.hyperfunctions.trellis import LEAST_ERROR, Trellis

    if not 0 <= prune < 1:
        raise ValueError(f"prune = {prune}: a part of the weights is from 0 to below 1")
    sizes = {"bits": bits, "step": step, "target_bytes": target_bytes, "preset": preset}
    sizes |= {"max_delta_bpc": max_delta_bpc, "max_loss": max_loss}
    given = [name for name, value in sizes.items() if value is not None]
    if lossless:
        others = {"another method": hyperfunction != "trellis", "states": states != 8, "prune": prune > 0}
        others["least_error"] = least_error
        given += [name for name, there in others.items() if there]
        if given:
            raise ValueError(f"lossless and {given[0]} exclude each other; give one of them")
        return lambda _: BASE, BASE
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} exclude each other; give one of them")
    if least_error and hyperfunction != "trellis":
        raise ValueError("least_error is for the trellis, by its name; leave it out")
    if not isinstance(hyperfunction, str):
        if given:
            raise ValueError(f"{given[0]} is for a method by name; this hyperfunction has all its settings")
        return lambda _: hyperfunction, hyperfunction
    if (target_bytes is not None and target_bytes < 1) or (bits is not None and not 0 < bits < math.inf):
        raise ValueError(f"{given[0]} = {sizes[given[0]]}: a size is above 0")
    if hyperfunction not in METHODS:
        raise ValueError(f"method {hyperfunction!r} is not known; choose from {', '.join(METHODS)}")
    if (hyperfunction == "torus") != (given == ["preset"]) and given:
        raise ValueError(
            f"{given[0]} is not for {hyperfunction}: trellis takes bits, step, target_bytes, max_delta_bpc, max_loss; "
            "torus preset"
        )
    if hyperfunction == "torus":
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"preset {preset!r} is not known; choose from {', '.join(PRESETS)}")
        torus = PRESETS[preset or "llm"]
        return lambda _: torus, torus
    settings: dict[str, Any] = LEAST_ERROR if least_error else {}
    return lambda step: Trellis(step, states, **settings), None if step is None else Trellis(step, states, **settings)


def _search(
    checkpoint: Checkpoint,
    found: Survey,
    packer: Packer,
    make: Callable[[float], Hyperfunction],
    code: Callable[[float, Steps], int],
    code_all: Callable[[Hyperfunction, Mapping[str, Hyperfunction], bool], int],
    bits: float | None,
    target_bytes: int | None,
    threads: int,
) -> list[str]:
    """Code with the step that makes the size, or exact where that fits; returns what is to be said of that.

    Raises:
        KolmoError: no step does.
    """
    others = packer.overhead + packer.fixed
    if target_bytes is None:
        wished, budget = f"{BITS if bits is None else bits} bits a weight", int((bits or BITS) * found.count / 8)
    else:
        wished, budget = f"{target_bytes} bytes", target_bytes - others
    if budget <= 0:
        raise KolmoError(f"{checkpoint.name}: {wished} are too few: what is not coded takes {others}; allow more")
    whole = sum(found.record.coded[name].size for name in found.lossy)
    if budget >= EXACT * whole and not any(found.thresholds.values()):
        size = code_all(BASE, {}, True)
        if size <= budget:
            return [
                f"{wished} leave room for every weight as it is: the file is exact, and takes {size + others} bytes"
            ]
    steps = by_scales(found.scales, found.counts)
    step_of = partial(_step_of, make, steps)
    try:
        size = find_step(
            found.samples(), step_of, lambda step: code(step, steps), budget, found.scale, found.bounds(steps), threads
        )
    except KolmoError as error:
        raise KolmoError(f"{checkpoint.name}: {wished} cannot be reached: {error}; allow more") from None
    if size < USED * budget:
        return [f"of {wished}, {8 * size / found.count:.3g} bits a weight are all that could be used"]
    return []


def _unused(checkpoint: Checkpoint, packer: Packer, target_bytes: int | None, wished: bool) -> list[str]:
    """What is to be said where nothing can lose anything, though a size or a loss was asked for.

    Raises:
        KolmoError: the size is too small.
    """
    size = packer.overhead + packer.fixed
    if target_bytes is not None and size > target_bytes:
        raise KolmoError(
            f"{checkpoint.name}: {target_bytes} bytes are too few: no tensor is a matrix of weights, and all of them "
            f"take {size}; allow more"
        )
    if target_bytes is None and not wished:
        return []
    return [
        f"no tensor is a matrix of weights, so nothing was coded with loss: the file is exact, and takes {size} bytes"
    ]


def _step_of(make: Callable[[float], Hyperfunction], steps: Steps, name: str, step: float) -> Hyperfunction:
    return make(steps.of(name, step))


@dataclass(frozen=True)
class Compared:
    """What coding did to a tensor: sums of squared errors, of all weights and of typical ones, and what was pruned."""

    error: float
    typical: float
    pruned: int


def _compare(checkpoint: Checkpoint, packer: Packer, found: Survey, progress: Progress | None) -> dict[str, Compared]:
    """Decode all that was written, compare, and finish the file."""
    errors, digests = {}, {}
    for name, data in packer.decoded():
        tensor, look = checkpoint.tensors[name], found.looks[name]
        source, width = tensor.read(), SLAB * BYTES[tensor.dtype]
        threshold, most = np.float32(found.thresholds[name]), np.float32(TYPICAL * look.nature.scale)
        lost, typical, zeros = 0.0, 0.0, 0
        for at in range(0, len(data) if source != data else 0, width):
            before, after = (to_floats(part[at : at + width], tensor.dtype) for part in (source, data))
            if look.nature.wild:
                tame = ~is_wild(before, look.nature.scale)
                before, after = before[tame], after[tame]
            squares = np.square(after - before, dtype=np.float64)
            lost += float(squares.sum())
            typical += float(squares.sum(where=np.abs(before) <= most))
            zeros += int(np.count_nonzero((before != 0) & (np.abs(before) < threshold)))
        errors[name] = Compared(lost, typical, zeros)
        digests[name] = digest(data)
        one = packer.record.coded[name]
        if (one.base or look.nature.grid) and digests[name] != look.digest:
            raise KolmoError(
                f"{checkpoint.name}: tensor {quoted(name)} changed while it was read; leave it alone and repeat"
            )
        if progress:
            progress(4 * tensor.count)
    packer.finish(digests)
    return errors


def _report(path: str, found: Survey, errors: Mapping[str, Compared]) -> Report:
    """Of the finished file, read anew."""
    report = describe(ShrunkFile(path))
    tensors = []
    for one in report.tensors:
        if one.name in errors:
            here, look = errors[one.name], found.looks[one.name]
            typical = here.typical / look.typical if look.typical else 0.0
            one = replace(one, error=here.error, power=look.power, pruned=here.pruned, typical_error=typical)
        tensors.append(one)
    return replace(report, tensors=tuple(tensors))


def describe(file: ShrunkFile) -> Report:
    """What a shrunk file holds, by its header alone: sizes and bits; errors are not in it."""
    record = file.record
    tensors = []
    for name in file.names:
        one = file.kind(name)
        kind = "coded" if name in record.coded else "raw" if name in record.raw else "tied"
        found = TensorReport(name, one.dtype, one.shape, kind, one.count, file.stored_size(name))
        if kind == "coded":
            found = replace(found, step=file.step(name), wild=record.coded[name].wild)
        tensors.append(found)
    raw = sum(file.raw_size(one.name) for one in tensors if one.kind != "tied")
    function = {"name": record.hyperfunction.name, "parameters": record.hyperfunction.parameters}
    exact = any(one.base for one in record.coded.values())
    content = record.content(file.header.places)
    return Report(file.path.stat().st_size, raw, function, content, tuple(tensors), exact)
