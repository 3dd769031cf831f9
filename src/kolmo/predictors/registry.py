"""Predictors by level, by spec (`cm:5`) and by what a file records.

Predictors are imported when asked for. Other packages add their own through the entry-point group
`kolmo.predictors`: an entry point's name is the predictor's, and it loads to a class derived from
`predictors.base.Predictor`, with `from_spec` and `restore`. `register` does the same within a program.
What it is not: a reader of files; it is handed the record of a predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from kolmo.errors import KolmoError, LevelError, PredictorError
from kolmo.foreign import quoted, short
from kolmo.predictors.base import BlockPart, Predictor
from kolmo.predictors.guard import guarded
from kolmo.predictors.settings import DEFAULT_SETTINGS, RunSettings

GROUP = "kolmo.predictors"
DEFAULT_LEVEL = 5
BUILTIN = ("cm", "neural", "network", "hf", "gguf", "classical")
LEVELLED = ("cm", "neural")
LANGUAGE_MODELS = ("hf", "gguf")
MIN_NEURAL_LEVEL = 5  # levels from here on use the predictor `neural`, those below it `cm`
_registered: dict[str, type[Predictor]] = {}


def for_level(level: int) -> Predictor:
    """The embedded predictor at a level of effort, 1 (fast) to 9 (small).

    Raises:
        LevelError: no such level.
    """
    check_level(level)
    name = "neural" if level >= MIN_NEURAL_LEVEL else "cm"
    return checked(_find(name)(level), name)


def check_level(level: int) -> None:
    """Refuse what is not a level.

    Raises:
        LevelError: no such level.
    """
    if not 1 <= level <= 9:
        raise LevelError(f"level {level} does not exist; choose 1 (fast) to 9 (small)")


def resolve(spec: str, *, settings: RunSettings = DEFAULT_SETTINGS, **options: Any) -> Predictor:
    """The predictor that a spec names: its name, and after a colon its argument (`cm:9`, `hf:FOLDER`).

    Args:
        spec: the spec.
        settings: how it runs here; only language models use them.
        options: keyword arguments among the predictor's `options`; those that are None are left out.

    Raises:
        PredictorError: the predictor is unknown (the message names the known ones), or rejects the argument.
    """
    name, colon, argument = spec.partition(":")
    if not colon and name not in known():
        raise PredictorError(f"{_unknown(name)}; {_full(name)}")
    maker = _find(name)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(set(given) - set(maker.options)):
        raise PredictorError(
            f"predictor {quoted(name)} takes no {', '.join(unknown)}; leave it out, or use a language model"
        )
    try:
        with guarded(spec, "cannot be opened", passing=ValueError):
            return checked(maker.from_spec(argument, **_settings(maker, settings), **given), name)
    except ValueError as error:
        raise PredictorError(f"predictor spec {quoted(spec)}: {error}; see the predictor's documentation") from None


def restore(
    name: str, version: int, fingerprint: bytes, parameters: bytes, settings: RunSettings = DEFAULT_SETTINGS
) -> Predictor:
    """The predictor that wrote a file, from what the file records.

    Raises:
        PredictorError: the predictor is unknown, or differs in version or fingerprint; the message states which.
    """
    maker = _find(name)
    try:
        with guarded(f"predictor {name!r}", "cannot be opened", passing=ValueError):
            predictor = checked(maker.restore(version, parameters, **_settings(maker, settings)), name)
    except ValueError as error:
        raise PredictorError(f"predictor {quoted(name)} rejects the file's parameters: {error}; {_UPDATE}") from None
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


def _settings(maker: type[Predictor], settings: RunSettings) -> dict[str, RunSettings]:
    return {"settings": settings} if maker.uses_settings else {}


def register(name: str, maker: type[Predictor]) -> None:
    """Register a predictor for this program, as an entry point does for all programs.

    Raises:
        PredictorError: the class is not derived from `predictors.base.Predictor`.
    """
    _registered[name] = _checked_class(maker, name)


def checked(predictor: object, name: str) -> Predictor:
    """What a class of predictors made, if it is a predictor.

    Raises:
        PredictorError: it is not derived from `predictors.base.Predictor`.
    """
    if isinstance(predictor, Predictor):
        return predictor
    raise _not_derived(type(predictor), name)


def _checked_class(maker: Any, name: str) -> type[Predictor]:
    if isinstance(maker, type) and issubclass(maker, Predictor):
        return maker
    raise _not_derived(maker, name)


def _not_derived(kind: Any, name: str) -> PredictorError:
    return PredictorError(
        f"predictor {quoted(name)}: {short(getattr(kind, '__qualname__', repr(kind)))} is not derived from "
        "kolmo.predictors.base.Predictor; update the package that provides it"
    )


def known() -> list[str]:
    """Names of all predictors that this installation has."""
    return sorted({*BUILTIN, *_registered, *(point.name for point in _entry_points())})


def level_of(name: str, parameters: bytes) -> int | None:
    """The level in a file's predictor record, where the predictor has levels."""
    if name == "network":
        from kolmo.predictors.embedded.own_network import parse

        try:
            return parse(parameters)[0]
        except PredictorError:
            return None
    return parameters[0] if name in LEVELLED and len(parameters) == 1 else None


