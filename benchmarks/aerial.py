"""A made-up aerial picture of 10 x 10 km in UTM, stored in every way that `benchmarks/tiles.py` compares."""

import json
import time
from pathlib import Path

import numpy as np

CRS, WEST, NORTH, SIDE_M = "EPSG:32632", 440_000.0, 5_135_000.0, 10_000.0
SQUARE = {"crs": CRS, "north_west": (WEST, NORTH), "size_m": SIDE_M, "branch": 4, "depth": 4}
TILE, ZOOMS, QUALITY = 256, 8, 90
DETAIL = 4096  # a side of the detail that is repeated over the picture


def finest_m(folder: Path) -> float:
    return SIDE_M / json.loads((folder / "about.json").read_text())["side"]


def make(folder: Path, side: int) -> None:
    """Everything that is read, each once; every step says what it took."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.json").write_text(json.dumps({"side": side}))
    steps = {
        "picture.tif": lambda path: make_picture(path, side),
        "picture.cog.tif": make_cog,
        "utm": make_tiles,
        "web.mbtiles": lambda path: make_pyramid(path, "web"),
        "cells.mbtiles": lambda path: make_pyramid(path, "cells"),
    }
    for name, step in steps.items():
        if not (folder / name).exists():
            start = time.perf_counter()
            step(folder / name)
            print(f"made {name} in {time.perf_counter() - start:.0f} s", flush=True)


def make_picture(path: Path, side: int) -> None:
    """Detail that is repeated, darker here and lighter there; as a plain GeoTIFF."""
    import cv2
    import rasterio

    rng = np.random.default_rng(0)
    detail = make_detail(rng)[:, np.arange(side) % DETAIL].astype(np.int16) - 110
    light = rng.normal(110, 35, (side // 250, side // 250)).astype(np.float32)
    light = cv2.resize(light, (side, side // 8), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    part = path.with_name("picture.part.tif")
    with rasterio.open(
        part, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=CRS, bigtiff="yes",
        transform=rasterio.Affine(SIDE_M / side, 0, WEST, 0, -SIDE_M / side, NORTH), interleave="pixel",
        tiled=True, blockxsize=512, blockysize=512,
    ) as raster:  # fmt: skip
        for top in range(0, side, 512):
            row = np.arange(top, min(top + 512, side))
            values = detail[row % DETAIL] + light[np.minimum(row // 8, len(light) - 1)][..., None]
            strip = np.moveaxis(np.clip(values, 0, 255).astype(np.uint8), -1, 0)
            raster.write(strip, window=rasterio.windows.Window(0, top, side, len(row)))
    part.rename(path)


def make_detail(rng: np.random.Generator) -> np.ndarray:
    import cv2

    field = np.full((DETAIL, DETAIL), 110, np.float32)
    for k in (4 * 2**i for i in range(10)):
        noise = rng.standard_normal((k, k), np.float32) * 24 / k**0.25
        field += cv2.resize(noise, (DETAIL, DETAIL), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(field[..., None] * [0.95, 1.0, 0.85], 0, 255).astype(np.uint8)
    for _ in range(60):
        ends = rng.integers(-DETAIL // 5, DETAIL * 6 // 5, (2, 2)).tolist()
        cv2.line(picture, *ends, [int(rng.integers(90, 150))] * 3, int(rng.integers(8, 30)), cv2.LINE_AA)
    for x, y, side, ratio, turn in rng.uniform((0, 0, 6, 0.5, 0), (DETAIL, DETAIL, 40, 2, 90), (9000, 5)):
        roof = cv2.boxPoints(((x, y), (side, side * ratio), turn)) * 8
        colour = (rng.uniform(60, 210) + rng.uniform(-20, 20, 3)).tolist()
        cv2.fillPoly(picture, [np.int32(roof + side)], (30, 30, 35), cv2.LINE_AA, 3)
        cv2.fillPoly(picture, [np.int32(roof)], colour, cv2.LINE_AA, 3)
    for x, y, radius, green in rng.integers(
        (0, 0, 16, 40), (DETAIL * 8, DETAIL * 8, 80, 110), (30000, 4)
    ).tolist():
        cv2.circle(picture, (x, y), radius, (green // 2, green, green // 2), -1, cv2.LINE_AA, 3)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.6)
    noise = rng.standard_normal(picture.shape, np.float32) * 2.5
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def make_cog(path: Path) -> None:
    from rasterio.shutil import copy

    part = path.with_name("cog.part.tif")
    copy(
        path.with_name("picture.tif"), part, driver="COG", compress="JPEG", quality=QUALITY, blocksize=512,
        overview_resampling="average", overview_quality=QUALITY, num_threads="all_cpus",
    )  # fmt: skip
    part.rename(path)


def make_pyramid(path: Path, kind: str) -> None:
    import tiles
    from tiles.build import build

    pyramid = tiles.Pyramid(tiles.open(path.with_name("picture.tif")), **SQUARE)
    build(pyramid, path, kind=kind)


def make_tiles(folder: Path) -> None:
    """utm/zoom/col/row.jpg, and the description tiledwebmaps reads; every level halves the one before."""
    import rasterio
    import simplejpeg
    import yaml

    with rasterio.open(folder.with_name("picture.tif")) as picture:
        level = np.moveaxis(picture.read(), 0, -1)
    part, coarsest_m = folder.with_name("utm.part"), SIDE_M / len(level) * TILE * 2 ** (ZOOMS - 1)
    for zoom in reversed(range(ZOOMS)):
        for row, top in enumerate(range(0, len(level), TILE)):
            for col, left in enumerate(range(0, len(level), TILE)):
                tile = np.full((TILE, TILE, 3), 255, np.uint8)
                seen = level[top : top + TILE, left : left + TILE]
                tile[: seen.shape[0], : seen.shape[1]] = seen
                path = part / f"{zoom}/{col}/{row}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(simplejpeg.encode_jpeg(tile, QUALITY, colorsubsampling="420"))
        half = len(level) // 2
        strips = (level[i : i + 512] for i in range(0, 2 * half, 512))
        level = np.concatenate([halved(strip[: len(strip) // 2 * 2, : 2 * half]) for strip in strips])
    layout = {
        "crs": CRS.lower(), "tile_axes": ["east", "south"], "tile_shape_px": [TILE, TILE],
        "tile_shape_crs": [coarsest_m] * 2, "origin_crs": [WEST, NORTH - coarsest_m], "size_crs": [coarsest_m] * 2,
        "min_zoom": 0, "max_zoom": ZOOMS - 1, "path": "{zoom}/{x}/{y}.jpg",
    }  # fmt: skip
    (part / "layout.yaml").write_text(yaml.safe_dump(layout))
    part.rename(folder)


def halved(picture: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 pixels, to the nearest even number: OpenCV, always up, adds half a grey value in all."""
    import cv2

    half = picture.shape[1] // 2, picture.shape[0] // 2
    mean = cv2.resize(picture.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    return np.rint(mean).astype(np.uint8)
