"""From specs to results: opens models and corpora, runs each on each, one after the other.

    results = kolmo.evaluate(["hf:models/a", "neural:5"], "fresh/")
    print(results.to_pandas())

What it is not: the command (`cli.eval`), which calls it and prints.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kolmo.corpus import Corpus, Document, open_corpus
from kolmo.errors import KolmoError, MissingExtraError, PredictorError
from kolmo.evaluation import run as running
from kolmo.evaluation.engines.engines import Engine, LocalEngine
from kolmo.evaluation.opening import full_spec, open_scorer
from kolmo.evaluation.results.results import Evaluation, Result
from kolmo.evaluation.results.store import Store, folder_of, slug
from kolmo.evaluation.scorers.scorers import Options
from kolmo.evaluation.windows.modes import Mode, mode_of
from kolmo.evaluation.work import Scan
from kolmo.progress import Phases, no_phases


@dataclass(frozen=True)
class Plan:
    """How models are run. Every attribute may be left out.

    Attributes:
        mode: strict, paper, lm-eval, uncheatable and so on (`modes.MODES`).
        block: tokens that the model reads before it predicts one, at most; None: the mode's.
        stride: tokens that each window but the first scores; None: the mode's.
        batch: windows at once; None: as many as are worth it.
        options: of the models.
        engine: "local" or "ray".
        workers: copies of the model: processes, or Ray actors; None: one for each device.
        address: of a Ray cluster.
        keep_text: whether the table keeps the texts.
        add_bos_token: for mode lm-eval: whether texts get the tokenizer's special tokens; None: they do.
    """

    mode: str = "strict"
    block: int | None = None
    stride: int | None = None
    batch: int | None = None
    options: Options = field(default_factory=Options)
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    keep_text: bool = True
    add_bos_token: bool | None = None

    def chosen(self) -> Mode:
        """The mode with its sizes.

        Raises:
            KolmoError: there is no such mode, or they do not go together.
        """
        return mode_of(self.mode, add_bos_token=self.add_bos_token).sized(self.block, self.stride)


def evaluate(
    models: str | Sequence[str],
    corpora: str | Corpus | Sequence[str | Corpus],
    *,
    mode: str = "strict",
    block_size: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    subset: str | None = None,
    column: str | None = None,
    name_column: str | None = None,
    date_column: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    attention: str | None = None,
    tokenizer: str | None = None,
    cache_dir: str | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    output: str | Path | None = None,
    keep_text: bool = True,
    add_bos_token: bool | None = None,
) -> Evaluation:
    """Code lengths of corpora under models: bits per character and what follows from them.

    Args:
        models: specs: hf:FOLDER_OR_ID, gguf:FILE, api:URL, neural:5, network:PATH, classical:xz (see `scorers`).
        corpora: specs (docs/corpora.md), or `Corpus` objects; `texts` makes one from strings.
        mode: the rule of evaluation (docs/evaluation.md).
        block_size: tokens that a model reads before it predicts one, at most.
        stride: tokens that each window but the first scores.
        batch_size: windows at once; results depend on it by no more than floating-point noise.
        limit: documents of each corpus, at most.
        subset: the only subset of each corpus to take.
        column: of data that a spec names, the column that holds the text; default: `content`, else `text`.
        name_column: that holds a document's name; default: its file and place.
        date_column: that holds its date; default: the first that holds a day.
        dtype: of the arithmetic; default float32, in mode paper bfloat16.
        device: cpu, cuda; several with commas between for a copy of the model on each.
        attention: implementation of attention in transformers.
        tokenizer: of a server's model: folder or id.
        cache_dir: where models and data sets of the hub are kept.
        engine: "local" or "ray".
        workers: copies of the model.
        ray_address: of a Ray cluster; default: RAY_ADDRESS, else this machine.
        output: folder for tables and results, which later runs go on from; default: a temporary one, for as long as
            there are results.
        keep_text: whether the tables keep the texts.
        add_bos_token: for mode lm-eval: whether texts get the tokenizer's special tokens; default: they do.

    Returns:
        a list of results, the models in order, for each the corpora in order.

    Raises:
        KolmoError: a corpus cannot be read, which is found out before any model is opened; a model cannot be opened, or
            cannot be evaluated in this mode.
        MissingExtraError: what it needs is not installed.

    Examples:
        >>> from kolmo.evaluation.evaluate import texts
        >>> news = texts("news", ["The same procedure as last year?", "The same procedure as every year."])
        >>> results = kolmo.evaluate(["cm:1", "classical:xz"], news)
        >>> [result.model for result in results]
        ['cm:1', 'xz']
        >>> results[0].bits_per_character < results[1].bits_per_character
        True
    """
    options = Options(dtype, device, attention, cache_dir, tokenizer)
    plan = Plan(mode, block_size, stride, batch_size, options, engine, workers, ray_address, keep_text, add_bos_token)
    given = [corpora] if isinstance(corpora, str | Corpus) else list(corpora)
    columns = {"column": column, "name_column": name_column, "date_column": date_column}
    opened: list[Scanned] = []
    for one in given:
        corpus = one
        if isinstance(corpus, str):
            corpus = open_corpus(corpus, limit=limit, subset=subset, cache_dir=cache_dir, **columns)
        opened.append(scan_corpus(corpus, plan, opened))
    kept = Temporary() if output is None else None
    folder = Path(kept.name if kept else str(output))
    return Evaluation(
        replace(result, kept=kept)
        for model in ([models] if isinstance(models, str) else models)
        for result in evaluate_model(model, opened, plan, folder)
    )


@dataclass(frozen=True)
class Scanned:
    """A corpus that was read once, so that its errors are found before a model is loaded, and once for all models."""

    corpus: Corpus
    found: Scan


def scan_corpus(corpus: Corpus, plan: Plan, others: Sequence[Scanned] = ()) -> Scanned:
    """Read a corpus for its keys, labels and sizes.

    Args:
        corpus: to be evaluated.
        plan: how.
        others: corpora of the same evaluation; no two may write to one folder.

    Raises:
        KolmoError: it cannot be read, or another one has its name.
    """
    for other in others:
        if slug(other.corpus.name) == slug(corpus.name):
            raise KolmoError(
                f"two corpora are called {corpus.name}; give one of them another name, like other={corpus.source}"
            )
    return Scanned(corpus, running.scan(corpus, stream=plan.chosen().stream))


class Temporary:
    """A folder that goes when nothing refers to it any more; unlike tempfile's, without a warning."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="kolmo-eval-")
        weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


