"""The networks of the examples, before and after: one table and one figure.

    KOLMO_DATA=DIR python examples/shrink_table.py --markdown docs/benchmarks/weights.md --figure docs/images/shrink.png

Networks that FOLDER does not hold are trained first. Each row is a file that was written, decoded, put back into its
module and measured there (examples/common.py).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from common import Row, parser, rows, table

from kolmo.errors import KolmoError, MissingExtraError
from kolmo.installing import install
from kolmo.targets import replacing

FAMILIES = {"language_model": "Language models", "mobilenet": "MobileNetV3", "unet": "U-Net", "resnet": "ResNet"}
MODULES = {"unet": ("unet", "unet_channels")}  # of a family; else the one of its name
SECTION = "## Networks, before and after"
TEXT = """
```
KOLMO_DATA=DIR python examples/shrink_table.py --markdown docs/benchmarks/weights.md --figure docs/images/shrink.png
```

The three families of the paper and two published networks. Each form is a file that was decoded and measured in its
module; no weight was trained again. *U-Net, channels pruned* is the U-Net without 37 % of its channels, trained for 300
steps more before its first row (examples/unet_channels.py). *Ratio*: bytes of the original, in float32, to this file's,
both with all that is not coded. *torus* has the published setting of its family (`llm`, `mobilenet`, `unet`; of the
ResNets `mobilenet`). *Pruned*: the smallest weights of the whole network are 0, as many as the published pruned files
lack (MobileNetV3, U-Net; of the others half), kept as a mask of bits and what is left in float32. *Same step*: as at
4 bits. What the networks are, and what they were trained and measured on:
[examples/README.md](../../examples/README.md).

Of 2,000 images one is 0.05 %, and differences below 1 % may be chance. stories260K reads a text unlike those it was
trained on, so small errors may help it as well as harm; the 4-bit rows of the others are the fairer ones. *torus* has a
fixed rate, to which zeros are no gain, and leaves tensors as they were whose error is above its limit (`llm` has one).

"""
FIGURE = "\n![Metric against bytes, one panel for each family](../images/shrink.png)\n"
MARKS = {  # by the beginning of a form's name: mark, colour inside and of its edge
    "original": ("o", "black", "black"),
    "torus": ("s", "tab:red", "tab:red"),
    "trellis": ("D", "tab:blue", "tab:blue"),
    "pruned + torus": ("s", "none", "tab:red"),
    "pruned + trellis": ("D", "none", "tab:blue"),
    "": ("X", "tab:gray", "tab:gray"),
}


def measure(family: str, options: object) -> list[Row]:
    """All rows of a family, each printed when it is measured."""
    torch.manual_seed(1)
    found = []
    for module in MODULES.get(family, (family,)):
        for subject in importlib.import_module(module).subjects(options):
            for row in rows(subject):
                print(f"{row.model}, {row.form}: {row.size} bytes, {row.metric} {row.score:.4f}", file=sys.stderr)
                found.append(row)
    return found


def put(path: Path, section: str) -> None:
    """Put a section into a page, in place of what it had under that heading, or at its end."""
    text = path.read_text("utf-8") if path.exists() else ""
    heading = section.partition("\n")[0]
    before, _, old = text.partition(f"{heading}\n")
    _, mark, after = old.partition("\n## ")
    parts = [f"{before.rstrip()}\n\n" if before else "", f"{section.rstrip()}\n", f"\n## {after}" if mark else ""]
    with replacing(path) as file:
        file.write("".join(parts).encode())


def draw(found: dict[str, list[Row]], path: Path) -> None:
    """A panel for each family: metric against bytes, a mark for each form, larger ones for a family's second network.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
    except ImportError as error:
        raise MissingExtraError(f"the figure needs matplotlib ({error}); {install('report')}") from None
    figure = Figure((7.5, 5.6), layout="constrained")
    for panel, (family, part) in zip(figure.subplots(2, 2).flat, found.items(), strict=False):
        for row in part:
            key = next(beginning for beginning in MARKS if row.form.startswith(beginning))
            mark, inside, edge = MARKS[key]
            place, size = (row.size / 1e6, row.score), 5 if row.model == part[0].model else 8
            panel.plot(*place, mark, mfc=inside, mec=edge, ms=size, label=key or "pruned", ls="none")
            if key == "original":  # its metric is a line across, and carries the name
                panel.axhline(place[1], color="black", lw=0.5, ls=":")
                panel.annotate(row.model, place, (4, 6), textcoords="offset points", ha="right", fontsize=8)
        panel.set(xscale="log", xlabel="megabytes", ylabel=part[0].metric, title=FAMILIES[family])
        panel.margins(x=0.1, y=0.15)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.xaxis.set_minor_locator(NullLocator())
    handles, labels = figure.axes[0].get_legend_handles_labels()
    legend = dict(zip(labels[:7], handles[:7], strict=True))  # those of the first network
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write what is asked for."""
    made = parser(__doc__)
    made.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all, if none is named")
    made.add_argument("--markdown", type=Path, help="page that the section is put into; else it is printed")
    made.add_argument("--figure", type=Path, help="PNG to draw")
    options = made.parse_args(arguments)
    if unknown := set(options.families) - set(FAMILIES):
        made.error(f"{', '.join(sorted(unknown))}: not a family; choose from {', '.join(FAMILIES)}")
    try:
        found = {name: measure(name, options) for name in FAMILIES if name in (options.families or FAMILIES)}
        section = f"{SECTION}\n{TEXT}{table(row for part in found.values() for row in part)}{FIGURE}"
        if options.figure:
            draw(found, options.figure)
        if options.markdown:
            put(options.markdown, section)
        else:
            print(section, end="")
    except (KolmoError, OSError) as error:
        sys.exit(f"shrink_table: {error}")


if __name__ == "__main__":
    main()
