"""Many windows at once: in their order, in several threads, every tile decoded once."""

import threading
from collections import Counter

import cv2
import numpy as np
import pytest

import tiles
from tiles import Bounds, Stack, TilesError, Window
from tiles.store import Level
from tiles.tiled import TiledSource

CRS, PX, N = "EPSG:32632", 64, 8


class Noise:
    """8 x 8 tiles of noise, 1 m a pixel; counts how often each is asked for."""

    crs, attribution, padded = CRS, "", False
    levels = (Level(0, (0.0, N * PX * 1.0), PX * 1.0, PX, range(N), range(N)),)
    bounds = levels[0].bounds

    def __init__(self, wait=lambda: None):
        self.wait, self.asked = wait, Counter()

    def get(self, level, col, row):
        self.wait()
        self.asked[col, row] += 1
        pixels = np.random.default_rng([col, row]).integers(0, 256, (PX, PX, 3), np.uint8)
        return cv2.imencode(".png", pixels)[1].tobytes()

    def describe(self, level, col, row):
        return f"tile {col}, {row}"

    def close(self):
        pass


def windows(count, side=150.0, bearing_deg=0.0):
    rng = np.random.default_rng(1)
    for west, south in rng.uniform(0, N * PX - side, (count, 2)):
        yield Window(Bounds(west, south, west + side, south + side), CRS, (100, 90), bearing_deg)


@pytest.mark.parametrize("threads", [None, 1, 3, 16])
def test_views_come_in_the_order_of_their_windows(threads):
    source, wanted = TiledSource(Noise()), list(windows(30, bearing_deg=20))
    alone = [source.render(window).pixels for window in wanted]
    together = source.read_many(wanted, threads=threads)
    assert all(np.array_equal(a, b.pixels) for a, b in zip(alone, together, strict=True))


def test_nothing_asked_nothing_given():
    assert TiledSource(Noise()).read_many([]) == []


@pytest.mark.parametrize("threads", [1, 8])
def test_a_tile_that_many_windows_show_is_decoded_once(threads):
    store = Noise()
    views = TiledSource(store).read_many(list(windows(200)), threads=threads)
    assert all(view.coverage == 1 for view in views)
    assert len(store.asked) == N * N and set(store.asked.values()) == {1}


def test_several_threads_read_at_the_same_time():
    """Every tile waits until three threads want one: alone, the first would wait forever."""
    together = threading.Barrier(3, timeout=10)
    apart = [Window(Bounds(x, 10, x + 40, 50), CRS, (40, 40)) for x in (10.0, 138.0, 266.0)]  # a tile each
    views = TiledSource(Noise(together.wait)).read_many(apart, threads=3)
    assert [view.coverage for view in views] == [1, 1, 1]


def test_a_failing_window_fails_the_call_with_its_own_message():
    class Damaged(Noise):
        def get(self, level, col, row):
            return b"no picture" if (col, row) == (5, 5) else super().get(level, col, row)

    with pytest.raises(TilesError, match="tile 5, 5"):
        TiledSource(Damaged()).read_many(list(windows(60)), threads=4)


def test_stacks_and_rasters_read_many_too(write_raster):
    values = np.random.default_rng(2).integers(0, 256, (3, 200, 200), np.uint8)
    raster = tiles.open(write_raster(values, north=512))
    stack, wanted = Stack([raster, TiledSource(Noise())]), list(windows(20))
    together = stack.read_many(wanted, threads=4)
    assert all(
        np.array_equal(stack.render(w).pixels, v.pixels) for w, v in zip(wanted, together, strict=True)
    )
