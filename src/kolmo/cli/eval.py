"""`kolmo eval`: bits per character of corpora under models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kolmo.cli import options
from kolmo.cli.console import Console, print_lines
from kolmo.foreign import short

if TYPE_CHECKING:
    from kolmo.corpus import Corpus
    from kolmo.errors import KolmoError
    from kolmo.evaluation.evaluate import EvaluationPlan, ScannedCorpus
    from kolmo.evaluation.results.results import Evaluation

WITH_MEMORY = "  with memory"  # in the column of models
NAMED_REPEATS = 3  # documents that a message names without -v


@click.command("eval")
@click.option(
    "--corpus",
    "corpora",
    multiple=True,
    required=True,
    metavar="C",
    help="A folder, text, JSONL or Parquet file, a data set like org/name, or cc, python, arxiv_math. May be repeated.",
)
@options.mode("Rule of evaluation: {}.", default="strict", show_default=True)
@click.option(
    "--add-bos-token/--no-add-bos-token", default=None, help="Mode lm-eval: that harness's add_bos_token; default: add."
)
@options.context("Tokens that the model sees at once; default: what the mode says.", least=2)
@click.option("--stride", type=click.IntRange(min=1), metavar="N", help="Tokens that each further window scores.")
@click.option(
    "--windows", type=click.IntRange(min=1), metavar="N", help="Mode perplexity-2048: score the first N windows alone."
)
@click.option("--with-memory", is_flag=True, help="hf and gguf models: with a memory of each document beside them too.")
@options.batch_size("Windows at once; default: what fits.")
@options.limit("Documents of each corpus that are scored.")
@click.option("--subset", metavar="NAME", help="Take this subset of each corpus alone.")
@click.option("--column", metavar="NAME", help="Column of the text; default: content, else text.")
@click.option("--name-column", metavar="NAME", help="Column of a document's name; default: its file and place.")
@click.option("--date-column", metavar="NAME", help="Column of a document's date; default: the first that holds a day.")
@options.dtype("Arithmetic of hf models: {}; default float32, in mode paper bfloat16.")
@options.device("cpu, cuda; several, with commas between: a copy of the model on each.")
@click.option("--attn", "attention", metavar="NAME", help="Attention of hf models: eager, sdpa, flash_attention_2.")
@click.option("--tokenizer", metavar="FOLDER", help="Tokenizer of an api model.")
@click.option("--cache-dir", metavar="DIR", help="Where models and data sets of the hub are kept.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where to run.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Copies of the model.")
@click.option("--ray-address", metavar="ADDRESS", help="Of a Ray cluster; default: RAY_ADDRESS, else this machine.")
@options.output("Folder of results; runs resume.", default="eval-results", show_default=True)
@click.option("--no-text", is_flag=True, help="Keep no texts in the tables; `kolmo report` then shows none.")
@options.quiet
@options.verbose
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each model and corpus.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
def command(
    *,
    models: tuple[str, ...],
    corpora: tuple[str, ...],
    mode: str,
    add_bos_token: bool | None,
    context: int | None,
    stride: int | None,
    windows: int | None,
    with_memory: bool,
    batch: int | None,
    limit: int | None,
    subset: str | None,
    column: str | None,
    name_column: str | None,
    date_column: str | None,
    dtype: str | None,
    device: str | None,
    attention: str | None,
    tokenizer: str | None,
    cache_dir: str | None,
    engine: str,
    workers: int | None,
    ray_address: str | None,
    output: str,
    no_text: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Rank models by bits per character of text.

    MODEL is hf:FOLDER_OR_ID, gguf:FILE, api:URL, a predictor like neural:5 or network:PATH, or a compressor like
    classical:xz. A run that is interrupted goes on where it was when it is repeated; with more documents, only these
    are scored. A model or corpus that fails does not stop the others.
    """
    from kolmo.corpus import open_corpus
    from kolmo.evaluation.evaluate import EvaluationPlan, scan_corpus
    from kolmo.evaluation.results.results import Evaluation
    from kolmo.evaluation.scorers.scorers import ScorerOptions
    from kolmo.targets import check_folder

    console = Console(quiet, verbose, as_json)
    if ray_address and engine != "ray":
        raise click.UsageError("--ray-address is for --engine ray; add it")
    chosen = ScorerOptions(dtype, device, attention, cache_dir, tokenizer)
    sizes = context, stride, batch
    where = engine, workers, ray_address
    plan = EvaluationPlan(mode, *sizes, chosen, *where, not no_text, add_bos_token, windows, with_memory)
    columns = {"column": column, "name_column": name_column, "date_column": date_column}
    with console.guarded("eval"):
        check_folder(output)
        plan.sized_mode()
    if console.status:
        return console.status
    opened: list[ScannedCorpus] = []
    for spec in corpora:
        with console.guarded(spec):
            corpus = open_corpus(spec, limit=limit, subset=subset, cache_dir=cache_dir, **columns)
            opened.append(scan_corpus(corpus, plan, opened))
    found = Evaluation()
    for model in models if opened else ():
        with console.guarded(model):
            _evaluate(model, opened, plan, output, found, console)
    _tell_skipped(opened, console)
    _tell_repeats(opened, console)
    if found and not as_json and not quiet:
        _print(found)
    return console.status


