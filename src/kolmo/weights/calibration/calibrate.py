"""A calibration from beginning to end: the network is run over the samples, and its moments are kept beside OUT.

    OUT.calibration/moments.npz     what the samples so far have shown (moments.py)
    OUT.calibration/of.json         a hash of the checkpoint, the samples and the settings
    OUT.calibration/STEPS/          codes of tensors with the steps of one trial (sequence.py)
    OUT.calibration.lock            while a run works there

The folder stays until the file is complete, so that the same command goes on where it was interrupted; another
checkpoint, corpus or setting begins anew. What it is not: a part of the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.foreign import quoted
from kolmo.installing import install
from kolmo.progress import Phases
from kolmo.targets import LOCK, is_temporary, locked, replacing
from kolmo.weights.calibration.blocks import Blocks, Walk, find
from kolmo.weights.calibration.factors import factorise
from kolmo.weights.calibration.guides import Guides
from kolmo.weights.calibration.moments import Moments
from kolmo.weights.calibration.network import Bound, bind, inference
from kolmo.weights.calibration.options import Calibration
from kolmo.weights.calibration.samples import windows
from kolmo.weights.calibration.sequence import Calibrated, Network
from kolmo.weights.choice.survey import Survey
from kolmo.weights.sources.checkpoint import Checkpoint

SUFFIX = ".calibration"
MOMENTS, KEY = "moments.npz", "of.json"
STEPS = re.compile("[0-9a-f]{16}")  # names of folders of codes
MEASURED_PART = 8  # of the samples one in so many has its gradients computed
MIN_MEASURED = 8  # samples with gradients, if there are so many
SAVES = 8  # times that the moments of a run are saved
VERSION = 2  # of the sums; any change of them begins anew


def open_network(source: Any, calibration: Calibration) -> Network:
    """The network of a source, with its samples.

    Raises:
        KolmoError: the source is neither a folder of transformers nor a module of torch, or has no text or samples.
        MissingExtraError: torch or transformers are not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(f"a calibration needs torch ({error}); {install('hf')}") from None
    if isinstance(source, torch.nn.Module):
        if calibration.samples is None:
            raise KolmoError("a module of torch is calibrated on samples; give calibrate=[...], what it is called with")
        samples = list(calibration.samples)
        if not samples:
            raise KolmoError("the calibration has no samples; give what the module is called with")
        return Network(source, samples)
    if not isinstance(source, str | Path) or not Path(source).is_dir():
        raise KolmoError("a calibration runs the network: give a folder of transformers, or a module of torch")
    if calibration.corpus is None:
        raise KolmoError(f"{source}: a folder of transformers is calibrated on a corpus; give one")
    from kolmo.corpus import open_corpus
    from kolmo.predictors.language_models.torch_models.backend import load

    corpus = open_corpus(calibration.corpus) if isinstance(calibration.corpus, str) else calibration.corpus
    backend = load(Path(source), "float32", calibration.device or "auto")
    samples = windows(backend, corpus, calibration.tokens, calibration.window)
    return Network(backend.model, samples, str(source))


def calibrate(
    source: Any, checkpoint: Checkpoint, survey: Survey, calibration: Calibration, target: str, phases: Phases
) -> tuple[Calibrated, tuple[str, ...]]:
    """Run the network, or read what an interrupted run left; returns its calibration, and notes for the report.

    Args:
        source: what is shrunk.
        checkpoint: its tensors.
        survey: what one read of them found.
        calibration: the samples.
        target: the path that will be written; the work folder is beside it.
        phases: shows progress.

    Raises:
        KolmoError: the network cannot be run, or has no layer that can be calibrated.
        OSError: the work folder cannot be written.
    """
    network = open_network(source, calibration)
    bound = bind(network.model, checkpoint, survey.lossy)
    if not bound:
        raise KolmoError(f"{checkpoint.name}: has no layer that can be calibrated; leave calibrate out")
    folder, damping = _work_folder(target), calibration.damping
    _begin(folder, _key(survey, network.samples, damping))
    with network.guard(), inference(network.model):
        blocks = find(network.model, bound, network.samples[0])
    moments = measure(network, bound, blocks, damping, folder / MOMENTS, phases)
    guides = Guides.make(moments, bound, damping)
    left = [name for name in survey.lossy if name not in guides.guides and name not in guides.tables]
    notes = (
        (f"coded without the calibration, since no sample reached them in a layer of a known kind: {_listed(left)}",)
        if left
        else ()
    )
    return Calibrated(network, blocks, guides, checkpoint, survey, folder), notes


