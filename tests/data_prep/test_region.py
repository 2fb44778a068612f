"""A region taken over by another dataset finds the same imagery, whatever the folders are called."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from data_prep.region import adopt
from zoomloc.region import Region

CRS, WEST, NORTH, SIZE_M = "EPSG:32632", 500_000.0, 5_000_000.0, 256.0


def imagery(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", crs=CRS,
        transform=rasterio.transform.from_origin(WEST, NORTH, 4, 4),
    ) as raster:  # fmt: skip
        raster.write(np.full((3, 64, 64), value, np.uint8))


@pytest.mark.parametrize(
    ("old", "file", "entry", "new"),
    [
        ("maps", "city.tif", "city.tif", "copy"),
        ("maps [2020]", "city.tif", "city.tif", "copy"),
        ("maps [2020]", "city.tif", "*.tif", "copy"),
        ("maps [2020]", "city.tif", "*.tif", "copy [1]"),
        ("maps [2020]", "city[1].tif", "city[1].tif", "copy [1]"),
        ("maps/[old]", "city.tif", "../[[]old]/*.tif#bands=1,2,3", "maps/new"),
        ("maps/*", "city.tif", "c?ty.tif", "maps/*/new"),
    ],
)
def test_its_imagery_is_found_from_there(tmp_path: Path, old: str, file: str, entry: str, new: str) -> None:
    imagery(tmp_path / old / file, 77)
    imagery(tmp_path / "maps 2" / "other.tif", 11)  # what a pattern of unescaped brackets would find
    (tmp_path / new).mkdir(parents=True, exist_ok=True)
    region = Region("here", CRS, (WEST, NORTH), SIZE_M, 4, 1, (entry,), "nobody", tmp_path / old)
    adopt(region, tmp_path / new)
    adopted = Region.load(tmp_path / new / "region.json")
    view = adopted.open().view(0, 0, 0, 16)
    assert view.mask.all() and (view.pixels == 77).all()
    assert not any(Path(name).is_absolute() for name in adopted.imagery)
