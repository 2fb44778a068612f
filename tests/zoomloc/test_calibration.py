"""Calibrations: what they change, that they are found, and that every search applies them."""

import json
import math
import shutil

import numpy as np
import pytest
import torch

from tests.zoomloc.test_cli import refused, zoomloc
from zoomloc import calibration, checkpoint
from zoomloc.calibrate import Reading, Sheet, calibrate, decoys, fit_elsewhere, fit_look, fit_temperatures
from zoomloc.calibration import Calibration, Correction, Elsewhere, Look, tempered
from zoomloc.dataset import PhotoDataset
from zoomloc.errors import CheckpointError
from zoomloc.grid import Grid
from zoomloc.localizer import Localizer
from zoomloc.region import Region
from zoomloc.reliability import auroc

GRID = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 2560.0, 4, 3)
PLAIN = Look(mean=(0.0, 0.0), directions=((1.0, 0.0),), variances=(4.0,), rest=0.25)


def made(**changes):
    values = {
        "side_m": (160.0, 640.0),
        "temperature": (1.0, 4.0),
        "look": PLAIN,
        "elsewhere": Elsewhere(place=(0.5, 2.0), picture=(-3.0, 1.0)),
        "threshold": 0.3,
        "false_rejection": 0.05,
        "data": ("here",),
        "others": (),
        "n_photos": 7,
    }
    return Calibration(**values | changes)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_temperatures_between_sizes_are_geometric_and_beyond_them_stay():
    assert made().temperatures(GRID).tolist() == pytest.approx([4.0, 4.0, 1.0])
    between = made(side_m=(40.0, 640.0), temperature=(1.0, 4.0)).temperatures(GRID)
    assert between.tolist() == pytest.approx([4.0, 4.0, 2.0])


def test_a_correction_softens_and_sets_not_here_only_where_it_is_known():
    log_p = drawn(2, 5).log_softmax(-1)
    odds = torch.tensor([math.nan, math.log(3)], dtype=torch.float64)
    both = Correction(torch.tensor([2.0, 2.0], dtype=torch.float64), odds)
    soft = tempered(log_p, both.temperature)
    found = both.of(log_p)
    torch.testing.assert_close(found[0], soft[0])
    assert float(found[1, -1].exp()) == pytest.approx(0.75)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found[1, 0] - found[1, 1], (log_p[1, 0] - log_p[1, 1]) / 2)


def test_strangeness_is_the_distance_under_the_distribution():
    rng = np.random.default_rng(0)
    look = fit_look(torch.from_numpy(rng.normal(size=(400, 6)) * [5, 3, 1, 1, 1, 1]))
    directions = np.array(look.directions)
    covariance = directions.T @ np.diag(
        np.array(look.variances) - look.rest
    ) @ directions + look.rest * np.eye(6)
    photos = rng.normal(size=(9, 6))
    away = photos - look.mean
    expected = np.log(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away) / 6)
    assert look.strangeness(torch.from_numpy(photos)).numpy() == pytest.approx(expected, abs=1e-3)
    tokens = torch.from_numpy(photos)[:, None].expand(-1, 3, -1)
    assert look.strangeness(tokens).numpy() == pytest.approx(expected, abs=1e-3), (
        "of patches their mean counts"
    )


def test_wrong_temperatures_are_found():
    """Decisions drawn from true probabilities, of which the model told too sharp and too soft ones."""
    generator, wrong, n = torch.Generator().manual_seed(0), torch.tensor([0.5, 3.0]), 4000
    true = [(2 * drawn(n, 16, seed=level)).log_softmax(-1) for level in (1, 2)]
    chosen = torch.cat([p.exp().multinomial(1, generator=generator) for p in true], dim=1)
    told = [tempered(p, 1 / t) for p, t in zip(true, wrong, strict=True)]
    side_m, temperature = fit_temperatures([Sheet(told, chosen, None, [640.0, 160.0])])
    assert side_m == (160.0, 640.0)
    assert temperature == pytest.approx((3.0, 0.5), rel=0.05)


