"""Where the bits go: every bit is counted once, whatever the bytes; the page holds them safely; the command behaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import kolmo
from helpers import command, order0
from kolmo.errors import KolmoError, PredictorError
from kolmo.progress import Progress
from kolmo.report import Explanation, explain
from kolmo.report import text as texts
from kolmo.report.page import curve, rows

VERB = ["explain", "-m", "order0"]

PROSE = b"It's a long way; the way is long.\r\nSome 42 words, and more_words...\n\n" * 3 + b"no end"
UTF8 = "Naïve café, 日本語、テスト。 e\u0301 👩‍💻 שלום \u202eevil\u2028 x\u00a0y\n".encode() * 2
BROKEN = b"caf\xe9 and \xff\xfe, \xe2\x82 cut, " + b"plain text around it " * 3 + b"\xf0\x9f"
BINARY = bytes(range(256)) * 4 + bytes(300)
HOSTILE = b"</script><script>alert(1)</script> <img src=x onerror='alert(2)'> & \"q\" <!-- ]]> </code></style>\n" * 2
SAMPLES = {
    "prose": PROSE,
    "utf8": UTF8,
    "broken": BROKEN,
    "binary": BINARY,
    "hostile": HOSTILE,
    "one": b"x",
    "return": b"\r",
    "invalid": b"\xff",
    "long line": b"dna " + b"acgt" * 2000 + b" " * 99,
}


class Given(order0.Order0):
    """A predictor whose costs follow from the bytes: 2 bits each, 9 for a capital."""

    def start(self, size: int, threads: int = 1) -> GivenModel:
        return GivenModel(self.rate, size)


class GivenModel(order0.Order0Model):
    def score(self, data: bytes, progress: Progress | None = None) -> npt.NDArray[np.float64]:
        values = np.frombuffer(data, np.uint8)
        return np.where((values >= 65) & (values <= 90), 9.0, 2.0)


class Page(HTMLParser):
    """What a browser makes of a page: tags, attributes, and the text of the rows."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.code: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "hr", "input", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "code" in self.open and "i" in self.open:
            self.code.append(data)

    def rows(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "div" and "data-o" in attributes]

    def token_costs(self) -> float:
        """Bits of all tokens on the page."""
        costs = [attributes["data-b"] or "" for tag, attributes in self.tags if "data-b" in attributes]
        return sum(int(cost) for each in costs for cost in each.split(",")) / 1000


@pytest.fixture(scope="module")
def explained() -> dict[str, Explanation]:
    return {name: explain(data, "order0", name=name) for name, data in SAMPLES.items()}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_bit_is_counted_once(explained: dict[str, Explanation], name: str) -> None:
    data, found = SAMPLES[name], explained[name]
    total = found.totals.bits
    expected = order0.Order0().start(len(data)).score(data)
    np.testing.assert_array_equal(found.costs, expected)
    assert total == pytest.approx(expected.sum())
    assert found.tokens().sum() == pytest.approx(total)
    assert found.characters().sum() == pytest.approx(total)
    assert sum(share.bits for share in found.classes) == pytest.approx(total)
    assert sum(share.size for share in found.classes) == len(data)
    if found.text is None:
        assert (found.kind, found.positions, len(found.lines())) == ("binary", (), 0)
        assert sum(word.bits for word in found.words) <= total + 1e-6
        return
    assert found.lines().sum() == pytest.approx(total)
    assert sum(share.count for share in found.classes) == found.totals.characters
    words = found.tokens()[found.text.words].sum()
    assert sum(share.bits for share in found.positions) == pytest.approx(words)
    assert sum(word.bits for word in found.words) == pytest.approx(words)  # few enough words to list all
    assert sum(share.count for share in found.positions[:1]) == found.totals.words
    record = found.record()
    assert sum(line["bits"] for line in record["lines"]) == pytest.approx(total, abs=0.1)
    assert sum(line["size"] for line in record["lines"]) == len(data)


