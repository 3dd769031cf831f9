"""arXiv's archive of sources: a bucket of S3 where the requester pays, any other URL of fsspec, a server, or a folder.

Files come in pieces, each tried again, and a download goes on where it broke off; what the manifest says of size and
MD5 is checked. What it is not: the contents of the files.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kolmo.collection.arxiv.source_list import MANIFEST, SourceTar, in_order, parse_source_list
from kolmo.collection.arxiv.xml_trees import MAX_XML_BYTES
from kolmo.collection.extras import extra
from kolmo.collection.pipelines import Access
from kolmo.errors import KolmoError
from kolmo.foreign import reason
from kolmo.targets import LOCK, locked, publish

BUCKET = "s3://arxiv"
PIECE_BYTES = 32 << 20  # of a request to a bucket
MAX_TAR_BYTES = 16 << 30
KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
MODULES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}


class GoneError(KolmoError):
    """A file of the archive is not there."""


@dataclass(frozen=True)
class Archive:
    """The archive.

    Attributes:
        url: of the folder in which `src/` lies, or whose tar files lie in it directly.
        access: to the network, and the folder for downloads.
    """

    url: str
    access: Access

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.url or self.url.startswith("file://")

    @property
    def folder(self) -> str:
        """The folder that a local archive is, or where downloads of another are kept."""
        if self.is_local:
            return self.url.removeprefix("file://")
        return os.path.join(self.access.cache, "arxiv-" + hashlib.sha256(self.url.encode()).hexdigest()[:12])

    def tars(self) -> list[SourceTar]:
        """The tar files of sources, oldest month first: as the manifest says, or as a folder without one holds.

        Raises:
            KolmoError: there are none, or the archive cannot be reached.
        """
        where = f"{self.url.rstrip('/')}/{MANIFEST}"
        try:
            path = self.fetch(MANIFEST)
        except GoneError:
            if not self.is_local:
                raise
            return self._found()
        with open(path, "rb") as file:
            return parse_source_list(file.read(MAX_XML_BYTES + 1), where)

    def fetch(self, filename: str, size: int | None = None, md5: str = "") -> str:
        """The path of a file of the archive on this machine.

        Args:
            filename: within the archive.
            size: bytes that it must have, where they are known.
            md5: that it must have, likewise; of a local archive it is not checked.

        Raises:
            GoneError: there is no such file.
            KolmoError: the archive cannot be reached, or the file is another.
        """
        if self.is_local:
            for name in (filename, os.path.basename(filename)):
                if os.path.isfile(path := os.path.join(self.folder, name)):
                    return path
            raise GoneError(f"{self.folder}: holds no {filename}; check the folder")
        path = os.path.join(self.folder, *filename.split("/"))
        if size is not None and os.path.exists(path) and os.path.getsize(path) == size:
            return path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if urlsplit(self.url).scheme in ("http", "https"):
            return self._download(filename, path, size, md5)
        self._copy(filename, path, size, md5)
        return path

    def forget(self, filename: str) -> None:
        """Remove a download; files of a local archive stay."""
        if not self.is_local:
            for ending in ("", ".json"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, *filename.split("/")) + ending)

    def _found(self) -> list[SourceTar]:
        tars = []
        for folder in ("src", ""):
            path = os.path.join(self.folder, folder)
            for name in os.listdir(path) if os.path.isdir(path) else ():
                if tar := SourceTar.of_name(f"src/{name}", os.path.getsize(os.path.join(path, name))):
                    tars.append(tar)
            if tars:
                return in_order(tars)
        raise KolmoError(
            f"{self.folder}: holds neither {MANIFEST} nor tar files like arXiv_src_2610_001.tar; check the folder"
        )

    def _download(self, filename: str, path: str, size: int | None, md5: str) -> str:
        from kolmo.collection.fetching import FetchError

        url = f"{self.url.rstrip('/')}/{filename}"
        try:
            self.access.fetcher().download(url, path, largest=MAX_TAR_BYTES)
        except FetchError as error:
            if error.status in (404, 410):
                raise GoneError(str(error)) from None
            raise
        _check(url, path, size, md5)
        return path

    def _copy(self, filename: str, path: str, size: int | None, md5: str) -> None:
        """Fetch a file through fsspec, a piece after another, into PATH.partial; then check and rename it."""
        with locked(f"{path}{LOCK}"):  # of several processes, one fetches it and the others wait
            if size is None or not os.path.exists(path) or os.path.getsize(path) != size:
                self._fetch_pieces(filename, path, size, md5)

    def _fetch_pieces(self, filename: str, path: str, size: int | None, md5: str) -> None:
        url = f"{self.url.rstrip('/')}/{filename}"
        partial = f"{path}.partial"
        system, name = self._system(url)
        total = int(self._tried(url, lambda: system.size(name)) or 0)
        if total > MAX_TAR_BYTES:
            raise KolmoError(f"{url}: has {total} bytes, more than any tar file of arXiv; check the address")
        if size is None or size != total or not os.path.exists(partial):  # what came of an unknown file begins again
            open(partial, "wb").close()
        with open(partial, "ab") as file:
            while (at := file.tell()) < total:
                end = min(at + PIECE_BYTES, total)
                piece = self._tried(url, lambda at=at, end=end: system.cat_file(name, start=at, end=end))
                if len(piece) != end - at:
                    raise KolmoError(f"{url}: changed while it was read; run it again")
                file.write(piece)
                file.flush()
        _check(url, partial, size, md5)
        publish(partial, path)

    def _system(self, url: str) -> tuple[Any, str]:
        scheme = urlsplit(url).scheme
        fsspec = extra("fsspec", url)
        if scheme in MODULES:
            extra(MODULES[scheme], url)
        options = {"requester_pays": True} if scheme == "s3" else {}
        try:
            system, name = fsspec.core.url_to_fs(url, **options)
        except (ValueError, ImportError, OSError) as error:
            raise KolmoError(f"{self.url}: cannot be opened ({reason(error)}); check the address") from None
        return system, str(name)

    def _tried(self, url: str, call: Any) -> Any:
        for attempt in range(self.access.tries):
            try:
                return call()
            except FileNotFoundError:
                raise GoneError(f"{url}: is not there; check the address") from None
            except PermissionError as error:
                raise KolmoError(
                    f"{url}: access is refused ({reason(error)}); the requester pays for arXiv's bucket, so put "
                    f"{KEYS} of your account into the environment"
                ) from None
            except Exception as error:
                if "credentials" in str(error).lower():
                    raise KolmoError(
                        f"{url}: no keys for the bucket; the requester pays, so put {KEYS} of your account into the "
                        "environment"
                    ) from None
                if attempt + 1 == self.access.tries:
                    raise KolmoError(f"{url}: cannot be read ({reason(error)}); run it again later") from None
                time.sleep(self.access.first_pause * 2.0**attempt)
        raise AssertionError("tries is less than 1")


def _check(url: str, path: str, size: int | None, md5: str) -> None:
    found = os.path.getsize(path)
    if size is not None and found != size:
        os.unlink(path)
        raise KolmoError(f"{url}: has {found} bytes, and {size} by the manifest; run it again")
    if md5 and _md5(path) != md5:
        os.unlink(path)
        raise KolmoError(f"{url}: has another MD5 than the manifest says; run it again")


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
