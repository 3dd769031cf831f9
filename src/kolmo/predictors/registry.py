"""Predictors by level, by spec (`cm:5`) and by what a file records.

Predictors are imported when asked for. Other packages add their own through the entry-point group
`kolmo.predictors`: an entry point's name is the predictor's, and it loads to a class with the classmethods
`from_spec(argument: str)` and `restore(version: int, parameters: bytes)`; both return a `Predictor`.
`register` does the same within a program. What it is not: it makes no predictions, and reads no files.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, cast

from kolmo.errors import KolmoError, LevelError, PredictorError
from kolmo.foreign import quoted, short
from kolmo.predictors.base import Predictor
from kolmo.predictors.guard import guarded

GROUP = "kolmo.predictors"
DEFAULT_LEVEL = 5
BUILTIN = ("cm", "neural", "network", "hf", "gguf", "classical")
LEVELLED = ("cm", "neural")
LANGUAGE_MODELS = ("hf", "gguf")
NEURAL_LEVELS = 5  # from here on
_registered: dict[str, Any] = {}


def for_level(level: int) -> Predictor:
    """The embedded predictor at a level of effort, 1 (fast) to 9 (small).

    Raises:
        LevelError: no such level.
    """
    check_level(level)
    return cast(Predictor, _find("neural" if level >= NEURAL_LEVELS else "cm")(level))


def check_level(level: int) -> None:
    """Refuse what is not a level.

    Raises:
        LevelError: no such level.
    """
    if not 1 <= level <= 9:
        raise LevelError(f"level {level} does not exist; choose 1 (fast) to 9 (small)")


def resolve(spec: str, **options: Any) -> Predictor:
    """The predictor that a spec names: a name, and after a colon what it takes as its argument (`cm:9`, `hf:FOLDER`).

    Args:
        spec: the spec.
        options: of the predictor's `options`, by name; those that are None do not count.

    Raises:
        PredictorError: unknown (the message names the known ones), or it does not take this argument.
    """
    name, colon, argument = spec.partition(":")
    if not colon and name not in known():
        raise PredictorError(f"{_unknown(name)}; {_full(name)}")
    maker = _find(name)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(set(given) - set(getattr(maker, "options", ()))):
        raise PredictorError(
            f"predictor {quoted(name)} takes no {', '.join(unknown)}; leave it out, or use a language model"
        )
    try:
        with guarded(spec, "cannot be opened", passing=ValueError):
            return cast(Predictor, maker.from_spec(argument, **given))
    except ValueError as error:
        raise PredictorError(f"predictor spec {quoted(spec)}: {error}; see the predictor's documentation") from None


def restore(name: str, version: int, fingerprint: bytes, parameters: bytes) -> Predictor:
    """The predictor that wrote a file, from what the file records.

    Raises:
        PredictorError: it is unknown, of another version, or not the same one; the message says which.
    """
    maker = _find(name)
    try:
        with guarded(f"predictor {name!r}", "cannot be opened", passing=ValueError):
            predictor = cast(Predictor, maker.restore(version, parameters))
    except ValueError as error:
        raise PredictorError(
            f"predictor {quoted(name)} does not take the file's parameters: {error}; {_UPDATE}"
        ) from None
    if predictor.version != version:
        which = "newer" if version > predictor.version else "older"
        raise PredictorError(
            f"written by version {version} of predictor {quoted(name)}, {which} than version {predictor.version} "
            f"here; install the kolmo (or plugin) that has it"
        )
    here = predictor.fingerprint()
    if here != fingerprint:
        raise PredictorError(
            f"written by a predictor {quoted(name)} with fingerprint {short(fingerprint.hex())}, the one here has "
            f"{here.hex()}; decode with the same model files and versions as the writer"
        )
    return predictor


def register(name: str, maker: Any) -> None:
    """Make a predictor known to this program: what an entry point does for all programs."""
    _registered[name] = maker


def known() -> list[str]:
    """Names of all predictors that this installation has."""
    return sorted({*BUILTIN, *_registered, *(point.name for point in _entry_points())})


def level_of(name: str, parameters: bytes) -> int | None:
    """The level in a file's predictor record, where the predictor has levels."""
    if name == "network":
        from kolmo.predictors.own_network import parse

        try:
            return parse(parameters)[0]
        except PredictorError:
            return None
    return parameters[0] if name in LEVELLED and len(parameters) == 1 else None


def model_of(name: str, parameters: bytes) -> str | None:
    """The language model, or the network of one's own, in a file's predictor record, in words; None of others."""
    if name == "network":
        from kolmo.predictors.own_network import parse

        try:
            _, mark, label = parse(parameters)
        except PredictorError:
            return None
        return f"{label}, hash {mark.hex()}".removeprefix(", ")
    if name not in LANGUAGE_MODELS:
        return None
    from kolmo.predictors.records import Record

    try:
        return Record.from_bytes(parameters).describe()
    except (ValueError, KolmoError):
        return None


_UPDATE = "install a newer version"


def _find(name: str) -> Any:
    if name == "cm":
        from kolmo.predictors.context_mixing import ContextMixing

        return ContextMixing
    if name == "neural":
        from kolmo.predictors.neural import Neural

        return Neural
    if name == "network":
        from kolmo.predictors.own_network import Network

        return Network
    if name == "hf":
        from kolmo.predictors.huggingface import HuggingFace

        return HuggingFace
    if name == "gguf":
        from kolmo.predictors.llamacpp import LlamaCpp

        return LlamaCpp
    if name == "classical":
        from kolmo.predictors.classical import Classical

        return Classical
    if name in _registered:
        return _registered[name]
    for point in _entry_points():
        if point.name == name:
            with guarded(f"predictor {name!r}", "its package cannot be loaded", "install it again"):
                return point.load()
    raise PredictorError(f"{_unknown(name)}; install the package that provides it")


def _unknown(name: str) -> str:
    return f"unknown predictor {quoted(name)}; known here: {', '.join(known())}"


def _full(name: str) -> str:
    """What to type for a name that tables print without its kind: a compressor, a near predictor, a language model."""
    from kolmo.predictors.classical import COMPRESSORS

    if name in COMPRESSORS:
        return f"the compressor of this name is classical:{name}"
    if near := get_close_matches(name, known(), n=1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    return f"a language model of this name is {short(f'hf:{name}')}"


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)
