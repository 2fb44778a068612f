"""The benchmark of what else is known, on a town too small to show anything but that it runs and adds up."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import context
from data_prep.cities.make import make_city
from zoomloc import checkpoint
from zoomloc.config import PointerConfig
from zoomloc.model import make_model

SIZES = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
         "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip


def test_it_measures_positions_walks_and_panoramas(tmp_path):
    town = tmp_path / "town"
    make_city(town, seed=3, photos=8, size_m=320.0, gsd_m=1.0, width=64, test=6, val=0, workers=1)
    torch.manual_seed(0)
    checkpoint.save(make_model(PointerConfig(kind="pointer", heading_waves=2, **SIZES)), tmp_path / "model")
    app = typer.Typer()
    app.command()(context.main)
    words = [
        town,
        "--checkpoint",
        tmp_path / "model",
        "--walks",
        2,
        "--work",
        tmp_path,
        "--depth",
        2,
        "--spots",
        3,
    ]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "c.json")])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "c.json").read_text())
    positions, walks = report["positions"], report["walks"]
    assert positions["n_photos"] == 6 and walks["n_walks"] == 2
    near = positions["with a position"]["30 m"]
    assert near["median_m"] < positions["alone"]["median_m"], (
        "an untrained model knows nothing, a position does"
    )
    assert {"heading 15°", "100 m"} < positions["with a position"].keys()
    around = report["panoramas"]
    assert around["n_spots"] == 3 and around["ahead"] != around["around"]
    assert around["R@100 more"]["value"] == pytest.approx(
        around["around"]["R@100"] - around["ahead"]["R@100"]
    )
    for row in (near, walks["10 photos"]["all, together"]):
        assert row["R@25 more"]["value"] == pytest.approx(row["R@25"] - row["alone"]["R@25"])
        assert row["R@25 more"]["low"] <= row["R@25 more"]["value"] <= row["R@25 more"]["high"]
    assert all(milliseconds > 0 for milliseconds in walks["milliseconds a photo"].values())
