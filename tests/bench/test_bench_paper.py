"""`kolmo bench paper`: the rules of counting by hand, what does not come back, resumption, the command."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kolmo.bench.paper import codecs
from kolmo.bench.paper import run as running
from kolmo.bench.paper.cells import Ask, Figure, measure
from kolmo.bench.paper.codecs import Codec, Functions, classical, codecs_of, torn_width
from kolmo.bench.paper.positions import Curve, edges
from kolmo.bench.paper.published import ROWS, carried_over
from kolmo.bench.paper.run import bench_paper
from kolmo.bench.paper.versions import fingerprint
from kolmo.cli import group
from kolmo.codec.blocks import encode_block
from kolmo.errors import KolmoError
from kolmo.modalities import chunks as modalities
from kolmo.modalities.chunks import ChunkSet, masked, random_chunks, text_chunks
from kolmo.native.dispatch import SLOW
from kolmo.predictors.registry import resolve
from kolmo.progress import Progress

CHUNKS = (b"the same words again and again. " * 4, b"another chunk, \xe4 little longer. " * 4, b"x" * 128)
TEXT = ChunkSet("text", "here", CHUNKS)


def test_a_classical_header_counts_once() -> None:
    sizes = [len(gzip.compress(chunk, 9, mtime=0)) for chunk in CHUNKS]
    header = len(gzip.compress(b"\0", 9, mtime=0))
    figure = measure(classical()["gzip"], TEXT, Ask(chunked=True, mask=False))
    assert figure.packed == sum(sizes) - 2 * header
    assert figure.raw == sum(map(len, CHUNKS))
    assert figure.compared
    whole = measure(classical()["gzip"], TEXT, Ask(chunked=False, mask=False))
    assert whole.packed == len(gzip.compress(b"".join(CHUNKS), 9, mtime=0))


def test_the_mask_scales_by_the_bits_that_it_drops() -> None:
    kept = [bytes(byte & 127 for byte in chunk) for chunk in CHUNKS]
    lost = sum(byte > 127 for chunk in CHUNKS for byte in chunk)
    assert lost == 4
    bits = 8 * TEXT.size
    sizes = sum(len(gzip.compress(chunk, 9, mtime=0)) for chunk in kept)
    header = len(gzip.compress(b"\0", 9, mtime=0))
    figure = measure(classical()["gzip"], TEXT, Ask(chunked=True, mask=True))
    assert figure.packed == pytest.approx(sizes * bits / (bits - lost) - 2 * header)
    shifted = ChunkSet("images", "here", CHUNKS)
    sizes = sum(len(gzip.compress(bytes(byte >> 1 for byte in chunk), 9, mtime=0)) for chunk in CHUNKS)
    figure = measure(classical()["gzip"], shifted, Ask(chunked=True, mask=True))
    assert figure.packed == pytest.approx(sizes * 8 / 7 - 2 * header)
    assert masked("audio", b"\xff\x00") == (b"\x7f\x00", 2)


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
def test_every_byte_of_a_model_counts() -> None:
    (codec,) = codecs_of(["cm:1"])
    predictor = resolve("cm:1")
    figure = measure(codec, TEXT, Ask(chunked=True, mask=False))
    assert figure.packed == sum(len(encode_block(predictor, chunk)[1]) for chunk in CHUNKS)
    assert figure.model_bytes
    assert figure.adjusted == (figure.packed + figure.model_bytes) / TEXT.size


def test_what_does_not_come_back_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = Functions("liar", "liar", lambda data: data[:5], lambda packed: packed)
    figure = measure(liar, TEXT, Ask(chunked=True, mask=False))
    assert not figure.compared
    monkeypatch.setattr(running, "codecs_of", lambda names: [liar])
    report = bench_paper(compressors=["liar"], text=__file__, chunks=1, symbols=(), images=running.SAMPLES / "pictures")
    assert "WRONG" in report.text()
    assert "liar on text: what came back differs" in report.wrong


def test_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"abcde")
    (tmp_path / "b.txt").write_bytes(b"fghij")
    assert text_chunks(tmp_path, size=4).chunks == (b"abcd", b"efgh")
    assert text_chunks(tmp_path, size=4, most=1).chunks == (b"abcd",)
    with pytest.raises(KolmoError, match="not even one chunk of text"):
        text_chunks(tmp_path, size=11)
    with pytest.raises(KolmoError, match="has no file that ends in"):
        modalities.audio_chunks(tmp_path)
    assert random_chunks(3, seed=2).digest != random_chunks(3, seed=1).digest
    assert torn_width(2048) == 32
    assert torn_width(2048 * 3) == 64


def test_patches_and_samples(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    np = pytest.importorskip("numpy")
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (70, 130, 3), dtype=np.uint8)
    (tmp_path / "a.ppm").write_bytes(b"P6 130 70 255\n" + pixels.tobytes())
    found = modalities.image_chunks(tmp_path).chunks
    grey = (pixels.astype(int).sum(-1) // 3).astype(np.uint8)
    assert len(found) == 4
    assert found[1] == grey[:32, 64:128].tobytes()
    assert found[2] == grey[32:64, :64].tobytes()
    samples = draw.integers(-32768, 32768, 5000, dtype=np.int16)
    samples[:2] = (-32768, 32767)
    soundfile.write(tmp_path / "a.wav", samples, 16000, "PCM_16")
    found = modalities.audio_chunks(tmp_path).chunks
    assert len(found) == 2
    assert found[0] == bytes((int(s) >> 8) + 128 for s in samples[:2048])
    assert found[0][:2] == b"\0\xff"


@pytest.mark.parametrize("name", ["png-torn", "png", "webp", "flac", "zstd", "brotli", "jxl", "lzma2", "bzip2"])
def test_every_codec_gives_back_what_it_got(name: str) -> None:
    known = classical()
    if name not in known:
        pytest.skip(f"{name} needs a package that is not installed")
    for data in (*random_chunks(2).chunks, bytes(2048), b"\0", bytes(range(256)) * 24):
        assert known[name].unpack(known[name].pack(data), len(data)) == data


def needs_samples() -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    pytest.importorskip("soundfile", reason="soundfile is not installed")


def test_figures_are_not_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_samples()
    first = bench_paper(compressors=["gzip"], chunks=2, output=tmp_path, symbols=())
    assert len(first.figures) == 4 * 4
    store = tmp_path / running.STORE
    store.write_text(store.read_text()[:-20])  # a line cut short
    again: list[str] = []

    def counting(codec: Codec, data: ChunkSet, ask: Ask, progress: Progress | None = None) -> Figure:
        again.append(data.modality)
        return measure(codec, data, ask, progress)

    monkeypatch.setattr(running, "measure", counting)
    second = bench_paper(compressors=["gzip"], chunks=2, output=tmp_path, symbols=())
    assert again == ["random"]
    assert [f.packed for f in second.figures] == [f.packed for f in first.figures]
    bench_paper(compressors=["gzip"], chunks=3, output=tmp_path, symbols=())
    assert len(again) == 1 + 16


def test_other_code_gives_other_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(codec: Codec, data: ChunkSet, ask: Ask, progress: Progress | None = None) -> Figure:
        asked.append(codec.key)
        return measure(classical()["gzip"], data, ask, progress)

    monkeypatch.setattr(running, "measure", counting)
    monkeypatch.setattr(running, "curve", lambda codec, data, progress: Curve(codec.label, data.modality, (0,), (8.0,)))

    def bench() -> list[str]:
        asked.clear()
        bench_paper(compressors=["gzip", "cm:1"], only=["random"], chunks=1, output=tmp_path, symbols=())
        return sorted(set(asked))

    assert (bench(), bench()) == (["cm:1", "gzip"], [])
    monkeypatch.setattr(codecs, "code_version", lambda: "other")
    assert (bench(), bench()) == (["cm:1"], [])
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "other")
    assert (bench(), bench()) == (["gzip"], [])


def test_the_version_of_the_code_is_of_names_and_contents(tmp_path: Path) -> None:
    code, other = tmp_path / "coder", tmp_path / "bits.py"
    code.mkdir()
    (code / "a.py").write_text("1")
    (code / "a.pyc").write_text("1")
    other.write_text("2")
    first = fingerprint([code, other])
    (code / "a.pyc").write_text("2")
    assert fingerprint([code, other]) == first
    found = {first}
    (code / "a.py").write_text("2")
    found.add(fingerprint([code, other]))
    (code / "a.py").rename(code / "b.py")
    found.add(fingerprint([code, other]))
    other.write_text("3")
    found.add(fingerprint([code, other]))
    assert len(found) == 4


@pytest.mark.skipif(SLOW, reason="takes a while in NumPy")
def test_curves_are_of_code_lengths(tmp_path: Path) -> None:
    needs_samples()
    assert edges(10) == [0, 1, 2, 4, 8, 10]
    report = bench_paper(compressors=["cm:1", "gzip"], chunks=2, output=tmp_path, symbols=())
    assert {(one.codec, one.modality) for one in report.curves} == {("cm:1", name) for name in modalities.MODALITIES}
    (text,) = (one for one in report.curves if one.modality == "text")
    assert text.places == (0, *(1 << k for k in range(11)))
    (data,) = (one for one in report.sets if one.modality == "text")
    bits = [resolve("cm:1").start(2048).score(chunk) for chunk in data.chunks]
    assert text.bits[-1] == pytest.approx(sum(b[1024:].sum() for b in bits) / 2048, rel=1e-4)
    again = bench_paper(compressors=["cm:1", "gzip"], chunks=2, output=tmp_path, symbols=())
    assert again.curves == report.curves
    assert report.html().count('<polyline class="c0"') == 4
    assert "places.png" in report.files()


def test_reports(tmp_path: Path) -> None:
    needs_samples()
    report = bench_paper(compressors=["gzip", "png"], chunks=2, symbols=())
    rows = list(csv.DictReader(io.StringIO(report.csv())))
    assert len(rows) == 16 + 4  # PNG at its right width is for pictures
    assert {row["compared"] for row in rows} == {"True"}
    assert "| Chinchilla 70B | 8.3 | 48.0 | 21.0 | 100.8 |" in report.markdown()
    gzip_rate = report.figure("gzip", "audio", chunked=True)
    assert gzip_rate is not None
    carried = 21.0 * 100 * gzip_rate.rate / 38.5
    assert carried_over(ROWS[-1], "audio", {"gzip": 100 * gzip_rate.rate}) == pytest.approx((carried, carried))
    assert carried_over(ROWS[-1], "audio", {"other": 1.0}) is None
    assert f"{carried:.1f} |\n" in report.markdown().split("carried over to this data")[1]
    assert "://" not in report.html()
    assert max(map(len, report.text().split("\n"))) <= 80
    assert json.loads(json.dumps(report.record()))["data"][0]["modality"] == "text"
    with pytest.raises(KolmoError, match="named twice"):
        bench_paper(compressors=["gzip", "gzip"], chunks=1)
    (tmp_path / "text").mkdir()
    with pytest.raises(KolmoError, match="images: is not there"):
        bench_paper(compressors=["gzip"], data=tmp_path)


def test_the_command(tmp_path: Path) -> None:
    needs_samples()
    out = tmp_path / "out"
    asked = ["bench", "paper", "--compressors", "gzip", "--chunks", "2", "-o", str(out), "--json", "--vocabularies", ""]
    asked.append("--no-continuations")
    done = CliRunner().invoke(group, asked, standalone_mode=False)
    assert done.return_value == 0
    assert len(json.loads(done.stdout)["figures"]) == 16
    names = {running.STORE, "table.md", "figures.csv", "sizes.csv", "report.html"}
    assert {path.name for path in out.iterdir()} == names
    done = CliRunner().invoke(group, [*asked, "--only", "random,text", "--spread"], standalone_mode=False)
    assert {row["modality"] for row in json.loads(done.stdout)["figures"]} == {"text", "random"}
    for option, value in (("--only", "text,smells"), ("--only", ""), ("--vocabularies", "10"), ("--vocabularies", "x")):
        assert CliRunner().invoke(group, [*asked, option, value]).exit_code == 2
    wrong = CliRunner().invoke(
        group, ["bench", "paper", "--compressors", "nothing:1", "-o", str(out)], standalone_mode=False
    )
    assert wrong.return_value == 1
    assert wrong.stderr.count("\n") == 1
