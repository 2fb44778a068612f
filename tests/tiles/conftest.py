"""Small rasters made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    """write_raster(values (bands, h, w), crs=..., west=..., north=..., gsd=..., **profile) -> path."""

    def write(values, *, name="image.tif", crs="EPSG:32632", west=0.0, north=0.0, gsd=1.0, transform=None,
              overviews=(), colours=None, alpha=None, driver="GTiff", **profile):  # fmt: skip
        path = tmp_path / name
        values = np.asarray(values)
        bands, height, width = values.shape
        transform = transform or Affine(gsd, 0, west, 0, -gsd, north)
        shape = {"width": width, "height": height, "count": bands, "dtype": values.dtype}
        with rasterio.open(
            path, "w", driver=driver, crs=crs, transform=transform, **shape, **profile
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(values)
            if alpha is not None:
                dataset.write_mask(alpha)
            if overviews:
                dataset.build_overviews(overviews, Resampling.average)
        return path

    return write
