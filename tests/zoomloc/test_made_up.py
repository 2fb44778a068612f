"""The localizer never takes for evidence what was made up: it is shown, not matched, and no answer is put there."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tiles
from zoomloc import outputs, rows
from zoomloc.batch.tally import Tally
from zoomloc.cli import _describe, app
from zoomloc.errors import TrackError
from zoomloc.index import Index
from zoomloc.localizer import Localizer, predict
from zoomloc.photo import load
from zoomloc.posterior import Leaves
from zoomloc.region import Region
from zoomloc.sequence import Motion
from zoomloc.track import follow
from zoomloc.views import NEUTRAL, ViewBank, seen

HOWS = ("greedy", "beam", "posterior")


@pytest.fixture
def dreaming(tiny_data, made_up, monkeypatch):
    """dreaming(where) -> the tiny region, its imagery made up in some places, and kept apart from what is real."""
    whole = Region.load(tiny_data / "region.json")

    def make(where, **options):
        room = SimpleNamespace(open_uri=lambda uri: made_up(tiles.open(uri), where, **options))
        monkeypatch.setitem(sys.modules, "a_room", room)
        monkeypatch.setitem(tiles.opening.SCHEMES, "dream", "a_room:open_uri")
        return replace(whole, imagery=("dream:city.tif",))

    return make


def everywhere(x, y):
    return np.ones(x.shape, bool)


def in_the_west(x, y):
    return x < 500_000 + 150  # of 320 m: not at the edge of a leaf


@pytest.fixture
def photo(tiny_data):
    return next((tiny_data / "photos").glob("test-0.jpg"))


def test_made_up_pixels_are_as_if_there_were_none(dreaming):
    region = dreaming(in_the_west)
    view = region.open().view(0, 0, 0, 64)
    assert view.mask.all() and (view.pixels[:, :20] == (255, 0, 255)).all(), "shown"
    assert (seen(view)[:, :28] == NEUTRAL).all() and not (seen(view)[:, 32:] == NEUTRAL).all(-1).any()
    bank = ViewBank(region.open(), region.grid, px=32)
    for mosaic in bank._mosaics:
        assert (mosaic[:, : mosaic.shape[1] // 4] == NEUTRAL).all()


@pytest.mark.parametrize("kind", ["tiny_checkpoint", "tiny_pointer"])
def test_a_region_all_made_up_answers_no_imagery(dreaming, photo, kind, request):
    localizer = Localizer.from_pretrained(request.getfixturevalue(kind), device="cpu")
    region = dreaming(everywhere)
    for how in HOWS:
        prediction = localizer.locate_photo(photo, region, how=how)
        assert prediction.status == "no imagery" and not prediction.located and not prediction.places
        assert "no imagery" in repr(prediction)
    assert "no imagery" in _describe(prediction, None) and "\n" not in _describe(prediction, None)
    told = outputs.record(prediction)
    assert told["status"] == "no imagery" and told["lat"] is None and told["located"] is False
    json.dumps(outputs.geojson([prediction], region.grid), allow_nan=False)
    assert outputs.geojson([prediction], region.grid)["features"][0]["geometry"] is None
    row = rows.of_prediction(prediction, load(photo), min_confidence=0)
    assert row.status == "no imagery" and row.lat is None and row.path is None
    tally = Tally()
    tally.add([row])
    assert tally.line() == "0 located, 0 uncertain, 0 outside, 1 no imagery, 0 failed"


@pytest.mark.parametrize("kind", ["tiny_checkpoint", "tiny_pointer"])
def test_no_answer_is_put_where_pixels_are_made_up(dreaming, tiny_data, kind, request):
    localizer = Localizer.from_pretrained(request.getfixturevalue(kind), device="cpu")
    region, photos = dreaming(in_the_west), sorted((tiny_data / "photos").glob("test-*.jpg"))[:8]
    whole = Region.load(tiny_data / "region.json")
    closed = localizer.index(region).closed
    assert np.array_equal(closed, np.broadcast_to(np.arange(16) < 8, (16, 16))), "leaf 7 is made up in a part"
    before = [localizer.locate_photo(photo, whole) for photo in photos]
    assert any(_x(whole, each) < 160 for each in before), "or the test would say nothing"
    for how in HOWS:
        for photo in photos:
            prediction = localizer.locate_photo(photo, region, how=how)
            assert prediction.status != "no imagery"
            assert _x(region, prediction) >= 160 and all(
                _x(region, place) >= 160 for place in prediction.places
            )
            if prediction.posterior is not None:
                assert (prediction.posterior[closed] == 0).all()
                total = (
                    float(prediction.posterior.sum(dtype=float)) + prediction.not_here + prediction.unexpanded
                )
                assert total == pytest.approx(1, abs=1e-5)


def _x(region, place):
    return region.grid.project(place.lat, place.lon)[0] - region.grid.north_west[0]


def test_the_middle_of_what_is_likely_does_not_drift_onto_it(make_world):
    region = make_world(depth=2).region
    paths = np.array([region.grid.path(region.grid.cell_at(500_000 + x, 4_999_000)) for x in (900, 1220)])
    closed = np.zeros((16, 16), bool)
    between = Leaves(paths, np.array([0.5, 0.5]))
    middle = predict(between, region, "a", "posterior", top_k=1, radius_m=400)
    column = int((region.grid.project(middle.lat, middle.lon)[0] - 500_000) / 160)
    assert column == 6
    closed[:, 6] = True
    moved = predict(replace(between, closed=closed), region, "a", "posterior", top_k=1, radius_m=400)
    assert int((region.grid.project(moved.lat, moved.lon)[0] - 500_000) / 160) != 6
    shut = predict(replace(between, closed=closed | True), region, "a", "posterior", top_k=1)
    assert shut.no_imagery and not shut.places


def test_with_the_real_imagery_at_hand_finer_made_up_pixels_change_nothing(dreaming, tiny_data, tiny_pointer):
    """A source that only sharpens hands on the imagery it sharpens: answers are those of that imagery."""
    localizer = Localizer.from_pretrained(tiny_pointer, device="cpu")
    plain = Region.load(tiny_data / "region.json")
    region = dreaming(everywhere, real=plain.open().source)
    photo = tiny_data / "photos" / "test-0.jpg"
    assert localizer.locate_photo(photo, region) == localizer.locate_photo(photo, plain)


def test_the_region_names_whom_the_imagery_does_not(dreaming, tiny_data):
    plain = tiles.open(tiny_data / "city.tif")
    source = replace(dreaming(everywhere, real=plain), attribution="the town").open().source
    assert source.attribution == "made up; the town"


def test_features_are_those_of_the_real_part(dreaming, tiny_data, tiny_pointer):
    model = Localizer.from_pretrained(tiny_pointer, device="cpu").model
    region = dreaming(in_the_west)
    index, plain = Index.of(model, region), Index.of(model, Region.load(tiny_data / "region.json"))
    east, west = torch.tensor([[3]]), torch.tensor([[0]])
    torch.testing.assert_close(index.features(east), plain.features(east))
    assert not torch.allclose(index.features(west), plain.features(west))
    blank = index.view(region.grid.cell((0,)), 16)
    assert not blank.real.any()


def test_commands_say_so_in_one_line(dreaming, tiny_checkpoint, photo, tmp_path):
    from typer.testing import CliRunner

    region = dreaming(everywhere)
    region.save(tmp_path / "region.json")
    (tmp_path / "city.tif").symlink_to(region.folder / "city.tif")
    asked = [
        "--region",
        str(tmp_path / "region.json"),
        "--checkpoint",
        str(tiny_checkpoint),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, ["locate", str(photo), *asked, "--figure", str(tmp_path / "a.png")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == (
        f"{photo}: no imagery (all that region 'tiny' shows was made up, which is never matched); add imagery of it"
    )
    assert not (tmp_path / "a.png").exists()
    out = tmp_path / "r.jsonl"
    done = CliRunner().invoke(app, ["batch", str(photo), *asked, "--out", str(out)])
    assert "1 no imagery" in done.output
    assert json.loads(out.read_text().splitlines()[0])["status"] == "no imagery"
    with pytest.raises(TrackError, match="no imagery"):
        follow(Localizer.from_pretrained(tiny_checkpoint, device="cpu"), region, [], motion=Motion())
