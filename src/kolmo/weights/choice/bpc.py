"""A loss: the bits per character that a language model loses on a corpus, by the evaluator of `kolmo eval`.

The model is loaded once. Decoded tensors are copied into its parameters, and the same documents are scored again.
What it is not: a search (`losses`), or a change of any file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolmo.errors import KolmoError
from kolmo.foreign import quoted
from kolmo.progress import Phases, no_phases
from kolmo.weights.calibration.network import parameter_of
from kolmo.weights.sources.checkpoint import open_checkpoint
from kolmo.weights.sources.dtypes import as_torch

if TYPE_CHECKING:
    from kolmo.evaluation.results.results import Result
    from kolmo.weights.choice.losses import DecodedTensors


class BitsPerCharacter:
    """Bits per character of a model with these tensors (of torch), minus those of the model in its folder.

    Args:
        folder: a folder of transformers: config.json, weights and a tokenizer.
        corpus: a spec (docs/corpora.md), or a `Corpus`.
        mode: the rule of evaluation; strict if None.
        limit: upper bound on the number of documents.
        device: cpu or cuda; if None, cuda where there is one.
        progress: shows the phases and their bytes.

    Raises:
        KolmoError: the model or the corpus cannot be opened, or the mode gives no bits per character.
        MissingExtraError: torch, transformers or pyarrow are not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        corpus: Any,
        *,
        mode: str | None = None,
        limit: int | None = None,
        device: str | None = None,
        progress: Phases | None = None,
    ) -> None:
        from kolmo.corpus import open_corpus
        from kolmo.evaluation import run
        from kolmo.evaluation.engines.engines import LocalEngine
        from kolmo.evaluation.evaluate import EvaluationPlan, TemporaryFolder
        from kolmo.evaluation.opening import open_scorer
        from kolmo.evaluation.results.store import RowStore
        from kolmo.evaluation.scorers.scorers import ScorerOptions

        chosen = EvaluationPlan(mode or "strict").sized_mode()
        if not chosen.per_text:
            raise KolmoError(f"mode {chosen.name} gives no bits per character; choose another, such as strict")
        self._work = TemporaryFolder()
        RowStore(Path(self._work.name))  # fails now, not after the model was loaded, if an extra is missing
        self._corpus = open_corpus(corpus, limit=limit) if isinstance(corpus, str) else corpus
        self._found = run.scan(self._corpus, stream=chosen.stream)
        self._folder, self._phases = Path(folder), progress or no_phases
        self._scorer: Any = open_scorer(f"hf:{folder}", ScorerOptions(dtype=chosen.dtype, device=device))
        self._engine = LocalEngine(self._scorer)
        self._mode = run.mode_for(self._engine, chosen)
        self._places: dict[str, Any] = {}
        self._before: Result | None = None
        self._after: Result | None = None

    def __call__(self, tensors: DecodedTensors) -> float:
        """Bits per character above those of the model in its folder.

        Raises:
            KolmoError: a coded tensor is not a parameter of the model, or the model fails.
        """
        import torch

        if self._before is None:
            self._places = self._bind(tensors)
            self._before = self._after = self._score("before")
        if tensors.exact:
            return 0.0
        with torch.no_grad():
            for name, parameter in self._places.items():
                parameter.copy_(tensors[name])
        self._after = self._score("after")
        return float(self._compared()["value"])

    def facts(self) -> dict[str, Any]:
        """Facts about the last call: corpus, mode, bits per character before and after, interval of the difference."""
        assert self._before is not None
        assert self._after is not None
        found = self._compared()
        return {
            "corpus": self._before.corpus,
            "mode": self._before.mode,
            "documents": found["documents"],
            "characters": self._before.metrics["characters"],
            "before": self._before.bits_per_character,
            "after": self._after.bits_per_character,
            "delta": found["value"],
            "low": found["low"],
            "high": found["high"],
        }

    def _compared(self) -> dict[str, Any]:
        from kolmo.evaluation.results.results import compare

        assert self._before is not None
        assert self._after is not None
        return compare(self._after, self._before)

    def _score(self, title: str) -> Result:
        from kolmo.evaluation import run
        from kolmo.evaluation.results.results import Result
        from kolmo.evaluation.results.store import RowStore

        folder = Path(self._work.name) / title
        shutil.rmtree(folder, ignore_errors=True)
        with self._phases("scoring", sum(self._found.sizes)) as progress:
            record = run.run(
                self._engine,
                self._corpus,
                self._mode,
                RowStore(folder),
                self._found,
                keep_text=False,
                progress=progress,
            )
        return Result(folder, record)

    def _bind(self, tensors: DecodedTensors) -> dict[str, Any]:
        """The parameter of each coded tensor, tied ones once; it must hold exactly the weights that the folder has."""
        model = self._scorer.backend.model
        held, source = model.state_dict(), open_checkpoint(self._folder).tensors
        places, taken = {}, set()
        for name in tensors:
            if name not in tensors.coded:
                continue
            tensor = source[name]
            parameter = parameter_of(model, held, name, as_torch(tensor.read(), tensor.dtype, tensor.shape))
            if parameter is None:
                raise KolmoError(
                    f"{self._folder}: tensor {quoted(name)} is not a parameter of the model that transformers "
                    "makes of it, so its loss cannot be measured; keep it exact, by the argument keep"
                )
            if parameter.data_ptr() not in taken:
                taken.add(parameter.data_ptr())
                places[name] = parameter
        return places
