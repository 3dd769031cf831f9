"""Continuations as files and in pages: texts, pictures side by side (PNG), sounds (WAV), the cost of the true rest.

What it is not: it draws nothing from a model (`bench.paper.continuations`).
"""

from __future__ import annotations

import base64
import io
import re
import wave
from collections.abc import Iterator, Sequence
from functools import cached_property

from kolmo.bench.paper.continuations import TEMPERATURES, Continuation, Continuations, Prompt
from kolmo.foreign import html, markdown_text, printable, short

FOLDER = "continuations"
COLUMN = 256  # pixels across, of a picture in a strip
GAP, TOP = 12, 18  # between pictures, and above them for their names
SHOWN_GIVEN, SHOWN_MADE = 160, 320  # bytes of a text on a page
GROUPS = {"text": "text", "patch": "patches", "picture": "pictures", "sound": "sound", "long-sound": "long sound"}
RULE = (
    "Each compressor got the first part of a piece of the data and drew the rest by its own probabilities, gzip by "
    "p(x | context) proportional to 2^-(|C(context x)| - |C(context)|). The bits a byte are what the true rest adds "
    "to the packed piece, which was unpacked and compared."
)


class Exhibit:
    """Continuations in files and pages.

    Args:
        made: the continuations.
    """

    def __init__(self, made: Continuations) -> None:
        self.made = made

    @property
    def conditions(self) -> str:
        """The rule, seed and temperatures, for people."""
        text, images, audio = (f"{TEMPERATURES[name]:g}" for name in ("text", "images", "audio"))
        return f"{RULE} Seed {self.made.seed}; temperature {text} for text, {images} for pictures, {audio} for sounds."

    @property
    def wrong(self) -> list[str]:
        """Compressors that did not give a piece back, a line each."""
        return [f"{one.codec} on {one.prompt}: what came back differs" for one in self.made.made if not one.compared]

    def table(self) -> tuple[str, Sequence[str], list[list[str]]] | None:
        """Bits a byte of the true rest, means over the pieces of a group; None where there are none."""
        names = [one.name for one in self.made.prompts]
        groups = [group for group in GROUPS if any(_group(name) == group for name in names)]
        rows = []
        for codec in dict.fromkeys(one.codec for one in self.made.made):
            cells = []
            for group in groups:
                found = [one for one in self.made.made if one.codec == codec and _group(one.prompt) == group]
                bits = [one.bits for one in found if one.bits is not None]
                right = all(one.compared for one in found)
                cells.append(f"{sum(bits) / len(bits):.2f}" if bits and right else "WRONG" if bits else "")
            rows.append([codec, *cells])
        if not rows:
            return None
        return "Bits a byte of the true continuation", ("", *(GROUPS[group] for group in groups)), rows

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Name -> content of every file of the folder."""
        found: dict[str, bytes] = {}
        for prompt in self.made.prompts:
            continuations = self.made.of(prompt)
            if prompt.modality == "images":
                found[f"{prompt.name}.png"] = strip(prompt, continuations)
                continue
            ending = "wav" if prompt.modality == "audio" else "txt"
            for name, content in _columns(prompt, continuations):
                data = wav(content, prompt.rate) if ending == "wav" else content
                found[_unused(f"{prompt.name}-{_slug(name)}", ending, found)] = data
        return found

    def markdown(self) -> str:
        """A section of a page in Markdown, with links to the files."""
        parts = [f"## Continuations\n\n{markdown_text(self.conditions)}\n"]
        for prompt in self.made.prompts:
            continuations = self.made.of(prompt)
            if prompt.modality == "text":
                for name, text in _texts(prompt, continuations):
                    parts.append(f"{markdown_text(name)}:\n\n" + "".join(f"    {line}\n" for line in text))
            elif prompt.modality == "images":
                names = markdown_text(" | ".join(name for name, _ in _columns(prompt, continuations)))
                parts.append(f"![{prompt.name}: {names}]({FOLDER}/{prompt.name}.png)\n")
        sounds = [name for name in self.files if name.endswith(".wav")]
        if sounds:
            parts.append("Sounds: " + ", ".join(f"[{name}]({FOLDER}/{name})" for name in sounds) + "\n")
        notes = [f"- {markdown_text(line)}\n" for line in self._notes()]
        return "\n".join([*parts, "".join(notes)] if notes else parts)

    def html(self) -> str:
        """A section of a page, with pictures and sounds within it."""
        parts = [f"<h2>Continuations</h2>\n<p>{html(self.conditions)}</p>\n"]
        for prompt in self.made.prompts:
            continuations = self.made.of(prompt)
            if prompt.modality == "text":
                for name, text in _texts(prompt, continuations):
                    parts.append(f"<h3>{html(name)}</h3>\n<pre>{chr(10).join(map(html, text))}</pre>\n")
            elif prompt.modality == "images":
                names = ", ".join(name for name, _ in _columns(prompt, continuations))
                data = base64.b64encode(self.files[f"{prompt.name}.png"]).decode("ascii")
                parts.append(
                    f'<figure class="strip"><img src="data:image/png;base64,{data}" alt="{html(names)}">'
                    f"<figcaption>{html(prompt.name)}: {html(names)}</figcaption></figure>\n"
                )
            else:
                parts.append(f"<h3>{html(prompt.name)}</h3>\n<ul>\n")
                for name, content in _columns(prompt, continuations):
                    data = base64.b64encode(wav(content, prompt.rate)).decode("ascii")
                    parts.append(
                        f'<li><audio controls preload="none" src="data:audio/wav;base64,{data}"></audio> '
                        f"{html(name)}</li>\n"
                    )
                parts.append("</ul>\n")
        parts += [f"<p>{html(line)}</p>\n" for line in self._notes()]
        return "".join(parts)

    def _notes(self) -> list[str]:
        return [f"{one.codec} on {one.prompt}: {one.note}" for one in self.made.made if one.note]


def _group(name: str) -> str:
    return name.rstrip("-0123456789")


def _columns(prompt: Prompt, continuations: Sequence[Continuation]) -> list[tuple[str, bytes]]:
    """The original and what each compressor made, with what was given before it."""
    made = [(one.codec, prompt.given + one.made) for one in continuations if one.made]
    return [("original", prompt.given + prompt.rest), *made]


def _texts(prompt: Prompt, continuations: Sequence[Continuation]) -> Iterator[tuple[str, list[str]]]:
    """Names and lines: the end of what is given, how it goes on in truth, and in what each compressor made."""
    yield "given", _lines(prompt.given[-SHOWN_GIVEN:])
    yield "original", _lines(prompt.rest[:SHOWN_MADE])
    for one in continuations:
        if one.made:
            yield one.codec, _lines(one.made[:SHOWN_MADE])


def _lines(text: bytes) -> list[str]:
    whole = text.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return ["".join(map(printable, line)) for line in whole.split("\n")]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60] or "model"


def _unused(stem: str, ending: str, taken: dict[str, bytes]) -> str:
    names = [f"{stem}.{ending}", *(f"{stem}-{k}.{ending}" for k in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def strip(prompt: Prompt, continuations: Sequence[Continuation]) -> bytes:
    """A PNG: the original and what was made of it side by side; marks between them show where the given part ends.

    Raises:
        ImportError: Pillow is not installed.
    """
    from PIL import Image, ImageDraw

    columns = _columns(prompt, continuations)
    size = len(prompt.given) + len(prompt.rest)
    scale = max(COLUMN // prompt.width, 1)
    across, down = scale * prompt.width, scale * (size // prompt.width)
    whole = Image.new("L", (GAP + (across + GAP) * len(columns), TOP + down + GAP), 255)
    drawing = ImageDraw.Draw(whole)
    at = TOP + scale * (len(prompt.given) // prompt.width)
    for k, (name, pixels) in enumerate(columns):
        left = GAP + k * (across + GAP)
        rows = Image.frombytes("L", (prompt.width, size // prompt.width), pixels.ljust(size, b"\xff")[:size])
        whole.paste(rows.resize((across, down), Image.Resampling.NEAREST), (left, TOP))
        drawing.text((left, 3), short(name, across // 7), fill=0)
        drawing.line([(left - GAP + 2, at), (left - 3, at)], fill=0)
    right = GAP + len(columns) * (across + GAP)
    drawing.line([(right - GAP + 2, at), (right - 3, at)], fill=0)
    out = io.BytesIO()
    whole.save(out, "PNG", optimize=True)
    return out.getvalue()


def wav(samples: bytes, rate: int) -> bytes:
    """A WAV file of unsigned samples of 8 bits in one channel.

    >>> wav(b"abc", 8000)[-4:-1]
    b'abc'
    """
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()
