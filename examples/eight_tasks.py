"""The eight tasks of "Hyper-Compression" (Fan et al., 2024) through lm-evaluation-harness, with the paper's shots.

    python examples/eight_tasks.py models/llama models/llama-shrunk          # accuracy of each, and the average
    kolmo eval hf:models/llama --mode perplexity-2048 --corpus wiki=WIKITEXT # the paper's perplexity beside it

Folders of transformers, also those that `kolmo shrink` wrote. The tasks' data come from the hub: this needs the
network, a GPU for models of the paper's size, and `pip install 'kolmo-codelength[lm-eval,hf]'`. `--limit 20` tries it
on 20 questions of each task.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

TASKS = {  # task of the harness -> examples before each question
    "sciq": 0,
    "winogrande": 0,
    "arc_easy": 0,
    "arc_challenge": 25,
    "hellaswag": 10,
    "boolq": 32,
    "nq_open": 32,
    "mmlu": 5,
}
METRICS = (
    "acc_norm,none",
    "acc,none",
    "exact_match,remove_whitespace",
    "exact_match,none",
)  # the first that a task has

Evaluate = Callable[..., Mapping[str, Any]]


def harness(**arguments: Any) -> Mapping[str, Any]:
    """`lm_eval.simple_evaluate`, once kolmo's small weights are known to transformers."""
    lm_eval: Any = importlib.import_module("lm_eval")
    import kolmo.transformers  # noqa: F401 (transformers opens shrunk folders from here on)

    found: Mapping[str, Any] = lm_eval.simple_evaluate(**arguments)
    return found


def accuracies(folder: str, evaluate: Evaluate, limit: int | None, device: str | None) -> dict[str, float]:
    """Percent of right answers on each task, normalised by length where the task has that."""
    result = {}
    for task, shots in TASKS.items():
        found = evaluate(
            model="hf",
            model_args={"pretrained": folder},
            tasks=[task],
            num_fewshot=shots,
            limit=limit,
            device=device,
            batch_size="auto",
        )["results"][task]
        result[task] = 100 * next(found[metric] for metric in METRICS if metric in found)
    return result


def main(arguments: Sequence[str], evaluate: Evaluate = harness) -> str:
    """Evaluate the folders; the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a model of transformers")
    parser.add_argument("--limit", type=int, metavar="N", help="questions of each task; default: all")
    parser.add_argument("--device", metavar="NAME", help="like cuda:0; default: the harness's")
    options = parser.parse_args(arguments)
    head = ["model", *(f"{task} ({shots})" for task, shots in TASKS.items()), "average"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for folder in options.folders:
        found = accuracies(folder, evaluate, options.limit, options.device)
        values = [*found.values(), sum(found.values()) / len(found)]
        lines.append([folder, *(f"{value:.2f}" for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(main(sys.argv[1:]))
