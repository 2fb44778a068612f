import math

import numpy as np
import pytest
from PIL import Image, ImageColor

from zoomloc import figure
from zoomloc.errors import OutputError

TILE, GAP = figure.TILE // 2, figure.GAP // 2
LEFT = (figure.MARGIN + figure.PHOTO_WIDTH) // 2 + GAP
TOP = (figure.MARGIN + figure.TITLE) // 2
NEXT_ROW = TILE + figure.TITLE // 2 + GAP


def _draw(world, tmp_path, photo, prediction):
    """The panel as an array, (h, w, 3) int."""
    path = tmp_path / "panel.png"
    figure.panel(photo, prediction, region=world.region, pyramid=world.pyramid, path=path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def _tiles(panel):
    """The square drawings in reading order."""
    columns = (panel.shape[1] - LEFT) // (TILE + GAP)
    corners = [(TOP + r * NEXT_ROW, LEFT + c * (TILE + GAP)) for r in range(2) for c in range(columns)]
    return [panel[y : y + TILE, x : x + TILE] for y, x in corners]


def _near(pixels, colour):
    """Where pixels are of a colour, given by name or as numbers."""
    rgb = ImageColor.getrgb(colour) if isinstance(colour, str) else colour
    return (np.abs(pixels - np.array(rgb)) <= 6).all(axis=-1)


def _centre(mask):
    """(x, y) of the middle of the pixels marked, as fractions of the picture."""
    rows, cols = np.nonzero(mask)
    return (cols.mean() + 0.5) / mask.shape[1], (rows.mean() + 0.5) / mask.shape[0]


def test_every_level_shows_its_imagery_and_the_chosen_cell(make_world, tmp_path):
    world = make_world(depth=3)
    x_m, y_m = 1500.0, 900.0
    panel = _draw(world, tmp_path, world.photo(), world.prediction(x_m=x_m, y_m=y_m))
    views = _tiles(panel)
    assert len(views) == 4
    side_m, west, north = 2560.0, 0.0, 0.0
    for view in views[:3]:
        expected = (255 * (west + side_m / 2) / 2560, 255 * (north + side_m / 2) / 2560, 40)
        near_middle = view[TILE // 2 + 4, TILE // 2 + 4]  # beside the grid line
        assert np.abs(near_middle - expected).max() < 6 or _near(near_middle, figure.ANSWER)
        side_m /= 4
        col, row = int((x_m - west) // side_m), int((y_m - north) // side_m)
        frame_x, frame_y = _centre(_near(view, figure.ANSWER))
        assert frame_x == pytest.approx((col + 0.5) / 4, abs=0.01)
        assert frame_y == pytest.approx((row + 0.5) / 4, abs=0.01)
        west, north = west + col * side_m, north + row * side_m


def test_ground_without_imagery_is_a_checkerboard(make_world, tmp_path):
    world = make_world()
    root = _tiles(_draw(world, tmp_path, world.photo(), world.prediction(x_m=1500, y_m=900)))[0]
    bare = root[: TILE // 4 - 4, : TILE // 8 - 2]
    for colour in figure.NO_IMAGERY:
        assert 0.4 < _near(bare, colour).mean() < 0.6
    assert not any(_near(root[:, TILE // 8 + 4 :], colour).any() for colour in figure.NO_IMAGERY)


def test_the_true_place_is_marked_where_it_is_in_sight(make_world, tmp_path):
    world = make_world()
    prediction = world.prediction(x_m=1500, y_m=900)
    views = _tiles(_draw(world, tmp_path, world.photo(x_m=1700, y_m=300), prediction))
    x, y = _centre(_near(views[0], figure.TRUTH))
    assert (x, y) == (pytest.approx(1700 / 2560, abs=0.01), pytest.approx(300 / 2560, abs=0.01))
    assert not _near(views[1], figure.TRUTH).any()  # the second view is of another cell
    x, y = _centre(_near(views[3], figure.TRUTH))
    assert (x, y) == (pytest.approx(1700 / 2560, abs=0.01), pytest.approx(300 / 2560, abs=0.01))
    unknown = _draw(world, tmp_path, world.photo(), prediction)
    assert not _near(unknown, figure.TRUTH).any()


@pytest.mark.parametrize("depth", [3, 5])  # at 5, a leaf is a third of a pixel
def test_the_posterior_glows_where_it_lies(make_world, tmp_path, depth):
    world = make_world(depth)
    prediction = world.prediction(x_m=1500, y_m=900, probability=0.7, places=())
    region = _tiles(_draw(world, tmp_path, world.photo(), prediction))[depth]
    colourful = np.ptp(region, axis=-1) > 60
    corner = colourful[-TILE // 32 :, -TILE // 32 :]
    assert corner.any(), "the second peak, one leaf in the south-east corner"
    assert not colourful[TILE // 2 : -TILE // 8].any() and not colourful[:, : TILE // 2].any()


def test_without_a_posterior_the_region_keeps_its_colours(make_world, tmp_path):
    world = make_world()
    prediction = world.prediction(
        x_m=1500, y_m=900, posterior=False, radius_50_m=math.nan, radius_90_m=math.nan
    )
    region = _tiles(_draw(world, tmp_path, world.photo(), prediction))[3]
    assert _near(region[TILE // 4, TILE * 3 // 4], (191, 64, 40))
    x, y = _centre(_near(region, figure.ANSWER))
    assert (x, y) == (pytest.approx(1500 / 2560, abs=0.01), pytest.approx(900 / 2560, abs=0.01))


def test_an_even_depth_adds_a_close_up_around_the_answer(make_world, tmp_path):
    world = make_world(depth=2)  # leaves of 160 m, a close-up of 480 m
    prediction = world.prediction(x_m=1500, y_m=900)
    views = _tiles(_draw(world, tmp_path, world.photo(x_m=1560, y_m=840), prediction))
    assert len(views) == 4
    assert _centre(_near(views[3], figure.ANSWER)) == (
        pytest.approx(0.5, abs=0.01),
        pytest.approx(0.5, abs=0.01),
    )
    x, y = _centre(_near(views[3], figure.TRUTH))
    assert (x, y) == (pytest.approx(0.5 + 60 / 480, abs=0.01), pytest.approx(0.5 - 60 / 480, abs=0.01))


@pytest.mark.parametrize("size", [(4000, 200), (200, 4000), (32, 32)])
@pytest.mark.parametrize("depth", [1, 4])
def test_a_photo_of_any_shape_is_shown_whole_and_beside_the_tiles(make_world, tmp_path, size, depth):
    world = make_world(depth)
    photo = world.photo("名前 Straße " * 20 + ".jpg", size=size)
    panel = _draw(world, tmp_path, photo, world.prediction(x_m=1500, y_m=900))
    shown = np.nonzero(_near(panel, (120, 60, 200)))
    width, height = np.ptp(shown[1]) + 1, np.ptp(shown[0]) + 1
    assert shown[1].max() < LEFT - GAP and height <= figure.PHOTO_HEIGHT / 2
    assert abs(math.log(width / height) - math.log(size[0] / size[1])) < 0.1
    assert (panel[:, LEFT - GAP : LEFT - 1] == 255).all(), "text runs into the tiles"


def test_bars_are_as_long_as_the_places_are_likely(make_world, tmp_path):
    world = make_world()
    panel = _draw(world, tmp_path, world.photo(), world.prediction(x_m=1500, y_m=900, probability=0.8))
    lit = _near(panel[:, : LEFT - GAP], figure.ANSWER).sum(axis=1)
    first, second = sorted({length for length in lit.tolist() if length > 50}, reverse=True)
    assert first / second == pytest.approx(4, rel=0.05)


def test_what_cannot_be_written_is_one_line(make_world, tmp_path):
    world = make_world()
    (tmp_path / "panel.png").mkdir()
    with pytest.raises(OutputError, match=r"panel\.png: cannot be written"):
        _draw(world, tmp_path, world.photo(), world.prediction(x_m=1500, y_m=900))


def test_what_is_elsewhere_is_told_where_it_matters(make_world):
    world = make_world()
    prediction = world.prediction(x_m=1500, y_m=900, not_here=0.23, unexpanded=0.004, area_90_m2=2.5e5)
    facts = list(figure._facts(world.photo(), prediction))
    assert "50 % on 1600 m², 90 % on 0.25 km²" in facts
    assert "not on this map: 23 %, not looked at: < 1 %" in facts
    assert not any("not on" in fact for fact in figure._facts(world.photo(), world.prediction(x_m=1, y_m=1)))
