"""Evaluation from model and corpus specifications to results: each model scores each corpus, one after the other.

    results = kolmo.evaluate(["hf:models/a", "neural:5"], "fresh/")
    print(results.to_pandas())

What it is not: the command `kolmo eval` (`cli.eval`), which calls it and prints the results.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from kolmo.arguments import whole_number
from kolmo.corpus import Corpus, Document, open_corpus
from kolmo.errors import KolmoError, MissingExtraError, PredictorError
from kolmo.evaluation import run as running
from kolmo.evaluation.engines.engines import Engine, LocalEngine
from kolmo.evaluation.opening import full_spec, open_scorer
from kolmo.evaluation.results.results import Evaluation, Result
from kolmo.evaluation.results.store import RowStore, folder_of, slug
from kolmo.evaluation.run_state import CorpusScan
from kolmo.evaluation.scorers.scorers import ScorerOptions
from kolmo.evaluation.windows.modes import Mode, mode_of
from kolmo.evaluation.windows.windows import whole
from kolmo.progress import Phases, no_phases


@dataclass(frozen=True)
class EvaluationPlan:
    """The settings of an evaluation. Every attribute has a default.

    Attributes:
        mode: the name of the evaluation mode: strict, paper, lm-eval, uncheatable and so on (`modes.MODES`).
        block: the largest number of tokens that the model reads before it predicts one; None: that of the mode.
        stride: the number of tokens that each window after the first scores; None: that of the mode.
        batch: windows in a batch; None: as many as the engine suggests.
        options: how the models are opened.
        engine: "local" or "ray".
        workers: copies of the model (processes, or Ray actors); None: one for each device.
        address: the address of a Ray cluster.
        keep_text: whether the table keeps the texts.
        add_bos_token: in mode lm-eval, whether the tokenizer's special tokens are added to texts; None: they are.
        windows: in mode perplexity-2048, the number of windows that are scored, the first ones; None: all.
        with_memory: whether language models are scored with a memory of the document beside them too.
    """

    mode: str = "strict"
    block: int | None = None
    stride: int | None = None
    batch: int | None = None
    options: ScorerOptions = field(default_factory=ScorerOptions)
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    keep_text: bool = True
    add_bos_token: bool | None = None
    windows: int | None = None
    with_memory: bool = False

    def sized_mode(self) -> Mode:
        """The mode with the block, stride and windows of this plan.

        Raises:
            KolmoError: the mode does not exist, or does not allow these values.
        """
        mode = mode_of(self.mode, add_bos_token=self.add_bos_token)
        sized = mode.sized(self.block, self.stride).limited(self.windows)
        if not self.with_memory:
            return sized
        if mode.name != "strict":
            raise KolmoError(
                f"a memory is for mode strict, which scores each document alone; leave the argument with_memory out in "
                f"mode {mode.name}"
            )
        return replace(sized, window_rule=whole)  # the scorer makes the windows of a document


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
    windows: int | None = None,
    with_memory: bool = False,
) -> Evaluation:
    """Measure code lengths of corpora under models: bits per character and the metrics derived from it.

    Args:
        models: model specifications: hf:FOLDER_OR_ID, gguf:FILE, api:URL, neural:5, network:PATH, classical:xz.
        corpora: corpus specifications (docs/corpora.md), or `Corpus` objects; `texts` makes one from strings.
        mode: the name of the evaluation mode (docs/evaluation.md).
        block_size: the largest number of tokens that a model reads before it predicts one.
        stride: the number of tokens that each window after the first scores.
        batch_size: windows in a batch; it changes results by no more than floating-point noise.
        limit: the largest number of documents to take from each corpus, `Corpus` objects included.
        subset: the only subset to take from each corpus, `Corpus` objects included.
        column: the column with the text, for corpora given by specification; default: `content`, else `text`.
        name_column: the column with the name of a document; default: the name is made from its file and position.
        date_column: the column with the date of a document; default: the first column that holds a day.
        dtype: the floating-point type of the model; default: float32, in mode paper bfloat16.
        device: cpu or cuda; several, separated by commas, run a copy of the model on each.
        attention: the implementation of attention in transformers.
        tokenizer: the tokenizer of a server's model: a folder or an id of the hub.
        cache_dir: the folder for models and data sets from the hub.
        engine: "local" or "ray".
        workers: the number of copies of the model.
        ray_address: the address of a Ray cluster; default: RAY_ADDRESS, else a cluster started on this machine.
        output: the folder for tables and results, where later runs resume; default: a temporary folder that is removed
            together with the results.
        keep_text: whether the tables keep the texts.
        add_bos_token: in mode lm-eval, whether the tokenizer's special tokens are added to texts; default: they are.
        windows: in mode perplexity-2048, the number of windows that are scored, the first ones; default: all.
        with_memory: whether language models are scored with a memory of the document beside them too (mode strict).

    Returns:
        a list of results: for each model in order, one for each corpus in order.

    Raises:
        KolmoError: a corpus cannot be read, which is found before any model is opened; or a model cannot be opened or
            evaluated in this mode.
        MissingExtraError: a required package is not installed.
        TypeError, ValueError: an argument has a wrong type, or is too small.

    Examples:
        >>> from kolmo.evaluation.evaluate import texts
        >>> news = texts("news", ["The same procedure as last year?", "The same procedure as every year."])
        >>> results = kolmo.evaluate(["cm:1", "classical:xz"], news)
        >>> [result.model for result in results]
        ['cm:1', 'xz']
        >>> results[0].bits_per_character < results[1].bits_per_character
        True
    """
    counts = {
        "block_size": block_size,
        "stride": stride,
        "batch_size": batch_size,
        "limit": limit,
        "workers": workers,
        "windows": windows,
    }
    for name, value in counts.items():
        if value is not None:
            whole_number(value, name, 1 if name == "limit" else 0)
    options = ScorerOptions(dtype, device, attention, cache_dir, tokenizer)
    plan = EvaluationPlan(
        mode,
        block_size,
        stride,
        batch_size,
        options,
        engine,
        workers,
        ray_address,
        keep_text,
        add_bos_token,
        windows,
        with_memory,
    )
    specs = [models] if isinstance(models, str) else list(models)
    given = [corpora] if isinstance(corpora, str | Corpus) else list(corpora)
    for model in specs:
        if not isinstance(model, str):
            raise TypeError(f"a model must be a str, not {type(model).__name__}")
    for one in given:
        if not isinstance(one, str | Corpus):
            raise TypeError(f"a corpus must be a str or a Corpus, not {type(one).__name__}")
    columns = {"column": column, "name_column": name_column, "date_column": date_column}
    named = [name for name, value in columns.items() if value is not None]
    if named and not any(isinstance(one, str) for one in given):
        raise KolmoError(f"the argument {named[0]} is for corpora given by specification, and none is; leave it out")
    opened: list[ScannedCorpus] = []
    for one in given:
        if isinstance(one, str):
            corpus = open_corpus(one, limit=limit, subset=subset, cache_dir=cache_dir, **columns)
        else:
            corpus = _part_of(one, limit, subset)
        opened.append(scan_corpus(corpus, plan, opened))
    kept = TemporaryFolder() if output is None else None
    folder = Path(kept.name if kept else str(output))
    return Evaluation(
        replace(result, kept=kept) for model in specs for result in evaluate_model(model, opened, plan, folder)
    )


def _part_of(corpus: Corpus, limit: int | None, subset: str | None) -> Corpus:
    """A corpus with a limit and a subset besides its own.

    Raises:
        KolmoError: the corpus is limited to another subset.
    """
    if limit is None and subset is None:
        return corpus
    if subset is not None and corpus.subset not in (None, subset):
        raise KolmoError(
            f"{corpus.source}: is limited to the subset {corpus.subset!r}, and has none of {subset!r}; leave the "
            "argument subset out"
        )
    limits = [one for one in (corpus.limit, limit) if one is not None]
    return replace(corpus, limit=min(limits, default=None), subset=corpus.subset if subset is None else subset)


@dataclass(frozen=True)
class ScannedCorpus:
    """A corpus and the result of its first pass, which is made once for all models, before any model is loaded."""

    corpus: Corpus
    scan: CorpusScan


def scan_corpus(corpus: Corpus, plan: EvaluationPlan, others: Sequence[ScannedCorpus] = ()) -> ScannedCorpus:
    """Read a corpus for its keys, labels and sizes.

    Args:
        corpus: the corpus to be evaluated.
        plan: the settings of the evaluation.
        others: the other corpora of the evaluation; no two may write to the same folder.

    Raises:
        KolmoError: the corpus cannot be read, or has the name of another one.
    """
    for other in others:
        if slug(other.corpus.name) == slug(corpus.name):
            raise KolmoError(
                f"two corpora are named {corpus.name}; give one of them another name, like other={corpus.source}"
            )
    mode = plan.sized_mode()
    if mode.separator is not None:
        corpus = joined(corpus, mode.separator)
    return ScannedCorpus(corpus, running.scan(corpus, stream=mode.stream))


def joined(corpus: Corpus, separator: str) -> Corpus:
    """The documents of a corpus as one document. Empty ones count: as in the papers' scripts, they are separated too.

    Example:
        >>> [document.content for document in joined(texts("news", ["One.", "Two."]), " ")]
        ['One. Two.']
    """
    return Corpus(corpus.name, corpus.source, _Joined(corpus, separator), skipped=corpus.skipped)


@dataclass(frozen=True)
class _Joined:
    corpus: Corpus
    separator: str

    def __iter__(self) -> Iterator[Document]:
        subset, limit = self.corpus.subset, self.corpus.limit
        every = (one.content for one in self.corpus.documents if subset is None or one.subset == subset)
        content = self.separator.join(islice(every, limit))
        if not content.strip():
            next(iter(self.corpus))  # raises: it says what is there instead
        yield Document(content, name=self.corpus.name)


class TemporaryFolder:
    """A temporary folder that is removed with the last reference to it; unlike that of tempfile, without a warning."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="kolmo-eval-")
        weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


