"""A tiny model of tiles, and imagery for it."""

import numpy as np
import pytest
import rasterio
import torch
from scipy import ndimage

from generation import tile_checkpoint
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import ModelConfig, TokenizerConfig
from generation.tile_model import TileModel
from generation.tile_tokenizer import TileTokenizer

CRS, WEST, NORTH, SIDE = "EPSG:32632", 500_000.0, 5_000_000.0, 96
GAP = slice(30, 50), slice(40, 70)
SIZES = {"px": 32, "channels": 32, "n_codes": 32, "code_width": 8, "sides": (1, 2, 4)}


@pytest.fixture(scope="session")
def tile_model(tmp_path_factory):
    """The folder of a tiny model of tiles that was never trained."""
    torch.manual_seed(0)
    tokenizer = TileTokenizer(TokenizerConfig(kind="residual", **SIZES))
    torch.nn.init.normal_(tokenizer.codes.embedding.weight)
    config = ModelConfig(kind="var", width=32, depth=2)
    folder = tmp_path_factory.mktemp("tile-model") / "checkpoint"
    whole = CheckpointConfig(tokenizer=tokenizer.config, model=config)
    tile_checkpoint.save(TileModel(config, tokenizer), whole, folder, card="random", dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def city(tmp_path_factory):
    """96 x 96 px of 1 m with a gap."""
    rng = np.random.default_rng(0)
    pixels = ndimage.zoom(rng.random((3, 12, 12)), (1, 8, 8), order=1) * 180 + rng.normal(
        0, 8, (3, SIDE, SIDE)
    )
    path = tmp_path_factory.mktemp("city") / "city.tif"
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[GAP] = 0
    shape = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": CRS}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
        path, "w", driver="GTiff", transform=rasterio.transform.from_origin(WEST, NORTH, 1, 1), **shape
    ) as dataset:  # fmt: skip
        dataset.write(pixels.clip(0, 255).astype(np.uint8))
        dataset.write_mask(alpha)
        dataset.update_tags(TIFFTAG_COPYRIGHT="the mapmaker")
    return path
