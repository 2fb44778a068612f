"""Zooming as a walk: the searches that serve images find places too."""

import pytest
import torch

from generation.selection import beam, best_of_n, diverse, particles, pieces, resampled, search
from generation.verify import likelihood, lookahead
from zoomloc.encoder import shrink
from zoomloc.localizer import Localizer
from zoomloc.photo import load
from zoomloc.region import Region
from zoomloc.walk import zoom_walk

N_PHOTOS = 2


@pytest.fixture(scope="module", params=["tiny_checkpoint", "tiny_pointer"])
def zoom(request, tiny_data):
    """A localizer, the features of photos, and the index of their region."""
    localizer = Localizer.from_pretrained(request.getfixturevalue(request.param))
    files = sorted((tiny_data / "photos").iterdir())[:N_PHOTOS]
    small = [torch.tensor(shrink(load(f).pixels, localizer.model.config.photo_px)) for f in files]
    region = Region.load(tiny_data / "region.json")
    return localizer, localizer.encode(torch.stack(small)), region


def walk_of(zoom, seed=0):
    localizer, photos, region = zoom
    generator = torch.Generator().manual_seed(seed)
    return zoom_walk(localizer, region, photos, generator=generator)


def plans():
    generator = torch.Generator().manual_seed(1)

    def thin(step, n):
        if step == 1:
            return diverse(lambda walk: torch.stack([walk.paths[:, 0] // 4, walk.paths[:, 0] % 4], 1), n)
        return resampled(likelihood, n, strength=1, generator=generator)

    return {
        "best of n": best_of_n(16, likelihood, n_steps=2),
        "beam": beam(4, 8, likelihood, n_steps=2),
        "lookahead": beam(4, 8, lookahead(likelihood), n_steps=2),
        "particles": particles([16, 6], thin, likelihood),
        "pieces": pieces(16, [1], lambda walk: walk.log_p + 3, likelihood, n_steps=2),
    }


@pytest.mark.parametrize("name", ["best of n", "beam", "lookahead", "particles", "pieces"])
@torch.no_grad()
def test_searches_of_images_find_places(zoom, name):
    walk = search(walk_of(zoom), plans()[name])
    assert walk.paths.shape == (N_PHOTOS, 2)
    localizer, photos, region = zoom
    beams = localizer.zoom(photos, region, how="beam", beam_width=256)
    for path, log_p, of_all in zip(walk.paths.tolist(), walk.log_p, beams, strict=True):
        true = dict(zip(map(tuple, of_all.paths.tolist()), of_all.probabilities, strict=True))
        assert float(log_p.exp()) == pytest.approx(true[tuple(path)], rel=1e-3), "rows kept their own memory"


@torch.no_grad()
def test_a_wide_beam_finds_the_likeliest_place(zoom):
    walk = search(walk_of(zoom), beam(8, 64, likelihood, n_steps=2))
    localizer, photos, region = zoom
    for log_p, of_all in zip(
        walk.log_p, localizer.zoom(photos, region, how="beam", beam_width=256), strict=True
    ):
        assert float(log_p.exp()) > 0.5 * of_all.probabilities[0]


@torch.no_grad()
def test_draws_are_as_frequent_as_the_model_finds_them_probable(zoom):
    walk = walk_of(zoom)
    walk.take(torch.arange(N_PHOTOS).repeat_interleave(3000))
    walk.step()
    for child, log_p in zip(walk.paths[:, 0].split(3000), walk.log_p.split(3000), strict=True):
        expected = torch.zeros(16).index_copy(0, child, log_p.exp())
        share = torch.bincount(child, minlength=16) / 3000
        torch.testing.assert_close(share, expected / expected.sum(), atol=0.04, rtol=0)
