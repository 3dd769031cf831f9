"""llama.cpp through llama-cpp-python: the library, what it says of errors, and a model that it loaded."""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from collections import deque
from typing import Any

from kolmo.errors import MissingExtraError, PredictorError
from kolmo.installing import install

WHERE = re.compile(r"^(\w+: )?(error loading model: )*")
NEWEST = "llama_model_ftype"  # of all functions that are used, the last that llama-cpp-python got
said: deque[str] = deque(maxlen=16)  # by llama.cpp, of what went wrong
_log: Any = None  # llama.cpp calls it as long as the program runs
_library: Any = None


def library() -> Any:
    """llama-cpp-python's low-level interface; llama.cpp's log goes to `said`.

    Raises:
        MissingExtraError: it is not installed, or too old.
        PredictorError: it is, but does not start.
    """
    global _library, _log
    if _library is None:
        # Matrices of K-quants else have code of their own for eight columns and more.
        os.environ.setdefault("GGML_CPU_TILED_MM", "0")
        try:
            import llama_cpp
        except ImportError:
            raise MissingExtraError(f"gguf models need llama-cpp-python; {install('gguf')}") from None
        except (OSError, RuntimeError) as error:  # the library itself, or one that it needs
            why = str(error).splitlines()[0]
            raise PredictorError(f"llama-cpp-python does not start ({why}); install it again") from None
        if not hasattr(llama_cpp, NEWEST):
            raise MissingExtraError(f"gguf models need a newer llama-cpp-python; {install('gguf', upgrade=True)}")
        _log = llama_cpp.llama_log_callback(_note)
        llama_cpp.llama_log_set(_log, None)
        llama_cpp.llama_backend_init()
        _library = llama_cpp
    return _library


def _note(level: int, text: bytes | None, data: Any) -> None:
    line = (text or b"").decode("utf-8", "replace").strip()
    if "error" in line or "failed" in line:
        said.append(line)


def reason() -> str:
    """What llama.cpp said first of what went wrong, in brackets; without the function that said it."""
    line = next(iter(said), "").splitlines()[:1]
    return f" ({WHERE.sub('', line[0])})" if line else ""


class Model:
    """What llama.cpp loaded, and its vocabulary; freed with the last that uses it."""

    def __init__(self, pointer: int) -> None:
        llama = library()
        self.pointer = pointer
        self.words = llama.llama_model_get_vocab(pointer)
        weakref.finalize(self, llama.llama_model_free, pointer)


def read_fact(pointer: int, name: str) -> str | None:
    """A value of the file's metadata."""
    text = ctypes.create_string_buffer(256)
    size = library().llama_model_meta_val_str(pointer, name.encode(), text, len(text))
    return text.value.decode("utf-8", "replace") if size >= 0 else None