def test_branches_called_wrong_go_back_to_the_leaves_in_the_likelihood():
    everywhere = [drawn(3, 1, 5).log_softmax(-1), drawn(3, 4, 5, seed=1).log_softmax(-1)]
    chosen = torch.tensor([[0, 1], [3, 2], [2, 2]])
    on_path = [everywhere[0][:, 0], everywhere[1][torch.arange(3), chosen[:, 0]]]
    sheet, temperature = Sheet(on_path, chosen, everywhere, [640.0, 320.0]), torch.tensor([2.0, 0.7])
    first, second = (tempered(p, t).exp() for p, t in zip(everywhere, temperature, strict=True))
    leaves = first[:, 0, :4, None] * second[:, :, :4]
    leaves = leaves / leaves.sum((1, 2), keepdim=True)
    expected = -leaves[torch.arange(3), chosen[:, 0], chosen[:, 1]].log().mean()
    assert float(sheet.nll(temperature)) == pytest.approx(float(expected))


def readings(own, strange, n=500, seed=0):
    """Photos whose model says about so much, and whose features are so many times too far from the mean."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2)) * [2.0, 0.5] * strange
    return Reading(torch.from_numpy(features), torch.from_numpy(rng.normal(own, 1.0, n)))


def test_another_place_and_no_street_photo_are_told_each_by_its_own_sign():
    here, foreign, fake = readings(-3, 1), readings(1, 1, seed=1), readings(-3, 30, seed=2)
    told = made(elsewhere=fit_elsewhere(here, foreign, fake, PLAIN))
    scores = [told.log_odds(each.average, each.own).numpy() for each in (here, foreign, fake)]
    assert auroc(scores[0], scores[1]) > 0.95 and auroc(scores[0], scores[2]) > 0.95
    assert abs(1 / (1 + np.exp(-scores[0])).mean()) < 0.1, "most are from here"


def test_what_the_model_says_does_not_count_where_it_was_never_tried():
    found = fit_elsewhere(readings(-3, 1), None, readings(5, 30), PLAIN)
    assert found.place is None and found.picture[1] > 0
    told = made(elsewhere=found)
    features = torch.zeros(2, 2)
    assert told.log_odds(features, torch.tensor([-9.0, 9.0])).unique().numel() == 1


def test_decoys_are_pictures_of_the_same_shape_that_differ():
    photos = torch.randint(
        0, 256, (8, 12, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = decoys(photos)
    assert found.shape == photos.shape and found.dtype == torch.uint8
    assert (found[0] == 255 - photos[0]).all() and len(found[1].unique(dim=0).unique(dim=1)) == 1
    assert (found == decoys(photos)).all()


@pytest.fixture(params=["tiny_pointer", "tiny_checkpoint"])
def trained(request, tmp_path):
    """A copy of a checkpoint of either kind."""
    return shutil.copytree(request.getfixturevalue(request.param), tmp_path / "checkpoint")


def test_it_is_found_kept_and_applied_by_every_search(trained, tiny_data):
    bare = Localizer.from_pretrained(trained, device="cpu")
    found = calibrate(bare, [tiny_data])
    assert calibrate(bare, [tiny_data]) == found, "the same every time"
    assert found.side_m == (80.0, 320.0) and found.data == ("tiny",)
    calibration.save(found, trained)
    calibrated = Localizer.from_pretrained(trained, device="cpu")
    assert calibrated.calibration == found and calibrated.threshold == found.threshold

    region = Region.load(tiny_data / "region.json")
    batch = PhotoDataset(tiny_data, "val", region.grid, px=bare.model.config.photo_px).__getitems__(
        list(range(8))
    )
    features = bare.encode(batch.photos, batch.fov_deg)
    one = Localizer(bare.model, found.model_copy(update={"temperature": (1.0, 1.0)}))
    for before, after in zip(bare.zoom(features, region), one.zoom(features, region), strict=True):
        order, other = (np.lexsort(leaves.paths.T) for leaves in (before, after))
        given = before.probabilities[order] / before.here
        assert after.probabilities[other] / after.here == pytest.approx(given, abs=2e-3), (
            "only not-here changed"
        )
    greedy, beam, posterior = (
        [leaves.not_here for leaves in calibrated.zoom(features, region, how=how)]
        for how in ("greedy", "beam", "posterior")
    )
    assert greedy == pytest.approx(posterior, abs=1e-4)
    assert beam == pytest.approx(posterior, abs=1e-4)
    answers = calibrated.locate(list(batch.photos.numpy()), region, names=[str(i) for i in range(8)])
    assert [a.located for a in answers] == [a.not_here <= found.threshold for a in answers]

    checkpoint.save(bare.model, trained)
    assert Localizer.from_pretrained(trained, device="cpu").calibration is None, "it was of other weights"


def test_fitted_temperatures_make_validation_photos_likelier(tiny_pointer, tiny_data):
    from zoomloc.calibrate import _photos, _sheet

    localizer = Localizer.from_pretrained(tiny_pointer, device="cpu")
    sheet = _sheet(localizer, _photos(localizer, tiny_data, "val"))
    _, temperature = fit_temperatures([sheet])
    fitted = torch.tensor(temperature).flip(0)
    assert float(sheet.nll(fitted)) < float(sheet.nll(torch.ones(2)))


def test_a_calibration_that_does_not_fit_is_refused_in_one_line(tiny_pointer, tmp_path):
    folder = shutil.copytree(tiny_pointer, tmp_path / "checkpoint")
    (folder / calibration.FILE).write_text('{"side_m": []')
    with pytest.raises(
        CheckpointError, match=r"calibration\.json is damaged; delete it, or run `zoomloc calibrate`"
    ):
        Localizer.from_pretrained(folder, device="cpu")
    calibration.save(made(), folder)
    with pytest.raises(CheckpointError, match=r"calibration\.json is of another model"):
        Localizer.from_pretrained(folder, device="cpu")


def test_the_command_calibrates_and_locate_says_not_in_this_region(tiny_pointer, tiny_data, tmp_path):
    folder = shutil.copytree(tiny_pointer, tmp_path / "checkpoint")
    out, _ = zoomloc("calibrate", folder, tiny_data, "--others", tiny_data, "--device", "cpu")
    assert (
        "in cells of 320 m" in out
        and "not in this region above" in out
        and (folder / calibration.FILE).exists()
    )
    values = json.loads((folder / calibration.FILE).read_text())
    (folder / calibration.FILE).write_text(json.dumps(values | {"threshold": -1.0}))
    photo, written = tiny_data / "photos" / "test-0.jpg", tmp_path / "found.json"
    place = ["--region", tiny_data / "region.json", "--checkpoint", folder, "--device", "cpu"]
    out, _ = zoomloc("locate", photo, *place, "--out", written)
    assert ": not in this region (" in out
    assert json.loads(written.read_text())["predictions"][0]["located"] is False


def test_a_split_that_is_not_there_is_told(tiny_pointer, tiny_data, tmp_path):
    folder = shutil.copytree(tiny_pointer, tmp_path / "checkpoint")
    refused("calibrate", folder, tiny_data, "--split", "nights", says="no photos of split 'nights'")


def test_evaluate_tells_whether_probabilities_hold(tiny_pointer, tiny_data, tmp_path):
    out, plot = tmp_path / "report.json", tmp_path / "plot.png"
    wanted = ["--search", "greedy", "--search", "posterior", "--others", tiny_data, "--limit", 12]
    told, _ = zoomloc(
        "evaluate", tiny_data, "--checkpoint", tiny_pointer, *wanted, "--out", out, "--plots", plot
    )
    assert "whether probabilities hold what they promise" in told and "AUROC" in told
    facts = json.loads(out.read_text())
    trust = facts["metrics"]["posterior"]["trust"]
    assert set(trust["area"]) == {"0.5", "0.9"} and 0 <= trust["ece"] <= 1
    assert facts["metrics"]["greedy"]["trust"] is None
    # The very same 12 photos; but the searches that tell it round otherwise, which may part equal ones.
    assert facts["others"][tiny_data.name]["auroc"] == pytest.approx(0.5, abs=12 / 2 / 12**2)
    assert plot.stat().st_size > 5000