@pytest.mark.parametrize("name", SAMPLES)
def test_page_shows_every_bit_and_byte(explained: dict[str, Explanation], name: str) -> None:
    found, data = explained[name], SAMPLES[name]
    page = Page(found.html())
    assert page.open == []
    assert page.token_costs() == pytest.approx(found.totals.bits, abs=0.001 * len(data))
    assert [int(row["data-o"] or -1) for row in page.rows()] == sorted(int(row["data-o"] or -1) for row in page.rows())
    shown = "".join(page.code)
    if found.text is None:
        assert bytes.fromhex(shown) == data
    else:
        escaped = re.sub(r"\\x([89a-f]\w)", lambda match: chr(0xDC00 + int(match[1], 16)), shown)
        escaped = escaped.replace("\\u202e", "\u202e").replace("\\u2028", "\u2028").replace("\\x07", "\x07")
        plain = data.replace(b"\r", b"").replace(b"\n", b"")  # line ends are drawn by the style sheet
        assert escaped.encode("utf-8", "surrogateescape") == plain


@pytest.mark.parametrize("name", ["hostile", "broken", "binary", "utf8"])
def test_page_needs_nothing_and_obeys_nobody(explained: dict[str, Explanation], name: str) -> None:
    source = explained[name].html()
    page = Page(source)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert not {"img", "link", "iframe", "object", "base", "form"} & set(tags)
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key == "src"]
        assert (attributes.get("href") or "#").startswith("#")
    assert "://" not in source
    assert "url(" not in source
    assert "@import" not in source
    assert "default-src 'none'" in source
    visible = re.sub(r"<(script|style)>.*?</\1>", "", source, flags=re.DOTALL)
    assert "alert(1)</script>" not in source
    assert "<script>alert" not in source
    assert all(character.isprintable() or character in "\n\u00a0\u200d" for character in visible)


def test_script_is_the_one_that_the_page_allows(explained: dict[str, Explanation]) -> None:
    import base64
    import hashlib

    source = explained["prose"].html()
    script = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    assert len(script) == 1
    assert base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode() in source


def test_names_are_escaped() -> None:
    source = explain(b"x", "order0", name="<b>\x1b[2J\udcff.txt").html()
    assert "&lt;b&gt;\\x1b[2J\\xff.txt" in source
    assert "<b>\\" not in source
    source.encode()


def test_equal_contents_give_equal_pages() -> None:
    for data in (PROSE, BINARY, b""):
        assert explain(data, "order0").html() == explain(data, "order0").html()


def test_tokens() -> None:
    data = "It's x_1: --- 'quoted'\r\n日本テキスト 👩‍💻e\u0301\u202e 3.14\n".encode() + b"\xff" + b"a" * 40
    text = texts.cut(data)
    ends = [*text.tokens[1:].tolist(), len(text.string)]
    tokens = [text.string[start:end] for start, end in zip(text.tokens.tolist(), ends, strict=True)]
    assert tokens == [
        *("It's", " ", "x_1", ":", " ", "---", " ", "'", "quoted", "'", "\r\n"),
        *("日", "本", "テキスト", " ", "👩‍💻", "e\u0301", "\u202e", " ", "3", ".", "14", "\n"),
        *("\udcff", "a" * 32, "a" * 8),
    ]
    words = [token for token, word in zip(tokens, text.words.tolist(), strict=True) if word]
    assert words == ["It's", "x_1", "quoted", "日", "本", "テキスト", "e\u0301", "a" * 32, "a" * 8]
    assert text.ranks.max() == 39  # the word's own places, however its tokens are cut
    assert text.invalid == 1
    assert data[text.starts[text.lines[2]] :] == b"\xff" + b"a" * 40


def test_costs_of_a_character_are_those_of_its_bytes() -> None:
    data = "aé日👩".encode()
    found = explain(data, "order0")
    starts = [0, 1, 3, 6]
    np.testing.assert_allclose(found.characters(), np.add.reduceat(found.costs, starts))
    assert found.totals.characters == 4
    assert found.totals.bits_per_character == pytest.approx(found.totals.bits / 4)
    assert found.totals.bits_per_byte == pytest.approx(found.totals.bits / 10)


@pytest.mark.parametrize(
    ("data", "lines"), [(b"a\nb", 2), (b"a\n", 1), (b"\n\n", 2), (b"a\r\nb\rc\n", 3), (b"\r\r\n", 2), (b"a", 1)]
)
def test_lines(data: bytes, lines: int) -> None:
    found = explain(data, "order0")
    assert found.totals.lines == lines
    starts = [line["offset"] for line in found.record()["lines"]]
    assert starts[0] == 0
    assert all(data[start - 1 : start] in (b"\n", b"\r") for start in starts[1:])


