"""`synthetic:` imagery: the same whoever asks for what, flagged and marked, real wherever the imagery is."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tiles
from generation import synthetic
from generation.mark import Detector, Mark
from generation.provenance import look
from tiles import Bounds, TilesError
from tiles.server.mercator import extent
from zoomloc.cli import app
from zoomloc.region import Region

CRS, WEST, NORTH, SIDE = "EPSG:32632", 500_000.0, 5_000_000.0, 96
WHOLE = Bounds(WEST, NORTH - SIDE, WEST + SIDE, NORTH)
GAP = slice(30, 50), slice(40, 70)


@pytest.fixture
def opened(city, tile_model):
    def make(options=""):
        return tiles.open(f"synthetic:{city}#model={tile_model}{options}")

    return make


def read(source, bounds=WHOLE, px=SIDE):
    return source.read(bounds, CRS, (px, px))


def test_a_gap_is_filled_and_the_rest_is_the_imagery_itself(opened, city):
    view, plain = read(opened()), read(tiles.open(city))
    assert view.mask.all() and np.array_equal(view.synthetic, ~plain.mask)
    assert np.array_equal(view.pixels[plain.mask], plain.pixels[plain.mask])
    assert view.pixels[GAP].std() > 0
    left = read(opened("&gaps=no"))
    assert np.array_equal(left.mask, plain.mask) and left.synthetic is None


@pytest.mark.parametrize("side", [24, 40, 96])
def test_coarser_views_show_a_filled_gap_too(opened, side):
    view = read(opened(), px=side)
    assert view.mask.all() and view.synthetic.any() and not view.synthetic[-2:].any()


def test_finer_detail_is_all_made_up_and_agrees_with_what_it_was_made_of(opened, city):
    view = read(opened(), px=2 * SIDE)
    assert view.mask.all() and view.synthetic.all()
    halved = view.pixels.reshape(SIDE, 2, SIDE, 2, 3).astype(float).mean(axis=(1, 3))
    real = tiles.open(city)
    plain = read(real)
    assert np.abs(halved - plain.pixels)[plain.mask].mean() < 6
    empty = read(opened("&gaps=no"), px=2 * SIDE)
    assert np.array_equal(empty.mask, plain.mask.repeat(2, 0).repeat(2, 1))


def test_it_is_finer_by_its_levels_and_names_whom_to_name(opened, tile_model, city):
    source = opened("&levels=2")
    assert source.gsd_m == pytest.approx(tiles.open(city).gsd_m / 4)
    assert len(source.levels_m) == 3 and source.synthetic and not source.real.synthetic
    assert "synthetic" in source.attribution and "the mapmaker" in source.attribution
    assert opened("&levels=0").gsd_m == pytest.approx(tiles.open(city).gsd_m)
    assert extent(source).max_zoom == extent(tiles.open(city)).max_zoom + 2
    assert read(source, Bounds(WEST, NORTH - 20, WEST + 20, NORTH), 80).synthetic.all()


def test_it_is_the_same_whatever_is_asked_for_first_and_by_how_many(opened):
    """Windows at random, alone, after others, all at once from threads, and after a pickle: every pixel the same."""
    whole = read(opened(), px=2 * SIDE)
    corners = [(0, 0), (31, 71), (60, 17), (72, 72)]

    def part(source, corner):
        x, y = corner
        bounds = Bounds(WEST + x, NORTH - y - 24, WEST + x + 24, NORTH - y)
        return read(source, bounds, 48)

    expected = {c: whole.pixels[2 * c[1] : 2 * c[1] + 48, 2 * c[0] : 2 * c[0] + 48] for c in corners}
    for order in (corners, corners[::-1]):
        source = opened()
        for corner in order[:2]:
            assert np.array_equal(part(source, corner).pixels, expected[corner])
    fresh = pickle.loads(pickle.dumps(opened()))
    with ThreadPoolExecutor(4) as pool:
        for corner, view in zip(corners, pool.map(lambda c: part(fresh, c), corners), strict=True):
            assert np.array_equal(view.pixels, expected[corner])
    fresh.close()
    assert np.array_equal(part(fresh, corners[0]).pixels, expected[corners[0]])


def test_when_little_is_kept_nothing_changes(opened, monkeypatch):
    whole = read(opened(), px=2 * SIDE).pixels
    monkeypatch.setattr(synthetic, "KEPT_BYTES", 40 * 32 * 32 * 4)
    source = opened()
    for top in (48, 0):
        bounds = Bounds(WEST, NORTH - top - 24, WEST + 24, NORTH - top)
        assert np.array_equal(read(source, bounds, 48).pixels, whole[2 * top : 2 * top + 48, :48])
    assert len(source._kept) <= 40


def test_another_seed_shows_something_else(opened):
    assert not np.array_equal(read(opened(), px=192).pixels, read(opened("&seed=1"), px=192).pixels)


def test_every_made_up_pixel_carries_the_mark(opened, monkeypatch):
    monkeypatch.setenv("ZOOMLOC_MARK_KEY", "mine")
    source = opened("&seed=3")
    image = read(source, px=192).pixels
    mark = Mark("mine", 8)
    found = Detector(mark, scales=(1.0,)).find(image[5:, 3:])
    assert found.p_value < 1e-3 and found.which == mark.list_of(3) and found.phase == (3, 5)
    assert Detector(Mark("theirs", 8), scales=(1.0,)).find(image).p_value > 1e-3


def test_mistakes_are_said_in_one_line(opened, city, tile_model, tmp_path):
    for options, said in {
        "&levels=x": "no whole number", "&levels=9": "0 to 4", "&gaps=maybe": "gaps=yes", "&bands=9": "bands",
        "&nonsense=1": "unknown option",
    }.items():  # fmt: skip
        with pytest.raises(TilesError, match=said) as error:
            opened(options)
        assert "\n" not in str(error.value)
    with pytest.raises(TilesError, match="synthetic: "):
        tiles.open(f"synthetic:{city}#model={tmp_path}")
    with pytest.raises(TilesError, match="no such file"):
        tiles.open(f"synthetic:{tmp_path}/none.tif#model={tile_model}")


def test_options_of_the_imagery_go_on_to_it(opened):
    assert (np.ptp(read(opened("&bands=1&gaps=no"), px=32).pixels.astype(int), axis=2) == 0).all()


def test_a_region_of_it_is_located_by_what_is_real(city, tile_model, tmp_path):
    """Relative to the region file; its gap is closed to answers, its detail is not looked at."""
    from zoomloc.index import Index

    (tmp_path / "city.tif").symlink_to(city)
    place = Region(
        "dream",
        CRS,
        (WEST, NORTH),
        float(SIDE),
        4,
        2,
        (f"synthetic:city.tif#model={tile_model}",),
        "",
        tmp_path,
    )
    place.save(tmp_path / "region.json")
    region = Region.load(tmp_path / "region.json")
    pyramid = region.open()
    assert pyramid.view(1, 0, 0, 64).synthetic.all()

    class Blind(torch.nn.Linear):
        feature_shape, reach = (4,), 1.0

    index = Index(Blind(1, 1), pyramid, region.grid)
    assert index.view(region.grid.cell((0,)), 64).synthetic is None
    closed = np.zeros((16, 16), bool)
    closed[5:9, 6:12] = True
    assert np.array_equal(index.closed, closed) and not index.blank
    assert region.imagery_stamp()


def test_the_command_finds_it_and_says_where(opened, city, tmp_path):
    from PIL import Image

    image = read(opened(), px=192).pixels
    Image.fromarray(image).save(tmp_path / "made.png")
    run = CliRunner().invoke(
        app, ["tiles", "provenance", str(tmp_path / "made.png"), "--figure", str(tmp_path / "f.png")]
    )
    assert run.exit_code == 1, run.output
    first, *rows = run.output.splitlines()
    assert "made up" in first and "p <=" in first and sum(row.count("█") for row in rows) > 100
    assert (tmp_path / "f.png").stat().st_size > 2000
    run = CliRunner().invoke(app, ["tiles", "provenance", str(city)])
    assert run.exit_code == 0 and "no mark found" in run.output and run.output.count("\n") == 1
    (tmp_path / "words.jpg").write_text("no picture")
    with pytest.raises(TilesError, match="not a readable picture"):
        look(str(tmp_path / "words.jpg"))
