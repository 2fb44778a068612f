"""The cache of tiles on disk: whole or not there, within its size, whoever writes and whatever is killed."""

import hashlib
import logging
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tiles import disk_cache
from tiles.disk_cache import DiskCache, Record

LATER = 4e9


@pytest.fixture
def cache(tmp_path):
    return DiskCache(tmp_path / "cache")


def body_of(number, size=6000):
    """Bytes that belong to a number."""
    return hashlib.sha256(str(number).encode()).digest() * (size // 32)


def bytes_on_disk(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test_records_come_back_as_they_were_put(cache):
    records = [
        Record(b"tile", LATER, '"v1"', "Sun, 06 Nov 1994 08:49:37 GMT"),
        Record(b"", 0.0),
        Record(None, LATER),
    ]
    for i, record in enumerate(records):
        cache.put(f"https://host/{i}", record)
    again = DiskCache(cache.folder)
    assert [again.get(f"https://host/{i}") for i in range(3)] == records
    assert again.get("https://host/3") is None


def test_a_body_is_stored_once_and_no_url_is(cache):
    for key in ("https://host/1?key=s3cret", "https://host/2?key=s3cret"):
        cache.put(key, Record(body_of(0), LATER))
    files = [path for path in cache.folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size == 6000 - 6000 % 32 for path in files) == 1
    assert not any(b"s3cret" in path.read_bytes() or "s3cret" in path.name for path in files)


def test_a_record_is_replaced_and_dropped(cache):
    cache.put("url", Record(b"old", LATER))
    cache.put("url", Record(b"new", LATER))
    assert cache.get("url").body == b"new"
    cache.drop("url")
    cache.drop("url")
    assert cache.get("url") is None


@pytest.mark.parametrize("damage", [b"", b"\0" * 5984, b"{}", b'{"sha256": 3}', b"[1]", "gone"])
@pytest.mark.parametrize("kind", ["bodies", "records"])
def test_what_is_damaged_is_not_there_and_is_healed(cache, damage, kind):
    cache.put("url", Record(body_of(1), LATER))
    (path,) = (cache.folder / kind).glob("*/*")
    path.unlink() if damage == "gone" else path.write_bytes(damage)
    assert cache.get("url") is None
    cache.put("url", Record(body_of(1), LATER))
    assert cache.get("url").body == body_of(1)


def test_the_least_recently_used_go_first(tmp_path, monkeypatch):
    cache = DiskCache(tmp_path, max_bytes=10 * 3 * 4096)  # each takes two blocks and its record one
    now = time.time()
    for i in range(10):
        cache.put(f"{i}", Record(body_of(i), LATER))
        for path in cache.folder.glob("*/*/*"):  # file times may be coarser than this loop is fast
            if path.stat().st_mtime > now - 50:
                os.utime(path, (now - 100 + i, now - 100 + i))
    cache.get("0")
    cache.put("10", Record(body_of(10), LATER))
    kept = [i for i in range(11) if cache.get(f"{i}")]
    assert {0, 10} <= set(kept) and 1 not in kept
    assert kept[1:] == list(range(kept[1], 11))  # of the others, the latest
    assert bytes_on_disk(tmp_path) <= cache.max_bytes + 3 * 4096  # its lock and size


def test_what_exceeds_the_whole_cache_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=3 * 4096)
    cache.put("small", Record(b"1", LATER))
    cache.put("large", Record(body_of(1, 50_000), LATER))
    assert cache.get("large") is None and cache.get("small")


def test_the_size_is_counted_again_where_it_is_lost(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=30 * 4096)
    for i in range(40):
        cache.put(f"{i}", Record(body_of(i), LATER))
        (tmp_path / "size").write_text("not a number") if i % 3 else (tmp_path / "size").unlink()
    assert bytes_on_disk(tmp_path) <= cache.max_bytes + 3 * 4096
    assert cache.get("39")


def _write_forever(folder, max_bytes, first):
    cache = DiskCache(folder, max_bytes)
    for i in range(first, 1_000_000, 2):
        cache.put(f"{i % 300}", Record(body_of(i % 300), LATER))


def _wait_for_change(path):
    before = path.stat().st_mtime_ns if path.exists() else 0
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_writers_leave_whole_records_within_the_size(tmp_path):
    """Two processes write and sweep all the time; both are killed in the middle of it, again and again."""
    cap = 150 * 3 * 4096
    cache = DiskCache(tmp_path, cap)
    fork = multiprocessing.get_context("fork")
    found = 0
    for round_ in range(6):
        writers = [fork.Process(target=_write_forever, args=(tmp_path, cap, first)) for first in (0, 1)]
        for writer in writers:
            writer.start()
        _wait_for_change(tmp_path / "size")
        time.sleep(0.05 + 0.017 * round_)
        for writer in writers:
            writer.kill()
            writer.join()
        assert all(writer.exitcode == -9 for writer in writers)
        records = {i: cache.get(f"{i}") for i in range(300)}
        assert all(record is None or record.body == body_of(i) for i, record in records.items())
        assert bytes_on_disk(tmp_path) <= cap + 8 * 4096
        found += sum(record is not None for record in records.values())
        cache.put("after", Record(b"killed", LATER))  # the lock is free
        assert cache.get("after").body == b"killed"
    assert found


def test_threads_write_and_read_together(tmp_path):
    cache = DiskCache(tmp_path, max_bytes=60 * 3 * 4096)

    def use(i):
        cache.put(f"{i % 80}", Record(body_of(i % 80), LATER))
        record = cache.get(f"{i * 7 % 80}")
        return record is None or record.body == body_of(i * 7 % 80)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(160)))
    assert bytes_on_disk(tmp_path) <= cache.max_bytes + 4 * 4096


def test_without_a_place_to_write_it_says_so_once(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    cache = DiskCache(tmp_path / "file" / "cache")
    for _ in range(3):
        cache.put("url", Record(b"1", LATER))
        assert cache.get("url") is None
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(cache.folder) in warning.getMessage() and "ZOOMLOC_CACHE" in warning.getMessage()


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("ZOOMLOC_CACHE", raising=False)
    assert disk_cache.default_cache().folder == tmp_path / "xdg" / "zoomloc" / "tiles"
    monkeypatch.setenv("ZOOMLOC_CACHE", str(tmp_path / "mine"))
    assert disk_cache.default_cache().folder == tmp_path / "mine" / "tiles"
    monkeypatch.delenv("ZOOMLOC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert disk_cache.default_cache().folder == tmp_path / "home" / ".cache" / "zoomloc" / "tiles"
    assert disk_cache.default_cache().max_bytes == 2 * 2**30
