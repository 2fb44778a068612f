"""The comparison of what makes tiles, with new models of the smallest size."""

import json

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from benchmarks.tile_models import figures, gap, main
from generation import tile_checkpoint
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import ModelConfig, TokenizerConfig


@pytest.fixture
def checkpoints(tmp_path):
    for kind in ("var", "flexvar", "regression"):
        model = ModelConfig(kind=kind, width=32, depth=1)
        tokenizer = TokenizerConfig(
            kind=model.tokenizer_kind, px=32, patch=4, channels=32, n_codes=16, sides=(1, 2, 4)
        )
        config = CheckpointConfig(tokenizer=None if kind == "regression" else tokenizer, model=model)
        made = tile_checkpoint.make(config)
        tile_checkpoint.save(made, config, tmp_path / kind, card="", dtype=torch.float16)
    return {kind: tmp_path / kind for kind in ("var", "flexvar", "regression")}


def test_all_ways_are_compared_on_held_out_ground(checkpoints, tmp_path, capsys):
    pixels = np.kron(np.random.default_rng(0).integers(20, 230, (3, 60, 60)), np.ones((5, 5))).astype(
        np.uint8
    )
    for name in ("city", "photo"):
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", width=300, height=300, count=3, dtype="uint8",
            crs="EPSG:32632", transform=from_origin(500_000, 5_700_000, 0.5, 0.5),
        ) as raster:  # fmt: skip
            raster.write(pixels)
    sources = "".join(f'[[sources]]\nuri = "{name}.tif"\nzooms = [18]\n' for name in ("city", "photo"))
    config = tmp_path / "config.toml"
    config.write_text(f'out = "run"\nsteps = 1\nblock_m = 30\nheld_out = 0.4\n{sources}')
    main(
        config,
        **checkpoints,
        out=tmp_path / "results",
        unseen=str(tmp_path / "city.tif"),
        simulated="city",
        tiles=4,
    )
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["groups"]) == {"real", "simulated", "simulated, another town"}
    enlarged = found["groups"]["real"]["enlarged"]
    assert {"bicubic", "regression", "VAR", "FlexVAR", "VAR, true codes"} <= set(enlarged)
    # A new regression adds nothing to bicubic interpolation.
    assert enlarged["regression"]["psnr"]["mean"] == pytest.approx(
        enlarged["bicubic"]["psnr"]["mean"], abs=0.5
    )
    assert set(found["groups"]["real"]["filled"]) == {"smooth", "Telea", "VAR", "FlexVAR"}
    page = (tmp_path / "results.md").read_text()
    assert "## Simulated, another town: 4 tiles" in page and "| FlexVAR |" in page
    assert Image.open(tmp_path / "results.png").width > 1000


def test_nothing_differs_from_itself():
    image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    same = figures(image, image)
    assert same["ssim"] == pytest.approx(1) and same["edge_f1"] == 1 and same["fine_contrast"] == 1
    assert same["feature_distance"] == 0
    assert 0.1 < (~gap(1, 64)).float().mean() < 0.3
