"""A made-up dataset: drives along straight streets over imagery that has a hole."""

from functools import cache
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image
from scipy import ndimage

from data_prep import maps
from zoomloc import manifest
from zoomloc.region import Region

CRS, WEST, NORTH, SIZE_M = "EPSG:32632", 500_000.0, 5_000_000.0, 1280.0
START = pd.Timestamp("2024-06-01T09:00Z")
HOLE_M = 128  # the south-eastern square of this side has no imagery


class Drives:
    """What makes the dataset, and takes it apart."""

    west, north, size_m, hole_m = WEST, NORTH, SIZE_M, HOLE_M

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.region = Region("made-up", CRS, (WEST, NORTH), SIZE_M, 4, 3, ("city.tif",), "nobody", folder)

    def frame(self, drives: int = 6, photos: int = 12) -> gpd.GeoDataFrame:
        """Photos 20 m apart, each drive in a direction of its own from its own place; the last drive is for test."""
        rows = []
        for drive in range(drives):
            heading = 360 / drives * drive + 7
            x = WEST + 200 + 400 * (drive % 3)
            y = NORTH - 300 - 500 * (drive // 3)
            for step in range(photos):
                at = 20 * step * np.array([np.sin(np.radians(heading)), np.cos(np.radians(heading))])
                lat, lon = self.region.grid.unproject(x + at[0], y + at[1])
                rows.append(
                    {
                        "photo": f"photos/{drive}-{step:02d}.jpg",
                        "lat": lat,
                        "lon": lon,
                        "heading": heading,
                        "captured_at": START + pd.Timedelta(seconds=5000 * drive + 4 * step),
                        "sequence": f"drive-{drive}",
                        "split": "test" if drive == drives - 1 else "train",
                        "fov": 70.0,
                        "projection": "perspective",
                        "licence": "CC0-1.0",
                        "attribution": "nobody",
                    }
                )  # fmt: skip
        table = pd.DataFrame(rows)
        points = gpd.points_from_xy(table.pop("lon"), table.pop("lat"))
        return gpd.GeoDataFrame(table, geometry=points, crs=4326)

    def write(self, frame: gpd.GeoDataFrame, *, region: bool = True) -> Path:
        """Photos, manifest and, if wanted, region and imagery."""
        for number, name in enumerate(frame["photo"]):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.fromarray(picture(number)).save(path, quality=90)
        if region and not (self.folder / "city.tif").exists():
            self.region.save(self.folder / "region.json")
            _write_imagery(self.folder / "city.tif")
        manifest.write(frame, self.folder / "manifest.parquet")
        return self.folder


@cache
def picture(number: int) -> np.ndarray:
    """A picture like no other, (h, w, 3), bright at the top."""
    rng = np.random.default_rng(number)
    small = rng.uniform(0, 255, (12, 16, 3))
    small[:4] = small[:4] / 4 + 190
    return ndimage.zoom(small, (6, 6, 1), order=1).clip(0, 255).astype(np.uint8)


def _write_imagery(path: Path) -> None:
    px = int(SIZE_M / 2)
    pixels = np.full((4, px, px), 255, np.uint8)
    pixels[:3] = np.array([90, 120, 80])[:, None, None]
    hole = int(HOLE_M / 2)
    pixels[:, -hole:, -hole:] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=px, height=px, count=4, dtype="uint8", crs=CRS,
        transform=rasterio.transform.from_origin(WEST, NORTH, 2, 2), compress="deflate",
    ) as raster:  # fmt: skip
        raster.colorinterp = [
            getattr(rasterio.enums.ColorInterp, name) for name in ("red", "green", "blue", "alpha")
        ]
        raster.write(pixels)


@pytest.fixture
def drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drives:
    """Makes datasets in a folder of its own; maps of them are a third as large as they would be, to be quick."""
    monkeypatch.setattr(maps, "PX", maps.PX // 3)
    return Drives(tmp_path / "data")
