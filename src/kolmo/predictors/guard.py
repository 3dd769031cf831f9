"""One guard around code and data of others: models, tokenizers, and the libraries that run them.

    with guarded("models/a", "the model fails"):
        ...

Whatever is raised within becomes a `PredictorError` of one line that names the model, with the error itself as its
cause. Within it, transformers can neither ask on standard input nor run code from a model's folder or from the hub
(`predictors.language_models.pretrained` checks `is_guarded`). What it is not: a sandbox. Installed code is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kolmo.errors import KolmoError, PredictorError
from kolmo.foreign import short

MAX_REASON = 200  # characters of an error's text that a message quotes
_guarded: ContextVar[bool] = ContextVar("kolmo_guarded", default=False)


def is_guarded() -> bool:
    """Whether this thread is within `guarded`."""
    return _guarded.get()


@contextmanager
def guarded(name: str, what: str, remedy: str = "", passing: type[Exception] | None = None) -> Iterator[None]:
    """Turn whatever is raised into one line; kolmo's own errors and those that end a program pass unchanged.

    It must not enclose a `yield`, since the guard would then also cover the caller.

    Args:
        name: of the model, for the message.
        what: what fails, in words, such as "the model fails".
        remedy: what to do about it.
        passing: a class of errors that pass unchanged as well.

    Raises:
        PredictorError: in place of any other error.
    """
    token = _guarded.set(True)
    try:
        yield
    except (KolmoError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of Rust, as of `tokenizers`, is not an Exception
        if passing and isinstance(error, passing):
            raise
        raise PredictorError(
            f"{short(name, MAX_REASON)}: {what} ({reason(error)}){remedy and f'; {remedy}'}"
        ) from error
    finally:
        _guarded.reset(token)


def reason(error: BaseException) -> str:
    """One line about an error: its class, where the text alone says less, and its text."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, RecursionError):
        return "RecursionError: the data is nested too deeply"
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return short(text, MAX_REASON)
    return short(f"{type(error).__name__}: {text}" if text else type(error).__name__, MAX_REASON)
