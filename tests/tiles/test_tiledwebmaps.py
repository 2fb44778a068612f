"""`layout.yaml` folders: a picture cut by their rules lies where it belongs, whatever the axes count."""

import pickle

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiles
from tiles import Bounds, TilesError
from tiles.tiledwebmaps import _parse

SIDE, PX = 50.0, 100  # of a tile at zoom 0: 0.5 m/px
LAYOUT = {
    "crs": "epsg:26985",
    "tile_shape_px": [PX, PX],
    "tile_shape_crs": [SIDE, SIDE],
    "origin_crs": [612.5, 187.5],
    "size_crs": [400_000.0, 200_000.0],
    "tile_axes": ["east", "north"],
    "min_zoom": -2,
    "max_zoom": 0,
}
ALL_AXES = [
    ("east", "north"), ("east", "south"), ("west", "north"), ("west", "south"),
    ("north", "east"), ("south", "west"),
]  # fmt: skip


def waves(x, y):
    """(h, w, 3) colours of places: smooth over some metres, of no symmetry."""
    x, y = np.broadcast_arrays(x, y)
    bands = [np.sin(x / 4) * np.cos(y / 7), np.sin(x / 9 + y / 5), np.cos(x / 6 - y / 8)]
    return 128 + 100 * np.stack(bands, axis=-1)


def centres(bounds, shape):
    height, width = shape
    x = bounds.west + (np.arange(width) + 0.5) / width * bounds.width
    y = bounds.north - (np.arange(height) + 0.5) / height * bounds.height
    return x[None, :], y[:, None]


def tile_bounds(layout, zoom, x, y):
    """By the rules of the format: x and y count along tile_axes from the origin, or from the other end."""
    side, place = SIDE / 2.0**zoom, {}
    names = ["east", "north"]  # the order of axes of this CRS
    for way, number in zip(layout["tile_axes"], (x, y), strict=True):
        axis = {"west": "east", "south": "north"}.get(way, way)
        place[axis] = (number, way == axis)
    corner = list(layout["origin_crs"])
    for i, way in enumerate(layout["tile_axes"]):
        if way not in names:
            corner[i] += layout["size_crs"][names.index({"west": "east", "south": "north"}[way])]
    edges = []
    for name, start in zip(names, corner, strict=True):
        number, forth = place[name]
        edges.append((start + number * side) if forth else (start - (number + 1) * side))
    return Bounds(edges[0], edges[1], edges[0] + side, edges[1] + side)


