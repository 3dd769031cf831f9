"""`kolmo.shrink`: a checkpoint in, a shrunk one out (docs/shrink.md).

    survey      one read of every tensor: what is coded, tied, pruned
    calibrate   the network runs on samples, if there are some
    goal        codes, with the steps that reach it
    compare     decodes everything, and measures errors

What it is not: a run of the model, unless it is calibrated or a goal measures a loss.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from kolmo.errors import KolmoError, ShrinkWarning
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.hyperfunctions.families import FamilyOptions, resolve
from kolmo.parallel import available_cores
from kolmo.progress import Phases, no_phases
from kolmo.targets import Attributes
from kolmo.weights.calibration.calibrate import alone, finish
from kolmo.weights.calibration.calibrate import calibrate as calibrated
from kolmo.weights.calibration.options import Calibration
from kolmo.weights.calibration.options import resolve as resolve_calibration
from kolmo.weights.calibration.sequence import Calibrated
from kolmo.weights.choice.coding import Coding
from kolmo.weights.choice.survey import Survey, survey
from kolmo.weights.comparison import TensorError, compare
from kolmo.weights.format.reader import ShrunkFile
from kolmo.weights.format.writer import Packer
from kolmo.weights.gguf import file as gguf
from kolmo.weights.goals import DEFAULT_GOAL, Goal, Selection, agreed
from kolmo.weights.report import ShrinkReport, describe, describe_gguf
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.folder import makes_folder, open_target
from kolmo.weights.sources.kinds import is_gguf

EVERYTHING = Selection()


def shrink(
    source: Any,
    target: str | Path,
    goal: Goal = DEFAULT_GOAL,
    *,
    hyperfunction: str | FamilyOptions | Hyperfunction = "trellis",
    selection: Selection = EVERYTHING,
    calibrate: Calibration | str | Iterable[Any] | None = None,
    threads: int = 0,
    force: bool = False,
    progress: Phases | None = None,
) -> ShrinkReport:
    """Shrink a checkpoint into a file, or a folder of transformers into a folder; `kolmo.load` reads it.

    Args:
        source: a safetensors file, a folder of them, a torch state dict, a model in ONNX, a dictionary of arrays, or
            a module of torch. For `kolmo.Lossless` also a GGUF file, which `kolmo.expand` gives back byte by byte; the
            report then has a row for each of its types (docs/gguf.md).
        target: the file to write; for a folder with a config.json the folder, unless it ends in .safetensors or .kolmo.
        goal: `kolmo.Bits`, `Bytes`, `Step`, `MaxLoss`, `MaxDeltaBpc` or `Lossless`; 4 bits per weight by default. A
            hyperfunction without a step takes none.
        hyperfunction: `"trellis"`, `"bitshift"` or `"torus"`; one of these with options
            (`kolmo.hyperfunctions.TrellisOptions`, `BitshiftOptions`, `TorusOptions`); or a hyperfunction with all its
            parameters.
        selection: tensors that stay exact, and weights that are pruned.
        calibrate: samples by which errors are weighed (docs/calibration.md): the spec of a corpus for a folder of
            transformers, what a module of torch is called with, or a `kolmo.Calibration`.
        threads: number of tensors that are coded at once; 0 is one for each core.
        force: overwrite the target.
        progress: shows the phases and their bytes.

    Warns:
        ShrinkWarning: a tensor has lost more than half of itself, or a size cannot be used; these sentences are also
            in `ShrinkReport.warnings`.

    Raises:
        ValueError: goal, hyperfunction and selection contradict each other, or tensors of a GGUF file are to be kept.
        TypeError: the goal or the hyperfunction is something else.
        KolmoError: the source is not a checkpoint or is damaged, the target exists, the size cannot be reached, or the
            limit of the loss is exceeded with every step.
        OSError: reading or writing failed; no half-written file is left.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight": np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)}
        >>> report = kolmo.shrink(weights, "small.safetensors", kolmo.Bits(3))
        >>> round(report.coded.bits, 1)
        3.0
    """
    options, is_default = resolve(hyperfunction), goal is DEFAULT_GOAL
    calibration = resolve_calibration(calibrate)
    goal = agreed(goal, options, selection, calibration is not None)
    if goal.is_exact and isinstance(source, str | Path) and os.path.isfile(source) and is_gguf(source):
        if selection.keep:
            raise ValueError(f"keep = {selection.keep}: a GGUF file comes back byte by byte; leave it out")
        return describe_gguf(gguf.shrink(source, target, threads=threads, force=force, progress=progress))
    checkpoint, path = open_checkpoint(source), os.fsdecode(target)
    _check_target(source, path)
    phases = progress or no_phases
    cores = threads or available_cores()
    allowed = goal.prepare(source, checkpoint.framework, progress)
    with alone(path) if calibration else nullcontext(), open_target(source, path, force, shrunk=True) as sink:
        with phases("reading", checkpoint.size) as done:
            found = survey(
                checkpoint,
                keep=selection.keep,
                prune=selection.prune,
                prune_each=selection.prune_each,
                sampled=goal.needs_samples,
                exact=goal.is_exact,
                threads=cores,
                progress=done,
            )
        scales = None if goal.is_exact else found.scales
        packer = Packer(sink.file, path, checkpoint, found.record, cores, grids=found.grids, scales=scales)
        calibration_of: Calibrated | None = None
        uncalibrated: tuple[str, ...] = ()
        if calibration and found.count:
            calibration_of, uncalibrated = calibrated(source, checkpoint, found, calibration, path, phases)
        outcome = goal.reach(Coding(checkpoint, found, packer, options, cores, phases, calibration_of), allowed)
        with phases("comparing", 4 * found.count) as done:
            errors, checksums = compare(checkpoint, packer, found, done)
        packer.finish(checksums)
        ShrunkFile(sink.place)  # what cannot be opened again replaces nothing
        budget = outcome.search.settle(sink.place, cores) if outcome.search else None
        sink.keep(Attributes())
        if calibration_of:
            finish(path)
    notes = () if is_default and not found.count else outcome.notes
    report = replace(_report_of(path, found, errors), budget=budget, notes=(*checkpoint.notes, *uncalibrated, *notes))
    for text in report.warnings:
        warnings.warn(f"{path}: {text}", ShrinkWarning, stacklevel=2)
    return report


def _check_target(source: Any, path: str) -> None:
    """Refuse targets that are not regular files, that are the source, or that lie in it.

    Raises:
        KolmoError: the target is one.
    """
    is_folder = isinstance(source, str | Path) and os.path.isdir(source)
    if is_folder and (here := Path(os.path.realpath(source))) in Path(os.path.realpath(path)).parents:
        raise KolmoError(f"{path}: lies in {here}, which is the source; choose another folder")
    if not os.path.exists(path):
        return
    if not os.path.isfile(path) and not makes_folder(source, path):
        raise KolmoError(f"{path}: is not a regular file; a checkpoint is written to one")
    if isinstance(source, str | Path) and os.path.samefile(source, path):
        raise KolmoError(f"{path}: is the source; choose another name")


def _report_of(path: str, found: Survey, errors: dict[str, TensorError]) -> ShrinkReport:
    """The report of a finished file, which is read again."""
    report = describe(ShrunkFile(path))
    tensors = []
    for one in report.tensors:
        if one.name in errors:
            here, look = errors[one.name], found.looks[one.name]
            typical = here.typical / look.typical if look.typical else 0.0
            one = replace(one, error=here.error, power=look.power, pruned=here.pruned, typical_error=typical)
        tensors.append(one)
    return replace(report, tensors=tuple(tensors))
