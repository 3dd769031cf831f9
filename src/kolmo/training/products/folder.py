"""The folder of a run: what is in it, and how it survives a power cut.

config.json             model, settings, sources, command, versions
log.jsonl               a line every few steps, and one for each validation
checkpoint.pt           all that is needed to go on
curve.png               losses over the bytes seen
tokenizer.json          the vocabulary of --vocabulary bpe
tokens.npz              the texts in its symbols; may be removed
network.safetensors     the product of a recurrent network: exact, in integers
model.safetensors       the product of a Transformer
card.md                 what the product is made of
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from kolmo.errors import KolmoError
from kolmo.foreign import reason
from kolmo.targets import LOCK, locked, replacing
from kolmo.training.settings import compare

COMPARED = ("settings", "sources", "validate", "model")


class RunFolder:
    """Paths of a run, and the reading and writing of its small files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.log = path / "log.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.curve = path / "curve.png"
        self.tokenizer = path / "tokenizer.json"
        self.tokens = path / "tokens.npz"
        self.card = path / "card.md"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes from training in it.

        Raises:
            KolmoError: one does.
        """
        with locked(
            self.path / LOCK, f"{self.path}: another training is at work there; wait, or choose another folder"
        ):
            yield

    def check(self, description: dict[str, Any]) -> None:
        """See that the run to go on with is the one described, as far as it is; without a checkpoint any may begin.

        Raises:
            KolmoError: it is another, or its description is damaged.
        """
        if not self.checkpoint.exists() or not self.config.exists():
            return
        try:
            old = {key: json.loads(self.config.read_text("utf-8"))[key] for key in COMPARED if key in description}
        except (ValueError, KeyError, TypeError) as error:
            raise KolmoError(f"{self.config}: damaged ({reason(error)}); remove it, or choose another folder") from None
        new = json.loads(json.dumps({key: description[key] for key in old}))
        if difference := compare(old, new):
            raise KolmoError(
                f"{self.path}: was begun with {difference}; give what it was begun with, or another folder"
            )

    def begin(self, description: dict[str, Any]) -> None:
        """Write the description of a run, where that of an earlier one does not stand."""
        if not self.checkpoint.exists() or not self.config.exists():
            with replacing(self.config, durable=True) as file:
                file.write(json.dumps(description, indent=1).encode() + b"\n")

    def begun(self) -> dict[str, Any]:
        """The description of the run to go on with; empty where there is none."""
        with suppress(OSError, ValueError):
            content = json.loads(self.config.read_text("utf-8"))
            if self.checkpoint.exists() and isinstance(content, dict):
                return content
        return {}

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """The log's lines; what a crash has left half-written is left out."""
        if not self.log.exists():
            return []
        found = []
        for line in self.log.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                found.append(entry)
        return found

    def rewind(self, step: int) -> None:
        """Remove the log's lines after a step: training goes on from there, and writes them again."""
        lines = [json.dumps(entry) + "\n" for entry in self.entries() if entry["step"] <= step]
        if lines or self.log.exists():
            with replacing(self.log, durable=True) as file:
                file.write("".join(lines).encode())

    def save(self, content: dict[str, Any]) -> None:
        """Write the checkpoint."""
        with replacing(self.checkpoint, durable=True) as file:
            torch.save(content, file)

    def load(self) -> dict[str, Any] | None:
        """Read the checkpoint, if there is one; on the CPU.

        Raises:
            KolmoError: it is damaged.
        """
        if not self.checkpoint.exists():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about the file
                content = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception:  # torch raises what the damage happens to lead to
            raise KolmoError(
                f"{self.checkpoint}: damaged; remove it to begin again, or choose another folder"
            ) from None
        return content  # type: ignore[no-any-return]
