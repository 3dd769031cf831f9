"""The card of a product: what it is made of, how, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kolmo.predictors.embedded.network import Weights


def write(
    description: dict[str, Any],
    *,
    product: str,
    parameters: int,
    size: int,
    trained: dict[str, Any],
    scores: dict[str, dict[str, float]],
    scored: tuple[int, int],
    network: Weights | None = None,
) -> str:
    """Markdown.

    Args:
        description: of the run: model, settings, sources, validate, command, versions.
        product: its file's name.
        parameters: of the model.
        size: of the file, in bytes.
        trained: `seconds`, `bytes` and `steps` of training.
        scores: bits per byte of each text: `float`, and `exact` where the product is exact.
        scored: bytes that these are of, and bytes that are held out.
        network: the product, where it is exact.
    """
    model = dict(description["model"])
    kind = {"gated-recurrent": "Gated linear recurrent network over bytes (docs/neural.md)", "transformer": TRANSFORMER}
    facts = [
        ("model", kind[model.pop("kind")]),
        ("sizes", ", ".join(f"{key} {_plain(value)}" for key, value in model.items())),
        ("parameters", f"{parameters:,}"),
        ("file", f"`{product}`, {size:,} bytes"),
        *_facts(network),
        ("trained", f"{trained['bytes']:,} bytes in {trained['steps']:,} steps, {_time(trained['seconds'])}"),
        ("settings", ", ".join(f"{key} {_plain(value)}" for key, value in description["settings"].items())),
        *([("first weights", f"SHA-256 `{description['init_sha256']}`")] if "init_sha256" in description else []),
        ("versions", ", ".join(f"{key} {value}" for key, value in description["versions"].items())),
    ]
    total = sum(source["weight"] for source in description["sources"])
    texts = [
        (s["name"], f"{s['weight'] / total:.1%}", f"{s['bytes']:,}", f"`{s['sha256']}`") for s in description["sources"]
    ]
    texts += [(s["name"], "validation", f"{s['bytes']:,}", f"`{s['sha256']}`") for s in description["validate"]]
    exact = any("exact" in score for score in scores.values())
    head = ("text", "floating point", "exact") if exact else ("text", "bits per byte")
    rows = [(name, *(f"{bits:.4f}" for bits in score.values())) for name, score in scores.items()]
    return "\n".join(
        [
            f"# {product}",
            "",
            *_table(("", ""), facts, ""),
            "",
            "## Command",
            "",
            "```sh",
            description["command"],
            "```",
            "",
            *(USE if network else ()),
            "## Texts",
            "",
            "Pieces of each, evenly spaced, were held out of the training. A share is that of the training bytes.",
            *(
                ["The priors of the mixers, which are in the file, were learned from beginnings of these pieces."]
                * bool(network)
            ),
            "",
            *_table(("text", "share", "bytes", "SHA-256"), texts, "rr"),
            "",
            "## Validation",
            "",
            "Bits per byte on the held-out pieces and on the texts for validation alone, each from a fresh state"
            f"{_part(*scored)}.",
            "",
            *_table(head, rows, "rr"),
            "",
        ]
    )


USE = (
    "## Use",
    "",
    "`PATH` is this folder, or the network's file. Who decompresses needs the same network.",
    "",
    "```sh",
    "kolmo compress -m network:PATH FILE",
    "kolmo decompress --model PATH FILE.kmo",
    "```",
    "",
)


def _facts(network: Weights | None) -> list[tuple[str, str]]:
    if network is None:
        return []
    return [("hash", f"`{network.fingerprint.hex()}`")]


TRANSFORMER = "Decoder-only Transformer (docs/training.md)"


def _table(head: tuple[str, ...], rows: list[Any], right: str) -> list[str]:
    rules = ["---", *("---:" for _ in right), *("---" for _ in head[len(right) + 1 :])][: len(head)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)]


def _part(scored: int, held_out: int) -> str:
    return "" if scored == held_out else f"; of each its beginning, {scored:,} of {held_out:,} bytes in all"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(":".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in value) or "none"
    return "none" if value is None else str(value)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} of training"
