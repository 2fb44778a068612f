"""Densities over the circle, and the headings that the pointer model learns to state."""

import math

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomloc import manifest, markov
from zoomloc.config import PointerConfig
from zoomloc.dataset import PhotoDataset
from zoomloc.errors import CheckpointError
from zoomloc.grid import Grid
from zoomloc.heading import BIN_DEG, BINS, arcs_holding, heading_loss, likeliest, log_densities, turned
from zoomloc.localizer import Localizer, predict
from zoomloc.pointer import PointerModel
from zoomloc.posterior import Leaves
from zoomloc.priors import Evidence, Facing
from zoomloc.region import Region

waves = st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=12).filter(lambda w: len(w) % 2 == 0)


@settings(deadline=None, max_examples=50)
@given(waves)
def test_densities_sum_to_one_and_turn_with_their_waves(values):
    each = torch.tensor([values])
    log_p = log_densities(each)
    assert log_p.shape == (1, BINS) and float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    n = len(values) // 2
    k = torch.arange(1, n + 1) * math.radians(10 * BIN_DEG)
    a, b = each[:, :n], each[:, n:]
    turned = torch.cat([a * k.cos() - b * k.sin(), a * k.sin() + b * k.cos()], dim=1)
    torch.testing.assert_close(log_densities(turned), log_p.roll(10, dims=1), rtol=1e-3, atol=1e-3)


def test_one_wave_is_a_von_mises_density():
    kappa, mean_deg = 2.5, 40.0
    angle = math.radians(mean_deg)
    each = kappa * torch.tensor([[math.cos(angle), math.sin(angle)]])
    centres = np.radians(np.arange(BINS) * BIN_DEG)
    expected = np.exp(kappa * np.cos(centres - angle)) / (2 * np.pi * np.i0(kappa)) * np.radians(BIN_DEG)
    np.testing.assert_allclose(log_densities(each).exp()[0].numpy(), expected, rtol=1e-4)
    at_mean = heading_loss(each, torch.tensor([mean_deg]))
    assert float(at_mean) == pytest.approx(math.log(np.i0(kappa)) - kappa, abs=1e-4)


def test_unknown_headings_do_not_count():
    each = torch.randn(3, 8)
    known = heading_loss(each[:2], torch.tensor([10.0, 200.0]))
    torch.testing.assert_close(heading_loss(each, torch.tensor([10.0, 200.0, math.nan])), known)
    assert float(heading_loss(each, torch.full((3,), math.nan))) == 0
    torch.testing.assert_close(
        heading_loss(torch.zeros(2, 8), torch.tensor([10.0, 200.0])), torch.tensor(0.0)
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, BINS - 1), st.floats(5, 60), st.floats(-20, 20))
def test_arcs_hold_what_they_say(peak, sigma_deg, lean_deg):
    off = (np.arange(BINS) - peak + BINS / 2) % BINS - BINS / 2
    p = np.exp(-((off * BIN_DEG / sigma_deg) ** 2) / 2)
    p /= p.sum()
    assert likeliest(p) == peak * BIN_DEG
    half, most = arcs_holding(p, peak * BIN_DEG, (0.5, 0.9))
    assert half == pytest.approx(0.674 * sigma_deg, abs=1.5) and most == pytest.approx(
        1.645 * sigma_deg, abs=1.5
    )
    elsewhere = turned(p, lean_deg)
    mean = np.angle((elsewhere * np.exp(1j * np.radians(np.arange(BINS) * BIN_DEG))).sum(), deg=True)
    assert (mean - peak * BIN_DEG - lean_deg + 180) % 360 - 180 == pytest.approx(0, abs=0.5)


def test_of_two_directions_the_answer_is_one_and_the_arcs_tell_of_the_other():
    p = np.full(BINS, 1e-6)
    p[10], p[46] = 0.7, 0.3
    assert likeliest(p) == 50
    half, most = arcs_holding(p / p.sum(), 50.0, (0.5, 0.9))
    assert half < 5 and most > 170


@pytest.fixture
def facing(tiny_data):
    """A model that states headings, untrained but loud, its region and a photo's tokens."""
    torch.manual_seed(0)
    config = PointerConfig(
        kind="pointer", width=32, encoder_layers=1, encoder_heads=2, patch_px=8, table_px=48, photo_px=32,
        view_px=48, decoder_layers=1, decoder_heads=2, queries=3, key_width=16, heading_waves=4,
    )  # fmt: skip
    model = PointerModel(config).eval()
    torch.nn.init.normal_(model.to_heading.weight, std=0.5)
    localizer = Localizer(model)
    photos = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    return localizer, Region.load(tiny_data / "region.json"), localizer.encode(photos)


