"""The overhead picture: parallel rays straight down, written as a Cloud-Optimized GeoTIFF."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster

from data_prep.cities.camera import film
from data_prep.cities.look import Look
from data_prep.cities.shade import radiance
from data_prep.cities.world import World

Floats = NDArray[np.float32]
ROWS = 64
SAMPLES = ((0.25, 0.25), (0.75, 0.75))  # where in a pixel its rays go down
FROM_M = 400.0  # at least, and above whatever is taller


def strips(size_m: float, gsd_m: float) -> Iterator[int]:
    """First rows of the strips in which the picture is made."""
    return iter(range(0, round(size_m / gsd_m), ROWS))


def strip(world: World, look: Look, first: int, gsd_m: float) -> NDArray[np.uint8]:
    """Rows `first` and following, `(3, rows, width)`; every pixel is the mean of its rays."""
    side = round(world.plan.size_m / gsd_m)
    rows = min(ROWS, side - first)
    start = max(FROM_M, world.top_m + 20)
    total = np.zeros((3, rows * side), np.float32)
    for dx, dy in SAMPLES:
        x = np.tile((np.arange(side, dtype=np.float32) + dx) * gsd_m, rows)
        y = np.repeat(world.plan.size_m - (first + np.arange(rows, dtype=np.float32) + dy) * gsd_m, side)
        origins = np.column_stack([x, y, np.full_like(x, start)]).astype(np.float32)
        down = np.zeros_like(origins)
        down[:, 2] = -1.0
        total += radiance(world, origins, down, look, moment=0, pixel_rad=gsd_m / start)
    gain = look.balance[:, :, None] * np.float32(0.8 / len(SAMPLES))
    return film(total.reshape(3, rows, side) * gain)


def write(
    pixels: NDArray[np.uint8],
    path: Path,
    *,
    crs: str,
    north_west: tuple[float, float],
    gsd_m: float,
    quality: int,
    copyright: str | None = None,
) -> None:
    """Write `(3, h, w)` as a COG with averaged overviews."""
    _, h, w = pixels.shape
    place = rasterio.transform.from_origin(*north_west, gsd_m, gsd_m)
    shape = {"width": w, "height": h, "count": 3, "dtype": "uint8", "crs": crs, "transform": place}
    part = path.with_suffix(".part.tif")
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", photometric="RGB", **shape) as plain:
            plain.write(pixels)
            plain.update_tags(TIFFTAG_IMAGEDESCRIPTION="simulated orthophoto")
            if copyright:
                plain.update_tags(TIFFTAG_COPYRIGHT=copyright)
        with memory.open() as plain:
            copy_raster(
                plain, part, driver="COG", COMPRESS="JPEG", QUALITY=str(quality), OVERVIEW_RESAMPLING="AVERAGE",
                BLOCKSIZE="256", OVERVIEW_QUALITY=str(quality),
            )  # fmt: skip
    part.replace(path)
