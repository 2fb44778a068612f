"""The benchmarks of made-up imagery run on a tiny model, and say what they measured."""

import json
from pathlib import Path

import numpy as np
import torch

from benchmarks import provenance, synthetic, tile_search
from generation import tile_checkpoint
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import ModelConfig, TokenizerConfig
from generation.tile_model import TileModel
from generation.tile_tokenizer import TileTokenizer
from zoomloc.package_demo import __file__ as inside

SIZES = {"px": 32, "channels": 32, "n_codes": 32, "code_width": 8, "sides": (1, 2, 3, 4)}


def test_they_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ATTACKS", {name: provenance.ATTACKS[name] for name in ("none", "all")})
    torch.manual_seed(0)
    tokenizer = TileTokenizer(TokenizerConfig(kind="residual", **SIZES))
    torch.nn.init.normal_(tokenizer.codes.embedding.weight)
    config = ModelConfig(kind="var", width=32, depth=2)
    folder = tmp_path / "checkpoint"
    whole = CheckpointConfig(tokenizer=tokenizer.config, model=config)
    tile_checkpoint.save(TileModel(config, tokenizer), whole, folder, card="random", dtype=torch.float32)
    city = str(Path(inside).parent / "assets" / "demo" / "city.tif")
    provenance.main([city], str(folder), images=1, sizes="48", seed=0, out=tmp_path / "p.json")
    report = json.loads((tmp_path / "p.json").read_text())
    assert set(report["found"]) == set(provenance.MARKS) and report["psnr_db_of_moving"] > 38
    assert all(row["looks"] == 2 for row in report["false_alarms"].values())
    assert "| codes and pixels | 48 |" in (tmp_path / "p.md").read_text()
    synthetic.main(city, str(folder), tiles_along=1, out=tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["tiles_a_second"] > 0
    tile_search.main(city, folder, n=4, seed=0, out=tmp_path / "t.json")
    gains = json.loads((tmp_path / "t.json").read_text())["particles_less_one_drawn"]
    assert set(gains) == set(tile_search.MEASURES)
    for name in ("p", "t"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_a_seam_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    image = rng.integers(100, 110, (64, 64, 3)).astype(np.uint8)
    assert abs(synthetic.seam(image, [16, 32]) - 1) < 0.2
    image[:, 32:] += 30
    image[32:] += 30
    assert synthetic.seam(image, [32]) > 4
