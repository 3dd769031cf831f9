"""transformers with small weights: `import kolmo.transformers`, and `from_pretrained` opens folders that kolmo shrank.

    import kolmo.transformers
    model = AutoModelForCausalLM.from_pretrained("small", dtype="auto")

configuration    the arguments of the quantization method
quantizer        the hooks by which transformers open and save models
view             a shrunk file as transformers read it
streaming        `stream`: layers decoded when they are used
patches          what the import replaces in transformers

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
