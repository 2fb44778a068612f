"""What was made up stays flagged, whatever is done to it: stacked, warped, cut into cells, looked over, served."""

import httpx
import numpy as np
import pytest
from affine import Affine
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

import tiles
from tiles.build import build
from tiles.inspect import check, info
from tiles.server import create_app
from tiles.stamp import stamp
from tiles.view import View
from tiles.warp import Canvas, render
from zoomloc.figure import HATCH, checkered

CRS, WEST, NORTH = "EPSG:32632", 500_000.0, 5_000_064.0
SQUARE = {"crs": CRS, "north_west": (WEST, NORTH), "size_m": 64.0, "branch": 2, "depth": 3}


def right_half(x, y):
    return x > WEST + 32


@pytest.fixture
def real(write_raster):
    """64 x 64 m at 1 m, grey."""
    return tiles.open(write_raster(np.full((3, 64, 64), 120, np.uint8), west=WEST, north=NORTH))


def whole(source, px=64, **options):
    return source.read(tiles.Bounds(WEST, NORTH - 64, WEST + 64, NORTH), CRS, (px, px), **options)


def test_real_imagery_carries_no_flags(real):
    view = whole(real)
    assert view.synthetic is None and view.real is view.mask and view.synthetic_share == 0
    assert real.real is real and not real.synthetic


def test_in_a_stack_what_is_real_shows_before_what_is_made_up(real, made_up, write_raster):
    coarse = tiles.open(
        write_raster(np.full((3, 4, 8), 50, np.uint8), name="coarse.tif", west=WEST, north=NORTH, gsd=8)
    )
    everywhere = made_up(real, lambda x, y: x > 0)
    stack = tiles.Stack([everywhere, coarse])
    view = whole(stack)
    assert stack.synthetic and stack.sources[0] is coarse
    assert (view.pixels[:32] == 50).all() and not view.synthetic[:32].any()
    assert view.synthetic[32:].all() and view.mask.all() and view.synthetic_share == 0.5
    over = whole(tiles.Stack([made_up(real, right_half, gives_way=False), coarse]))
    assert over.synthetic[:, 32:].all() and not over.synthetic[:, :32].any()
    assert (over.pixels[:, :32] == 120).all(), "the finest that covers, as ever"
    assert whole(stack.real.sources[0]).synthetic is None


def test_a_stack_hands_on_what_is_real_of_each(real, made_up):
    stack = tiles.Stack([made_up(real, right_half, real=real), real])
    assert not stack.real.synthetic and stack.real.sources == (real, real)


@given(
    east=st.floats(-3, 3), south=st.floats(-3, 3), side=st.floats(8, 90), bearing=st.floats(-180, 180),
    px=st.integers(5, 60), resampling=st.sampled_from(["auto", "nearest", "bilinear", "cubic", "average"]),
)  # fmt: skip
def test_whatever_something_made_up_went_into_is_flagged(east, south, side, bearing, px, resampling):
    """Two canvases that differ in their flagged pixels alone are the same wherever the view is not flagged."""
    rng = np.random.default_rng(0)
    flags = np.zeros((64, 64), np.uint8)
    flags[20:23, 30:50] = flags[40, 40] = 1
    one = rng.integers(0, 255, (64, 64, 3), np.uint8)
    other = np.where(flags[..., None] > 0, 255 - one, one)
    place = Affine(1, 0, WEST, 0, -1, NORTH)
    x, y = WEST + 32 + east, NORTH - 32 - south
    half = side / 2
    window = tiles.Window(
        tiles.Bounds(x - half, y - half, x + half, y + half), CRS, (px, px), bearing, resampling
    )
    views = [render(Canvas(pixels, None, place, CRS, flags), window) for pixels in (one, other)]
    differs = (views[0].pixels != views[1].pixels).any(axis=-1)
    assert not (differs & ~views[0].synthetic).any()
    assert not (views[0].synthetic & ~views[0].mask).any()


