"""WARC and WET files made with warcio, of pages that are made too, for the tests of collections."""

from __future__ import annotations

import gc
import gzip
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datatrove", reason="needs datatrove: pip install 'kolmo-codelength[collect]'")
pytest.importorskip("warcio", reason="needs warcio: pip install 'kolmo-codelength[collect]'")

WORDS = (  # noqa: SIM905
    "the of and to in that was he it his with as for had you not be her on at by which have or from this "
    "him but all she they were my are me one their so an said them we who would been will no when there "
    "if more out up into do any your what has man could other than our some very time upon about may its "
    "only now like little then can should did us such great before must two these see know over much down "
    "after first good men day house water light river field road stone winter summer letter window garden "
    "morning evening children "
).split()
MENU = ["Home", "About us", "Contact", "This site uses cookies to improve your experience."]
DATE = "2026-10-05T10:00:00Z"


def sentence(chance: random.Random, words: int = 12) -> str:
    text = " ".join(chance.choice(WORDS) for _ in range(words))
    return text[0].upper() + text[1:] + "."


def english(seed: int, lines: int = 8) -> list[str]:
    """Lines of one page, which no other page has."""
    chance = random.Random(seed)
    return [sentence(chance, 10 + seed % 5) for _ in range(lines)]


@contextmanager
def archive(path: Path) -> Iterator[Any]:
    """A writer of warcio's, which leaves temporary files to the garbage collector."""
    from warcio.warcwriter import WARCWriter

    with path.open("wb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield WARCWriter(file, gzip=True)
        gc.collect()


def write_wet(path: Path, pages: Iterable[tuple[str, Sequence[str]]], date: str = DATE) -> Path:
    """A WET file: url and lines (the first is the title) of each page."""
    with archive(path) as writer:
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "made"}))
        for url, lines in pages:
            writer.write_record(
                writer.create_warc_record(
                    url,
                    "conversion",
                    payload=BytesIO("\n".join(lines).encode() + b"\n"),
                    warc_content_type="text/plain",
                    warc_headers_dict={"WARC-Date": date},
                )
            )
    return path


def write_warc(path: Path, pages: Iterable[tuple[str, bytes]], headers: Sequence[tuple[str, str]] = ()) -> Path:
    """A WARC file: url and HTML of each page."""
    from warcio.statusandheaders import StatusAndHeaders

    with archive(path) as writer:
        for url, html in pages:
            http = StatusAndHeaders(
                "200 OK", [*(headers or [("Content-Type", "text/html; charset=utf-8")])], "HTTP/1.1"
            )
            writer.write_record(
                writer.create_warc_record(
                    url,
                    "response",
                    payload=BytesIO(html),
                    http_headers=http,
                    warc_headers_dict={"WARC-Date": DATE},
                )
            )
    return path


def pages_of(first: int, count: int) -> list[tuple[str, list[str]]]:
    """English pages with a menu that all share."""
    return [
        (f"https://site{n % 7}.test/{n}", [f"Title {n}", *MENU[:2], *english(n, 6 + n % 9), *MENU[2:]])
        for n in range(first, first + count)
    ]


def dump(folder: Path, segments: int = 3, pages: int = 14) -> dict[str, bytes]:
    """A small dump as the server has it: address below the base to bytes."""
    found: dict[str, bytes] = {}
    paths = []
    for number in range(segments):
        name = f"crawl-data/CC-MAIN-2026-40/segments/{number}.1/wet/CC-MAIN-{number:05d}.warc.wet.gz"
        made = write_wet(folder / f"segment{number}.warc.wet.gz", pages_of(100 * number, pages))
        found[f"/{name}"] = made.read_bytes()
        paths.append(name)
    found["/crawl-data/CC-MAIN-2026-40/wet.paths.gz"] = gzip.compress("".join(f"{p}\n" for p in paths).encode())
    found["/collinfo.json"] = b'[{"id": "CC-MAIN-2026-40"}, {"id": "CC-MAIN-2026-35"}]'
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of an output folder but those that differ between runs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".collect" not in path.parts and not path.name.startswith("run-")
    }


def cc(folder: Path, files: Sequence[Path], **others: Any) -> Any:
    """The pipeline over files of one's own, with a quick scorer."""
    from kolmo.collection.common_crawl.listing import Origin, own_files
    from kolmo.collection.common_crawl.perplexity import choose
    from kolmo.collection.common_crawl.pipeline import CommonCrawl
    from kolmo.collection.pipelines import Access

    settings: dict[str, Any] = {
        "until": "2026-11-30",
        "choice": choose(None, None, "cm:1", 400),
        "buckets": ("head", "middle"),
        **others,
    }
    return CommonCrawl(
        Access(str(folder / "cache")), Origin(files=own_files([str(path) for path in files])), **settings
    )