def test_every_leaf_has_its_heading_and_the_answer_their_mean(facing):
    localizer, region, tokens = facing
    leaves = localizer.zoom(tokens, region, epsilon=0.0)[0]
    assert leaves.headings.shape == (256, BINS)
    np.testing.assert_allclose(leaves.headings.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(leaves.headings.argmax(axis=1)) > 0
    answer = predict(leaves, region, "a", "posterior", 1)
    assert 0 <= answer.heading_deg < 360 and answer.heading_50_deg <= answer.heading_90_deg <= 180
    assert answer.headings.sum() == pytest.approx(1, abs=1e-5)


def test_a_known_heading_weighs_leaves_by_how_likely_it_is_there(facing):
    localizer, region, tokens = facing
    alone = localizer.zoom(tokens[:1], region, epsilon=0.0)[0]
    known = Evidence([Facing(80.0, 15.0)], region.grid)
    found = localizer.zoom(tokens[:1], region, epsilon=0.0, evidence=[known])[0]
    factors = alone.headings @ known.headings
    worth = alone.probabilities * factors
    total = worth.sum() + alone.not_here
    assert found.not_here == pytest.approx(alone.not_here / total)
    np.testing.assert_allclose(found.probabilities, np.sort(worth / total)[::-1], rtol=1e-4)
    off = abs((np.arange(BINS) * BIN_DEG - 80 + 180) % 360 - 180)
    before, after = (each.headings[0] @ (off <= 30) for each in (alone, found))
    assert after > before


def test_a_model_without_headings_refuses_a_known_one(facing):
    stating, region, _ = facing
    localizer = Localizer(PointerModel(stating.model.config.model_copy(update={"heading_waves": 0})))
    photo = np.zeros((40, 80, 3), np.uint8)
    with pytest.raises(CheckpointError, match="says nothing of headings"):
        localizer.locate([photo], region, names=["a"], priors=[[Facing(10.0, 5.0)]])


def test_a_certificate_holds_under_a_known_heading(facing):
    localizer, region, tokens = facing
    index, known = localizer.index(region), Evidence([Facing(200.0, 10.0)], region.grid)
    whole = localizer.zoom(tokens[:1], region, epsilon=0.0)[0]
    found, left = slice(0, 100), whole.probabilities[100:].sum()
    part = Leaves(whole.paths[found], whole.probabilities[found], whole.not_here, left)
    with torch.inference_mode():
        own = markov.ask(localizer.model, index, tokens[:1]).at((slice(None), 0))
        exact, bounds = (markov._faced(own, index, leaves, known) for leaves in (whole, part))
    assert bounds.probabilities.sum() + bounds.not_here + bounds.unexpanded == pytest.approx(1, abs=1e-6)
    of = {tuple(path): p for path, p in zip(exact.paths.tolist(), exact.probabilities, strict=True)}
    paths = [tuple(path) for path in bounds.paths.tolist()]
    assert all(p <= of[path] for path, p in zip(paths, bounds.probabilities, strict=True))
    assert sum(p for path, p in of.items() if path not in paths) <= bounds.unexpanded


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 360), st.floats(3, 500))
def test_a_heading_prior_is_a_density_that_is_never_zero(heading_deg, sigma_deg):
    grid = Grid(crs="EPSG:32632", north_west=(700_000.0, 5_700_000.0), size_m=640, branch=4, depth=2)
    factors = Facing(heading_deg, sigma_deg).on(grid)
    assert factors.mean() == pytest.approx(1) and factors.min() >= 0.02


def test_the_grids_north_leans_as_the_projection_says():
    grid = Grid(crs="EPSG:32632", north_west=(700_000.0, 5_700_000.0), size_m=640, branch=4, depth=2)
    lat, lon = grid.unproject(700_100.0, 5_699_900.0)
    north = pyproj.Geod(ellps="WGS84").inv(lon, lat, *reversed(grid.unproject(700_100.0, 5_699_950.0)))[0]
    assert grid.convergence_deg(np.array([lat]), np.array([lon]))[0] == pytest.approx(north, abs=0.01)
    assert abs(north) > 1


def test_a_dataset_tells_headings_from_the_grids_north(tiny_data):
    region = Region.load(tiny_data / "region.json")
    photos = PhotoDataset(tiny_data, "train", region.grid, px=16)
    batch = photos.__getitems__([0, 1, 2])
    rows = manifest.read(tiny_data / "manifest.parquet", "train")
    lean = region.grid.convergence_deg(*photos.lat_lon[:3].T)
    expected = [
        float(rows.heading[rows.photo == str(p.relative_to(tiny_data))].iloc[0])
        for p in map(photos.path, range(3))
    ]
    np.testing.assert_allclose(batch.heading_deg.numpy() + lean, expected, atol=1e-3)
