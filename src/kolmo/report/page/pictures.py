"""Pictures and sounds of an explanation's page: a picture beside a map of its cost, a waveform coloured by cost.

What the bytes mean is what the predictor took them for (`Explanation.parts`), so a wrong guess shows as noise.
What it is not: a reader of picture or sound files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kolmo.predictors.base import BlockPart
from kolmo.predictors.parts import in_words
from kolmo.report.page.markup import plural, shown
from kolmo.report.page.png import data_url, indexed, picture

if TYPE_CHECKING:
    from kolmo.report.explain import Explanation

MAX_DRAWN = 6  # parts that are drawn, the largest ones
MAX_SIDE = 1000  # pixels of a drawn picture, and columns of a waveform
MAX_PIXELS = 1_000_000  # of all drawn pictures together
MIN_ROWS, MIN_FRAMES = 4, 64  # of a part that is drawn
BLOWN_UP_SIDE = 300  # pixels of a picture up to which its pixels are shown as squares
PLOT_HEIGHT = 240  # of a waveform
# Sixteen colours of increasing brightness (inferno of matplotlib; van der Walt and Smith 2015).
HEAT = (
    *("#000004", "#0c0826", "#240c4f", "#420a68", "#5d126e", "#781c6d", "#932667", "#ae305c"),
    *("#c73e4c", "#dd513a", "#ed6925", "#f8850f", "#fca50a", "#fac62d", "#f2e661", "#fcffa4"),
)
WAVE = HEAT[3:]  # those that stand out from a dark panel
QUANTILES = (0.01, 0.99)  # of the costs, which get the first colour and the last

Costs = npt.NDArray[np.float64]


def pictures(explanation: Explanation) -> Iterator[str]:
    """The section with the pictures and sounds of a content, as pieces of HTML; nothing where there are none."""
    drawn = [part for part in explanation.parts if _is_picture(part) or _is_sound(part)]
    if not drawn:
        return
    largest = sorted(sorted(drawn, key=lambda part: -part.size)[:MAX_DRAWN], key=lambda part: part.first)
    side = min(MAX_SIDE, math.isqrt(MAX_PIXELS // max(1, sum(map(_is_picture, largest)))))
    yield "<section>\n<h2>Pictures and sounds</h2>\n"
    if len(drawn) > len(largest):
        yield f"<p>The largest {len(largest)} of {len(drawn)}.</p>\n"
    yield '<p class="note">Bright is expensive: a map of what each place costs, in bits per byte.</p>\n'
    for part in largest:
        yield from _picture(explanation, part, side) if _is_picture(part) else _sound(explanation, part)
    yield "</section>\n"


def stride_of(part: BlockPart) -> int:
    """Bytes of a row of a picture; 0 where the part is none."""
    return part.parameters.get("stride", 0) if part.kind == "image" else 0


def _is_picture(part: BlockPart) -> bool:
    stride, channels = stride_of(part), part.parameters.get("channels", 1)
    return 1 <= channels <= 4 and channels <= stride and part.size >= MIN_ROWS * stride


def _is_sound(part: BlockPart) -> bool:
    return (
        part.kind == "audio" and part.parameters.get("bits") in (8, 16, 24) and part.size >= MIN_FRAMES * _frame(part)
    )


def _frame(part: BlockPart) -> int:
    """Bytes of the samples of one moment."""
    return part.parameters["bits"] // 8 * max(1, part.parameters.get("channels", 1))


# Pictures


def _picture(explanation: Explanation, part: BlockPart, side: int) -> Iterator[str]:
    stride, channels = stride_of(part), part.parameters.get("channels", 1)
    rows, columns = part.size // stride, stride // channels
    used = slice(part.first, part.first + rows * stride)
    bytes_used = np.frombuffer(explanation.data[used], np.uint8).reshape(rows, stride)
    costs_used = explanation.costs[used].reshape(rows, stride)[:, : columns * channels]
    factor = -(-max(rows, columns) // side)
    values = _shrunk(bytes_used[:, : columns * channels].reshape(rows, columns, channels).astype(np.float64), factor)
    costs = _shrunk(costs_used.reshape(rows, columns, channels), factor).mean(axis=2)
    if _is_upside_down(explanation.data, part):
        values, costs = values[::-1], costs[::-1]
    levels, low, high = _levels(costs, len(HEAT))
    images = (
        ("the picture", picture(_visible(values, part.parameters))),
        ("what each place costs", indexed(levels, HEAT)),
    )
    size = f"{columns:,} &times; {rows:,} pixels"
    scale = f", each point {factor} &times; {factor} pixels" if factor > 1 else ""
    small = " squares" if max(costs.shape) <= BLOWN_UP_SIDE else ""
    yield f'<figure class="drawn pair{small}">'
    for label, png in images:
        yield f'<img alt="{label}" width={costs.shape[1]} height={costs.shape[0]} src="{data_url(png)}">'
    yield _caption(explanation, part, f"{size}{scale}", HEAT, low, high)


def _shrunk(values: Costs, factor: int) -> Costs:
    """Means over squares of `factor` rows and columns, those at the edges smaller; shape (rows, columns, channels)."""
    if factor == 1:
        return values
    for axis in (0, 1):
        size = values.shape[axis]
        starts = np.arange(0, size, factor)
        counts = np.diff(starts, append=size).reshape([-1 if k == axis else 1 for k in range(3)])
        values = np.add.reduceat(values, starts, axis=axis) / counts
    return values


def _visible(values: Costs, parameters: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    """Channels as grey, or as red, green and blue; shape (rows, columns[, 3])."""
    rounded = np.rint(values).astype(np.uint8)
    if values.shape[2] < 3:
        return rounded[:, :, 0]
    return rounded[:, :, :3] if parameters.get("order", 0) else rounded[:, :, 2::-1]


def _is_upside_down(data: bytes, part: BlockPart) -> bool:
    """Whether a BMP header before the pixels says that the last row comes first."""
    at = data.rfind(b"BM", max(0, part.first - 256), part.first)
    if at < 0 or at + 26 > part.first:
        return False
    return at + int.from_bytes(data[at + 10 : at + 14], "little") == part.first and data[at + 25] < 128


# Sounds


def _sound(explanation: Explanation, part: BlockPart) -> Iterator[str]:
    frame, channels = _frame(part), max(1, part.parameters.get("channels", 1))
    first = part.first + -part.parameters.get("phase", 0) % frame  # of a frame that is wholly in the part
    frames = (part.first + part.size - first) // frame
    used = slice(first, first + frames * frame)
    samples = _samples(explanation.data[used], part.parameters).reshape(frames, channels)
    starts = np.linspace(0, frames, min(MAX_SIDE, frames) + 1).astype(np.int64)[:-1]
    top = np.maximum.reduceat(samples.max(axis=1), starts)
    bottom = np.minimum.reduceat(samples.min(axis=1), starts)
    counts = np.diff(starts, append=frames) * frame
    costs = np.add.reduceat(explanation.costs[used], starts * frame) / counts
    levels, low, high = _levels(costs, len(WAVE))
    largest = float(max(abs(top).max(), abs(bottom).max(), 1))
    middle = PLOT_HEIGHT / 2
    upper = (middle - 0.5 - top * (middle - 1) / largest).tolist()
    lower = (middle + 0.5 - bottom * (middle - 1) / largest).tolist()
    label = f"waveform: {plural(frames, 'sample')} of {plural(channels, 'channel')}, coloured by cost"
    yield f'<figure class="drawn"><svg class="wave" viewBox="0 0 {len(starts)} {PLOT_HEIGHT}" '
    yield f'preserveAspectRatio="none" role="img" aria-label="{label}">'
    for level, colour in enumerate(WAVE):
        places = np.flatnonzero(levels == level).tolist()
        if places:
            path = "".join(f"M{x}.5 {upper[x]:.1f}V{lower[x]:.1f}" for x in places)
            yield f'<path stroke="{colour}" d="{path}"/>'
    yield "</svg>"
    yield _caption(explanation, part, plural(frames, "sample"), WAVE, low, high)


def _samples(data: bytes, parameters: Mapping[str, int]) -> Costs:
    """Samples around 0, shape (samples,)."""
    width = parameters["bits"] // 8
    values = np.frombuffer(data, np.uint8).reshape(-1, width).astype(np.int64)
    if parameters.get("big"):
        values = values[:, ::-1]
    whole = np.zeros(len(values), np.int64)
    for k in range(width):
        whole |= values[:, k] << 8 * k
    middle = 1 << 8 * width - 1
    if not parameters.get("unsigned"):
        whole ^= middle
    return (whole - middle).astype(np.float64)


# Both


def _levels(costs: Costs, count: int) -> tuple[npt.NDArray[np.uint8], float, float]:
    """Colours of costs from 0 to `count` - 1, and the costs that get the first and the last."""
    low, high = np.quantile(costs, QUANTILES).tolist()
    width = (high - low) / count or 1.0
    return np.clip((costs - low) / width, 0, count - 1).astype(np.uint8), low, high


def _caption(
    explanation: Explanation, part: BlockPart, size: str, colours: Sequence[str], low: float, high: float
) -> str:
    bits = float(explanation.costs[part.first : part.first + part.size].sum())
    gradient = f"linear-gradient(90deg,{','.join(colours)})"
    return (
        f"<figcaption>{shown(part.kind)} from byte {part.first:,} on{shown(in_words(part))}: {size}, "
        f"{plural(part.size, 'byte')} in {bits / 8:,.0f}, {bits / part.size:.2f} bits per byte. "
        f'<span class="ramp"><span>{low:.2f}</span><s style="background:{gradient}"></s><span>{high:.2f}</span></span>'
        "</figcaption></figure>\n"
    )
