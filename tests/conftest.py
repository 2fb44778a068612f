"""Fixtures shared by all tests."""

import json
import os
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import piexif
import pytest
import rasterio
import torch
from hypothesis import settings
from PIL import Image
from scipy import ndimage
from shapely import Point

import tiles
from zoomloc import manifest
from zoomloc.config import load_train_config
from zoomloc.region import Region
from zoomloc.train import train

# Machines are busy at times; and in CI what was not changed is given the examples that it was given before.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")

# Tiny models gain nothing from threads, and lose much where tests share the machine.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

ROOT = Path(__file__).parent.parent


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("ZOOMLOC_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"REAL DATA ABSENT: {folder} is not there, so this check on real data did not run")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test is skipped, saying so, where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """The folder of reference numbers; the test is skipped, saying so, where it is absent."""
    return _shared("parity")


class MadeUp(tiles.Source):
    """What another source shows, but for a part of the world that is made up: magenta, and flagged.

    Of a pixel's middle (x, y) in the source's CRS, `where` says whether it is made up there.
    """

    synthetic = True

    def __init__(
        self, source: tiles.Source, where, *, real: tiles.Source | None = None, gives_way=True
    ) -> None:
        self.source, self.where, self.gives_way = source, where, gives_way
        self.crs, self.bounds, self.gsd_m = source.crs, source.bounds, source.gsd_m
        self.levels_m, self.attribution = source.levels_m, "made up"
        self._real = real

    @property
    def real(self) -> tiles.Source:
        return self._real or self

    def render(self, window: tiles.Window) -> tiles.View:
        view = self.source.render(window)
        across, down = ((np.arange(n) + 0.5) / n for n in window.shape[::-1])
        u, v = np.meshgrid(across, down)
        x, y = window.at(u.ravel(), v.ravel())
        flags = self.where(x, y).reshape(window.shape)
        pixels = np.where(flags[..., None], np.array((255, 0, 255), np.uint8), view.pixels)
        return tiles.View(pixels, view.mask | flags, flags)

    def close(self) -> None:
        self.source.close()


@pytest.fixture
def made_up():
    """The class `MadeUp`."""
    return MadeUp


SIZE_M, DEPTH = 320, 2
PHOTOS_PER_SPLIT = {"train": 192, "val": 16, "test": 32}

TINY_MODEL = """
[model]
width = 64
encoder_layers = 2
encoder_heads = 2
patch_px = 8
table_px = 32
photo_px = 32
view_px = 32
decoder_layers = 1
decoder_heads = 2
depth = 2
"""


TINY_POINTER = """
[model]
kind = "pointer"
width = 64
encoder_layers = 2
encoder_heads = 2
patch_px = 8
table_px = 48
photo_px = 32
view_px = 48
decoder_layers = 1
decoder_heads = 2
queries = 2
key_width = 16
"""


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A dataset in the real formats that a tiny model can learn: a smooth colour field as imagery, and "photos"
    that show the colours around their position."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    field = (
        ndimage.zoom(rng.random((6, 6, 3)) * 255, (SIZE_M / 6, SIZE_M / 6, 1), order=1)
        .clip(0, 255)
        .astype(np.uint8)
    )
    west, north = 500_000.0, 5_000_000.0
    with rasterio.open(
        folder / "city.tif", "w", driver="GTiff", width=SIZE_M, height=SIZE_M, count=3, dtype="uint8",
        crs="EPSG:32632", transform=rasterio.transform.from_origin(west, north, 1, 1),
    ) as raster:  # fmt: skip
        raster.write(field.transpose(2, 0, 1))
    region = Region("tiny", "EPSG:32632", (west, north), SIZE_M, 4, DEPTH, ("city.tif",), "made up", folder)
    region.save(folder / "region.json")
    rows = []
    for split, n in PHOTOS_PER_SPLIT.items():
        for i in range(n):
            x, y = rng.integers(20, SIZE_M - 20, 2)
            name = f"photos/{split}-{i}.jpg"
            lat, lon = region.grid.unproject(west + x, north - y)
            shot = Image.fromarray(field[y - 16 : y + 16, x - 16 : x + 16]).resize((64, 36))
            shot.save(folder / name, quality=95, exif=_exif(lat, lon))
            rows.append(
                {"photo": name, "geometry": Point(lon, lat), "split": split, "projection": "perspective"}
            )
    frame = gpd.GeoDataFrame(rows, crs="EPSG:4326").assign(
        heading=None, captured_at=None, sequence=None, fov=None
    )
    manifest.write(frame, folder / "manifest.parquet")
    return folder


def _exif(lat: float, lon: float) -> bytes:
    def dms(value: float) -> tuple:
        return ((int(value), 1), (0, 1), (round((value - int(value)) * 3600 * 10**5), 10**5))

    gps = {1: "N", 2: dms(lat), 3: "E", 4: dms(lon)}
    return piexif.dump({"GPS": gps})


def _write_config(data: Path, out: Path, model: str = TINY_MODEL, **settings) -> Path:
    values = {
        "steps": 200,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "warmup_steps": 10,
        "augment": False,
    } | settings
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path = out.with_suffix(".toml")
    path.write_text("\n".join([f'data = "{data}"', f'out = "{out}"', *lines]) + model)
    return path


@pytest.fixture(scope="session")
def tiny_config(tiny_data: Path):
    """Writes a training configuration for the tiny data beside its `out` folder; returns the TOML file's path."""
    return partial(_write_config, tiny_data)


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_config, tmp_path_factory) -> Path:
    """A checkpoint trained on the tiny data."""
    config = tiny_config(tmp_path_factory.mktemp("tiny-run") / "run", cache_photos=True)
    return train(load_train_config(config), device="cpu")


@pytest.fixture(scope="session")
def pointer_model() -> str:
    """The [model] table of a tiny pointer model, for `tiny_config(…, model=…)`."""
    return TINY_POINTER


@pytest.fixture(scope="session")
def tiny_pointer(tiny_config, tmp_path_factory) -> Path:
    """A checkpoint of the pointer model, likewise."""
    config = tiny_config(
        tmp_path_factory.mktemp("tiny-pointer") / "run", model=TINY_POINTER, cache_photos=True
    )
    return train(load_train_config(config), device="cpu")
