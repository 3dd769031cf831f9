"""What a paper's source is, tar files in bounded memory, encodings."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
from arxiv_made import packed, tar_of
from hypothesis import given
from hypothesis import strategies as st

from kolmo.collection.arxiv import unpacking
from kolmo.collection.arxiv.encodings import decode
from kolmo.collection.arxiv.tar_members import FileReader, TarError, TarMembers
from kolmo.collection.arxiv.unpacking import UnusableError, safe_path, unpack


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self.file.read(size)

    def skip(self, size: int, /) -> int:
        return len(self.file.read(size))


def files_of(data: bytes) -> dict[str, bytes]:
    return unpack(Bytes(data), "one.tex").files


def why(data: bytes) -> str:
    with pytest.raises(UnusableError) as error:
        unpack(Bytes(data), "one.tex")
    return error.value.why


def test_a_single_file_is_kept_whatever_its_words_are() -> None:
    """libmagic calls such files text/plain, and the original deletes them."""
    plain = b"A note on primes.\nIt has no command of TeX."
    assert files_of(packed(plain)) == {"one.tex": plain}
    assert files_of(plain) == {"one.tex": plain}  # not compressed at all
    assert files_of(gzip.compress(packed(plain))) == {"one.tex": plain}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed(b"%PDF-1.7\n..."), "PDF only"),
        (packed(b"%!PS-Adobe-2.0"), "PostScript only"),
        (packed(b"<!DOCTYPE html><html>"), "HTML only"),
        (packed(b"PK\x03\x04" + bytes(100)), "zip or DOCX only"),
        (packed(b"a\0b"), "not text"),
        (packed(b" \n"), "empty"),
        (b"", "empty"),
        (packed(b"\\section{A}" * 500)[:-20], "damaged gzip"),
        (b"\x1f\x8b" + b"x" * 100, "damaged gzip"),
        (packed({"a.tex": b"x" * 5000})[:-20], "damaged gzip"),
        (gzip.compress(tar_of({"a.tex": b"x" * 5000})[:3000]), "damaged tar"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_are_told_by_their_bytes(data: bytes, reason: str) -> None:
    assert why(data) == reason


def test_a_flipped_bit_is_noticed() -> None:
    data = bytearray(packed({"a.tex": b"text of a paper " * 500}))
    data[len(data) // 2] ^= 4
    assert why(bytes(data)) in ("damaged gzip", "damaged tar")


def test_styles_figures_and_hidden_files_are_left_out() -> None:
    found = unpack(Bytes(packed({"a.tex": b"A", "b.sty": b"B", "c.CLS": b"C", "d.pdf": b"D", "._a.tex": b"E"})), "x")
    assert found.files == {"a.tex": b"A"}
    assert found.tallies["style file left out"] == 2


def test_no_path_and_no_link_leaves_the_folder() -> None:
    link = tarfile.TarInfo("link.tex")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("hard.tex")
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../etc/passwd"
    names = {"../up.tex": b"1", "/root.tex": b"2", "a/../../b.tex": b"3", "a/./b/../c.tex": b"4", "..": b"5"}
    found = unpack(Bytes(gzip.compress(tar_of(names, link, hard))), "x")
    assert found.files == {"a/c.tex": b"4"}
    assert found.tallies["path outside the paper's folder left out"] == 4
    assert found.tallies["link or device left out"] == 2


@given(st.text(alphabet="./\\a\0", max_size=12))
def test_safe_paths_stay_inside(name: str) -> None:
    path = safe_path(name)
    assert path is None or (not path.startswith("/") and "/../" not in f"/{path}/")


def test_long_names_of_gnu_and_pax_are_read() -> None:
    name = "folder/" * 30 + "main.tex"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            info = tarfile.TarInfo(name if form != tarfile.USTAR_FORMAT else name[35:])
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
            tar.addfile(tarfile.TarInfo("after.tex"))
        files = files_of(gzip.compress(out.getvalue()))
        assert list(files.values()) == [b"abc", b""]
        assert next(iter(files)).endswith("folder/main.tex")


def test_a_bomb_takes_neither_memory_nor_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 64 << 20)
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 20)
    head = tarfile.TarInfo("fig.eps")
    head.size = 1 << 40  # a claim
    bomb = packer.compress(head.tobuf()) + b"".join(packer.compress(zeros) for _ in range(100)) + packer.flush()
    text = gzip.compress(b"x" * (20 << 20))
    tracemalloc.start()
    assert why(bomb) == "too large"
    assert why(text) == "too large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 << 20


def test_a_long_name_is_not_allocated_by_its_claim() -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    assert why(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(4096))) == "damaged tar"


def test_a_tar_file_that_ends_within_a_member_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of({"a": b"x" * 2000, "b": b"y" * 2000})[:4000])
    with path.open("rb") as file:
        members = iter(TarMembers(FileReader(file)))
        assert [next(members).name, next(members).name] == ["a", "b"]
        with pytest.raises(TarError):
            next(members)


@given(st.binary(max_size=3000))
def test_no_bytes_do_harm(data: bytes) -> None:
    for source in (data, gzip.compress(data), tar_of({"a.tex": b"A"})[:512] + data):
        try:
            unpack(Bytes(source), "one.tex")
        except UnusableError as error:
            assert error.why  # noqa: PT017 -- either outcome is right


FRENCH = "Soit $X$ une variété compacte. Nous démontrons le théorème de Poincaré à l'aide d'une méthode élémentaire."


@pytest.mark.parametrize(
    ("text", "codec", "how"),
    [
        (FRENCH, "utf-8", "utf-8"),
        (FRENCH, "latin-1", "latin-1"),
        (FRENCH.replace("'", "\u2019") + " — “voilà”", "cp1252", "guessed"),
        ("Le théorème de Poincaré : une variété fermée, méthode élémentaire", "mac-roman", "guessed"),
        ("Пусть дано многообразие, тогда по теореме существует отображение", "koi8-r", "guessed"),
        ("Пусть дано многообразие, тогда по теореме существует отображение", "cp1251", "guessed"),
        ("\\usepackage[latin2]{inputenc} Paul Erdős", "iso8859-2", "declared"),
        ("\\usepackage[ansinew]{inputenc} “Gödel”", "cp1252", "declared"),
    ],
)
def test_encodings(text: str, codec: str, how: str) -> None:
    found = decode(text.encode(codec))
    assert (found.text, found.encoding, found.how) == (text, codec, how)


def test_each_file_has_its_own_encoding_and_the_main_file_may_hint() -> None:
    assert decode("é".encode("cp1250"), "cp1250").how == "declared"
    assert decode("é".encode(), "cp1250").how == "utf-8"
    assert decode(b"%\\usepackage[latin2]{inputenc}\n\xf5").encoding == "latin-1"  # a comment declares nothing


@given(st.binary(max_size=400))
def test_all_bytes_have_a_text(data: bytes) -> None:
    found = decode(data)
    found.text.encode()
    assert "\r" not in found.text
    assert "\0" not in found.text
