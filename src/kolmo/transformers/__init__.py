"""transformers with small weights: `import kolmo.transformers`, and `from_pretrained` opens folders that kolmo shrank.

    import kolmo.transformers
    model = AutoModelForCausalLM.from_pretrained("small", dtype="auto")

quantizer   the configuration and the quantizer, made known to transformers when this is imported; `stream`
view        a shrunk file as transformers' reader sees it

What it is not: a kernel for small weights; they are decoded when they are read, or, by `stream`, when they are used.
"""

from __future__ import annotations

from kolmo.errors import MissingExtraError
from kolmo.installing import install

try:
    import transformers.core_model_loading  # noqa: F401 - of version 5 and later
except ImportError as error:
    raise MissingExtraError(
        f"kolmo.transformers needs torch and transformers 5 or later ({error}); {install('hf', upgrade=True)}"
    ) from None

import kolmo.transformers.patches  # noqa: F401 - replaces what reads and saves models
from kolmo.transformers.configuration import KolmoConfig
from kolmo.transformers.quantizer import KolmoQuantizer
from kolmo.transformers.streaming import stream

__all__ = ["KolmoConfig", "KolmoQuantizer", "stream"]