def _evaluate(
    model: str, corpora: list[ScannedCorpus], plan: EvaluationPlan, output: str, found: Evaluation, console: Console
) -> None:
    from pathlib import Path

    from kolmo.evaluation.evaluate import evaluate_model

    def failed(corpus: Corpus, error: KolmoError) -> None:
        console.fail(f"{model} on {corpus.name}: {error}", corpus.source)

    for result in evaluate_model(model, corpora, plan, Path(output), progress=console.progress, failed=failed):
        found.append(result)
        run = result.record["run"]
        block, asked = result.record["mode"]["block"], plan.sized_mode().block
        if 0 < block < asked:
            console.warn(f"{model} sees {block} tokens, so that is its block, not {asked}; compare with care")
        if console.json:
            console.record(result.full())
        rate = f", {run['tokens'] / run['seconds']:,.0f} tokens/s" if run["tokens"] and run["seconds"] else ""
        console.line(f"{result.model} on {result.corpus}: {run['tokens']:,} tokens scored in this run{rate}")


def _tell_skipped(corpora: list[ScannedCorpus], console: Console) -> None:
    """What was left out, in a line for each corpus; with -v all of it."""
    for one in corpora:
        skipped = one.scan.skipped
        if skipped and console.verbose:
            for line in skipped:
                console.warn(line)
        elif skipped:
            others = f" ({len(skipped) - 1} more like it; -v lists them)" if len(skipped) > 1 else ""
            console.warn(skipped[0] + others)


def _tell_repeats(corpora: list[ScannedCorpus], console: Console) -> None:
    """Documents whose text came before, counted in a line for each corpus and named; with -v all of them."""
    for one in corpora:
        labels = one.scan.labels
        named = [
            f"{short(labels[place].name)} has the text of {short(labels[first].name)}"
            for place, first in one.scan.repeats.items()
        ]
        if not named:
            continue
        shown = named if console.verbose else named[:NAMED_REPEATS]
        more = f", and {len(named) - len(shown)} more (-v lists them)" if len(named) > len(shown) else ""
        console.warn(
            f"{short(one.corpus.name)}: {len(named):,} of {len(labels):,} documents repeat the text of an earlier one; "
            f"each counts in the sums, and all of one text as one in intervals: {'; '.join(shown)}{more}"
        )


def _print(found: Evaluation) -> None:
    """A table of the results, best first in each corpus, and what models differ by."""
    for corpus in dict.fromkeys(result.corpus for result in found):
        rows = sorted((one for one in found if one.corpus == corpus), key=_cost)
        facts = rows[0].metrics
        counts = f"{facts['documents']:,} documents, {facts['characters']:,} characters"
        lines = [f"{short(corpus)}: {counts}, mode {rows[0].mode}"]
        names = [short(row.model) for row in rows]
        width = max(map(len, [*names, *(WITH_MEMORY for row in rows if "memory_nats" in row.metrics)]))
        head = ("bits/char", "95 %", "bits/byte", "bits/token", "rate", "Min-20% nats")
        lines.append(f"  {'model':<{width}} {head[0]:>9} {head[1]:>15} " + " ".join(f"{name:>12}" for name in head[2:]))
        for name, row in zip(names, rows, strict=True):
            lines.append(f"  {name:<{width}} " + _line(row.metrics))
            if "memory_nats" in row.metrics:
                lines.append(f"  {WITH_MEMORY:<{width}} " + _line(row.metrics, "memory_"))
        print_lines([*lines, *(f"  {difference}" for difference in _differences(rows))])


def _line(facts: Any, prefix: str = "") -> str:
    """The metrics whose names have a prefix; those that are not defined are dashes."""
    value, low, high, *others = (
        facts.get(prefix + name)
        for name in (
            "bits_per_character",
            "low",
            "high",
            "bits_per_byte",
            "bits_per_token",
            "compression_rate",
            "min_k",
        )
    )
    spread = "-" if low is None else f"{low:.4f}-{high:.4f}"
    return f"{_number(value):>9} {spread:>15} " + " ".join(f"{_number(other):>12}" for other in others)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _differences(rows: list[Any]) -> list[str]:
    from kolmo.evaluation.results.results import compare

    if rows[0].bits_per_character is None or rows[0].documents < 2:
        return []
    lines = []
    for row in rows[1:]:
        found = compare(row, rows[0])
        spread = "-" if found["low"] is None else f"{found['low']:+.4f} to {found['high']:+.4f}"
        lines.append(f"{short(row.model)} - {short(rows[0].model)}: {found['value']:+.4f} bits/char, 95 % {spread}")
    return lines


def _cost(result: Any) -> float:
    facts = result.metrics
    return float(facts["bits_per_character"] or facts["bits_per_token"])