@pytest.mark.parametrize(
    ("data", "is_text"),
    [
        (PROSE, True),
        (UTF8, True),
        (BROKEN, True),
        ("naïve façade".encode("latin-1"), True),
        ("привет, мир".encode("koi8-r"), False),
        ("wide".encode("utf-16"), False),
        (BINARY, False),
        (b"\0", False),
        ("🂡🂢🃏".encode(), True),
    ],
)
def test_text_or_binary(data: bytes, is_text: bool) -> None:
    assert texts.is_text(data) is is_text


def test_archive_size_is_the_archives() -> None:
    for data in (PROSE, BINARY, b"", b"x", os.urandom(3000)):
        totals = explain(data, "order0").totals
        assert totals.measured
        assert totals.archive_size == len(kolmo.compress(data, predictor="order0"))
        estimate = explain(data, "order0", measure=False).totals
        assert not estimate.measured
        assert abs(estimate.archive_size - totals.archive_size) <= 2 + totals.archive_size // 500
        assert estimate.container_size == totals.container_size
    stored = explain(os.urandom(3000), "order0")
    assert stored.totals.stored == 3000
    assert "3,000 bytes kept uncoded" in stored.html()


def test_blocks_are_those_of_compress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["kolmo.report.explain"], "DEFAULT_BLOCK_LIMIT", 100)
    data = PROSE[:201]
    done: list[int] = []
    found = explain(data, "order0", progress=done.append)
    assert found.blocks == (0, 67, 134)
    assert sum(done) == len(data)
    done.clear()
    explain(data, Given(), measure=False, progress=done.append)
    assert done == [67, 67, 67]  # of a model that does not progress
    np.testing.assert_array_equal(found.costs[134:], order0.Order0().start(67).score(data[134:]))
    assert found.totals.archive_size == len(kolmo.compress(data, predictor="order0", block_size=100))
    page = found.html()
    assert "cut into 3 blocks" in page
    assert "Dotted lines" in page


def test_empty() -> None:
    found = explain(b"", "order0")
    assert (found.kind, found.totals.bits, found.totals.size) == ("empty", 0, 0)
    assert found.totals.bits_per_byte is None
    assert found.record()["lines"] == []
    assert "The file is empty" in found.html()


def test_large_contents_show_a_selection() -> None:
    plain = b"".join(b"%06d line of no interest here\n" % number for number in range(3000))
    dear = b"".join(b"%06d EXPENSIVE CAPITALS HERE\n" % number for number in range(30))
    data = plain + dear + plain
    found = explain(data, Given(), measure=False)
    source = found.html(limit=8000)
    page = Page(source)
    rows = [int(row["data-o"] or -1) for row in page.rows()]
    assert rows[0] == 0
    assert set(range(len(plain), len(plain) + len(dear), 32)) & set(rows)
    shown = re.search(r"A selection: ([\d,]+) of ([\d,]+) bytes", source)
    assert shown is not None
    assert 6000 < int(shown[1].replace(",", "")) <= 8000
    assert "are left out: 2.00 bits per byte" in source
    assert len(source) < 60 * 8000 + 60_000
    assert "A selection" not in found.html(limit=len(data))
    anchors = {attributes.get("id") for _, attributes in page.tags}
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a" and "href" in attributes]
    assert len(links) > 100
    assert all(link[1:] in anchors for link in links)


@pytest.mark.parametrize("data", [b"a" * 60_000, b"A,b" * 20_000, b"\n" * 60_000, bytes(range(256)) * 200])
@pytest.mark.parametrize("limit", [1, 2000, 10_000])
def test_page_size_is_bounded(data: bytes, limit: int) -> None:
    found = explain(data, Given(), measure=False)
    source = found.html(limit=limit)
    page = Page(source)
    assert page.token_costs() > 0
    assert len(source) < 200 * max(limit, rows.MAX_ROW_BYTES + rows.SELECTED_BYTES) + 60_000


def test_ticks_of_the_axes() -> None:
    for most in (0.003, 0.04, 0.9, 1, 2.2, 3.9, 4.1, 8, 9.7, 20.0):
        top, ticks = curve._ticks(most)
        assert top >= most
        assert 3 <= len(ticks) <= 6
        assert ticks[-1] == pytest.approx(top)
    for size in (1, 2, 9, 10, 99, 100, 11108, 152089, 10**8):
        offsets = curve._offset_ticks(size)
        assert offsets[0] == 0
        assert offsets[-1] == size
        assert offsets == sorted(set(offsets))
        assert len(offsets) <= 6


