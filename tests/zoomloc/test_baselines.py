"""Contrastive retrieval: its batches, its loss, what it learns, and that its search is exact."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiles import Bounds
from zoomloc import baselines
from zoomloc.baselines import (
    Gallery,
    RetrievalConfig,
    RetrievalTrainConfig,
    contrastive_loss,
    draw_square,
    hard_batches,
    train_retrieval,
)
from zoomloc.dataset import PhotoDataset, seeded
from zoomloc.errors import CheckpointError, ConfigError
from zoomloc.grid import Grid
from zoomloc.posterior import rows_cols
from zoomloc.region import Region
from zoomloc.views import seen

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 320.0, 4, 2)
MODEL = RetrievalConfig(
    width=64, encoder_layers=2, encoder_heads=2, patch_px=8, table_px=32, photo_px=32, view_px=32, reach=2.0
)


def config(data, out, **changes) -> RetrievalTrainConfig:
    values = {"steps": 90, "batch_size": 24, "learning_rate": 1e-3, "warmup_steps": 10, "grid_jitter_m": 1.0}
    values |= {"label_smoothing": 0.1, "augment": False, "cache_photos": True, "model": MODEL}
    return RetrievalTrainConfig(data=(data,), out=out, **(values | changes))


@pytest.fixture(scope="module")
def trained(tiny_data, tmp_path_factory):
    return train_retrieval(config(tiny_data, tmp_path_factory.mktemp("retrieval") / "run"), device="cpu")


@pytest.fixture(scope="module")
def region(tiny_data):
    return Region.load(tiny_data / "region.json")


def test_it_learns_to_find_places_better_than_guessing(trained, tiny_data, region):
    photos = PhotoDataset(tiny_data, "test", region.grid, px=MODEL.photo_px)
    batch = photos.__getitems__(list(range(len(photos))))
    found = Gallery(baselines.load(trained), region).locate(batch.photos)
    centres = np.array([region.grid.centre(region.grid.cell(tuple(leaves.paths[0]))) for leaves in found])
    guessed_m = 160  # about the median distance of two points of the square
    assert np.median(np.hypot(*(centres - photos.xy.numpy()).T)) < guessed_m / 3
    for leaves in found:
        assert leaves.probabilities.sum() == pytest.approx(1)
        assert (np.diff(leaves.probabilities) <= 0).all()


def test_the_search_is_that_of_brute_force(trained, tiny_data, region):
    model = baselines.load(trained)
    photos = PhotoDataset(tiny_data, "test", region.grid, px=MODEL.photo_px).__getitems__([0, 1, 2]).photos
    with torch.inference_mode():
        expected = model(photos, tiles_read_anew(region)).double().softmax(1).numpy()
    gallery = Gallery(model, region)
    for leaves, best, row in zip(gallery.locate(photos), gallery.best(photos), expected, strict=True):
        assert best.paths.tolist() == leaves.paths[:1].tolist()
        rows, cols = rows_cols(leaves.paths, 4)
        assert len(set(zip(rows, cols, strict=True))) == 256
        # Pixels read otherwise are rounded otherwise.
        assert leaves.probabilities == pytest.approx(row[rows * 16 + cols], rel=0.05)


def tiles_read_anew(region):
    """The tiles of all leaves, row by row, read from the imagery without a detour."""
    source, leaf_m, px = region.open().source, region.grid.leaf_m, MODEL.view_px
    rim_m = leaf_m * (MODEL.reach - 1) / 2
    tiles = []
    for row, col in np.ndindex(16, 16):
        west, north = 500_000.0 + col * leaf_m, 5_000_000.0 - row * leaf_m
        bounds = Bounds(west - rim_m, north - leaf_m - rim_m, west + leaf_m + rim_m, north + rim_m)
        tiles.append(seen(source.read(bounds, region.crs, (px, px))))
    return torch.from_numpy(np.stack(tiles))


def test_a_run_that_was_stopped_ends_with_the_same_model(tiny_data, tmp_path, monkeypatch):
    short = {"steps": 12, "batch_size": 32, "augment": True}
    whole = baselines.load(train_retrieval(config(tiny_data, tmp_path / "whole", **short), device="cpu"))
    step = baselines._Training.step

    def stopping(self, chosen, number):
        if number == 9:
            raise KeyboardInterrupt
        return step(self, chosen, number)

    stopped = config(tiny_data, tmp_path / "stopped", **short)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(baselines._Training, "step", stopping)
        train_retrieval(stopped, device="cpu")
    resumed = baselines.load(train_retrieval(stopped, device="cpu"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    with pytest.raises(ConfigError, match="another configuration"):
        train_retrieval(config(tiny_data, tmp_path / "stopped", **short, seed=1), device="cpu")


def test_more_photos_in_a_batch_than_places_are_refused(tiny_data, tmp_path):
    with pytest.raises(ConfigError, match="batch_size 190"):
        train_retrieval(config(tiny_data, tmp_path / "run", batch_size=190), device="cpu")


def test_a_checkpoint_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="train it again"):
        baselines.load(tmp_path)


@given(
    x=st.floats(1, 319), y=st.floats(1, 319), seed=st.integers(0, 10_000),
    scale=st.sampled_from([1.0, 1.5]), turned=st.booleans(),
)  # fmt: skip
def test_a_square_that_lies_anywhere_holds_its_photo(x, y, seed, scale, turned):
    xy = (500_000.0 + x, 5_000_000.0 - y)
    moved = RetrievalTrainConfig(
        data=(),
        out="",
        steps=1,
        batch_size=1,
        model=MODEL,
        grid_jitter_m=5,
        grid_scale=scale,
        grid_turned=turned,
    )
    square = draw_square(GRID, xy, moved, seeded(seed))
    offset = square.offsets(torch.tensor([xy], dtype=torch.float64))
    assert (offset >= -1e-6).all()
    assert (offset <= square.side_m + 1e-6).all()
    assert 20 / scale - 1e-9 <= square.side_m <= 20 * scale + 1e-9


def test_a_square_that_does_not_move_is_the_leaf_turned_around_its_middle():
    still = RetrievalTrainConfig(data=(), out="", steps=1, batch_size=1, model=MODEL)
    square = draw_square(GRID, (500_047.0, 4_999_975.0), still, seeded(0))
    assert square.north_west == pytest.approx((500_040.0, 4_999_980.0))
    assert square.side_m == 20
    turned = draw_square(
        GRID, (500_047.0, 4_999_975.0), still.model_copy(update={"grid_turned": True}), seeded(0)
    )
    assert turned.bearing_deg != 0
    assert turned.point(10, 10) == pytest.approx((500_050.0, 4_999_970.0))


@given(n=st.integers(4, 60), n_places=st.integers(2, 20), size=st.integers(1, 8), seed=st.integers(0, 1000))
def test_no_batch_has_a_photo_or_a_place_twice(n, n_places, size, seed):
    random = np.random.default_rng(seed)
    place, alike = random.integers(n_places, size=n), random.integers(n, size=(n, 3))
    batches = hard_batches(random.permutation(n).tolist(), alike, place, size)
    used = [photo for batch in batches for photo in batch]
    assert len(used) == len(set(used))
    for batch in batches:
        assert len(batch) == size == len(set(place[batch].tolist()))
    left = set(place.tolist()) if not used else {int(place[i]) for i in set(range(n)) - set(used)}
    assert len(left) < size  # whoever is left over could not have filled a batch


def test_a_batch_is_of_photos_that_are_alike():
    alike = np.array([[1], [0], [3], [2], [5], [4]])
    batches = hard_batches([0, 2, 4, 1, 3, 5], alike, np.arange(6), 2)
    assert batches == [[0, 1], [2, 3], [4, 5]]


def test_the_loss_is_that_of_cross_entropy_both_ways():
    logits = torch.randn(5, 5, generator=seeded(0))
    nothing, own = torch.zeros(5, 5, dtype=torch.bool), torch.arange(5)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = sum(cross_entropy(x, own, label_smoothing=0.1) for x in (logits, logits.T)) / 2
    assert contrastive_loss(logits, nothing, 0.1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_blind_to_pairs_that_are_right_too():
    logits, same = torch.randn(4, 4, generator=seeded(0)), torch.zeros(4, 4, dtype=torch.bool)
    same[0, 1] = same[2, 3] = True
    other = logits + 7 * same
    assert contrastive_loss(logits, same, 0.1).item() == contrastive_loss(other, same, 0.1).item()
    assert math.isfinite(contrastive_loss(logits, same, 0.1).item())