def texts(name: str, contents: Sequence[str]) -> Corpus:
    """A corpus of strings.

    Args:
        name: for results.
        contents: a document each.
    """
    return Corpus(name, name, [Document(content, name=f"text {k}") for k, content in enumerate(contents)])


def evaluate_model(
    spec: str,
    corpora: Sequence[Corpus | Scanned],
    plan: Plan,
    output: Path,
    *,
    progress: Phases | None = None,
    failed: Callable[[Corpus, KolmoError], None] | None = None,
) -> Iterator[Result]:
    """One model on some corpora; each result as it is there.

    Args:
        spec: of the model.
        corpora: each with a name of its own; those that were not scanned are read now.
        plan: how.
        output: folder of all results.
        progress: shows each corpus and its bytes.
        failed: told of a corpus that cannot be evaluated, and why; the others go on. None: it is raised.

    Raises:
        PredictorError: the model cannot be opened, or fails.
        KolmoError: the model does not fit the mode; or, unless `failed` is given, a corpus cannot be evaluated.
    """
    mode = plan.chosen()
    opened: list[Scanned] = []
    for corpus in corpora:
        opened.append(corpus if isinstance(corpus, Scanned) else scan_corpus(corpus, plan, opened))
    engine = open_engine(spec, plan, mode)
    try:
        fitted = running.mode_for(engine, mode)
        for one in opened:
            try:
                result = _evaluate(engine, one, fitted, plan, output, progress)
            except (PredictorError, MissingExtraError):
                raise
            except KolmoError as error:
                if failed is None:
                    raise
                failed(one.corpus, error)
                continue
            yield result
    finally:
        engine.close()


def _evaluate(engine: Engine, one: Scanned, mode: Mode, plan: Plan, output: Path, progress: Phases | None) -> Result:
    """An open model on one corpus."""
    corpus, found = one.corpus, one.found
    settings = running.settings_of(engine, mode)
    folder = folder_of(output, engine.identity.name, corpus.name, mode.name, settings)
    title = f"{engine.identity.name} {corpus.name}"
    with (progress or no_phases)(title, sum(found.sizes)) as done:
        store = Store(folder)
        keep = plan.keep_text
        record = running.run(engine, corpus, mode, store, found, batch_size=plan.batch, keep_text=keep, progress=done)
    return Result(folder, record)


def open_engine(spec: str, plan: Plan, mode: Mode) -> Engine:
    """The engine of a model.

    Raises:
        KolmoError: the model cannot be opened.
    """
    options = plan.options
    if full_spec(spec).startswith("hf:") and not options.dtype:
        options = replace(options, dtype=mode.dtype)
    if plan.engine == "ray":
        from kolmo.evaluation.engines.ray_engine import RayEngine

        return RayEngine.open(full_spec(spec), options, address=plan.address, workers=plan.workers, gpus=None)
    devices = options.device.split(",") if options.device else []
    if plan.workers and len(devices) < 2:
        devices = (devices or ["cpu"]) * plan.workers
    if len(devices) > 1:
        from kolmo.evaluation.engines.workers import ProcessEngine

        return ProcessEngine.open(full_spec(spec), options, devices)
    return LocalEngine(open_scorer(spec, options))
