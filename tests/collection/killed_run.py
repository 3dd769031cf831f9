"""A run that is killed with SIGKILL at every kind of place where a file gets its name, and goes on each time.

    python killed_run.py FILE... OUTPUT

Prints the places, one a line. Each attempt is a fork of this process, so that all modules are loaded once.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from archives_made import cc
from datatrove.executor.local import LocalPipelineExecutor

from kolmo.collection.collecting import collect
from kolmo.collection.common_crawl.languages import language_of

FILES, OUTPUT = [Path(path) for path in sys.argv[1:-1]], Path(sys.argv[-1])
killed: set[str] = set()


def place_of(path: str) -> str:
    parts = Path(re.sub(r"\d{5}", "N", path)).parts
    return "/".join(parts[-3:] if "cc" in parts[-4:] else parts[-2:])


def attempt(channel: int) -> None:
    """Die at the first place where no earlier attempt has died: before the file has its name, or just after."""
    replace: Any = os.replace
    mark: Any = LocalPipelineExecutor.mark_rank_as_completed

    def dying(place: str, act: Any, *arguments: Any) -> None:
        place = place_of(place)
        late = len(killed) % 2
        if late:
            act(*arguments)
        if place not in killed:
            os.write(channel, place.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        if not late:
            act(*arguments)

    def dying_replace(source: Any, target: Any) -> None:
        dying(os.fspath(target), replace, source, target)

    def dying_mark(executor: Any, rank: int) -> None:
        dying(f"{executor.logging_dir.path}/completion", mark, executor, rank)

    os.replace = dying_replace  # type: ignore[assignment]
    LocalPipelineExecutor.mark_rank_as_completed = dying_mark
    collect(cc(OUTPUT.parent, FILES), str(OUTPUT))


if __name__ == "__main__":
    language_of("loaded once")
    while True:
        into, out = os.pipe()
        child = os.fork()
        if not child:
            os.close(into)
            try:
                attempt(out)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(out)
        place = os.read(into, 1000).decode()
        os.close(into)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        print(place, flush=True)
        killed.add(place)