def texts(name: str, contents: Sequence[str]) -> Corpus:
    """Make a corpus from strings.

    Args:
        name: the name of the corpus in results.
        contents: the texts, one document each.

    Raises:
        TypeError: `contents` is one string, or has something that is not a string.

    Example:
        >>> [document.name for document in texts("news", ["One.", "Two."])]
        ['text 0', 'text 1']
    """
    if isinstance(contents, str):
        raise TypeError("contents must be a sequence of str, not one str")
    documents = [Document(content, name=f"text {k}") for k, content in enumerate(contents)]
    for document in documents:
        if not isinstance(document.content, str):
            raise TypeError(f"{document.name} must be a str, not {type(document.content).__name__}")
    return Corpus(name, name, documents)


def evaluate_model(
    spec: str,
    corpora: Sequence[Corpus | ScannedCorpus],
    plan: EvaluationPlan,
    output: Path,
    *,
    progress: Phases | None = None,
    failed: Callable[[Corpus, KolmoError], None] | None = None,
) -> Iterator[Result]:
    """Evaluate one model on several corpora, and yield each result when it is complete.

    Args:
        spec: the model specification.
        corpora: corpora with different names; those that are not scanned yet are scanned first.
        plan: the settings of the evaluation.
        output: the folder of all results.
        progress: called with the name and size in bytes of each corpus.
        failed: called with each corpus that cannot be evaluated and the error, after which the next corpus follows;
            None: the error is raised.

    Raises:
        PredictorError: the model cannot be opened, or fails.
        KolmoError: the model cannot be evaluated in this mode; or, if `failed` is None, a corpus cannot be evaluated.
    """
    mode = plan.sized_mode()
    opened: list[ScannedCorpus] = []
    for corpus in corpora:
        opened.append(corpus if isinstance(corpus, ScannedCorpus) else scan_corpus(corpus, plan, opened))
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


def _evaluate(
    engine: Engine, one: ScannedCorpus, mode: Mode, plan: EvaluationPlan, output: Path, progress: Phases | None
) -> Result:
    """Evaluate an open model on one corpus."""
    corpus, found = one.corpus, one.scan
    settings = running.settings_of(engine, mode)
    folder = folder_of(output, engine.identity.name, corpus.name, mode.name, settings)
    title = f"{engine.identity.name} {corpus.name}"
    with (progress or no_phases)(title, sum(found.sizes)) as done:
        store = RowStore(folder)
        keep = plan.keep_text
        record = running.run(engine, corpus, mode, store, found, batch_size=plan.batch, keep_text=keep, progress=done)
    return Result(folder, record)


def open_engine(spec: str, plan: EvaluationPlan, mode: Mode) -> Engine:
    """Open a model on the engine that the plan names.

    Raises:
        KolmoError: the model cannot be opened.
        MissingExtraError: a required package is not installed.
    """
    options = plan.options
    if full_spec(spec).startswith("hf:") and not options.dtype:
        options = replace(options, dtype=mode.dtype)
    if plan.with_memory:
        options = replace(options, memory_windows=(mode.block, mode.stride))
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
