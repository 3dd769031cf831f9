"""Networks that decode their weights as they use them, against the same networks whole: memory and speed.

    python benchmarks/weights_streamed.py FOLDER

Made networks with random weights, in float32: a LLaMA of 110 M (12 layers of width 768), and a U-Net of 31 M (widths 64
to 1024, images of 256 x 256). FOLDER takes their files. Each row is a process of its own. Memory: the largest resident
set, less that after the imports. Speed: the best of --repeat runs after one. The process's outputs are hashed, and have
to agree within a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import kolmo

STEP = 0.0026  # 4 bits a weight of deviation 0.02
TOKENS = 512


class Block(nn.Module):
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.two = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape (batch, inputs, height, width)."""
        return torch.relu(self.two(torch.relu(self.one(x))))


class UNet(nn.Module):
    """Five levels, with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 128, 256, 512, 1024]
        self.down = nn.ModuleList(map(Block, [3, *widths], widths))
        self.narrow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.up = nn.ModuleList(Block(2 * w, w) for w in widths[-2::-1])
        self.out = nn.Conv2d(64, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of shape (batch, 3, height, width)."""
        skips = []
        for k, block in enumerate(self.down):
            x = block(x if k == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        x = skips.pop()
        for narrow, block in zip(self.narrow, self.up, strict=True):
            x = block(torch.cat([skips.pop(), narrow(x)], 1))
        out: torch.Tensor = self.out(x)
        return out


def make(folder: Path) -> None:
    """The networks' files, where they are not there yet."""
    import transformers

    torch.manual_seed(0)
    if not (folder / "llama-small").exists():
        shape: dict[str, Any] = {
            "hidden_size": 768,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
        }
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, vocab_size=16000))
        model.save_pretrained(folder / "llama-made")
        print(kolmo.shrink(folder / "llama-made", folder / "llama-small", kolmo.Step(STEP)).summary())
        kolmo.expand(folder / "llama-small", folder / "llama-whole")
    if not (folder / "unet-whole.safetensors").exists():
        net = UNet()
        for values in net.parameters():
            nn.init.normal_(values, 0, 0.02)
        print(kolmo.shrink(net.state_dict(), folder / "unet.kolmo", kolmo.Step(STEP)).summary())
        kolmo.expand(folder / "unet.kolmo", folder / "unet-whole.safetensors")


def cache_of(way: str) -> int | None:
    """Whether weights are packed, or decoded from the file."""
    return None if "packed" in way else 0


def llama(folder: Path, way: str) -> tuple[Any, Callable[[], torch.Tensor], int]:
    """The model, a forward pass, and its tokens."""
    from transformers import AutoModelForCausalLM

    import kolmo.transformers

    if way.startswith("streamed"):
        model = kolmo.transformers.stream(folder / "llama-small", cache=cache_of(way))
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder / f"llama-{'whole' if way == 'plain' else 'small'}", trust_remote_code=False
        )
    tokens = 1 if way.endswith("token") else TOKENS
    ids = torch.arange(tokens)[None] * 31 % 16000
    return model, lambda: model(ids).logits, tokens


def unet(folder: Path, way: str) -> tuple[Any, Callable[[], torch.Tensor], int]:
    """The network, a forward pass, and its images."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        net = UNet()
    if way.startswith("streamed"):
        kolmo.stream(net, folder / "unet.kolmo", cache=cache_of(way))
    elif way == "plain":
        net.load_state_dict(load_file(folder / "unet-whole.safetensors"), assign=True)
    else:
        net.load_state_dict(kolmo.load(folder / "unet.kolmo", framework="pt"), assign=True)
    image = torch.linspace(-1, 1, 3 * 256 * 256).reshape(1, 3, 256, 256)
    return net, lambda: net(image), 1


NETWORKS: dict[str, Any] = {"llama": llama, "unet": unet}


def resident() -> float:
    """Megabytes of the largest resident set of this process so far; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def measure(folder: Path, network: str, way: str, repeat: int) -> dict[str, Any]:
    """One row."""
    import safetensors.torch
    import transformers.models.llama.modeling_llama

    import kolmo.transformers  # noqa: F401

    assert safetensors.torch
    assert transformers.models.llama.modeling_llama
    torch.set_num_threads(os.cpu_count() or 1)
    before = resident()
    start = time.perf_counter()
    model, work, count = NETWORKS[network](folder, way)
    ready = time.perf_counter() - start
    best = float("inf")
    with torch.inference_mode():
        out = work()
        for _ in range(repeat):
            start = time.perf_counter()
            again = work()
            best = min(best, time.perf_counter() - start)
            assert torch.equal(out, again)
    return {
        "open_s": ready,
        "peak_mb": resident() - before,
        "speed": count / best,
        "decoded_mb": model.kolmo_stream.most / 1e6 if hasattr(model, "kolmo_stream") else None,
        "digest": hashlib.sha256(out.contiguous().numpy().tobytes()).hexdigest()[:8],
    }


def main() -> None:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WAY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        network, way = given.one
        print(json.dumps(measure(given.folder, network, way, given.repeat)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    make(given.folder)
    print("| network | weights | opened, s | memory, MB | of it decoded parts | per second | outputs |")
    print("|---|---|---|---|---|---|---|")
    for network, ways in (
        (
            "llama",
            ("plain", "whole", "streamed", "streamed-packed", "plain-token", "streamed-token", "streamed-packed-token"),
        ),
        ("unet", ("plain", "whole", "streamed", "streamed-packed")),
    ):
        for way in ways:
            command = [
                sys.executable,
                __file__,
                str(given.folder),
                "--repeat",
                str(given.repeat),
                "--one",
                network,
                way,
            ]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
            row = json.loads(done.stdout)
            held = f"{row['decoded_mb']:.0f}" if row["decoded_mb"] else ""
            print(
                f"| {network} | {way} | {row['open_s']:.2f} | {row['peak_mb']:.0f} | {held} | {row['speed']:.2f} "
                f"| {row['digest']} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
