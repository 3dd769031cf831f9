"""lm-evaluation-harness with kolmo's models: `python -m kolmo.lm_eval` takes the arguments of its command `lm_eval`.

    python -m kolmo.lm_eval --model kolmo --model_args predictor=neural:5 --tasks wikitext

Importing this makes the model `kolmo` known to the harness, for `lm_eval.simple_evaluate(model="kolmo", ...)`. Releases
of it after 0.4.13 look for models of other packages themselves; with these the command `lm_eval` knows kolmo too.

What it is not: tasks, prompts and metrics are the harness's own.
"""

from __future__ import annotations

import sys

from kolmo.errors import MissingExtraError

try:
    from kolmo.lm_eval.model import KolmoLM
except MissingExtraError:
    if sys.argv[:1] != ["-m"]:  # else Python is on its way to __main__, which says it on one line
        raise

__all__ = ["KolmoLM"]