def save(folder, layout, zooms, x0, y0, count, path="{zoom}/{x}/{y}.jpg"):
    """count x count tiles of zoom 0 from (x0, y0) on, and those of other zooms that cover them."""
    (folder / "layout.yaml").write_text(yaml.dump(layout))
    for zoom in zooms:
        step = 2**-zoom
        for x in range(x0 // step, (x0 + count - 1) // step + 1):
            for y in range(y0 // step, (y0 + count - 1) // step + 1):
                bounds = tile_bounds(layout, zoom, x, y)
                fine = waves(*centres(bounds, (PX * 2, PX * 2))).reshape(PX, 2, PX, 2, 3).mean(axis=(1, 3))
                file = folder / path.format(zoom=zoom, z=zoom, x=x, y=y)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(fine.round().astype(np.uint8)).save(file, quality=98, subsampling=0)


def shift_px(view, bounds):
    """How far a view lies from the picture, in its pixels: least squares against the picture's slopes."""
    truth = waves(*centres(bounds, view.pixels.shape[:2]))
    difference = (view.pixels - truth).ravel()
    slopes = np.stack([np.gradient(truth, axis=axis).ravel() for axis in (0, 1)], axis=1)
    return np.linalg.lstsq(slopes, -difference, rcond=None)[0]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_the_picture_lies_where_it_belongs(tmp_path, axes):
    layout = LAYOUT | {"tile_axes": list(axes)}
    save(tmp_path, layout, (0,), 7, 3, 3)
    middle = tile_bounds(layout, 0, 8, 4)
    window = Bounds(middle.west - 20, middle.south - 20, middle.east + 20, middle.north + 20)
    source = tiles.open(tmp_path)
    view = source.read(window, "EPSG:26985", (90, 90))
    assert view.coverage == 1 and np.abs(shift_px(view, window)).max() < 0.05
    assert source.gsd_m == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("axes", ALL_AXES)
@pytest.mark.parametrize("zoom", [0, -1, -2])
def test_every_zoom_lies_where_the_finest_does(tmp_path, axes, zoom):
    """The window has the pixels of one zoom; rows and columns are no multiples of a coarse tile."""
    layout = LAYOUT | {"tile_axes": list(axes)}
    save(tmp_path, layout, (zoom,), -3, 5, 4)
    corners = [tile_bounds(layout, 0, x, y) for x in (-3, 0) for y in (5, 8)]
    window = Bounds(
        min(b.west for b in corners) + 9, min(b.south for b in corners) + 9,
        max(b.east for b in corners) - 9, max(b.north for b in corners) - 9,
    )  # fmt: skip
    px = round(window.width / 0.5 / 2**-zoom)
    view = tiles.open(tmp_path).read(window, "EPSG:26985", (px, px))
    assert view.coverage == 1 and np.abs(shift_px(view, window)).max() < 0.1


def test_bounds_are_those_of_the_finest_tiles(tmp_path):
    save(tmp_path, LAYOUT, (0, -1, -2), -3, 5, 3)
    source = tiles.open(tmp_path)
    first, last = tile_bounds(LAYOUT, 0, -3, 5), tile_bounds(LAYOUT, 0, -1, 7)
    assert source.bounds == pytest.approx((first.west, first.south, last.east, last.north))
    assert [level.key for level in source.store.levels] == [0, -1, -2]


def test_missing_tiles_come_from_coarser_zooms(tmp_path):
    save(tmp_path, LAYOUT, (0, -1), 4, 4, 2)
    (tmp_path / "0" / "4" / "4.jpg").unlink()
    window = tile_bounds(LAYOUT, 0, 4, 4)
    view = tiles.open(tmp_path).read(window, "EPSG:26985", (PX, PX))
    assert view.coverage == 1 and np.abs(shift_px(view, window)).max() < 0.1


def test_zooms_beyond_those_promised_are_left_alone(tmp_path):
    save(tmp_path, LAYOUT | {"min_zoom": 0}, (0, -1), 4, 4, 2)
    assert [level.key for level in tiles.open(tmp_path).store.levels] == [0]


@pytest.mark.parametrize(("path", "written"), [
    ("{z}-{y}/[{x}].png", "{z}-{y}/[{x}].png"), ("tiles", "tiles/{zoom}/{x}/{y}.jpg"),
])  # fmt: skip
def test_tiles_may_lie_elsewhere(tmp_path, path, written):
    save(tmp_path, LAYOUT | {"path": path}, (0,), 4, 4, 1, path=written)
    window = tile_bounds(LAYOUT, 0, 4, 4)
    assert tiles.open(tmp_path).read(window, "EPSG:26985", (50, 50)).coverage == 1


def test_a_crs_that_names_north_first_has_its_origin_in_that_order(tmp_path):
    layout = LAYOUT | {"crs": "epsg:31467", "origin_crs": [5_400_000.0, 3_500_000.0]}
    (tmp_path / "0" / "2").mkdir(parents=True)
    (tmp_path / "layout.yaml").write_text(yaml.dump(layout))
    Image.new("RGB", (PX, PX), (1, 2, 3)).save(tmp_path / "0" / "2" / "5.jpg")
    expected = (3_500_100.0, 5_400_250.0, 3_500_150.0, 5_400_300.0)
    assert tiles.open(tmp_path).bounds == pytest.approx(expected)


def test_the_preset_of_web_maps(tmp_path):
    (tmp_path / "3" / "4").mkdir(parents=True)
    (tmp_path / "layout.yaml").write_text("preset: XYZ\nmin_zoom: 0\nmax_zoom: 3\n")
    Image.new("RGB", (256, 256), (1, 2, 3)).save(tmp_path / "3" / "4" / "2.jpg")
    by_layout = tiles.open(tmp_path)
    (tmp_path / "layout.yaml").unlink()
    as_folder = tiles.open(tmp_path)
    assert by_layout.bounds == pytest.approx(as_folder.bounds)
    assert by_layout.levels_m == pytest.approx(as_folder.levels_m)


def test_pickle(tmp_path):
    save(tmp_path, LAYOUT, (0,), 4, 4, 1)
    source, window = tiles.open(tmp_path), (tile_bounds(LAYOUT, 0, 4, 4), "EPSG:26985", (50, 50))
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.read(*window).pixels, source.read(*window).pixels)


def refusal(folder):
    with pytest.raises(TilesError) as caught:
        tiles.open(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    return message


@pytest.mark.parametrize(("change", "says"), [
    ({"crs": "nonsense"}, "unknown CRS 'nonsense'"),
    ({"crs": "EPSG:4978"}, "geocentric"),
    ({"tile_axes": ["east", "west"]}, "tile_axes"),
    ({"tile_axes": ["up"]}, "tile_axes"),
    ({"tile_shape_px": [100, 50]}, "no square"),
    ({"tile_shape_crs": [0, 0]}, "no square"),
    ({"origin_crs": [1, float("nan")]}, "no two numbers"),
    ({"min_zoom": "low"}, "low"),
    ({"path": "{crs_center_x}/{x}/{y}.jpg"}, "a path {crs_center_x}"),
    ({"max_zoom": 10**9}, "no zoom"),
    ({"path": "elsewhere"}, "no tiles elsewhere/{zoom}/{x}/{y}.jpg"),
])  # fmt: skip
def test_layouts_that_are_none_are_refused(tmp_path, change, says):
    save(tmp_path, LAYOUT | change, (), 0, 0, 0)
    assert says in refusal(tmp_path)


def test_layouts_that_lack_a_key_or_are_no_yaml_are_refused(tmp_path):
    for key in ("crs", "origin_crs", "tile_axes", "tile_shape_px", "min_zoom"):
        (tmp_path / "layout.yaml").write_text(yaml.dump({k: v for k, v in LAYOUT.items() if k != key}))
        assert f"the key '{key}' is missing" in refusal(tmp_path)
    for text in ("", "a: [1", "- 1", "\x00"):
        (tmp_path / "layout.yaml").write_text(text)
        assert "not a layout of tiledwebmaps" in refusal(tmp_path)


def test_packed_tiles_are_refused(tmp_path):
    save(tmp_path, LAYOUT, (), 0, 0, 0)
    (tmp_path / "images.dat").write_bytes(b"")
    assert "images.dat is not read" in refusal(tmp_path)


@given(
    st.sampled_from(ALL_AXES),
    st.integers(-30, 30),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
)
def test_places_and_numbers_are_each_others_inverse_and_zooms_nest(axes, zoom, x, y):
    layout = _parse(LAYOUT | {"tile_axes": list(axes)})
    col, row = layout.place(x, y)
    assert layout.numbers(col, row) == (x, y)
    parent = layout.place(x // 2, y // 2)
    assert parent == (col >> 1, row >> 1)
