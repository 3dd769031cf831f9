"""lm-evaluation-harness with kolmo's models: `python -m kolmo.lm_eval` takes the arguments of its command `lm_eval`.

    python -m kolmo.lm_eval --model kolmo --model_args predictor=neural:5 --tasks wikitext

Importing this package registers the model `kolmo` with the harness, for `lm_eval.simple_evaluate(model="kolmo", ...)`.
Releases of the harness after 0.4.13 find models of other packages by entry points; then its command `lm_eval` supports
kolmo too.

What it is not: it does not define tasks, prompts or metrics, which are those of the harness.
"""

from __future__ import annotations

import sys

from kolmo.errors import MissingExtraError

try:
    from kolmo.lm_eval.model import KolmoLM
except MissingExtraError:
    if sys.argv[:1] != ["-m"]:  # with -m, __main__ reports the error on one line
        raise

__all__ = ["KolmoLM"]
