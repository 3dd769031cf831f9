"""The report: the machine, the versions, the start-up time, and everything together in Markdown."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.measuring import run
from harness.tools import Tool, kolmo


def first_line(command: Sequence[str]) -> str:
    """The first line that a command prints, or "none" where it cannot run."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return "none"
    return (done.stdout.splitlines() or ["none"])[0]


def machine() -> dict[str, str]:
    """The machine in words, without its name."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = match.group(1) if match else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{model} ({platform.machine()}), {os.cpu_count()} cores",
        "memory": f"{memory / (1 << 30):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_version()} ({platform.python_compiler()})",
        "compiler": first_line([*shlex.split(os.environ.get("CC", "cc")), "--version"]),
    }


def startup(work: Path) -> dict[str, float]:
    """Median CPU seconds of an interpreter that does nothing, and of a kolmo that only starts."""
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    if program := kolmo(1).program():
        commands["python -m kolmo --version"] = [*program, "--version"]
    return {name: statistics.median(run(command, work).cpu for _ in range(5)) for name, command in commands.items()}


def versions(tools: Sequence[Tool]) -> dict[str, str]:
    """The version of each program among the tools."""
    found = {}
    for tool in tools:
        if tool.programs[0] not in found:
            program = tool.program()
            found[tool.programs[0]] = tool.version_text(program) if program else "not installed"
    return found


def render(report: dict[str, object], parts: Sequence[str], repeat: int) -> str:
    """The whole report in Markdown."""

    def listed(key: str) -> list[str]:
        value = report[key]
        assert isinstance(value, dict)
        return [f"- {name}: {f'{text:.3f} s' if isinstance(text, float) else text}" for name, text in value.items()]

    failures = report["failures"]
    assert isinstance(failures, list)
    lines = [
        "# Lossless compression, measured",
        "",
        "Every size is of an output that was decompressed and compared byte for byte in the same run. "
        "1 KB = 1000 bytes; times are user + system CPU seconds of whole processes on one core, the median "
        f"of {repeat}, the tools taking turns. How to read and repeat this: [README.md](README.md).",
        "",
        "```",
        f"KOLMO_DATA=DIR {report['command']}",
        "```",
        "",
        *(part.strip() + "\n" for part in parts if part),
        *(["## Failures", "", *(f"- {failure}" for failure in failures), ""] if failures else []),
        "## Machine",
        "",
        *listed("machine"),
        "",
        "## Versions",
        "",
        *listed("versions"),
        "",
        "## Start-up (CPU time, in every figure of a Python program above)",
        "",
        *listed("startup"),
    ]
    return "\n".join(lines)