def test_predictors() -> None:
    assert explain(b"some text", "cm:1").predictor == "cm:1"
    assert explain(b"some text", order0.Order0(3)).predictor == "order0"
    with pytest.raises(PredictorError, match="unknown predictor"):
        explain(b"x", "nothing")


def test_a_predictor_must_give_a_cost_for_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    for costs in (np.zeros(1), np.full(3, np.nan)):
        monkeypatch.setattr(GivenModel, "score", lambda self, data, progress, costs=costs: costs)
        with pytest.raises(KolmoError, match="no cost for every byte"):
            explain(b"xyz", Given())


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["kolmo.report.explain"], "MAX_CONTENT_BYTES", 10)
    with pytest.raises(KolmoError, match="explain a part"):
        explain(b"x" * 11, "order0")


def spawn(arguments: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return command.spawn([*VERB, *arguments], data)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(PROSE)
    return tmp_path


def test_command(folder: Path) -> None:
    done = spawn(["a.txt"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    page = (folder / "a.txt.html").read_bytes()
    assert page.decode() == explain(PROSE, "order0", name="a.txt").html()
    done = spawn(["a.txt"])
    assert done.returncode == 1
    assert done.stderr == b"kolmo: a.txt.html: already exists; use -f to overwrite it\n"
    done = spawn(["-f", "-v", "--show", "100", "a.txt"])
    assert done.returncode == 0
    assert b"bits per byte" in done.stderr
    assert b"A selection" in (folder / "a.txt.html").read_bytes()
    assert spawn(["-f", "-v", "-q", "a.txt", "-o", "b.html"]).stderr == b""
    assert sorted(os.listdir(folder)) == ["a.txt", "a.txt.html", "b.html"]


def test_streams(folder: Path) -> None:
    for arguments in ([], ["-"], ["-", "-o", "-"]):
        done = spawn(arguments, PROSE)
        assert done.returncode == 0
        assert done.stdout.decode() == explain(PROSE, "order0", name="(stdin)").html()
    assert spawn(["-o", "x.html"], PROSE).stdout == b""
    assert (folder / "x.html").exists()
    assert spawn(["-"]).returncode == 0  # empty


def test_json(folder: Path) -> None:
    done = spawn(["--json", "a.txt"])
    record = json.loads(done.stdout)
    assert done.stderr == b""
    assert os.listdir(folder) == ["a.txt"]
    assert (record["file"], record["output"], record["kind"]) == ("a.txt", None, "text")
    assert record["size"] == len(PROSE)
    assert record["archive_size"] == len(kolmo.compress(PROSE, predictor="order0"))
    assert record["bits"] == pytest.approx(sum(line["bits"] for line in record["lines"]), abs=0.1)
    assert [line["line"] for line in record["lines"]] == list(range(1, len(record["lines"]) + 1))
    done = spawn(["--json", "a.txt", "-o", "p.html"])
    assert json.loads(done.stdout)["output"] == "p.html"
    assert (folder / "p.html").exists()
    assert json.loads(spawn(["--json"], BINARY).stdout)["kind"] == "binary"
    assert "no such file" in json.loads(spawn(["--json", "none"]).stdout)["error"].lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], b"none: No such file or directory; check the name"),
        (["."], b".: is a folder; name a file in it"),
        (["a.txt", "-f", "-o", "a.txt"], b"a.txt: input and output are the same file; choose another with -o"),
        (["a.txt", "-o", "missing/x.html"], b"missing"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: list[str], message: bytes) -> None:
    done = spawn(arguments)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"kolmo: ")
    assert message in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert os.listdir(folder) == ["a.txt"]
    assert (folder / "a.txt").read_bytes() == PROSE


@pytest.mark.parametrize(
    "arguments", [["-5", "a.txt"], ["--show", "0", "a.txt"], ["a.txt", "b.txt"], ["--json", "-o", "-", "a.txt"]]
)
def test_usage_errors(arguments: list[str]) -> None:
    done = spawn(arguments)
    assert done.returncode == 2
    assert b"Usage:" in done.stderr
    assert b"Traceback" not in done.stderr


def test_terminal(folder: Path) -> None:
    status, screen = command.on_terminal([*VERB, "-"], stdin=subprocess.DEVNULL)
    assert status == 1
    assert b"(stdout): is a terminal, no place for a page" in screen
