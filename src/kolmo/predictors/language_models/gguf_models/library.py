"""llama.cpp through llama-cpp-python: the library, its error messages, and a model that it loaded."""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from collections import deque
from typing import Any

from kolmo.errors import MissingExtraError, PredictorError
from kolmo.installing import install
from kolmo.parallel import let_threads_sleep

ERROR_PREFIX = re.compile(r"^(\w+: )?(error loading model: )*")
NEWEST_FUNCTION = "llama_model_ftype"  # of the functions that are used, the one that llama-cpp-python got last
errors: deque[str] = deque(maxlen=16)  # the latest error messages of llama.cpp
_log: Any = None  # the callback for messages, which must live as long as the program
_library: Any = None


def library() -> Any:
    """llama-cpp-python's low-level interface; error messages of llama.cpp go to `errors`.

    Raises:
        MissingExtraError: llama-cpp-python is not installed, or too old.
        PredictorError: it is installed, but does not start.
    """
    global _library, _log
    if _library is None:
        # Otherwise matrices of K-quants use other code from eight columns on.
        os.environ.setdefault("GGML_CPU_TILED_MM", "0")
        let_threads_sleep()
        try:
            import llama_cpp
        except ImportError:
            raise MissingExtraError(f"gguf models need llama-cpp-python; {install('gguf')}") from None
        except (OSError, RuntimeError) as error:  # from the library itself, or from one that it needs
            why = str(error).splitlines()[0]
            raise PredictorError(f"llama-cpp-python does not start ({why}); install it again") from None
        if not hasattr(llama_cpp, NEWEST_FUNCTION):
            raise MissingExtraError(f"gguf models need a newer llama-cpp-python; {install('gguf', upgrade=True)}")
        _log = llama_cpp.llama_log_callback(_note)
        llama_cpp.llama_log_set(_log, None)
        llama_cpp.llama_backend_init()
        _library = llama_cpp
    return _library


def _note(level: int, text: bytes | None, data: Any) -> None:
    line = (text or b"").decode("utf-8", "replace").strip()
    if "error" in line or "failed" in line:
        errors.append(line)


def reason() -> str:
    """The first error message of llama.cpp, in brackets, without the name of the function; empty if there is none."""
    line = next(iter(errors), "").splitlines()[:1]
    return f" ({ERROR_PREFIX.sub('', line[0])})" if line else ""


class Model:
    """A model that llama.cpp loaded, and its vocabulary; freed with its last user."""

    def __init__(self, pointer: int) -> None:
        llama = library()
        self.pointer = pointer
        self.words = llama.llama_model_get_vocab(pointer)
        weakref.finalize(self, llama.llama_model_free, pointer)


def read_fact(pointer: int, name: str) -> str | None:
    """A value of the file's metadata; None where the file does not have it."""
    text = ctypes.create_string_buffer(256)
    size = library().llama_model_meta_val_str(pointer, name.encode(), text, len(text))
    return text.value.decode("utf-8", "replace") if size >= 0 else None
