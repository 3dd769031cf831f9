"""Options that several verbs take: levels, threads, sizes like 8M."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from kolmo.cli.arguments import FLAGS
from kolmo.cli.console import say

if TYPE_CHECKING:
    from kolmo.predictors.base import Predictor
    from kolmo.predictors.settings import RunSettings

Function = TypeVar("Function", bound=Callable[..., Any])
MODES = (  # of evaluation, which help must not load; in an order in which no name is broken over two lines of help
    "strict",
    "paper",
    "uncheatable",
    "uncheatable-bos",
    "perplexity-2048",
    "lm-eval",
    "lm-eval-no-bos",
    "llama.cpp",
)
PATH = click.Path(readable=False)  # whether it can be read is found out file by file, so that one stops no others
DTYPES = ("float32", "bfloat16", "float16", "float64")
SPELLINGS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp64": "float64"}
LONG_LEVELS = {1: ("--fast",), 9: ("--best",)}
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Bytes of "8M", "512KiB", "1000": K, M, G and T are powers of 1024."""
    match = re.fullmatch(r"(\d{1,15}) ?([KMGT]?)(?:iB|B)?", value, re.IGNORECASE | re.ASCII)
    if not match or int(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a size; write it like 8M, 512K or 1000000", ctx, param)
    return int(match[1]) << UNITS[match[2].upper()]


def parse_size_or_none(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """The same of an option that may be left out."""
    return None if value is None else parse_size(ctx, param, value)


def parse_place(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A file's or folder's name, and no stream."""
    if value == "-":
        raise click.BadParameter("it is read at any place, so it cannot be a stream; name a file", ctx, param)
    return value


def flag_of(name: str) -> str:
    """The flag of a parameter of Python: `--target-bytes` for `target_bytes`."""
    return "--" + name.replace("_", "-")


class Dtype(click.ParamType):  # type: ignore[type-arg]
    """A type of floating-point numbers, by its name or the short form that others use, like bf16."""

    name = "dtype"

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The full name."""
        name = str(SPELLINGS.get(value, value))
        if name not in self.names:
            self.fail(f"{value!r} is not one of {', '.join(self.names)}", param, ctx)
        return name


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Whole numbers with commas between them, such as 225,400."""

    name = "n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers."""
        if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", value, re.ASCII):
            self.fail(f"{value!r} is not a list of whole numbers; write it like 225,400", param, ctx)
        return tuple(map(int, value.split(",")))


class LevelOption(click.Option):
    """-1 to -9: nine flags, one line of help."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The line for all nine, at the first."""
        return ("-1 .. -9, --level N", self.help or "") if "-1" in self.opts else None


def levels(function: Function) -> Function:
    """The flags -1 to -9, --fast, --best and --level N as the parameter `level`; the last one given counts."""

    def take(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
        if value is not None:
            ctx.params["level"] = value

    function = click.option(
        "--level",
        "level_of_number",
        type=click.IntRange(1, 9),
        metavar="N",
        expose_value=False,
        callback=take,
        hidden=True,
    )(function)
    for level in range(9, 0, -1):

        def remember(ctx: click.Context, param: click.Parameter, value: bool, level: int = level) -> None:
            if value:
                ctx.params["level"] = level

        function = click.option(
            f"-{level}",
            *LONG_LEVELS.get(level, ()),
            f"level_{level}",
            cls=LevelOption,
            is_flag=True,
            expose_value=False,
            callback=remember,
            help="Level: -1 (or --fast) is fast, -9 (or --best) is small; default -5.",
        )(function)
    return function


threads = click.option(
    "-T",
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Threads; 0 is one for each core (default). The output does not depend on it.",
)


def output(help: str, **settings: Any) -> Callable[[Function], Function]:
    """The option -o of a verb."""
    return click.option("-o", "--output", metavar="OUT", callback=_parse_output, help=help, **settings)


def _parse_output(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("an output needs a name", ctx, param)
    return value


def device(help: str) -> Callable[[Function], Function]:
    """The option --device of a verb."""
    return click.option("--device", metavar="NAME", help=help)


def dtype(help: str, names: tuple[str, ...] = DTYPES) -> Callable[[Function], Function]:
    """The option --dtype of a verb; `{}` in the help stands for the names."""
    return click.option("--dtype", type=Dtype(names), metavar="TYPE", help=help.format(", ".join(names)))


def mode(help: str, **settings: Any) -> Callable[[Function], Function]:
    """The option --mode of a verb; `{}` in the help stands for the names."""
    return click.option(
        "--mode", type=click.Choice(MODES), metavar="RULE", help=help.format(", ".join(MODES)), **settings
    )


def seed(help: str, **settings: Any) -> Callable[[Function], Function]:
    """The option --seed of a verb."""
    return click.option("--seed", type=click.IntRange(0, 2**63 - 1), metavar="N", help=help, **settings)


def limit(help: str) -> Callable[[Function], Function]:
    """The option --limit of a verb: a number of documents."""
    return click.option("--limit", type=click.IntRange(min=1), metavar="N", help=help)


def context(help: str, *, least: int) -> Callable[[Function], Function]:
    """The option --context of a verb: tokens that a model sees at once."""
    return click.option("--context", type=click.IntRange(min=least), metavar="N", help=help)


def batch_size(help: str) -> Callable[[Function], Function]:
    """The option --batch-size of a verb, the parameter `batch`: sequences that a model reads at once."""
    return click.option("--batch-size", "batch", type=click.IntRange(min=1), metavar="N", help=help)


place = click.option(
    "-o", "--output", required=True, metavar="OUT", callback=parse_place, help="The file or folder to write."
)
quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Print a line for each file, on pipes too.")
json_lines = click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each file.")
recursive = click.option("-r", "--recursive", is_flag=True, help="Go into folders.")
memory = click.option(
    "--memory",
    callback=parse_size,
    default="2G",
    show_default=True,
    metavar="LIMIT",
    help="Refuse files that need more memory to decode.",
)
max_size = click.option(
    "--max-size",
    callback=parse_size_or_none,
    metavar="LIMIT",
    help="Refuse files with more content; by default what a file of its size may hold (docs/format.md).",
)


def language_models(function: Function) -> Function:
    """How a language model runs here, whatever a file says: the parameters `device`, `batch`."""
    for declare in (
        batch_size("Language models: lanes at once."),
        device("Language models: cpu, cuda; default: cuda where it is."),
    ):
        function = declare(function)
    return function


def language_model_files(function: Function) -> Function:
    """What a language model's file records: the parameters `dtype`, `context`, `chunk`, `tolerance`,
    `memory_tokens`.
    """
    for declare in (
        click.option(
            "--tolerance",
            callback=_parse_tolerance,
            metavar="auto|E|0",
            help="Language models: noise in a logit that a decoder may have; 0: none at all. Default: measured.",
        ),
        click.option(
            "--memory-tokens",
            type=click.IntRange(min=0),
            metavar="N",
            help="Language models: tokens that the memory beside them holds; 0: none.  [default: 1048576]",
        ),
        click.option(
            "--chunk",
            callback=_parse_chunk,
            metavar="N|auto",
            help="Language models: tokens of a lane; auto (default): by the length of each block.",
        ),
        context("Language models: tokens that the model sees at once.", least=4),
        dtype("Language models: arithmetic: {}; default float32."),
    ):
        function = declare(function)
    return function


def model_elsewhere(function: Function) -> Function:
    """The parameter `model`: where a file's language model is, if not where the file says."""
    return click.option(
        "--model",
        metavar="FOLDER",
        help="Take this language model for the one that the file names; it must be the same.",
    )(function)


def _parse_chunk(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None or value == "auto":
        return None
    if not value.isascii() or not value.isdigit() or not int(value):
        raise click.BadParameter(f"{value!r} is not a number of tokens; write auto, or a number like 4096", ctx, param)
    return int(value)


def _parse_tolerance(ctx: click.Context, param: click.Parameter, value: str | None) -> str | float | None:
    if value is None or value == "auto":
        return value
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not 0 <= number < 1:
        raise click.BadParameter(f"{value!r} is not a bound; write auto, 0, or a number like 1e-4", ctx, param)
    return number


def run_settings(**given: Any) -> RunSettings:
    """The settings of the command line (see `predictors.settings`); those that are None have their defaults."""
    from kolmo.predictors.settings import RunSettings

    return RunSettings(**{name: value for name, value in given.items() if value is not None})


class Failure(click.ClickException):
    """What was asked for is sound, and cannot be done here: exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """As all errors but those of usage are shown."""
        say(self.message)


def chosen_predictor(
    spec: str | None, level: int | None, settings: RunSettings | None = None, **options: Any
) -> Predictor:
    """The predictor of -m or of a level; by default of the default level.

    Raises:
        click.UsageError: both are given, or it does not exist.
        Failure: it is a language model that is not here, or needs an extra that is not installed.
    """
    from kolmo.errors import MissingExtraError, PredictorError
    from kolmo.predictors.registry import DEFAULT_LEVEL, LANGUAGE_MODELS, for_level, resolve
    from kolmo.predictors.settings import DEFAULT_SETTINGS

    given_network = spec is not None and spec.partition(":")[0] == "network"
    if given_network:
        options["level"] = level
    elif spec is not None and level is not None:
        raise click.UsageError(f"-m and -{level} exclude each other; give one of them")
    try:
        if spec is not None:
            return resolve(spec, settings=settings or DEFAULT_SETTINGS, **options)
        if given := sorted(name for name, value in options.items() if value is not None):
            raise click.UsageError(f"{FLAGS[given[0]]} is for language models; give one with -m hf:FOLDER")
        return for_level(level or DEFAULT_LEVEL)
    except MissingExtraError as error:
        raise Failure(str(error)) from None
    except PredictorError as error:
        if given_network or (spec is not None and spec.partition(":")[0] in LANGUAGE_MODELS):
            raise Failure(str(error)) from None
        raise click.UsageError(str(error)) from None
