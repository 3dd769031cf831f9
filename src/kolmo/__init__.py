"""kolmo: one number, the code length. Data and predictors in, few bits out.

    packed = kolmo.compress(data)            # bytes -> bytes, exactly back with kolmo.decompress
    with kolmo.open("notes.kmo", "rt") as file: ...

Everything is imported when first used, so that `import kolmo` costs nothing.
What it is not: the place where anything is done; each name below says where it lives.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kolmo.predictors.language_models import quantised as _quantised

if TYPE_CHECKING:
    from kolmo import errors as errors
    from kolmo.errors import (
        CorruptError,
        FormatError,
        KolmoError,
        MemoryLimitError,
        MissingExtraError,
        PredictorError,
        SizeLimitError,
        TruncatedError,
    )
    from kolmo.evaluation.evaluate import evaluate
    from kolmo.sampling import sample
    from kolmo.streams.file import KolmoFile, open
    from kolmo.streams.incremental import Compressor, Decompressor
    from kolmo.streams.whole import compress, decompress
    from kolmo.weights.calibration.options import Calibration
    from kolmo.weights.goals import Bits, Bytes, Lossless, MaxDeltaBpc, MaxLoss, Selection, Step
    from kolmo.weights.running.expand import expand, load
    from kolmo.weights.running.resident import resident
    from kolmo.weights.running.streamed import stream
    from kolmo.weights.shrink import shrink

    __version__: str

_HOMES = {
    "compress": "kolmo.streams.whole",
    "evaluate": "kolmo.evaluation.evaluate",
    "decompress": "kolmo.streams.whole",
    "open": "kolmo.streams.file",
    "sample": "kolmo.sampling",
    "shrink": "kolmo.weights.shrink",
    "Bits": "kolmo.weights.goals",
    "Calibration": "kolmo.weights.calibration.options",
    "Bytes": "kolmo.weights.goals",
    "Lossless": "kolmo.weights.goals",
    "MaxDeltaBpc": "kolmo.weights.goals",
    "MaxLoss": "kolmo.weights.goals",
    "Selection": "kolmo.weights.goals",
    "Step": "kolmo.weights.goals",
    "expand": "kolmo.weights.running.expand",
    "load": "kolmo.weights.running.expand",
    "resident": "kolmo.weights.running.resident",
    "stream": "kolmo.weights.running.streamed",
    "KolmoFile": "kolmo.streams.file",
    "Compressor": "kolmo.streams.incremental",
    "Decompressor": "kolmo.streams.incremental",
    "KolmoError": "kolmo.errors",
    "FormatError": "kolmo.errors",
    "CorruptError": "kolmo.errors",
    "TruncatedError": "kolmo.errors",
    "PredictorError": "kolmo.errors",
    "SizeLimitError": "kolmo.errors",
    "MemoryLimitError": "kolmo.errors",
    "MissingExtraError": "kolmo.errors",
}

__all__ = [
    "Bits",
    "Bytes",
    "Calibration",
    "Compressor",
    "CorruptError",
    "Decompressor",
    "FormatError",
    "KolmoError",
    "KolmoFile",
    "Lossless",
    "MaxDeltaBpc",
    "MaxLoss",
    "MemoryLimitError",
    "MissingExtraError",
    "PredictorError",
    "Selection",
    "SizeLimitError",
    "Step",
    "TruncatedError",
    "__version__",
    "compress",
    "decompress",
    "errors",
    "evaluate",
    "expand",
    "load",
    "open",
    "resident",
    "sample",
    "shrink",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name == "errors":
        value = import_module("kolmo.errors")
    elif name == "__version__":
        value = import_module("kolmo.installing").installed_version()
    else:
        raise AttributeError(f"module 'kolmo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_quantised.register("kolmo", "kolmo.transformers", "model.kolmo.safetensors")
if "fsspec.compression" in sys.modules:
    import_module("kolmo.fsspec")
