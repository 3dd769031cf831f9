"""A checkpoint in, a shrunk one out (docs/weights-format.md): one step for the whole model, or one that makes a size.

One step, not one rate: what a weight costs the model goes by its error, and equal steps are equal errors, so each
tensor takes the bits that it needs. What it is not: it calibrates nothing and runs no model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kolmo.codec.pipeline import Report as Tick
from kolmo.codec.pipeline import available_cores
from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.targets import Attributes
from kolmo.weights.budget import Budget, Loss, Trial, check, settle, spend
from kolmo.weights.checkpoint import open_checkpoint
from kolmo.weights.dtypes import SLAB, to_floats
from kolmo.weights.folder import makes_folder, open_target
from kolmo.weights.lossless import BASE
from kolmo.weights.packing import Packer, ShrunkFile, digest
from kolmo.weights.report import Report, TensorReport
from kolmo.weights.safetensors import BYTES
from kolmo.weights.search import find_step
from kolmo.weights.survey import Survey, survey

if TYPE_CHECKING:
    from kolmo.weights.checkpoint import Checkpoint

Progress = Callable[[str, int], "AbstractContextManager[Tick | None]"]

BITS = 4.0  # a coded weight, where nothing else is asked for
METHODS = ("trellis", "torus")


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
    progress: Progress | None = None,
) -> Report:
    """Shrink a checkpoint into a file, or a folder of transformers into a folder; read it with `kolmo.load`.

    Args:
        source: a safetensors file, a folder of them, a torch state dict, a model in ONNX, a dictionary of arrays, or
            a module of torch.
        target: the file to write; of a folder with a config.json, the folder, unless it ends in .safetensors or .kolmo.
        hyperfunction: `"trellis"`, `"torus"`, or one with all its settings.
        bits: of a coded weight on average, payloads counted whole; 4 if nothing else is given. Trellis.
        step: distance of two levels. Trellis.
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
        progress: makes, of a title and the bytes to do, a context that yields what to call with bytes done.

    Raises:
        ValueError: settings that contradict each other, or out of their range.
        KolmoError: the source is no checkpoint or damaged, the target exists, the size cannot be reached, or the
            limit of loss is exceeded with any step.
        OSError: reading or writing failed; nothing half-written stays.
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
    watch = progress or (lambda title, size: nullcontext())
    cores = threads or available_cores()
    framework, allowed = framework or checkpoint.framework, max_loss
    measure = None
    if max_delta_bpc is not None:
        from kolmo.weights.bpc import BitsPerCharacter

        if not isinstance(source, str | Path):
            raise KolmoError(
                "max_delta_bpc needs a folder of transformers; for what is in memory, give loss and max_loss"
            )
        measure = BitsPerCharacter(source, corpus, mode=mode, limit=limit, device=device, progress=progress)
        loss, framework, allowed = measure, "pt", max_delta_bpc
    before, spent = 0.0, None
    trials: tuple[Trial, ...] = ()
    factors: dict[str, float] = {}
    with open_target(source, path, force, shrunk=True) as sink:
        with watch("reading", checkpoint.size) as tick:
            found = survey(
                checkpoint,
                fixed or make(1.0),
                keep=keep,
                prune=prune,
                prune_each=prune_each,
                sampled=fixed is None,
                threads=cores,
                report=tick,
            )
        packer = Packer(sink.file, path, checkpoint, found.record, cores, exact=lossless)

        def code(function: Hyperfunction) -> int:
            with watch("coding", 4 * found.count) as tick:
                return packer.code(function, found.prune, partial(_in_bytes, tick) if tick else None)

        if fixed is not None or not found.count:
            code(fixed or make(1.0))
        elif loss is not None and allowed is not None:
            before, trials, factors = spend(
                checkpoint, found, packer, make, code, loss, allowed, framework, sensitivities
            )
        else:
            _search(checkpoint, found, packer, make, code, bits, target_bytes, cores)
        with watch("comparing", 4 * found.count) as tick:
            errors = _compare(checkpoint, packer, found, tick)
        if loss is not None and allowed is not None:
            final = settle(sink.place, loss, allowed, framework, cores)
            spent = Budget(allowed, before, final, trials, factors, measure.facts() if measure else {})
        sink.keep(Attributes())
    return replace(_report(path, found, errors), budget=spent)


