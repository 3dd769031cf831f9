"""What a shrunk checkpoint says of itself (docs/weights-format.md, "The record"): written, read and checked.

What it is not: it reads no tensor. A record is hostile until `Record.parse` has returned; then it fits the header.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from kolmo.errors import CorruptError, FormatError, KolmoError
from kolmo.foreign import quoted, short
from kolmo.hyperfunctions.base import Hyperfunction, restore
from kolmo.safetensors import BYTES, MAX_COUNT, Header, Kind, Place, is_shape, reject_duplicate_keys
from kolmo.weights.sources.dtypes import FLOATS

VERSION = 1
KEY, CODES = "kolmo", "kolmo.codes"  # of the metadata; the tensor that holds all codes
EXPANSION, FREE = 4096, 64 << 20  # bytes decoded for each byte of code; what any file may take
DIGEST = 16  # hexadecimal digits
KEYS = ["aliases", "coded", "hyperfunctions", "metadata", "raw", "sha256", "version"]
WAYS = {"by", "base", "verbatim", "wild"}  # of a coded tensor, in the last element of its entry
PLACE_BYTES = 8  # of a wild weight's place


@dataclass(frozen=True)
class Coded(Kind):
    """A coded tensor: what comes back, the columns it was coded with, and its digest.

    Attributes:
        stored: bytes of its code.
        verbatim: its code is its own bytes.
        base: of its code, so many bytes are a base, and all others a residual, with which come the exact bytes; or 0.
        wild: so many of its weights are at the end of its code, each with its place, as they are.
        by: which of the record's hyperfunctions it is a payload of.
    """

    columns: int
    digest: str
    stored: int = 0
    verbatim: bool = False
    base: int = 0
    wild: int = 0
    by: int = 0

    @property
    def tail(self) -> int:
        """Bytes of the wild weights at the end of its code."""
        return self.wild * (PLACE_BYTES + BYTES[self.dtype])

    def way(self) -> dict[str, Any]:
        """What its entry says of how it is stored; nothing of a payload of the first hyperfunction."""
        ways = {"by": self.by, "base": self.base, "wild": self.wild, "verbatim": self.verbatim}
        return {key: value for key, value in ways.items() if value}

    @property
    def matrix(self) -> tuple[int, int]:
        """The shape that was coded."""
        return self.count // self.columns, self.columns


@dataclass(frozen=True)
class Record:
    """All that is not a tensor. `raw` has digests; dtypes and shapes of these are the header's.

    Each coded tensor names one of the hyperfunctions; the first is that of most of them.
    """

    hyperfunctions: tuple[Hyperfunction, ...]
    coded: dict[str, Coded]
    raw: dict[str, str]
    aliases: dict[str, str]
    metadata: dict[str, str]

    @property
    def hyperfunction(self) -> Hyperfunction:
        """The first."""
        return self.hyperfunctions[0]

    def function_of(self, one: Coded) -> Hyperfunction:
        """That of a coded tensor."""
        return self.hyperfunctions[one.by]

    def dump(self, places: Mapping[str, Place]) -> str:
        """As the header's metadata have it."""
        coded = {}
        for name, one in self.coded.items():
            way = [way] if (way := one.way()) else []
            coded[name] = [one.dtype, one.shape, one.columns, one.stored, one.digest, *way]
        return json.dumps(
            {
                "version": VERSION,
                "hyperfunctions": [
                    {"name": one.name, "version": one.version, "parameters": one.parameters}
                    for one in self.hyperfunctions
                ],
                "coded": coded,
                "raw": self.raw,
                "aliases": self.aliases,
                "metadata": self.metadata,
                "sha256": self.content(places),
            },
            separators=(",", ":"),
        )

    def content(self, places: Mapping[str, Place]) -> str:
        """SHA-256 over all tensors as they come back."""
        lines = {}
        for name, one in self.coded.items():
            lines[name] = one.dtype, one.shape, one.digest
        for name, digest in self.raw.items():
            lines[name] = places[name].dtype, places[name].shape, digest
        for name, original in self.aliases.items():
            lines[name] = lines[original]
        whole = hashlib.sha256()
        for name, (dtype, shape, digest) in sorted(lines.items(), key=lambda item: _bytes(item[0])):
            whole.update(b"%s\t%s\n" % (_bytes(name), f"{dtype}\t{','.join(map(str, shape))}\t{digest}".encode()))
        return whole.hexdigest()

    @classmethod
    def parse(cls, header: Header, where: str) -> Record:
        """The record of a file.

        Raises:
            FormatError: the file has none, or one of a later version.
            CorruptError: it contradicts itself or the header.
        """
        if KEY not in header.metadata:
            raise FormatError(f"{where}: is no checkpoint that kolmo shrank; make one with kolmo shrink")
        try:
            found = json.loads(header.metadata[KEY], object_pairs_hook=reject_duplicate_keys)
        except (ValueError, RecursionError) as error:
            _corrupt(where, f"its record is no JSON ({error})")
        version = found.get("version") if isinstance(found, dict) else None
        if type(version) is not int or version < 1:
            _corrupt(where, "its record has no version")
        if version > VERSION:
            raise FormatError(f"{where}: is of version {version}, and this kolmo knows {VERSION}; install a newer one")
        if sorted(found) != KEYS:
            _corrupt(where, f"its record has the keys {short(', '.join(sorted(found)), 120)}")
        for key in ("raw", "aliases", "metadata"):
            if not isinstance(found[key], dict) or not all(isinstance(value, str) for value in found[key].values()):
                _corrupt(where, f"its record's {key} are not strings by name")
        if not isinstance(found["coded"], dict):
            _corrupt(where, "its record's coded tensors are no object")
        coded = {name: _coded(where, name, entry) for name, entry in found["coded"].items()}
        entries = found["hyperfunctions"]
        if not isinstance(entries, list) or not 1 <= len(entries) <= len(coded) + 1:
            _corrupt(where, "its record names no hyperfunctions, or more than tensors")
        functions = tuple(_hyperfunction(where, entry) for entry in entries)
        record = cls(functions, coded, found["raw"], found["aliases"], found["metadata"])
        record._check(header, where)
        if record.content(header.places) != found["sha256"]:
            _corrupt(where, "the digest of its record differs")
        return record

    def _check(self, header: Header, where: str) -> None:
        """The record against the header's places."""
        codes = {CODES} if self.coded else set()
        stored = {*self.coded, *self.raw}
        if len(stored) != len(self.coded) + len(self.raw) or stored & set(self.aliases) or codes & set(self.raw):
            _corrupt(where, "a tensor is there twice")
        if different := {*codes, *self.raw} ^ set(header.places):
            _corrupt(where, f"record and header differ in tensor {quoted(min(different))}")
        for name, digest in self.raw.items():
            if not _is_hex(digest, DIGEST):
                _corrupt(where, f"the digest of tensor {quoted(name)} is none")
        for name, original in self.aliases.items():
            if original not in stored:
                _corrupt(where, f"tensor {quoted(name)} is tied to {quoted(original)}, which is not there")
        for name, one in self.coded.items():
            if one.stored < 1 or (one.verbatim and one.stored != one.size):
                _corrupt(where, f"the code of tensor {quoted(name)} cannot be one")
            if one.by >= len(self.hyperfunctions) or one.wild > one.count or one.tail >= one.stored:
                _corrupt(where, f"the code of tensor {quoted(name)} is of a hyperfunction or a size that cannot be")
            if one.base and (one.base >= one.stored or self.function_of(one).name != "trellis"):
                _corrupt(where, f"the base of tensor {quoted(name)} cannot be one")
        total = sum(one.stored for one in self.coded.values())
        if codes and ((place := header.places[CODES]).dtype, place.shape) != ("U8", (total,)):
            _corrupt(
                where, f"its codes take {total} bytes, and {CODES!r} is {place.dtype} of shape {list(place.shape)}"
            )
        check_expansion(where, sum(one.count for one in self.coded.values() if not one.verbatim), total)


