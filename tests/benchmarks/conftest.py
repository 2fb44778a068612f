"""Datasets with photos where a test wants them, for what guards and scores the benchmark."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from PIL import Image
from shapely import Point

from zoomloc import manifest
from zoomloc.region import Region

WEST, NORTH = 500_000.0, 5_000_000.0


@pytest.fixture
def make_dataset(tmp_path):
    """Makes a dataset of 640 m a side in tmp_path/name; photos: split and metres east and south of the corner."""

    def make(name: str, photos: list[tuple[str, float, float]], *, ground: int) -> Path:
        folder, random = tmp_path / name, np.random.default_rng([ground, len(photos)])
        folder.mkdir()
        Image.fromarray(np.full((8, 8, 3), ground, np.uint8)).save(folder / "ground.png")
        region = Region(name, "EPSG:32632", (WEST, NORTH), 640.0, 4, 2, ("ground.png",), "made up", folder)
        region.save(folder / "region.json")
        rows = []
        for number, (split, east_m, south_m) in enumerate(photos):
            file = folder / f"{number}.png"
            Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).save(file)
            lat, lon = region.grid.unproject(WEST + east_m, NORTH - south_m)
            rows.append({"photo": file.name, "geometry": Point(lon, lat), "split": split})
        frame = gpd.GeoDataFrame(rows, crs="EPSG:4326")
        frame = frame.assign(
            heading=None, captured_at=None, sequence=None, fov=None, projection="perspective"
        )
        manifest.write(frame, folder / "manifest.parquet")
        return folder

    return make
