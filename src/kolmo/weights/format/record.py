"""The record of a shrunk checkpoint (docs/weights-format.md, "The record"): written, read and checked.

What it is not: a reader of tensors. A record is hostile until `Record.parse` has returned; then it fits the header.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from kolmo.errors import CorruptError, FormatError
from kolmo.foreign import quoted, short
from kolmo.hyperfunctions.base import Hyperfunction
from kolmo.safetensors import BYTES, MAX_COUNT, Header, Kind, Place, is_shape, reject_duplicate_keys
from kolmo.weights.format.table import Table, check_references, dump_table, parse_table
from kolmo.weights.sources.dtypes import FLOATS

VERSION = 1
KEY = "kolmo"  # key of the record among the metadata of the safetensors file
CODES = "kolmo.codes"  # name of the tensor that holds all codes
MAX_EXPANSION = 4096  # upper bound on decoded bytes per byte of code
FREE_BYTES = 64 << 20  # decoded size in bytes up to which MAX_EXPANSION does not apply
CHECKSUM_DIGITS = 16  # hexadecimal digits of a tensor's checksum
RECORD_KEYS = ["aliases", "coded", "hyperfunctions", "metadata", "raw", "sha256", "version"]
SECOND_PART = ("base", "scales", "transposed", "wild")  # keys of the last element of an entry
PLACE_BYTES = 8  # length in bytes of the place of a wild weight


@dataclass(frozen=True)
class Coded(Kind):
    """A coded tensor: its dtype and shape, and how its code is stored.

    Attributes:
        columns: number of columns of the matrix that was coded.
        checksum: of the bytes that a reader returns.
        stored: length of the code in bytes.
        by: index of the hyperfunction in the record's table; None if the code is verbatim, the tensor's own bytes.
        base: length in bytes of the lossy base at the start of the code; the rest is the residual that restores the
            exact bytes. 0 if there is none.
        wild: number of weights that are stored at the end of the code, each with its place, because they are far from
            all others or are not finite numbers.
        scales: length in bytes of the scales of rows and columns behind the payload; 0 if there are none.
        transposed: 1 if the payload is that of the transposed matrix, else 0; only where there are scales.
    """

    columns: int
    checksum: str
    stored: int = 0
    by: int | None = None
    base: int = 0
    wild: int = 0
    scales: int = 0
    transposed: int = 0

    @property
    def verbatim(self) -> bool:
        """Whether the code is the tensor's own bytes."""
        return self.by is None

    @property
    def tail(self) -> int:
        """Length in bytes of the wild weights at the end of the code."""
        return self.wild * (PLACE_BYTES + BYTES[self.dtype])

    @property
    def extra(self) -> int:
        """Length in bytes of what follows the payload."""
        return self.scales + self.tail

    @property
    def matrix(self) -> tuple[int, int]:
        """The tensor as a matrix: (rows, columns)."""
        return self.count // self.columns, self.columns

    @property
    def payload_shape(self) -> tuple[int, int]:
        """The shape of the payload: that of the matrix, or of its transpose."""
        return self.matrix[::-1] if self.transposed else self.matrix

    def dump(self) -> list[Any]:
        """The entry, as JSON values."""
        second = {key: value for key in SECOND_PART if (value := getattr(self, key))}
        entry = [self.dtype, self.shape, self.columns, self.stored, self.checksum, self.by]
        return [*entry, second] if second else entry


