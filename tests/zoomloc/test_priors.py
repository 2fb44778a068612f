"""What else is known of a position: exact over leaves, bounded over cells, never louder than it may be."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from generation.search import best_first
from zoomloc import checkpoint
from zoomloc.cli import app
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.errors import PriorError, SourceError
from zoomloc.gpx import Clock, Track
from zoomloc.grid import Grid
from zoomloc.localizer import Localizer
from zoomloc.model import make_model
from zoomloc.photo import Photo, load
from zoomloc.posterior import Leaves, as_leaves, leaf_map, weighed
from zoomloc.priors import WRONG, Around, Evidence, Within, asked, near, of_photo
from zoomloc.region import Region

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 1280.0, 4, 2)  # leaves of 80 m
DEEP = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 10_240.0, 4, 4)  # leaves of 40 m
NO_PIXELS = np.zeros((1, 1, 3), np.uint8)
ALL = np.array([[i, j] for i in range(16) for j in range(16)])


def at(grid, east_m, south_m):
    """(lat, lon) so many metres from the north-west corner."""
    return grid.unproject(grid.north_west[0] + east_m, grid.north_west[1] - south_m)


def square(grid, west_m, north_m, side_m):
    """A square of the grid's CRS, in WGS 84."""
    x, y = grid.north_west[0] + west_m, grid.north_west[1] - north_m
    return grid.multipolygon([shapely.box(x, y - side_m, x + side_m, y)])


somewhere = st.floats(-400, 1700)
doubts = st.just(0.0) | st.floats(1e-6, 1)  # less is lost beside what floating-point numbers round away
priors = st.one_of(
    st.builds(
        lambda e, s, sigma, wrong: Around(*at(GRID, e, s), sigma, wrong),
        somewhere, somewhere, st.floats(5, 800), doubts,
    ),
    st.builds(
        lambda e, s, radius, wrong: near(*at(GRID, e, s), radius, wrong=wrong),
        somewhere, somewhere, st.floats(5, 800), doubts,
    ),
)  # fmt: skip


@given(st.lists(priors, min_size=1, max_size=3))
def test_no_leaf_has_a_larger_factor_than_the_bounds_of_the_cells_around_it(known):
    evidence = Evidence(known, GRID)
    root, cells, leaves = (
        evidence(numbers) for numbers in (np.arange(1), np.arange(1, 17), np.arange(17, 273))
    )
    assert (leaves.reshape(16, 16) <= cells[:, None] * (1 + 1e-9) + 1e-12).all()
    assert (cells <= root * (1 + 1e-9) + 1e-12).all() and (leaves >= 0).all()
    np.testing.assert_array_equal(leaves, evidence.of(ALL))


@given(priors)
def test_the_factors_of_the_leaves_and_of_not_here_share_out_the_prior(prior):
    evidence = Evidence([prior], GRID)
    assert evidence.of(ALL).mean() + evidence.not_here == pytest.approx(1 + prior.wrong, abs=1e-6)


