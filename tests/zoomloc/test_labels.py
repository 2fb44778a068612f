"""Training labels: they agree with the grid, and blurred ones are the shares they claim to be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomloc.grid import Grid, published_path
from zoomloc.labels import label_paths, make_labels, published_labels
from zoomloc.placement import Placement

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 640.0, 4, 2)
HERE, SHAPE = Placement.of(GRID), {"branch": 4, "depth": 2}
offsets = st.floats(0, 639.99)
shifts = st.floats(-30, 30)


@given(east=offsets, south=offsets)
def test_actions_and_cells_follow_the_grid(east, south):
    x, y = 500_000 + east, 5_000_000 - south
    labels = make_labels(HERE, torch.tensor([[x, y]], dtype=torch.float64), **SHAPE)
    path = GRID.path(GRID.cell_at(x, y))
    assert tuple(labels.actions[0].tolist()) == path
    assert [tuple(c) for c in labels.cells[0].tolist()] == [GRID.cell(path[:level])[1:] for level in range(2)]
    assert labels.inside.all()
    assert (labels.targets[0].argmax(-1) == labels.actions[0]).all()


@given(east=offsets, south=offsets, shift=st.tuples(shifts, shifts))
def test_moving_the_grid_is_moving_the_point_the_other_way(east, south, shift):
    xy = torch.tensor([[500_000 + east, 5_000_000 - south]], dtype=torch.float64)
    there = Placement((HERE.north_west[0] + shift[0], HERE.north_west[1] + shift[1]), HERE.side_m)
    moved = make_labels(there, xy, **SHAPE, sigma_m=15)
    back = make_labels(HERE, xy - torch.tensor([shift], dtype=torch.float64), **SHAPE, sigma_m=15)
    assert (moved.inside == back.inside).all()
    torch.testing.assert_close(moved.targets, back.targets, atol=1e-4, rtol=0)


def test_a_point_outside_is_said_to_be_outside():
    xy = torch.tensor([[499_999.0, 4_999_900.0], [500_100.0, 4_999_900.0]], dtype=torch.float64)
    assert make_labels(HERE, xy, **SHAPE).inside.tolist() == [False, True]


def test_a_point_far_outside_has_targets_that_are_numbers():
    xy = torch.tensor([[490_000.0, 4_999_900.0]], dtype=torch.float64)
    labels = make_labels(HERE, xy, **SHAPE, sigma_m=5.0)
    assert not labels.inside.any()
    torch.testing.assert_close(labels.targets.sum(-1), torch.ones(1, 2))


@pytest.mark.parametrize("sigma_m", [5.0, 20.0])
def test_blurred_targets_are_the_share_of_a_gaussian_cloud(sigma_m):
    point = torch.tensor([[500_000 + 85.0, 5_000_000 - 70.0]], dtype=torch.float64)
    labels = make_labels(HERE, point, **SHAPE, sigma_m=sigma_m)
    cloud = (
        point
        + torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * sigma_m
    )
    sampled = make_labels(HERE, cloud, **SHAPE)
    for level in range(2):
        same_cell = (sampled.cells[:, level] == labels.cells[0, level]).all(dim=1) & sampled.inside
        shares = torch.bincount(sampled.actions[same_cell, level], minlength=16) / same_cell.sum()
        torch.testing.assert_close(labels.targets[0, level], shares, atol=5e-3, rtol=0)


@given(east=offsets, south=offsets)
def test_published_labels_are_the_published_path(east, south):
    xy = torch.tensor([[500_000 + east, 5_000_000 - south]], dtype=torch.float64)
    labels = published_labels(GRID, xy)
    lat, lon = GRID.unproject(*xy[0].tolist())
    centre = GRID.unproject(*GRID.centre(GRID.root))
    if not labels.inside[0]:  # the sphere's square is a little smaller than the grid's
        assert min(east, south, 640 - east, 640 - south) < 5
        return
    path = published_path(lat, lon, centre=centre, size_m=640, branch=4, depth=2)
    assert tuple(labels.actions[0].tolist()) == path == tuple(label_paths(GRID, xy.numpy(), "published")[0])
    assert [tuple(c) for c in labels.cells[0].tolist()] == [GRID.cell(path[:level])[1:] for level in range(2)]
    assert (labels.targets[0].argmax(-1) == labels.actions[0]).all() and labels.targets.sum() == 2


def test_published_labels_differ_from_the_grids_only_near_edges():
    rng = np.random.default_rng(0)
    xy = np.array([500_000.0, 5_000_000.0]) + rng.uniform(5, 635, (2000, 2)) * [1, -1]
    differ = (label_paths(GRID, xy, "published") != label_paths(GRID, xy, "grid")).any(axis=1)
    to_edge = np.abs((xy - [500_000, 5_000_000] + 20) % 40 - 20).min(axis=1)  # metres, of 40 m leaves
    assert differ.any() and to_edge[differ].max() < 3
