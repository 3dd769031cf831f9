"""Which tar files of sources the archive has: arXiv_src_manifest.xml, or the names in a folder without one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kolmo.collection.arxiv.ids import is_month, month_of
from kolmo.collection.arxiv.xml_trees import parse_xml, text_of
from kolmo.errors import KolmoError
from kolmo.foreign import quoted

MANIFEST = "src/arXiv_src_manifest.xml"  # within the archive
TAR_NAME = re.compile(r"(?:src/)?arXiv_src_(\d{4})_(\d{3,6})\.tar", re.ASCII)
MD5 = re.compile(r"[0-9a-f]{32}")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True)
class SourceTar:
    """One tar file of papers.

    Attributes:
        filename: within the archive, such as "src/arXiv_src_2610_001.tar".
        yymm: the month of its papers.
        sequence: its number within the month.
        size: bytes; None where nobody says.
        md5: of the file, in hexadecimal; "" where nobody says.
        items: how many papers it has; None where nobody says.
        packed: the day on which it was made, "YYYY-MM-DD"; "" where nobody says.
    """

    filename: str
    yymm: str
    sequence: int
    size: int | None = None
    md5: str = ""
    items: int | None = None
    packed: str = ""

    @property
    def month(self) -> int:
        """Months since the year 0."""
        return month_of(self.yymm)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of_name(cls, filename: str, size: int | None = None) -> SourceTar | None:
        """The tar file of a name; None if it is not named like one."""
        match = TAR_NAME.fullmatch(filename)
        if match is None or not is_month(match[1]):
            return None
        return cls(filename, match[1], int(match[2]), size)


def parse_source_list(data: bytes, where: str) -> list[SourceTar]:
    """The tar files of a manifest, oldest month first; a file that it names twice is there once, as named last.

    Args:
        data: the XML.
        where: its name, for errors.

    Raises:
        KolmoError: it is not such a manifest, or names a file outside the archive.
    """
    root = parse_xml(data, where)
    found: dict[str, SourceTar] = {}
    for element in root.iter("file"):
        filename = text_of(element, "filename")
        tar = SourceTar.of_name(filename)
        if tar is None:
            raise KolmoError(f"{where}: names {quoted(filename)}, which is not a tar file of sources; fetch it again")
        md5, packed = text_of(element, "md5sum").lower(), text_of(element, "timestamp")[:10]
        found[filename] = SourceTar(
            filename,
            tar.yymm,
            tar.sequence,
            _count(text_of(element, "size")),
            md5 if MD5.fullmatch(md5) else "",
            _count(text_of(element, "num_items")),
            packed if DAY.fullmatch(packed) else "",
        )
    if not found:
        raise KolmoError(f"{where}: names no tar file; it is not the manifest of arXiv's sources")
    return in_order(found.values())


def in_order(tars: Iterable[SourceTar]) -> list[SourceTar]:
    """By time, 1991 first: 9107 comes before 0001, though its digits are greater."""
    return sorted(tars, key=lambda tar: (tar.month, tar.sequence, tar.filename))


def tar_of(record: Mapping[str, Any]) -> SourceTar:
    """The inverse of `SourceTar.record`."""
    return SourceTar(**record)


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
