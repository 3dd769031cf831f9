"""Every error a user can meet, from one root.

The message of each names the file, the place and the remedy, on one line. The command line prints it and exits with
status 1; Python callers catch `KolmoError` or one of its kinds.
"""

from __future__ import annotations

from kolmo.foreign import line


class KolmoError(Exception):
    """Root of all errors that kolmo raises on purpose.

    Its message is printable and at most `foreign.MAX_LINE` characters long, whatever names from outside are in it.

    Examples:
        >>> try:
        ...     kolmo.decompress(b"not a .kmo file")
        ... except kolmo.KolmoError as error:
        ...     print(type(error).__name__)
        FormatError
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(line(one) if isinstance(one, str) else one for one in args))


class FormatError(KolmoError):
    """The input is not a `.kmo` file, or is one that this version cannot read."""


class CorruptError(FormatError):
    """The input is damaged.

    Attributes:
        offset: byte offset in the input at which the damage was found, or None where it is not known.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class TruncatedError(CorruptError, EOFError):
    """The input ends too early. Also an `EOFError`, as gzip, bz2 and lzma raise."""


class PredictorError(KolmoError):
    """The predictor that a file names is missing, or is not the one that wrote it."""


class LevelError(PredictorError, ValueError):
    """There is no such level. Also a `ValueError`, as gzip, bz2 and lzma raise."""


class MemoryLimitError(KolmoError):
    """Decoding needs more memory than the caller allows."""


class SizeLimitError(KolmoError):
    """A file claims more content than the caller allows."""


class MissingExtraError(KolmoError, ImportError):
    """An optional dependency is not installed; the message names the command that installs it."""


class ShrinkWarning(UserWarning):
    """Weights were shrunk, and lost more, or took less, than was meant."""