def measure(
    network: Network, bound: Mapping[str, Bound], blocks: Blocks, damping: float, path: Path, phases: Phases
) -> Moments:
    """Gradients of a part of the samples, then the inputs of one block after the other; from where a file ends.

    Args:
        network: the network, with its original weights.
        bound: its tensors.
        blocks: its blocks.
        damping: as `Calibration.damping`.
        path: the file, which is saved a few times.
        phases: shows progress.

    Raises:
        KolmoError: an activation is not finite, or no output depends on weights.
        PredictorError: a model that was read fails.
        OSError: the file cannot be written.
    """
    model, samples, count = network.model, network.samples, len(network.samples)
    found = Moments.load(path) if path.exists() else Moments()
    measured = min(max(-(-count // MEASURED_PART), MIN_MEASURED), count)
    total = measured + count * len(blocks.modules)
    every, walk = -(-total // SAVES), Walk(model, blocks, samples)
    with phases("calibrating", total) as progress, network.guard(), inference(model):

        def passed(unit: int) -> None:
            """Save now and then, after so many gradients and inputs."""
            if unit % every == 0 or unit == total:
                found.save(path)
            if progress:
                progress(1)

        if progress:
            progress(found.measured + count * found.block + found.done)
        for number in range(found.measured, measured):
            found.add_gradients(model, bound, samples[number])
            passed(number + 1)
        for block in range(len(blocks.modules)):
            within = blocks.within(block, bound)
            for number in range(count):
                if (block, number) < (found.block, found.done):
                    if found.block < len(blocks.modules):
                        walk.run(block, number)
                    continue
                with found.inputs.watching(within):
                    walk.run(block, number)
                found.done = number + 1
                if found.done == count:
                    _reduce(found, blocks.names[block], damping)
                    found.block, found.done = block + 1, 0
                passed(measured + count * block + number + 1)
    return found


def _reduce(moments: Moments, names: Sequence[str], damping: float) -> None:
    """Replace the covariances of a block that all samples have passed by the importances of its inputs."""
    inputs, found = moments.inputs, {}
    for name in names:
        if not inputs.rows.get(name):
            continue
        leader = inputs.leaders[name]
        if leader not in found:
            found[leader] = factorise(inputs.covariances[leader] / inputs.rows[leader], damping).importance
        moments.importance[name] = found[leader]
    inputs.forget(set(names))


@contextmanager
def alone(target: str) -> Iterator[None]:
    """Keep other runs from the work folder of a target.

    Raises:
        KolmoError: another run calibrates for this target.
    """
    folder = _work_folder(target)
    with locked(f"{folder}{LOCK}", f"{folder}: another run calibrates there; wait for it, or choose another OUT"):
        yield


def finish(target: str) -> None:
    """Remove the work folder of a target."""
    _clear(_work_folder(target))


def _work_folder(target: str) -> Path:
    path = Path(target)
    return path.with_name(path.name + SUFFIX)


def _begin(folder: Path, key: str) -> None:
    """The work folder, empty unless it is of the same calibration and intact."""
    try:
        same = json.loads((folder / KEY).read_bytes()) == key
        if same and (folder / MOMENTS).exists():
            Moments.load(folder / MOMENTS)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        same = False
    if same:
        return
    ours = folder.is_dir() and ((folder / KEY).exists() or all(_is_own(path) for path in folder.iterdir()))
    if os.path.lexists(folder) and not ours:
        raise KolmoError(f"{folder}: is in the way of the work folder of the calibration; remove it, or rename OUT")
    _clear(folder)
    folder.mkdir(exist_ok=True)
    with replacing(folder / KEY) as file:
        file.write(json.dumps(key).encode())


def _is_own(path: Path) -> bool:
    return path.name in (KEY, MOMENTS) or STEPS.fullmatch(path.name) is not None or is_temporary(path.name)


def _clear(folder: Path) -> None:
    """Remove what calibrations made in a work folder, last of all what says whose it is, and the folder if it is empty.

    So what is left when this is interrupted is still known for a work folder.
    """
    with suppress(OSError):
        for path in sorted(filter(_is_own, folder.iterdir()), key=lambda path: path.name == KEY):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        folder.rmdir()


def _key(survey: Survey, samples: Sequence[Any], damping: float) -> str:
    """A hash of everything that the moments depend on."""
    import torch

    whole = hashlib.sha256(f"{VERSION} {len(samples)} {damping}".encode())
    for name in sorted(survey.looks):
        whole.update(f"{name}\t{survey.looks[name].checksum}\n".encode("utf-8", "surrogatepass"))
    for name in sorted(survey.record.raw):
        whole.update(f"{name}\t{survey.record.raw[name]}\n".encode("utf-8", "surrogatepass"))

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            whole.update(f"{value.dtype} {tuple(value.shape)}".encode())
            whole.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                whole.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for inner in value:
                add(inner)
        else:
            whole.update(repr(value).encode())

    for sample in samples:
        add(sample)
    return whole.hexdigest()


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(quoted(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
