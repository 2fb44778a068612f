"""Answers of servers on disk: kept between runs and shared by processes, up to so many bytes.

Plain files only, for a database that is locked or on a network file system fails its users. A body is stored
once, under its SHA-256, however many URLs have it; a URL's record, under the SHA-256 of the URL (which may hold
a secret), names the body. Readers take no lock: files appear by renaming, and a body that is not its hash is as
if it were not there. Writers take one lock, so the size is counted exactly; killed at any moment, they leave at
worst a size counted too high, which the next sweep corrects.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

DEFAULT_BYTES = 2 * 2**30
SWEPT = 0.9  # how full a sweep leaves the cache, so that the next one is not soon
BLOCK = 4096  # bytes a small file takes
LOCK_S = 30  # a sweep of a full cache takes a few seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """What a server answered.

    body: None where it has nothing there. expires: seconds since 1970, from when on it should be asked again.
    etag, last_modified: what to ask with, "" where it gave none.
    """

    body: bytes | None
    expires: float
    etag: str = ""
    last_modified: str = ""


class DiskCache:
    """Records by key, the least recently used dropped first; safe between threads and processes.

    folder: made where missing; where it cannot be written, one warning says so and nothing is kept.
    max_bytes: what all files together may take on disk.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._failed = False  # then nothing more is written

    def get(self, key: str) -> Record | None:
        """The record of a key, None where there is none that is whole."""
        path = self._record_path(key)
        try:
            fields = json.loads(path.read_bytes())
            digest = fields["sha256"]
            record = Record(
                body=None if digest is None else self._body(digest),
                expires=float(fields["expires"]),
                etag=str(fields["etag"]),
                last_modified=str(fields["last_modified"]),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None
        _touch(path)
        return record

    def put(self, key: str, record: Record) -> None:
        """Keep a record in place of the one before; does nothing where the folder cannot be written."""
        if self._failed:
            return
        digest = None if record.body is None else hashlib.sha256(record.body).hexdigest()
        fields = {"sha256": digest, "expires": record.expires, "etag": record.etag}
        fields["last_modified"] = record.last_modified
        files = {} if digest is None else {self._body_path(digest): record.body or b""}
        files[self._record_path(key)] = json.dumps(fields).encode()  # last: a record's body is there
        try:
            self._write(files)
        except OSError as error:  # among them the lock's Timeout
            self._fail(error)

    def drop(self, key: str) -> None:
        """Forget a record."""
        try:
            self._record_path(key).unlink(missing_ok=True)
        except OSError as error:
            self._fail(error)

    def _write(self, files: dict[Path, bytes]) -> None:
        needed = sum(_on_disk(len(data)) for data in files.values())
        if needed > self.max_bytes:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / "lock", timeout=LOCK_S, poll_interval=0.002):
            total = self._total()
            if total + needed > self.max_bytes:
                total = self._sweep(int(self.max_bytes * SWEPT) - needed)
            total += sum(_on_disk(len(data)) for path, data in files.items() if not path.exists())
            self._replace(self.folder / "size", str(total).encode())  # first: a kill may not leave it too low
            for path, data in files.items():
                self._replace(path, data)

    def _total(self) -> int:
        try:
            return int((self.folder / "size").read_bytes())
        except (OSError, ValueError):
            return sum(size for _, size, _ in self._files())

    def _sweep(self, keep: int) -> int:
        """Delete what was not used for the longest time; returns the bytes left, at most `keep`."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= keep:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
        return total

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """(last used, bytes on disk, path) of all files but the lock and the size."""
        for kind in ("bodies", "records"):
            for folder, _, names in os.walk(self.folder / kind):
                for name in names:
                    path = f"{folder}/{name}"
                    found = os.stat(path)  # noqa: PTH116 (hundreds of thousands of them: a Path each is slow)
                    yield found.st_mtime, _on_disk(found.st_size), path

    def _replace(self, path: Path, data: bytes) -> None:
        new = self.folder / "new"  # one name will do under the lock, and a killed writer leaves no litter
        new.write_bytes(data)
        path.parent.mkdir(parents=True, exist_ok=True)
        new.replace(path)

    def _body(self, digest: str) -> bytes:
        path = self._body_path(digest)
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != digest:
            raise ValueError(f"{path} is damaged")
        _touch(path)
        return body

    def _record_path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / "records" / name[:2] / name

    def _body_path(self, digest: str) -> Path:
        return self.folder / "bodies" / digest[:2] / digest

    def _fail(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            log.warning(
                "%s: the cache of tiles cannot be written (%s), so tiles will be fetched again; "
                "set ZOOMLOC_CACHE to a folder that can",
                self.folder,
                error.strerror or error,
            )


def default_cache() -> DiskCache | None:
    """The user's cache: in `ZOOMLOC_CACHE`, else `XDG_CACHE_HOME`/zoomloc, else ~/.cache/zoomloc.

    None for a user without a home.
    """
    if named := os.environ.get("ZOOMLOC_CACHE"):
        return _cache_in(Path(named))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return _cache_in(Path(base) / "zoomloc")
    try:
        return _cache_in(Path.home() / ".cache" / "zoomloc")
    except RuntimeError:
        return None


@lru_cache
def _cache_in(folder: Path) -> DiskCache:
    return DiskCache(folder / "tiles")


def _touch(path: Path) -> None:
    with suppress(OSError):  # a folder that can only be read still serves
        os.utime(path)


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