@dataclass(frozen=True)
class Record:
    """Everything in a shrunk file that is not a tensor.

    Attributes:
        hyperfunctions: the table that the coded tensors refer to.
        coded: the coded tensors by name, in the order of their codes.
        raw: checksums of raw tensors by name; the header has their dtypes and shapes.
        aliases: names of tied tensors, each with the name of the stored one.
        metadata: those of the original file.
    """

    hyperfunctions: Table
    coded: dict[str, Coded]
    raw: dict[str, str]
    aliases: dict[str, str]
    metadata: dict[str, str]

    def function_of(self, one: Coded) -> Hyperfunction | None:
        """The hyperfunction of a coded tensor; None if its code is verbatim."""
        return None if one.by is None else self.hyperfunctions[one.by]

    def dump(self, places: Mapping[str, Place]) -> str:
        """The record as the string that the header's metadata hold."""
        return json.dumps(
            {
                "version": VERSION,
                "hyperfunctions": dump_table(self.hyperfunctions),
                "coded": {name: one.dump() for name, one in self.coded.items()},
                "raw": self.raw,
                "aliases": self.aliases,
                "metadata": self.metadata,
                "sha256": self.content(places),
            },
            separators=(",", ":"),
        )

    def content(self, places: Mapping[str, Place]) -> str:
        """SHA-256 over all tensors as a reader returns them; it does not depend on how they are coded."""
        facts = {}
        for name, one in self.coded.items():
            facts[name] = one.dtype, one.shape, one.checksum
        for name, checksum in self.raw.items():
            facts[name] = places[name].dtype, places[name].shape, checksum
        for name, original in self.aliases.items():
            facts[name] = facts[original]
        whole = hashlib.sha256()
        for name, (dtype, shape, checksum) in sorted(facts.items(), key=lambda item: _utf8(item[0])):
            whole.update(b"%s\t%s\n" % (_utf8(name), f"{dtype}\t{','.join(map(str, shape))}\t{checksum}".encode()))
        return whole.hexdigest()

    @classmethod
    def parse(cls, header: Header, where: str) -> Record:
        """The record of a file.

        Args:
            header: the file's header.
            where: the file, for errors.

        Raises:
            FormatError: the file has no record, or it needs a later version of kolmo.
            CorruptError: the record contradicts itself or the header.
        """
        if KEY not in header.metadata:
            raise FormatError(f"{where}: is not a checkpoint that kolmo shrank; make one with kolmo shrink")
        try:
            found = json.loads(header.metadata[KEY], object_pairs_hook=reject_duplicate_keys)
        except (ValueError, RecursionError) as error:
            _corrupt(where, f"its record is not JSON ({error})")
        version = found.get("version") if isinstance(found, dict) else None
        if type(version) is not int or version < 1:
            _corrupt(where, "its record has no version")
        if version > VERSION:
            raise FormatError(f"{where}: has version {version}, but this kolmo reads {VERSION}; install a newer one")
        if sorted(found) != RECORD_KEYS:
            _corrupt(where, f"its record has the keys {short(', '.join(sorted(found)), 120)}")
        for key in ("raw", "aliases", "metadata"):
            if not isinstance(found[key], dict) or not all(isinstance(value, str) for value in found[key].values()):
                _corrupt(where, f"its record's {key} are not strings by name")
        if not isinstance(found["coded"], dict):
            _corrupt(where, "its record's coded tensors are not an object")
        coded = {name: _parse_coded(where, name, entry) for name, entry in found["coded"].items()}
        try:
            table = parse_table(where, found["hyperfunctions"], len(coded))
            check_references(table, (one.by for one in coded.values()))
        except ValueError as error:
            _corrupt(where, f"its record contradicts itself: {error}")
        record = cls(table, coded, found["raw"], found["aliases"], found["metadata"])
        record._check(header, where)
        if record.content(header.places) != found["sha256"]:
            _corrupt(where, "the hash of its record differs")
        return record

    def _check(self, header: Header, where: str) -> None:
        """Check the record against the places in the header."""
        codes = {CODES} if self.coded else set()
        stored = {*self.coded, *self.raw}
        if len(stored) != len(self.coded) + len(self.raw) or stored & set(self.aliases) or codes & set(self.raw):
            _corrupt(where, "a tensor is there twice")
        if different := {*codes, *self.raw} ^ set(header.places):
            _corrupt(where, f"record and header differ in tensor {quoted(min(different))}")
        for name, checksum in self.raw.items():
            if not _is_checksum(checksum):
                _corrupt(where, f"the checksum of tensor {quoted(name)} is malformed")
        for name, original in self.aliases.items():
            if original not in stored:
                _corrupt(where, f"tensor {quoted(name)} is tied to {quoted(original)}, which is not there")
        for name, one in self.coded.items():
            if one.stored < 1 or (one.verbatim and one.stored != one.size):
                _corrupt(where, f"the code of tensor {quoted(name)} has an impossible length")
            if one.wild > one.count or one.extra >= one.stored:
                _corrupt(where, f"the code of tensor {quoted(name)} is too short for its scales or its wild weights")
            function = self.function_of(one)
            if one.base and (one.base >= one.stored or function is None or function.name != "trellis"):
                _corrupt(where, f"the code of tensor {quoted(name)} cannot have this base")
        total = sum(one.stored for one in self.coded.values())
        if codes and ((place := header.places[CODES]).dtype, place.shape) != ("U8", (total,)):
            _corrupt(
                where,
                f"its codes have {total} bytes, but {CODES!r} is {place.dtype} of shape {list(place.shape)}",
            )
        check_expansion(where, sum(one.count for one in self.coded.values() if not one.verbatim), total)


def check_expansion(where: str, weights: int, size: int) -> None:
    """Refuse more weights than codes of `size` bytes may hold.

    Raises:
        FormatError: there are more than the format allows.
    """
    if 4 * weights > max(MAX_EXPANSION * size, FREE_BYTES):
        raise FormatError(f"{where}: {weights} weights in {size} bytes of codes are more than the format allows")


def _parse_coded(where: str, name: str, entry: Any) -> Coded:
    shown = f"tensor {quoted(name)}"
    if not isinstance(entry, list) or not 6 <= len(entry) <= 7:
        _corrupt(where, f"{shown} does not have a dtype, shape, columns, length, checksum and hyperfunction")
    dtype, shape, columns, stored, checksum, by = entry[:6]
    if dtype not in FLOATS or not is_shape(shape) or not is_shape([stored]):
        _corrupt(where, f"{shown} has an impossible dtype, shape or length")
    if type(columns) is not int or columns < 1 or not prod(shape) or prod(shape) % columns:
        _corrupt(where, f"{shown} has {quoted(columns, 20)} columns, which do not divide it")
    if not _is_checksum(checksum):
        _corrupt(where, f"the checksum of {shown} is malformed")
    if by is not None and not (type(by) is int and by >= 0):
        _corrupt(where, f"{shown} refers to hyperfunction {quoted(by, 20)}, which is not an index")
    second = entry[6] if len(entry) == 7 else {}
    if len(entry) == 7 and (by is None or not _is_second_part(second)):
        _corrupt(where, f"the second part of the code of {shown} is malformed")
    return Coded(dtype, tuple(shape), columns, checksum, stored, by, **second)


def _is_second_part(value: Any) -> bool:
    """Whether the last element of an entry has lengths of a base alone, or of scales and wild weights."""
    if not isinstance(value, dict) or not value or not value.keys() <= set(SECOND_PART):
        return False
    if ("base" in value and len(value) > 1) or ("transposed" in value and "scales" not in value):
        return False
    return value.get("transposed", 1) == 1 and all(
        type(number) is int and 0 < number < MAX_COUNT for number in value.values()
    )


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{CHECKSUM_DIGITS}}}", value) is not None


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # JSON can escape what UTF-8 cannot hold


def _corrupt(where: str, what: str) -> NoReturn:
    raise CorruptError(f"{where}: is damaged: {what}; get it again", 0)