def check_expansion(where: str, weights: int, size: int) -> None:
    """Refuse so many weights of so few bytes of codes.

    Raises:
        FormatError: they are more than the format allows.
    """
    if 4 * weights > max(EXPANSION * size, FREE):
        raise FormatError(f"{where}: {weights} weights would be coded in {size} bytes, which no reader takes for sound")


def _coded(where: str, name: str, entry: Any) -> Coded:
    shown = f"tensor {quoted(name)}"
    if not isinstance(entry, list) or not 5 <= len(entry) <= 6:
        _corrupt(where, f"{shown} has no dtype, shape, columns, size and digest, or has more")
    dtype, shape, columns, stored, digest, way = [*entry, {}][:6]
    if dtype not in FLOATS or not is_shape(shape) or not is_shape([stored]) or not _is_way(way):
        _corrupt(where, f"{shown} has a dtype, a shape, a size or a way to be stored that cannot be")
    if type(columns) is not int or columns < 1 or not prod(shape) or prod(shape) % columns:
        _corrupt(where, f"{shown} has {quoted(columns, 20)} columns, which do not divide it")
    if not _is_hex(digest, DIGEST):
        _corrupt(where, f"the digest of {shown} is none")
    return Coded(dtype, tuple(shape), columns, digest, stored, **way)


def _is_way(way: Any) -> bool:
    """Whether an entry's last element says what can be: bytes exact or verbatim, or a payload with wild weights."""
    if not isinstance(way, dict) or not way.keys() <= WAYS or ("verbatim" in way and len(way) > 1):
        return False
    numbers = [value for key, value in way.items() if key != "verbatim"]
    sound = all(type(n) is int and 0 < n < MAX_COUNT for n in numbers) and way.get("verbatim", True) is True
    return sound and not {"base", "wild"} <= way.keys()


def _hyperfunction(where: str, entry: Any) -> Hyperfunction:
    if not isinstance(entry, dict) or sorted(entry) != ["name", "parameters", "version"]:
        _corrupt(where, "its record names no hyperfunction")
    name, parameters, version = entry["name"], entry["parameters"], entry["version"]
    numbers = isinstance(parameters, dict) and all(type(value) in (int, float) for value in parameters.values())
    if not isinstance(name, str) or not numbers or type(version) is not int:
        _corrupt(where, "its record names no hyperfunction")
    try:
        function = restore(name, parameters)
    except (KolmoError, OverflowError) as error:
        raise FormatError(f"{where}: {error}") from None
    if function.version != version:
        raise FormatError(f"{where}: needs version {version} of {name}, here is {function.version}; install that kolmo")
    return function


def _is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")  # JSON can escape what UTF-8 cannot hold


def _corrupt(where: str, what: str) -> NoReturn:
    raise CorruptError(f"{where}: is damaged: {what}; get it again", 0)
