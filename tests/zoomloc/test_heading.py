"""Densities over the circle, and the headings that the pointer model learns to state."""

import math

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomloc import manifest
from zoomloc.dataset import PhotoDataset
from zoomloc.grid import Grid
from zoomloc.heading import BIN_DEG, BINS, heading_loss, log_densities
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
        float(rows.heading[rows.photo == str(p.relative_to(tiny_data))].iloc[0]) for p in photos.paths[:3]
    ]
    np.testing.assert_allclose(batch.heading_deg.numpy() + lean, expected, atol=1e-3)
