"""The families of hyperfunctions and their options: what a person may choose, without the code that uses it.

    TrellisOptions(states=64).at(step)      the hyperfunction of a step
    BitshiftOptions().at_rate(3, 512, 0.02)  the hyperfunction of 3 bits a weight, for rows of 512
    TorusOptions("unet").at(None)           a hyperfunction with published parameters, which has no step

`kolmo.shrink` takes these, and the command line makes its flags from their fields. What it is not: a hyperfunction.
Nothing heavy is imported until `at` is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol

from kolmo.hyperfunctions.base import Hyperfunction

STEP_OCTAVES = 1.8  # log2(mean magnitude / step) of the trellis, plus this, is about the number of bits a weight


class FamilyOptions(Protocol):
    """The options of a family: a frozen dataclass that validates itself.

    Attributes:
        name: of the family.
        has_step: whether its hyperfunctions have a step.
        rates: the numbers of bits a weight that it offers, in order, where these are fixed; else none.
    """

    name: ClassVar[str]
    has_step: ClassVar[bool]
    rates: ClassVar[tuple[int, ...]]

    def at(self, step: float | None) -> Hyperfunction:
        """The hyperfunction of a step; of no step, if the family has none."""
        ...

    def at_rate(self, bits: int, columns: int, scale: float, is_kernel: bool = False) -> Hyperfunction:
        """The hyperfunction of one of `rates`, for a tensor.

        Args:
            bits: the rate.
            columns: of the tensor as a matrix.
            scale: its mean magnitude.
            is_kernel: whether it is the kernel of a convolution.
        """
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
    rates: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        check_choices(self)

    def at(self, step: float | None) -> Hyperfunction:
        """The trellis of a step."""
        from kolmo.hyperfunctions.trellis import LEAST_ERROR, Trellis

        assert step is not None
        return Trellis(step, self.states, **(LEAST_ERROR if self.least_error else {}))

    def at_rate(self, bits: int, columns: int, scale: float, is_kernel: bool = False) -> Hyperfunction:
        """The trellis whose step gives about so many bits."""
        return self.at(min(max(scale * 2.0 ** (STEP_OCTAVES - bits), 2.0**-99), 2.0**99))


@dataclass(frozen=True)
class BitshiftOptions:
    """Options of the bitshift trellis (docs/bitshift.md); the bits of each tensor are chosen by a goal.

    Args:
        states: number of states of the trellis.
        least_error: code kernels of convolutions for the least squared error, as all other matrices.
        device: of torch, on which the encoder searches, such as "cuda"; None for the kernels. The file is the same.

    Raises:
        ValueError: there is no trellis of so many states.
    """

    states: int = option(4096, "65536 for 0.2 to 0.4 dB less error at 16 times the work.", (4096, 65536))
    least_error: bool = option(
        False, "the least squared error for kernels of convolutions too, though networks lose more by it."
    )
    device: str | None = None

    name: ClassVar[str] = "bitshift"
    has_step: ClassVar[bool] = False
    rates: ClassVar[tuple[int, ...]] = (2, 3, 4)

    def __post_init__(self) -> None:
        check_choices(self)

    def at(self, step: float | None) -> Hyperfunction:
        """The bitshift trellis of most bits."""
        from kolmo.hyperfunctions.bitshift import Bitshift

        assert step is None
        return Bitshift(self.rates[-1], self.states, device=self.device)

    def at_rate(self, bits: int, columns: int, scale: float, is_kernel: bool = False) -> Hyperfunction:
        """The bitshift trellis of so many bits; for rows that are too short or too long for it, the trellis."""
        from kolmo.hyperfunctions.bitshift import Bitshift, is_made_for

        if not is_made_for(columns):
            return TrellisOptions(least_error=self.least_error).at_rate(bits, columns, scale, is_kernel)
        return Bitshift(bits, self.states, unbiased=is_kernel and not self.least_error, device=self.device)


@dataclass(frozen=True)
class TorusOptions:
    """Options of the torus (docs/torus.md): one of the published settings, perhaps with sizes of the codebook to try.

    Args:
        preset: the setting.
        points: sizes of the codebook, which are tried in order for each tensor; none for that of the setting.
        target: mean absolute error at which no further size is tried; at most the limit of the setting.

    Raises:
        ValueError: there is no such setting, a size or the target is out of its range, or there is a target for the
            one size of the setting.
    """

    preset: str = option("llm", "published settings.", ("llm", "unet", "mobilenet"))
    points: tuple[int, ...] = option(
        (),
        "points of the codebook; of several, as 225,400,1600, each tensor has the first of an error up to the target.",
    )
    target: float = option(0.001, "for several points: mean absolute error at which no further one is tried.")

    name: ClassVar[str] = "torus"
    has_step: ClassVar[bool] = False
    rates: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.points and self.target != type(self).target:
            raise ValueError(f"target = {self.target} is for several points; give points, or leave target out")
        if self.points:
            self.at(None)

    def at(self, step: float | None) -> Hyperfunction:
        """The torus of the setting, or the series of them."""
        from kolmo.hyperfunctions.torus import PRESETS
        from kolmo.hyperfunctions.torus_series import TorusSeries

        assert step is None
        torus = PRESETS[self.preset]
        return TorusSeries(torus, self.points, self.target) if self.points else torus

    def at_rate(self, bits: int, columns: int, scale: float, is_kernel: bool = False) -> Hyperfunction:
        """Not for a family that offers no rates."""
        raise NotImplementedError


@dataclass(frozen=True)
class Fixed:
    """Not a family, but one hyperfunction with all its parameters, in the place of one."""

    function: Hyperfunction

    name: ClassVar[str] = "this hyperfunction"
    has_step: ClassVar[bool] = False
    rates: ClassVar[tuple[int, ...]] = ()

    def at(self, step: float | None) -> Hyperfunction:
        """The hyperfunction."""
        assert step is None
        return self.function

    def at_rate(self, bits: int, columns: int, scale: float, is_kernel: bool = False) -> Hyperfunction:
        """Not for one hyperfunction."""
        raise NotImplementedError


AnyOptions = TrellisOptions | BitshiftOptions | TorusOptions
OPTIONS: dict[str, type[TrellisOptions] | type[BitshiftOptions] | type[TorusOptions]] = {
    family.name: family for family in (TrellisOptions, BitshiftOptions, TorusOptions)
}


def options_of(family: type[TrellisOptions] | type[BitshiftOptions] | type[TorusOptions]) -> list[Option]:
    """The options that a family declares for the command line."""
    return [
        Option(one.name, one.default, one.metadata["choices"], one.metadata["help"])
        for one in fields(family)
        if one.metadata
    ]


def check_choices(options: AnyOptions) -> None:
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
    if isinstance(hyperfunction, AnyOptions):
        return hyperfunction
    if not isinstance(hyperfunction, Hyperfunction):
        raise TypeError(
            f"hyperfunction is of type {type(hyperfunction).__name__}; give a name, options or a hyperfunction"
        )
    return Fixed(hyperfunction)