def test_of_a_window_on_the_pixels_only_neighbours_are_flagged_too():
    flags = np.zeros((64, 64), np.uint8)
    flags[:, 32:] = 255
    view = render(
        Canvas(np.zeros((64, 64, 3), np.uint8), None, Affine(1, 0, WEST, 0, -1, NORTH), CRS, flags),
        tiles.Window(tiles.Bounds(WEST, NORTH - 64, WEST + 64, NORTH), CRS, (64, 64)),
    )
    assert view.synthetic[:, 31:].all() and not view.synthetic[:, :31].any()


def test_cells_show_it_and_the_real_pyramid_does_not(real, made_up):
    pyramid = tiles.Pyramid(made_up(real, right_half, real=real), **SQUARE)
    assert pyramid.view(1, 0, 1, 16).synthetic.all() and not pyramid.view(1, 0, 0, 16).synthetic.any()
    assert pyramid.real.view(1, 0, 1, 16).synthetic is None
    assert tiles.Pyramid(real, **SQUARE).real.source is real


def test_it_is_never_baked_into_a_store(real, made_up, tmp_path):
    pyramid = tiles.Pyramid(made_up(real, right_half), **SQUARE)
    for name in ("cells", "cells.mbtiles", "web.pmtiles", "map.tif"):
        with pytest.raises(tiles.TilesError, match="makes pixels up") as error:
            build(pyramid, tmp_path / name)
        assert "\n" not in str(error.value)
    silent = made_up(real, right_half)
    silent.synthetic = False
    with pytest.raises(tiles.TilesError, match="makes pixels up"):
        build(tiles.Pyramid(silent, **SQUARE), tmp_path / "cells", px=16)
    assert not (tmp_path / "cells").exists()


def test_info_and_check_count_what_is_real(real, made_up):
    source = made_up(real, right_half)
    facts = info(source)
    assert facts.synthetic and facts.coverage == pytest.approx(0.5, abs=0.02)
    found = check(tiles.Pyramid(source, **SQUARE))
    assert found.levels[0][0, 0] == pytest.approx(0.5) and (1, 0, 1) in found.empty
    assert not info(real).synthetic


def test_the_service_says_how_much_of_a_picture_was_made_up(real, made_up):
    source = made_up(real, right_half, real=real)
    client: httpx.Client = TestClient(create_app({"real": real}, {"mixed": tiles.Pyramid(source, **SQUARE)}))
    assert float(client.get("/mixed/cell/root?px=64").headers["X-Synthetic"]) == 0.5
    assert float(client.get("/mixed/cell/1?px=64").headers["X-Synthetic"]) == 1
    assert "X-Synthetic" not in client.get("/mixed/cell/0?px=64").headers
    bounds = f"{WEST},{NORTH - 64},{WEST + 64},{NORTH}"
    for kind in ("png", "jpg", "webp"):
        query = f"bounds={bounds}&crs={CRS}&width=64&format={kind}"
        assert float(client.get(f"/mixed/window?{query}").headers["X-Synthetic"]) == 0.5
        assert "X-Synthetic" not in client.get(f"/real/window?{query}").headers
    told = {each["name"]: each["synthetic"] for each in client.get("/sources.json").json()}
    assert told == {"mixed": True, "real": False}
    assert "made up by a model" in client.get("/static/preview.js").text


def test_pictures_hatch_it():
    flags = np.zeros((24, 24), bool)
    flags[:12] = True
    shown = checkered(View(np.full((24, 24, 3), 9, np.uint8), np.ones((24, 24), bool), flags))
    assert (shown[:12] == HATCH).all(axis=-1).any() and (shown[12:] == 9).all()


def test_a_scheme_is_opened_by_its_module_and_stamped_by_what_it_wraps(real, monkeypatch):
    import sys
    from types import SimpleNamespace

    opened = []
    room = SimpleNamespace(open_uri=lambda uri: opened.append(uri) or real)
    monkeypatch.setitem(sys.modules, "a_room", room)
    monkeypatch.setitem(tiles.opening.SCHEMES, "dream", "a_room:open_uri")
    assert tiles.open(f"dream:{real.uri}#levels=1") is real
    assert opened == [f"{real.uri}#levels=1"]
    assert stamp(f"dream:{real.uri}") == stamp(real.uri)
