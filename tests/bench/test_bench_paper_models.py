"""`kolmo bench paper` with models: training in the tables, Transformers in lanes, the U, vocabularies."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from kolmo.bench.paper import sizes, vocabularies
from kolmo.bench.paper.cells import Ask, Figure, measure
from kolmo.bench.paper.codecs import Tokenised, codecs_of
from kolmo.bench.paper.drawing.canvas import Canvas, Dot, Line, Words, png
from kolmo.bench.paper.drawing.panel import Panel, legend
from kolmo.bench.paper.facts import ModelFacts, facts_of
from kolmo.bench.paper.report import PaperReport
from kolmo.bench.paper.run import SAMPLES, bench_paper
from kolmo.bench.paper.sizes import NO_MODEL, SHIPPED, SHRUNK, TWO_BYTES, Weighed, optimum, weigh
from kolmo.errors import KolmoError
from kolmo.modalities.chunks import ChunkSet, parted, text_chunks
from kolmo.predictors.registry import resolve

TRAINING = {
    **{"model": "transformer-200k", "vocabulary": 256, "texts": ["notes.txt"], "steps": 40, "bytes": 1_310_720},
    **{"bytes_before": 0, "lanes": 16, "window": 2048, "seconds": 600.0},
}


def figure(codec: str, packed: float, model_bytes: int | None = 0, modality: str = "text") -> Figure:
    return Figure(codec, modality, True, False, 1000, packed, model_bytes, True, 0, 0)


# Rates against model and data size


def test_the_u_by_hand() -> None:
    figures = [figure("gzip", 500), figure("xz", 450), figure("small", 300), figure("large", 200)]
    figures += [figure("large, shrunk", 210, 60_000), figure("small", 300, modality="random")]
    facts = {
        "small": ModelFacts("small", 5_000, 12_000, 2_000, small=True),
        "large": ModelFacts("large", 100_000, 400_000, 0),
        "large, shrunk": ModelFacts("large", None, 60_000, 0),
    }
    found = weigh(figures, facts, {"large": "large, shrunk"})
    assert {(one.codec, one.counting): (one.model_bytes, one.rate) for one in found} == {
        ("xz", NO_MODEL): (0, 0.45),
        ("small", TWO_BYTES): (2 * 5_000 + 2_000, 0.3),
        ("small", SHIPPED): (12_000, 0.3),
        ("small", SHRUNK): (12_000, 0.3),
        ("large", TWO_BYTES): (200_000, 0.2),
        ("large", SHIPPED): (400_000, 0.2),
        ("large", SHRUNK): (60_000, 0.21),
    }
    groups = {counting: entries for _, counting, entries in sizes.groups(found)}
    # At 10^5 bytes small: 0.3 + 12,000 / 100,000 = 0.42 < 0.45; at 10^6 large: 0.21 + 0.06 = 0.27 < 0.312.
    best = {counting: [optimum(entries, 10**k).codec for k in range(4, 8)] for counting, entries in groups.items()}
    assert best == {
        TWO_BYTES: ["xz", "small", "small", "large"],  # at 10^6 large: 0.2 + 0.2
        SHIPPED: ["xz", "small", "small", "large"],
        SHRUNK: ["xz", "small", "large", "large"],
    }
    title, head, rows = next(table for table in sizes.full_tables(found) if SHRUNK in table[0])
    assert title == "Adjusted rate of text, a model counted as small weights"
    assert head[:4] == ("", "model bytes", "rate", "10^4 bytes")
    assert rows[1] == ["small", "12,000", "30.0", "150.0", "42.0*", "31.2", "30.1", "30.0", "30.0"]
    assert rows[2] == ["large", "60,000", "21.0", "621.0", "81.0", "27.0*", "21.6*", "21.1*", "21.0*"]
    panels, labels = sizes.draw(found, {"text": 10**6})
    assert len(panels) == 3
    assert len(labels) == len(sizes.SIZES)
    svg = panels[0].svg()
    assert svg.count('class="c0 hollow"') == 1  # an optimum for each amount of data
    assert 0 < svg.count("stroke-dasharray") < svg.count("<polyline")


def test_a_wrong_figure_is_not_weighed() -> None:
    wrong = Figure("a", "text", True, False, 1000, 1.0, 0, False, 0, 0)
    assert weigh([wrong, figure("gzip", 500)], {"a": ModelFacts("a", 1, 1)}, {}) == [
        Weighed("gzip", "text", NO_MODEL, 0, 0.5)
    ]


def test_small_networks_of_the_package_are_not_listed_twice() -> None:
    facts = {"cm:4": ModelFacts("cm:4", 0, 300, 300, small=True)}
    found = weigh([figure("cm:4", 400)], facts, {})
    assert [counting for _, counting, _ in sizes.groups(found)] == [TWO_BYTES, SHIPPED]


# Vocabularies


def test_text_by_vocabulary() -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed; pip install 'kolmo-codelength[hf]'")
    chunks = text_chunks(SAMPLES / "paradise-lost.txt", most=16)
    learned, text = vocabularies.texts_of(chunks, b"")
    assert (learned, text) == (b"".join(chunks.chunks[:8]), b"".join(chunks.chunks[8:]))
    assert vocabularies.texts_of(chunks, bytes(chunks.size)) == (bytes(chunks.size), chunks.joined)
    content = vocabularies.learn(learned, 1000)
    assert len(content["model"]["vocab"]) == 1000
    beginning = vocabularies.beginning(content, 400)
    alone = vocabularies.beginning(vocabularies.learn(learned, 400), 400)
    assert [beginning.bytes_of(k) for k in range(400)] == [alone.bytes_of(k) for k in range(400)]
    small, large = (vocabularies.measure(text, vocabularies.beginning(content, size)) for size in (400, 1000))
    assert small.compared
    assert large.compared
    assert len(beginning.tokenise(text).ids) == small.tokens
    assert len(text) > small.tokens > large.tokens
    plain = vocabularies.measure_bytes(text, wide=False)
    assert plain.compared
    assert plain.rate < small.rate  # shorter sequences are not always smaller
    facts: dict[str, ModelFacts] = {}
    assert vocabularies.draw([plain, small, large], facts)[0][0].svg().count("<polyline") > 2
    rows = next(iter(vocabularies.tables([plain, small])))[2]
    assert rows[1][:3] == [vocabularies.CODER, "400", f"{small.tokens:,}"]
    assert rows[1][5] == f"{100 * (small.packed + small.vocabulary_bytes) / len(text):.1f}"


def test_vocabularies_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed; pip install 'kolmo-codelength[hf]'")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    given: dict[str, Any] = {"compressors": ["gzip"], "chunks": 2, "output": tmp_path, "symbols": (300, 500)}
    first = bench_paper(**given)
    assert [one.vocabulary for one in first.points] == [256, 256, 300, 500]
    monkeypatch.setattr(vocabularies, "learn", None)
    assert bench_paper(**given).points == first.points
    files = first.files()
    assert {"vocabularies.csv", "vocabularies.png", "sizes.csv"} <= set(files)
    assert len(list(csv.DictReader(io.StringIO(files["vocabularies.csv"].decode())))) == 4
    assert "Text by vocabulary" in first.text()
    assert "Rate of the text by vocabulary" in first.html()


# Models in folders


def folder_of_a_transformer(folder: Path, training: dict[str, object] | None) -> str:
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'kolmo-codelength[train]'")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from kolmo.training.networks.transformer import Transformer, TransformerShape
    from kolmo.training.products.transformers_folder import export

    torch.manual_seed(1)
    model = Transformer(TransformerShape(1, 32, 4, 64, "rotary"))
    model.head.data.normal_()
    export(model, folder, None, training)
    return f"hf:{folder}"


def test_a_transformer_is_the_same_in_transformers(tmp_path: Path) -> None:
    folder_of_a_transformer(tmp_path, None)
    import torch
    from transformers import AutoModelForCausalLM

    from kolmo.training.networks.transformer import Transformer, TransformerShape

    torch.manual_seed(1)
    model = Transformer(TransformerShape(1, 32, 4, 64, "rotary"))
    model.head.data.normal_()
    symbols = torch.arange(120).view(2, 60) * 7 % 256
    with torch.no_grad():
        other = AutoModelForCausalLM.from_pretrained(tmp_path)(symbols).logits
        mine = model(symbols.T, symbols, None).transpose(0, 1)
        model.waves = model.waves[:1].repeat(64, 1)  # all at the first position
        plain = model(symbols.T, symbols, None).transpose(0, 1)
    assert float((mine - other).abs().max()) < 1e-4
    assert float((mine - plain).abs().max()) > 0.1


def test_lanes_give_what_chunks_alone_give(tmp_path: Path) -> None:
    (codec,) = codecs_of([folder_of_a_transformer(tmp_path, TRAINING)])
    assert isinstance(codec, Tokenised)
    contents = [b"some words of text, ", b"\xff\x00\x80 bytes", b"x", bytes(range(200))]
    packed = codec.pack_all(contents)
    assert codec.unpack_all(packed, [len(one) for one in contents]) == contents
    assert all(abs(len(codec.pack(data)) - len(one)) <= 1 for data, one in zip(contents, packed, strict=True))
    assert sum(map(len, packed)) > sum(map(len, contents))  # nothing is stored as it is
    data = ChunkSet("text", "here", tuple(data[:12].ljust(12) for data in contents))
    assert measure(codec, data, Ask(chunked=True, mask=True)).compared
    damaged = [bytes(reversed(packed[0])), *packed[1:]]
    assert codec.unpack_all(damaged, [len(one) for one in contents]) != contents


def test_training_is_in_the_tables(tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    trained = folder_of_a_transformer(tmp_path / "a", TRAINING)
    fresh = folder_of_a_transformer(tmp_path / "b", {**TRAINING, "steps": 0, "bytes": 0})
    other = folder_of_a_transformer(tmp_path / "c", None)
    labels = [codec.label for codec in codecs_of([trained, fresh, other])]
    assert labels == ["Transformer 200K, 1.3 MB", "Transformer 200K, untrained", other]
    facts = facts_of(trained, resolve(trained))
    assert facts.training == "40 steps of 16 x 2048, 1.3 MB of notes.txt, 10 min"
    files = [path for path in (tmp_path / "a").iterdir() if path.name != "training.json"]
    assert facts.shipped == sum(path.stat().st_size for path in files)
    assert facts.parameters == 2 * 256 * 32 + 12 * 32 * 32 + (4 + 1 + 2 + 2 + 2) * 32
    assert facts_of(other, resolve(other)).training == "training not stated"
    (tmp_path / "b" / "training.json").write_text(json.dumps({**TRAINING, "bytes_before": 10_000_000}))
    assert "11.3 MB of notes.txt" in facts_of(fresh, resolve(fresh)).training
    (tmp_path / "a" / "training.json").write_text("[]")
    with pytest.raises(KolmoError, match=r"training\.json: damaged"):
        facts_of(trained, resolve(trained))
    report = PaperReport((), (), (), tuple(labels), "machine", {labels[0]: facts})
    assert "40 steps of 16 x 2048, 1.3 MB of notes.txt" in report.text()
    assert "40 steps of 16 x 2048, 1.3 MB of notes.txt" in report.html()


def test_shrunk_models_are_measured(tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    from kolmo.weights.shrink import shrink

    spec = folder_of_a_transformer(tmp_path / "a", TRAINING)
    given: dict[str, Any] = {
        "compressors": [spec],
        "chunks": 1,
        "chunk_size": 48,
        "symbols": (),
        "output": tmp_path / "out",
    }
    pictures = SAMPLES / "pictures"
    report = bench_paper(**given, images=pictures, shrink=shrink)
    label = "Transformer 200K, 1.3 MB"
    assert report.codecs == (label, f"{label}, shrunk")
    assert not report.wrong
    small = next(one for one in report.weighed if (one.counting, one.modality) == (SHRUNK, "text"))
    large = next(one for one in report.weighed if (one.counting, one.modality) == (SHIPPED, "text"))
    assert small.codec == large.codec == label
    assert small.model_bytes < large.model_bytes / 2
    cell = report.figure(f"{label}, shrunk", "text", chunked=True)
    assert cell is not None
    assert small.rate == cell.rate
    assert json.loads(json.dumps(report.record()))["models"][0]["training"].startswith("40 steps")
    again = bench_paper(**given, images=pictures, shrink=lambda source, target: pytest.fail("shrunk again"))
    assert again.figures == report.figures


# Parts


def test_chunks_are_spread() -> None:
    every = ChunkSet("text", "here", tuple(bytes([k]) for k in range(10)))
    first, rest = parted(every, 3)
    assert (first.joined, rest) == (b"\0\1\2", bytes(range(3, 10)))
    some, rest = parted(every, 3, spread=True)
    assert (some.joined, rest) == (b"\0\3\6", b"\1\2\4\5\7\x08\x09")
    assert parted(every, 20, spread=True) == (every, b"")


def test_drawings() -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    canvas = Canvas(40, 20, "a & b")
    for item in (Line(((0, 0), (40, 20)), "c1", True), Dot((20, 10), "c0", hollow=True), Words((0, 18), "<i>")):
        canvas.add(item)
    assert "&lt;i&gt;" in canvas.svg()
    assert "a &amp; b" in canvas.svg()
    with pillow.open(io.BytesIO(png([canvas, canvas, canvas]))) as picture:
        assert picture.size == (160, 80)
        colours = {colour for _, colour in picture.getcolors(1 << 16)}
    assert {(0xD5, 0x5E, 0), (0, 0x72, 0xB2), (255, 255, 255)} <= colours
    many = legend((f"model {k}", "c0") for k in range(20))  # more than a panel's height has room for
    assert max(item.at[1] for item in many.items if isinstance(item, Words)) < many.height
    panel = Panel("a", "b", [(1.0, "1")], [(0.0, "0")]).draw()
    with pillow.open(io.BytesIO(png([panel, panel, legend([("one", "c0")])]))) as picture:
        assert picture.height < 2 * 2 * panel.height
    with pillow.open(io.BytesIO(png([panel, many]))) as picture:
        assert picture.height == 2 * many.height
