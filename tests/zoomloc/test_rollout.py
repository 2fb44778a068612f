"""Training the published kind of model on its own mistakes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomloc.decoder import ZoomDecoder
from zoomloc.grid import Grid
from zoomloc.labels import make_labels
from zoomloc.losses import path_loss
from zoomloc.placement import Placement
from zoomloc.rollout import cells_of, nearest_children, rollout_loss

BRANCH, DEPTH = 2, 3
GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 800.0, BRANCH, DEPTH)
paths = st.lists(st.integers(0, BRANCH**2 - 1), min_size=DEPTH, max_size=DEPTH)


def labels_at(offsets):
    xy = torch.tensor(
        [[500_000.0 + east, 5_000_000.0 - south] for east, south in offsets], dtype=torch.float64
    )
    return make_labels(Placement.of(GRID), xy, branch=BRANCH, depth=DEPTH)


@given(paths)
def test_the_cells_of_a_path_are_those_of_the_grid(path):
    cells = cells_of(torch.tensor([path]), BRANCH)[0].tolist()
    assert [tuple(cell) for cell in cells] == [GRID.cell(tuple(path[:level]))[1:] for level in range(DEPTH)]


@given(paths, st.floats(1, 799), st.floats(1, 799))
def test_the_nearest_child_is_the_true_one_on_the_true_path_and_nearest_elsewhere(path, east, south):
    labels = labels_at([(east, south)])
    assert (nearest_children(labels, labels.actions, BRANCH) == labels.actions).all()
    chosen = nearest_children(labels, torch.tensor([path]), BRANCH)[0].tolist()
    x, y = GRID.north_west[0] + east, GRID.north_west[1] - south

    def apart_m(cell):
        west, bottom, right, top = GRID.bounds(cell)
        return max(west - x, 0, x - right) + max(bottom - y, 0, y - top)

    for level, child in enumerate(chosen):
        children = [GRID.cell((*path[:level], k)) for k in range(BRANCH**2)]
        assert apart_m(children[child]) == pytest.approx(min(map(apart_m, children)), abs=1e-6)


def place_features(place):
    return torch.cat([place.sin(), place.cos(), place * 3, place**2], dim=-1)


def photo_features(labels):
    """What photos show: where they were taken, blurred."""
    leaves = labels.cells[:, -1] * BRANCH + torch.stack(
        [labels.actions[:, -1] // BRANCH, labels.actions[:, -1] % BRANCH], dim=-1
    )
    place = leaves / BRANCH**DEPTH - 0.5
    blurred = place + 0.1 * torch.randn(place.shape, generator=torch.Generator().manual_seed(3))
    return place_features(blurred).repeat(1, 4)  # (B, 32)


def make_look(labels):
    """What views show: where they lie, and below the root the very child in which the photo was taken, if it was: all
    that a model needs that never enters a wrong cell."""

    def look(cells):
        corner = cells / BRANCH ** torch.arange(cells.shape[1])[:, None] - 0.5
        shown = torch.nn.functional.one_hot(labels.actions, BRANCH**2).float()
        shown = shown * (cells == labels.cells).all(-1)[..., None]
        shown[:, 0] = 0
        return torch.cat([place_features(corner).repeat(1, 1, 3), shown.repeat(1, 1, 2)], dim=-1)

    return look


def trained(weight):
    """The loss along own paths, of photos not seen, after training with this weight of it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    decoder = ZoomDecoder(width=32, heads=2, layers=1, n_children=BRANCH**2)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=5e-3)

    def losses():
        labels = labels_at((torch.rand(128, 2, generator=generator) * 798 + 1).tolist())
        photo, look = photo_features(labels), make_look(labels)
        logits = decoder(photo, look(labels.cells), labels.actions)
        own = rollout_loss(decoder, photo, logits, labels, look, branch=BRANCH)
        return path_loss(logits, labels, 0.0), own

    for _ in range(50):
        teacher, own = losses()
        optimizer.zero_grad()
        (teacher + weight * own).backward()
        optimizer.step()
    with torch.no_grad():
        return float(sum(losses()[1] for _ in range(4))) / 4


def test_training_on_own_paths_lowers_the_loss_along_them():
    assert trained(1.0) < 0.9 * trained(0.0)


def test_photos_outside_the_grid_have_no_path_to_learn():
    labels = labels_at([(100.0, 100.0), (5000.0, 100.0)])
    decoder = ZoomDecoder(width=32, heads=2, layers=1, n_children=BRANCH**2)
    photo, seen = photo_features(labels), []

    def look(cells):
        seen.append(cells)
        return torch.zeros(*cells.shape[:2], 32)

    logits = decoder(photo, look(labels.cells), labels.actions).detach()
    rollout_loss(decoder, photo, logits, labels, look, branch=BRANCH)
    assert [len(cells) for cells in seen] == [2, 1]
    outside = labels_at([(5000.0, 100.0)])
    assert float(rollout_loss(decoder, photo[:1], logits[:1], outside, look, branch=BRANCH)) == 0
