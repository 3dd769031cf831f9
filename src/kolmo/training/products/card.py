"""The card of a product: what it is made of, how, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Material:
    """How a card speaks of what a model was trained on.

    Attributes:
        title: of the section.
        column: of the tables.
        held_out: what was held out.
        priors: where the priors of an exact network are from.
        validated: what the bits per byte are of.
        use: of an exact network.
    """

    title: str
    column: str
    held_out: str
    priors: tuple[str, ...]
    validated: str
    use: tuple[str, ...]


def write(
    description: dict[str, Any],
    *,
    product: str,
    parameters: int,
    size: int,
    trained: dict[str, Any],
    scores: dict[str, dict[str, float]],
    scored: tuple[int, int],
    hash_: bytes | None = None,
    material: Material | None = None,
) -> str:
    """Markdown.

    Args:
        description: of the run: model, settings, sources, validate, command, versions.
        product: its file's name.
        parameters: of the model.
        size: of the file, in bytes.
        trained: `seconds`, `bytes`, `steps`, and `back_to`, the step whose weights it went back to, or None.
        scores: bits per byte of each text: `float`, and `exact` where the product is exact.
        scored: bytes that these are of, and bytes that are held out.
        hash_: the product's fingerprint, where it is exact.
        material: what it was trained on; None: texts.
    """
    model = dict(description["model"])
    material = material or TEXTS
    facts = [
        ("model", KINDS[model.pop("kind")]),
        ("sizes", ", ".join(f"{key} {_plain(value)}" for key, value in model.items())),
        ("parameters", f"{parameters:,}"),
        ("file", f"`{product}`, {size:,} bytes"),
        *([("hash", f"`{hash_.hex()}`")] if hash_ else []),
        ("trained", f"{trained['bytes']:,} bytes in {trained['steps']:,} steps, {_time(trained['seconds'])}"),
        *([("stopped early", _early(trained))] if trained["back_to"] is not None else []),
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
    head = (material.column, "floating point", "exact") if exact else (material.column, "bits per byte")
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
            *(material.use if hash_ else ()),
            f"## {material.title}",
            "",
            f"{material.held_out} A share is that of the training bytes.",
            *(material.priors if hash_ else ()),
            "",
            *_table((material.column, "share", "bytes", "SHA-256"), texts, "rr"),
            "",
            "## Validation",
            "",
            f"{material.validated}{_part(*scored)}.",
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


KINDS = {
    "gated-recurrent": "Gated linear recurrent network over bytes (docs/neural.md)",
    "transformer": "Decoder-only Transformer (docs/training.md)",
    "pixels": "Network of the neighbours of a pixel (docs/pixels.md)",
    "samples": "Network of the samples before a sample (docs/samples.md)",
}
TEXTS = Material(
    "Texts",
    "text",
    "Pieces of each, evenly spaced, were held out of the training.",
    ("The priors of the mixers, which are in the file, were learned from beginnings of these pieces.",),
    "Bits per byte on the held-out pieces and on the texts for validation alone, each from a fresh state",
    USE,
)
PICTURES = Material(
    "Pictures",
    "folder",
    "Every tenth picture of each was held out of the training.",
    (),
    "Bits per byte at random places of the held-out pictures: in grey, in patches of 32 x 64, and in colour, whole",
    (),
)

SOUNDS = Material(
    "Sounds",
    "folder",
    "Every tenth sound of each was held out of the training.",
    (),
    "Bits per byte of pieces of 2,048 samples of the held-out sounds, each by itself, cut to 8 bits and in 16",
    (),
)


def _table(head: tuple[str, ...], rows: list[Any], right: str) -> list[str]:
    rules = ["---", *("---:" for _ in right), *("---" for _ in head[len(right) + 1 :])][: len(head)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)]


def _part(scored: int, held_out: int) -> str:
    return "" if scored == held_out else f"; of each its beginning, {scored:,} of {held_out:,} bytes in all"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(":".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in value) or "none"
    return "none" if value is None else str(value)


def _early(trained: dict[str, Any]) -> str:
    return (
        f"held-out data had become worse since step {trained['back_to']:,}; the end of the schedule began anew from "
        "the weights of that step"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} of training"