def _in_bytes(tick: Tick, weights: int) -> None:
    tick(4 * weights)


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
    code: Callable[[Hyperfunction], int],
    bits: float | None,
    target_bytes: int | None,
    threads: int,
) -> None:
    """Code with the step that makes the size.

    Raises:
        KolmoError: no step does.
    """
    if target_bytes is None:
        wished, budget = f"{BITS if bits is None else bits} bits a weight", int((bits or BITS) * found.count / 8)
    else:
        wished, budget = f"{target_bytes} bytes", target_bytes - packer.overhead
    if budget <= 0:
        raise KolmoError(
            f"{checkpoint.name}: {wished} are too few: what is not coded takes {packer.overhead}; allow more"
        )
    power = math.fsum(look.power for look in found.looks.values()) / found.count
    largest = max(look.largest for look in found.looks.values())
    try:
        find_step(found.samples(), make, lambda step: code(make(step)), budget, power, largest, threads)
    except KolmoError as error:
        raise KolmoError(f"{checkpoint.name}: {wished} cannot be reached: {error}; allow more") from None


def _compare(checkpoint: Checkpoint, packer: Packer, found: Survey, tick: Tick | None) -> dict[str, tuple[float, int]]:
    """Decode all that was written, compare, and finish the file; squared errors and numbers of pruned weights."""
    errors, digests = {}, {}
    for name, data in packer.decoded():
        tensor = checkpoint.tensors[name]
        source, width = tensor.read(), SLAB * BYTES[tensor.dtype]
        threshold = np.float32(found.thresholds[name])
        lost, zeros = 0.0, 0
        for at in range(0, len(data), width):
            before, after = (to_floats(part[at : at + width], tensor.dtype) for part in (source, data))
            lost += float(np.square(after - before, dtype=np.float64).sum())
            zeros += int(np.count_nonzero((before != 0) & (np.abs(before) < threshold)))
        errors[name] = lost, zeros
        digests[name] = digest(data)
        if packer.record.coded[name].base and digests[name] != found.looks[name].digest:
            raise KolmoError(
                f"{checkpoint.name}: tensor {quoted(name)} changed while it was read; leave it alone and repeat"
            )
        if tick:
            tick(4 * tensor.count)
    packer.finish(digests)
    return errors


def _report(path: str, found: Survey, errors: Mapping[str, tuple[float, int]]) -> Report:
    """Of the finished file, read anew."""
    report = describe(ShrunkFile(path))
    tensors = []
    for one in report.tensors:
        if one.name in errors:
            error, pruned = errors[one.name]
            one = replace(one, error=error, power=found.looks[one.name].power, pruned=pruned)
        tensors.append(one)
    return replace(report, tensors=tuple(tensors))


def describe(file: ShrunkFile) -> Report:
    """What a shrunk file holds, by its header alone: sizes and bits; errors are not in it."""
    record = file.record
    tensors = []
    for name in file.names:
        one = file.kind(name)
        kind = "coded" if name in record.coded else "raw" if name in record.raw else "tied"
        tensors.append(TensorReport(name, one.dtype, one.shape, kind, one.count, file.stored_size(name)))
    raw = sum(file.raw_size(one.name) for one in tensors if one.kind != "tied")
    function = {"name": record.hyperfunction.name, "parameters": record.hyperfunction.parameters}
    exact = any(one.base for one in record.coded.values())
    content = record.content(file.header.places)
    return Report(file.path.stat().st_size, raw, function, content, tuple(tensors), exact)