def test_a_position_weighs_leaves_by_the_share_of_the_gaussian_in_them():
    drawn = np.random.default_rng(0).normal((700, 500), 100, (400_000, 2))
    cols, rows = (drawn // 80).astype(int).T
    evidence = Evidence([Around(*at(GRID, 700, 500), 100, wrong=0)], GRID)
    factors = leaf_map(Leaves(ALL, evidence.of(ALL)), GRID)
    counted = np.zeros((16, 16))
    np.add.at(counted, (rows, cols), 256 / len(drawn))
    np.testing.assert_allclose(factors, counted, atol=0.5)


def test_an_area_is_even_inside_and_leaves_the_rest_what_a_wrong_prior_would():
    evidence = Evidence([Within(square(GRID, 320, 640, 320))], GRID)  # the cell in row 2, column 1
    factors = leaf_map(Leaves(ALL, evidence.of(ALL)), GRID)
    inside = np.zeros((16, 16), bool)
    inside[8:12, 4:8] = True
    assert factors[inside] == pytest.approx((1 - WRONG) * 16 + WRONG, rel=1e-4)
    assert factors[~inside] == pytest.approx(WRONG, rel=1e-2)
    assert Evidence([Within(square(GRID, 320, 640, 320), wrong=0)], GRID).of(ALL[:1]).tolist() == [0]


def test_priors_multiply():
    one, other = Around(*at(GRID, 700, 500), 100), Within(square(GRID, 320, 640, 320))
    both = Evidence([one, other], GRID)
    product = Evidence([one], GRID).of(ALL) * Evidence([other], GRID).of(ALL)
    np.testing.assert_allclose(both.of(ALL), product)
    assert both.not_here == pytest.approx(Evidence([one], GRID).not_here * Evidence([other], GRID).not_here)


def test_the_multiplication_of_a_posterior_is_that_of_bayes():
    leaves = Leaves(np.array([[0, 0], [5, 5]]), np.array([0.6, 0.3]), not_here=0.1)
    evidence = Evidence([Within(square(GRID, 320, 320, 320), wrong=0.1)], GRID)  # holds 5, 5
    found = weighed(leaves, evidence)
    worth = np.array([0.3 * (0.9 * 16 + 0.1), 0.6 * 0.1, 0.1 * 0.1])
    assert found.paths.tolist() == [[5, 5], [0, 0]], "the order follows"
    assert [*found.probabilities, found.not_here] == pytest.approx((worth / worth.sum()).tolist(), rel=1e-3)


def test_where_priors_leave_no_place_the_photo_is_not_here():
    leaves = Leaves(np.array([[0, 0]]), np.array([1.0]))
    found = weighed(leaves, Evidence([Within(square(GRID, 320, 320, 320), wrong=0)], GRID))
    assert found.not_here == 1 and not len(found.paths)


def tree(seed, n=16, depth=2, towards=None):
    """A random Markov tree; one that goes `towards` a path leaves little for all others."""
    inner = (n**depth - 1) // (n - 1)
    logits = np.random.default_rng(seed).normal(scale=2, size=(inner, n + 1))
    logits[:, -1] -= 2
    node = 0
    for child in towards or ():
        logits[node, child] += 12
        node = n * node + 1 + child
    table = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return lambda numbers: table[numbers]


@given(st.integers(0, 2**32 - 1), st.lists(priors, min_size=1, max_size=2), st.sampled_from([0.0, 0.01, 0.3]))
def test_a_search_with_evidence_bounds_the_whole_posterior_times_the_factors(seed, known, epsilon):
    expand, evidence = tree(seed), Evidence(known, GRID)
    flat = best_first(expand, n_choices=16, depth=2)
    exact = leaf_map(weighed(as_leaves(flat, GRID), evidence), GRID)
    found = as_leaves(
        best_first(expand, n_choices=16, depth=2, epsilon=epsilon, at_once=1, evidence=evidence),
        GRID,
        evidence,
    )
    assert found.probabilities.sum() + found.not_here + found.unexpanded == pytest.approx(1, abs=1e-9)
    assert (np.diff(found.probabilities) <= 0).all()
    bounded = leaf_map(found, GRID)
    assert (bounded <= exact + 1e-6).all(), "every leaf has at least what it is given"
    assert exact[bounded == 0].sum() <= found.unexpanded + 1e-5, (
        "leaves not found have at most the unexpanded"
    )
    if epsilon == 0 and all(
        prior.wrong for prior in known
    ):  # else cells stay closed that hold only the impossible
        np.testing.assert_allclose(bounded, exact, atol=1e-6)


def test_a_search_finds_the_leaf_that_a_prior_favours_where_the_photo_alone_gives_it_next_to_nothing():
    expand = tree(0, depth=4, towards=(0, 0, 0, 0))
    opened = []

    def count(numbers):
        opened.extend(numbers)
        return expand(numbers)

    place = DEEP.cell((9, 9, 9, 9))
    x, y = DEEP.centre(place)
    alone = as_leaves(best_first(expand, n_choices=16, depth=4, epsilon=1e-3), DEEP)
    assert (9, 9, 9, 9) not in set(map(tuple, alone.paths.tolist()))
    evidence = Evidence([Around(*DEEP.unproject(x, y), 4, wrong=1e-9)], DEEP)
    tree_ = best_first(count, n_choices=16, depth=4, epsilon=1e-3, at_once=16, evidence=evidence)
    its = tree_.probabilities[tree_.leaves == 9 * (16**3 + 16**2 + 16 + 1)]
    found = as_leaves(tree_, DEEP, evidence)
    assert its < 1e-9 and tuple(found.paths[0].tolist()) == (9, 9, 9, 9) and found.unexpanded < 1e-3
    assert len(opened) < 400, "of 4,369 cells"


def test_a_position_two_kilometres_off_does_not_silence_the_photo():
    sure = Leaves(np.array([[0, 0, 0, 0], [9, 9, 9, 9]]), np.array([0.999, 0.001]))
    wrong = Around(*at(DEEP, 1500, 1500), 20)  # the photo says: the north-west corner
    found = weighed(sure, Evidence([wrong], DEEP))
    assert found.paths[0].tolist() == [0, 0, 0, 0] and found.probabilities[0] > 0.99
    vague = weighed(
        Leaves(np.array([[0, 0, 0, 0], *_around(1500)]), np.array([0.5, *[1e-3] * 4])),
        Evidence([wrong], DEEP),
    )
    assert vague.paths[0].tolist() != [0, 0, 0, 0], "where the photo is vague, the position counts"


def _around(metres):
    x, y = DEEP.north_west[0] + metres, DEEP.north_west[1] - metres
    return [DEEP.path(DEEP.cell_at(x + i, y + j)) for i in (-20, 20) for j in (-20, 20)]


def test_a_position_off_the_map_speaks_for_not_here():
    leaves = Leaves(ALL, np.full(256, 0.9 / 256), not_here=0.1)
    assert weighed(leaves, Evidence([Around(*at(GRID, -5000, 0), 50)], GRID)).not_here > 0.8
    assert weighed(leaves, Evidence([Around(*at(GRID, 600, 600), 50)], GRID)).not_here < 0.01


# --- in the words of a user


def test_a_photo_gives_its_position_only_when_it_is_asked(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert of_photo(Photo(tmp_path, pixels)) == []
    assert of_photo(Photo(tmp_path, pixels, 1.0, 2.0, accuracy_m=7.0)) == [Around(1.0, 2.0, 7.0)]
    assert of_photo(Photo(tmp_path, pixels, 1.0, 2.0, accuracy_m=7.0), 30) == [Around(1.0, 2.0, 30)]


@pytest.fixture
def region(make_world):
    return make_world(depth=3).region


def test_an_area_is_read_from_geojson_or_given_as_a_box(region, tmp_path):
    lat, lon = region.grid.unproject(*region.grid.centre(region.grid.root))
    box = (lon - 0.005, lat - 0.003, lon + 0.005, lat + 0.003)
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(json.loads(shapely.to_geojson(shapely.box(*box)))))
    words = ",".join(map(str, box))
    given_, read = (asked(region, within_text=text) for text in (words, str(path)))
    leaves = np.array([region.grid.path(region.grid.cell_at(*region.grid.project(lat, lon)))])
    factors = [Evidence(known, region.grid).of(leaves)[0] for known in (given_, read)]
    assert factors[0] == pytest.approx(factors[1], rel=1e-3) and factors[0] > 5
    assert len(asked(region, near_text=f"{lat},{lon},300", within_text=words)) == 2 and asked(region) == []


@pytest.mark.parametrize(
    "options, says",
    [
        ({"near_text": "here"}, "--near here: not understood; write LAT,LON,RADIUS_M"),
        ({"near_text": "51,9.5"}, "write LAT,LON,RADIUS_M"),
        ({"near_text": "91,9.5,100"}, "no such place"),
        ({"near_text": "45.1,9.0,0"}, "above 0 m"),
        ({"near_text": "9.0,45.1,100"}, "lies off the region 'toy'"),
        ({"within_text": "9,45,8,46"}, "write WEST,SOUTH,EAST,NORTH"),
        ({"within_text": "nan,45,8,46"}, "not understood"),
        ({"within_text": "absent.geojson"}, "absent.geojson: no such file"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_told_in_one_line(region, options, says):
    with pytest.raises(PriorError) as error:
        asked(region, **options)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", '{"type": "Point", "coordinates": [9, 45]}'])
def test_an_area_that_is_none_is_refused(region, tmp_path, content):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(PriorError, match=r"a\.geojson: (not GeoJSON|has no polygon)"):
        asked(region, within_text=str(tmp_path / "a.geojson"))


# --- with a model


SIZES = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 32, "photo_px": 32,
         "view_px": 32, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [PointerConfig(kind="pointer", **SIZES | {"view_px": 48, "table_px": 48}), ModelConfig(**SIZES, depth=2)],
)
def test_priors_move_the_answer_of_a_model_and_change_nothing_when_off(config, tiny_data):
    torch.manual_seed(0)
    localizer = Localizer(make_model(config))
    region = Region.load(tiny_data / "region.json")
    photo = load(tiny_data / "photos" / "test-0.jpg")

    def located(**options):
        return localizer.locate([photo.pixels], region, names=["a"], **options)[0]

    alone = located()
    for off in ({"priors": None}, {"priors": [[]]}):
        assert located(**off) == alone and (located(**off).posterior == alone.posterior).all()
    x, y = region.grid.north_west[0] + 300, region.grid.north_west[1] - 20
    told = located(priors=[[Around(*region.grid.unproject(x, y), 5, wrong=1e-6)]])
    assert np.hypot(*np.subtract(region.grid.project(told.lat, told.lon), (x, y))) < 40
    with pytest.raises(ValueError, match="posterior"):
        located(priors=[[Around(0, 0, 5)]], how="beam")


# --- on the command line


@pytest.fixture
def locate(tiny_data, tmp_path, capsys):
    """Runs `zoomloc locate` with an untrained model on one photo; returns its JSON and what it said on stderr."""
    torch.manual_seed(0)
    config = PointerConfig(kind="pointer", **SIZES | {"view_px": 48, "table_px": 48})
    checkpoint.save(make_model(config), tmp_path / "model")
    fixed = ["locate", tiny_data / "photos" / "test-0.jpg", "--region", tiny_data / "region.json", "--checkpoint",
             tmp_path / "model", "--out", tmp_path / "out.json", "--device", "cpu"]  # fmt: skip

    def run(*options):
        done = CliRunner().invoke(app, list(map(str, [*fixed, *options])))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return json.loads((tmp_path / "out.json").read_text())["predictions"][0], done.output

    return run


def test_locate_uses_what_it_is_told_and_the_exif_position_only_when_asked(locate, tiny_data):
    region, photo = Region.load(tiny_data / "region.json"), load(tiny_data / "photos" / "test-0.jpg")

    def metres_off(lat, lon, found):
        return np.hypot(
            *np.subtract(region.grid.project(lat, lon), region.grid.project(found["lat"], found["lon"]))
        )

    here = region.grid.unproject(region.north_west[0] + 60, region.north_west[1] - 260)
    found, _ = locate("--near", f"{here[0]},{here[1]},15")
    assert metres_off(*here, found) < 25
    found, _ = locate("--gps-prior", 3)
    assert metres_off(photo.lat, photo.lon, found) < 25
    lat, lon = here
    found, _ = locate("--within", f"{lon - 2e-4},{lat - 2e-4},{lon + 2e-4},{lat + 2e-4}")
    assert metres_off(*here, found) < 40


def test_a_track_says_where_photos_without_a_position_were():
    track = Track("tour", np.array([0.0, 20.0]), np.array([46.0, 46.2]), np.array([8.0, 8.0]))
    clock = Clock((track,), offset=timedelta(hours=2))

    def known(**facts):
        return of_photo(Photo(Path("a.jpg"), NO_PIXELS, **facts), 30, clock=clock)

    zoneless = datetime(1970, 1, 1, 2, 0, 5)
    assert known(captured_at=zoneless) == [Around(pytest.approx(46.05), 8.0, 30)]
    assert known(captured_at=zoneless, lat=47.0, lon=9.0) == [Around(47.0, 9.0, 30)], "its own counts"
    assert known(captured_at=zoneless.replace(tzinfo=UTC)) == [] == known(captured_at=None)


def test_a_track_needs_to_be_told_how_good_it_is(locate):
    for options, says in (
        (["--gpx", "tour.gpx"], "--gpx tour.gpx: say with --gps-prior"),
        (["--gps-prior", 10, "--time-offset", "+02:00"], "name the track with --gpx"),
    ):
        with pytest.raises(PriorError, match=says):
            locate(*options)
    with pytest.raises(SourceError, match=r"tour.gpx: no such file"):
        locate("--gps-prior", 10, "--gpx", "tour.gpx")


def test_searches_that_cannot_weigh_it_say_so(locate):
    with pytest.raises(PriorError, match="--search beam: cannot use what else is known"):
        locate("--search", "beam", "--gps-prior", 30)
