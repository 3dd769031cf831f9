"""The families of hyperfunctions and their options: what a person may choose, without the code that uses it.

    TrellisOptions(states=64).at(step)      the hyperfunction of a step
    TorusOptions("unet").at(None)           a hyperfunction with published parameters, which has no step

`kolmo.shrink` takes these, and the command line makes its flags from their fields. What it is not: a hyperfunction.
Nothing heavy is imported until `at` is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol

from kolmo.hyperfunctions.base import Hyperfunction


class FamilyOptions(Protocol):
    """The options of a family: a frozen dataclass that validates itself."""

    name: ClassVar[str]
    has_step: ClassVar[bool]

    def at(self, step: float | None) -> Hyperfunction:
        """The hyperfunction of a step; of no step, if the family has none."""
        ...


class Option(NamedTuple):
    """One option of a family, as a command line shows it.

    Attributes:
        name: the keyword of the family's class.
        default: its value if it is not given.
        choices: all values, if these are few; else empty.
        help: one sentence.
    """

    name: str
    default: Any
    choices: tuple[Any, ...]
    help: str


def option(default: Any, help: str, choices: tuple[Any, ...] = ()) -> Any:
    """A field of a family's options."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class TrellisOptions:
    """Options of the trellis (docs/trellis.md); the step is chosen by a goal.

    Args:
        states: number of states of the trellis.
        least_error: code for the least squared error at a given size.

    Raises:
        ValueError: there is no trellis of so many states.
    """

    states: int = option(8, "64 for 0.17 dB less error at four times the work; 1 for none.", (1, 8, 64))
    least_error: bool = option(
        False, "the least squared error for the bits, though networks lose more by it at 2 or 3 bits."
    )

    name: ClassVar[str] = "trellis"
    has_step: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choices(self)

    def at(self, step: float | None) -> Hyperfunction:
        """The trellis of a step."""
        from kolmo.hyperfunctions.trellis import LEAST_ERROR, Trellis

        assert step is not None
        return Trellis(step, self.states, **(LEAST_ERROR if self.least_error else {}))


@dataclass(frozen=True)
class TorusOptions:
    """Options of the torus (docs/torus.md): one of the published settings.

    Raises:
        ValueError: there is no such setting.
    """

    preset: str = option("llm", "published settings.", ("llm", "unet", "mobilenet"))

    name: ClassVar[str] = "torus"
    has_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_choices(self)

    def at(self, step: float | None) -> Hyperfunction:
        """The torus of the setting."""
        from kolmo.hyperfunctions.torus import PRESETS

        assert step is None
        return PRESETS[self.preset]


@dataclass(frozen=True)
class Fixed:
    """Not a family, but one hyperfunction with all its parameters, in the place of one."""

    function: Hyperfunction

    name: ClassVar[str] = "this hyperfunction"
    has_step: ClassVar[bool] = False

    def at(self, step: float | None) -> Hyperfunction:
        """The hyperfunction."""
        assert step is None
        return self.function


OPTIONS: dict[str, type[TrellisOptions] | type[TorusOptions]] = {
    family.name: family for family in (TrellisOptions, TorusOptions)
}


def options_of(family: type[TrellisOptions] | type[TorusOptions]) -> list[Option]:
    """The options that a family declares."""
    return [Option(one.name, one.default, one.metadata["choices"], one.metadata["help"]) for one in fields(family)]


def check_choices(options: TrellisOptions | TorusOptions) -> None:
    """Check the values of options that have few.

    Raises:
        ValueError: a value is not one of them.
    """
    for one in options_of(type(options)):
        value = getattr(options, one.name)
        if one.choices and value not in one.choices:
            raise ValueError(f"{one.name} = {value!r} is not known; choose from {', '.join(map(str, one.choices))}")


def resolve(hyperfunction: Any) -> FamilyOptions:
    """The options that a caller means: a family's name, its options, or a hyperfunction with all its parameters.

    Raises:
        ValueError: there is no family of this name.
        TypeError: it is something else.
    """
    if isinstance(hyperfunction, str):
        if hyperfunction not in OPTIONS:
            raise ValueError(f"hyperfunction {hyperfunction!r} is not known; choose from {', '.join(OPTIONS)}")
        return OPTIONS[hyperfunction]()
    if isinstance(hyperfunction, TrellisOptions | TorusOptions):
        return hyperfunction
    if not isinstance(hyperfunction, Hyperfunction):
        raise TypeError(
            f"hyperfunction is of type {type(hyperfunction).__name__}; give a name, options or a hyperfunction"
        )
    return Fixed(hyperfunction)