def model_of(name: str, version: int, parameters: bytes) -> str | None:
    """The language model or own network in a file's predictor record, in words; None for other predictors."""
    if name == "network":
        from kolmo.predictors.embedded.own_network import parse

        try:
            _, mark, label = parse(parameters)
        except PredictorError:
            return None
        return f"{label}, hash {mark.hex()}".removeprefix(", ")
    if name not in LANGUAGE_MODELS:
        return None
    from kolmo.predictors.language_models.records import Record

    try:
        return Record.from_bytes(parameters, version).describe()
    except (ValueError, KolmoError):
        return None


def parts_reader(name: str, version: int, parameters: bytes) -> Callable[[bytes, int], list[BlockPart]] | None:
    """What reads the parts of a file's blocks from their payloads (`Predictor.parts`); None where files record none.

    It needs no network: only what its predictor is called.
    """
    if name == "network":  # the own network need not be here
        from kolmo.predictors.embedded.own_network import Network

        return _find("neural")().parts if version == Network.version else None
    if name not in LEVELLED:
        return None
    try:
        predictor: Predictor = _find(name).restore(version, parameters)
    except PredictorError:
        return None
    return predictor.parts


_UPDATE = "install a newer version"


def _find(name: str) -> Any:
    if name == "cm":
        from kolmo.predictors.embedded.cm import ContextMixing

        return ContextMixing
    if name == "neural":
        from kolmo.predictors.embedded.neural import Neural

        return Neural
    if name == "network":
        from kolmo.predictors.embedded.own_network import Network

        return Network
    if name == "hf":
        from kolmo.predictors.language_models.huggingface import HuggingFace

        return HuggingFace
    if name == "gguf":
        from kolmo.predictors.language_models.llamacpp import LlamaCpp

        return LlamaCpp
    if name == "classical":
        from kolmo.predictors.classical.compressors import Classical

        return Classical
    if name in _registered:
        return _registered[name]
    for point in _entry_points():
        if point.name == name:
            with guarded(f"predictor {name!r}", "its package cannot be loaded", "install it again"):
                return _checked_class(point.load(), name)
    raise PredictorError(f"{_unknown(name)}; install the package that provides it")


def _unknown(name: str) -> str:
    return f"unknown predictor {quoted(name)}; known here: {', '.join(known())}"


def _full(name: str) -> str:
    """What to type for a name that tables print without its kind: a compressor, a near predictor, a language model."""
    from kolmo.predictors.classical.compressors import COMPRESSORS

    if name in COMPRESSORS:
        return f"the compressor of this name is classical:{name}"
    if near := get_close_matches(name, known(), n=1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    return f"a language model of this name is {short(f'hf:{name}')}"


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)
