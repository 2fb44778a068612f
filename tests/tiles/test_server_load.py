"""A crowd of clients, for a short while: `benchmarks/serve.py` does the same for long, beside others."""

import json
import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import tiles
from tiles.server import create_app
from tiles.server.mercator import extent, tile_bounds

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="NOT LINUX: the memory of a process is read from /proc"
)


def test_fifty_clients_lose_no_request_and_memory_stays_bounded(tmp_path):
    out = tmp_path / "load.json"
    command = [sys.executable, ROOT / "benchmarks" / "serve.py", "--only", "zoomloc", "--out", out]
    done = subprocess.run(
        [*command, "--clients", "50", "--seconds", "2.5", "--side", "1024"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    [result] = json.loads(out.read_text())["servers"]
    assert result["requests"] >= 50 and result["lost"] == 0
    assert result["rss_after"] - result["rss_before"] < 100


def test_memory_does_not_grow_with_the_number_of_pictures(write_raster):
    """Each is rendered anew; were any array of one kept, that would be 55 MiB and more."""
    values = np.random.default_rng(0).integers(0, 256, (3, 700, 700), dtype=np.uint8)
    source = tiles.open(write_raster(values, west=475_000, north=5_130_000, overviews=(2, 4), tiled=True))
    place = extent(source)
    side = tile_bounds(place.max_zoom, 0, 0).width
    west, north = tile_bounds(0, 0, 0).west, tile_bounds(0, 0, 0).north
    cols = range(int((place.bounds.west - west) // side), int((place.bounds.east - west) // side) + 1)
    rows = range(int((north - place.bounds.north) // side), int((north - place.bounds.south) // side) + 1)
    paths = cycle([f"/city/{place.max_zoom}/{col}/{row}.jpg" for col in cols for row in rows])
    client = TestClient(create_app({"city": source}, cache_bytes=0))

    def memory_after(requests):
        for path in islice(paths, requests):
            assert client.get(path).status_code == 200
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    warm = memory_after(100)
    assert memory_after(300) < warm + 24
