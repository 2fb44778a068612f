"""Makes a town: its overhead picture, its street photos and their manifest."""

import io
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import geopandas as gpd
import numpy as np
import piexif
import pyproj
import shapely
import typer
from rich.console import Console

from data_prep.cities import ortho
from data_prep.cities.camera import take
from data_prep.cities.look import overhead_look, street_look
from data_prep.cities.placement import Placement, Split, place
from data_prep.cities.world import World, make_world
from zoomloc import manifest
from zoomloc.errors import ConfigError, OutputError
from zoomloc.progress import progress

CRS = "EPSG:32632"
NORTH_WEST = (536000.0, 5702560.0)  # Hesse, half a degree east of the zone's central meridian
BRANCH, LEAF_M = 4, 40.0
SMALLEST_M = 320.0
FRAME_MM = (
    math.hypot(36, 24) * 16 / math.hypot(16, 9)
)  # width of a 16:9 frame with the diagonal of 35 mm film
ATTRIBUTION = "simulated by zoomloc"


@dataclass(frozen=True)
class Settings:
    """What decides every byte of a town; kept in `simulation.json` so that a resumed run cannot mix two."""

    seed: int
    photos: int
    size_m: float
    gsd_m: float
    width: int
    height: int
    test: int
    val: int


def make_city(
    out: Path,
    *,
    seed: int,
    photos: int,
    size_m: float = 2560.0,
    gsd_m: float = 0.5,
    width: int = 384,
    test: int | None = None,
    val: int | None = None,
    workers: int | None = None,
) -> None:
    """Write `out/{city.tif, region.json, manifest.parquet, photos/*.jpg}`; a second call finishes a killed one.

    `size_m` is the side of the town's square, `gsd_m` the pixel of the overhead picture and `width` that of
    the 16:9 photos in pixels. `test` and `val` are numbers of photos held out at spots at least 30 m from every
    training photo. Photo `i` depends on `seed`, the sizes and `i` only, not on `workers`.

    Raises ConfigError for impossible sizes, OutputError for a folder that cannot be used.
    """
    split = Split.of(photos, test=test, val=val)
    settings = Settings(seed, photos, size_m, gsd_m, width, round(width * 9 / 16), split.test, split.val)
    _check(settings)
    _claim(out, settings)
    with Console(stderr=True).status("building the town"):
        world = make_world(seed=seed, size_m=size_m)
        placements = place(world, seed=seed, split=split)
    job = _Job(out, world, placements, settings)
    jobs = workers or len(os.sched_getaffinity(0))
    if not (out / "city.tif").exists():
        _overhead(job, jobs)
    missing = [p.number for p in placements if not _photo_path(out, p.number).exists()]
    for _ in _parallel(_shoot, job, missing, jobs, "photos"):
        pass
    _write_manifest(out, job)
    _write_region(out, settings)


@dataclass(frozen=True)
class _Job:
    """What the workers share; they inherit it by fork instead of receiving it."""

    out: Path
    world: World
    placements: list[Placement]
    settings: Settings


_job: _Job | None = None


def _inherited() -> _Job:
    assert _job is not None
    return _job


def _check(s: Settings) -> None:
    if s.size_m < SMALLEST_M:
        raise ConfigError(f"a town of {s.size_m:g} m is too small; choose at least {SMALLEST_M:g} m")
    if not 0 < s.gsd_m <= s.size_m / 64 or abs(s.size_m / s.gsd_m - round(s.size_m / s.gsd_m)) > 1e-6:
        raise ConfigError(
            f"a pixel of {s.gsd_m:g} m does not divide {s.size_m:g} m; choose one that does, such as 0.5 m"
        )
    if s.width < 64:
        raise ConfigError(f"photos {s.width} pixels wide show too little; choose at least 64")


def _claim(out: Path, settings: Settings) -> None:
    """Make the folder, or make sure that it was begun with the same settings."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the town")
    (out / "photos").mkdir(parents=True, exist_ok=True)
    record = out / "simulation.json"
    wanted = json.dumps(vars(settings), indent=1)
    if not record.exists():
        record.write_text(wanted)
    elif record.read_text() != wanted:
        raise OutputError(f"{out} holds a town made with other settings ({record.name}); name another folder")


def _parallel(
    work: Callable[[int], Any], job: _Job, items: Iterable[int], jobs: int, title: str
) -> Iterable[Any]:
    """Results of `work` in order, from forked workers that share the built town, under a progress bar."""
    global _job
    _job = job
    items = list(items)
    if jobs == 1:
        yield from progress(map(work, items), title, len(items))
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from progress(pool.imap(work, items, chunksize=4), title, len(items))


def _overhead(job: _Job, jobs: int) -> None:
    s = job.settings
    rows = _parallel(_strip, job, ortho.strips(s.size_m, s.gsd_m), jobs, "overhead")
    pixels = np.concatenate(list(rows), axis=1)
    ortho.write(pixels, job.out / "city.tif", crs=CRS, north_west=NORTH_WEST, gsd_m=s.gsd_m, quality=76)


def _strip(first: int) -> Any:
    job = _inherited()
    look = overhead_look(np.random.default_rng([job.settings.seed, 5]))
    return ortho.strip(job.world, look, first, job.settings.gsd_m)


def _photo_path(out: Path, number: int) -> Path:
    return out / "photos" / f"{number:06d}.jpg"


def _shoot(number: int) -> None:
    job = _inherited()
    s, placed = job.settings, job.placements[number]
    rng = np.random.default_rng([s.seed, 6, number])
    look = street_look(rng)
    picture = take(
        job.world, placed.pose, look, width=s.width, height=s.height, moment=placed.moment, rng=rng
    )
    lat, lon, heading = geographic(placed, s.size_m)
    tags = exif(
        lat=lat, lon=lon, heading_deg=heading, fov_deg=placed.pose.fov_deg, captured_at=look.captured_at
    )
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=look.quality, exif=tags)
    path = _photo_path(job.out, number)
    part = path.with_suffix(".part")
    part.write_bytes(data.getvalue())
    part.replace(path)


@cache
def _projection() -> pyproj.Proj:
    return pyproj.Proj(CRS)


def geographic(placed: Placement, size_m: float) -> tuple[float, float, float]:
    """Latitude, longitude and heading from true north, in degrees.

    Grid north leans from true north by the meridian convergence (0.4 degrees here), so it is added.
    """
    projection = _projection()
    lon, lat = projection(NORTH_WEST[0] + placed.pose.x, NORTH_WEST[1] - size_m + placed.pose.y, inverse=True)
    lean = projection.get_factors(lon, lat).meridian_convergence
    return lat, lon, (placed.pose.azimuth_deg + lean) % 360


def exif(*, lat: float, lon: float, heading_deg: float, fov_deg: float, captured_at: datetime) -> bytes:
    """EXIF as a phone writes it, the position to a tenth of a millimetre."""
    focal_35_mm = FRAME_MM / 2 / np.tan(np.radians(fov_deg) / 2)
    gps = {
        piexif.GPSIFD.GPSVersionID: (2, 3, 0, 0),
        piexif.GPSIFD.GPSLatitudeRef: "N" if lat >= 0 else "S",
        piexif.GPSIFD.GPSLatitude: _dms(lat),
        piexif.GPSIFD.GPSLongitudeRef: "E" if lon >= 0 else "W",
        piexif.GPSIFD.GPSLongitude: _dms(lon),
        piexif.GPSIFD.GPSImgDirectionRef: "T",
        piexif.GPSIFD.GPSImgDirection: (round(heading_deg * 1000), 1000),
    }
    taken = captured_at.strftime("%Y:%m:%d %H:%M:%S")
    shot = {
        piexif.ExifIFD.DateTimeOriginal: taken,
        piexif.ExifIFD.OffsetTimeOriginal: "+00:00",
        # The tag holds whole millimetres; the exact focal length for such film is the other one.
        piexif.ExifIFD.FocalLengthIn35mmFilm: round(focal_35_mm),
        piexif.ExifIFD.FocalLength: (round(focal_35_mm * 1000), 1000),
    }
    about = {piexif.ImageIFD.ImageDescription: "simulated", piexif.ImageIFD.Software: "zoomloc"}
    return bytes(piexif.dump({"0th": about, "Exif": shot, "GPS": gps}))


def _dms(degrees: float) -> tuple[tuple[int, int], ...]:
    ticks = round(abs(degrees) * 3600 * 1_000_000)
    minutes, seconds = divmod(ticks, 60 * 1_000_000)
    return (minutes // 60, 1), (minutes % 60, 1), (seconds, 1_000_000)


def _write_manifest(out: Path, job: _Job) -> None:
    s = job.settings
    where = [geographic(p, s.size_m) for p in job.placements]
    looks = [street_look(np.random.default_rng([s.seed, 6, p.number])) for p in job.placements]
    frame = gpd.GeoDataFrame(
        {
            "photo": [f"photos/{p.number:06d}.jpg" for p in job.placements],
            "heading": [heading for _, _, heading in where],
            "captured_at": [look.captured_at for look in looks],
            "sequence": [p.sequence for p in job.placements],
            "split": [p.split for p in job.placements],
            "fov": [p.pose.fov_deg for p in job.placements],
            "projection": "perspective",
        },
        geometry=[shapely.Point(lon, lat) for lat, lon, _ in where],
        crs="EPSG:4326",
    )
    manifest.write(frame, out / "manifest.parquet")


def _write_region(out: Path, s: Settings) -> None:
    depth = max(1, round(np.log(s.size_m / LEAF_M) / np.log(BRANCH)))
    region = {
        "name": f"simulated-{s.seed}",
        "crs": CRS,
        "north_west": list(NORTH_WEST),
        "size_m": s.size_m,
        "branch": BRANCH,
        "depth": depth,
        "imagery": ["city.tif"],
        "attribution": ATTRIBUTION,
    }
    (out / "region.json").write_text(json.dumps(region, indent=1) + "\n")


def main(
    out: Annotated[Path, typer.Option(help="Folder to write; a killed run is taken up again.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same town, byte for byte.")] = 7,
    photos: Annotated[int, typer.Option(min=5, help="Street photos in all.")] = 24000,
    size_m: Annotated[float, typer.Option(help="Side of the town in metres.")] = 2560.0,
    gsd_m: Annotated[float, typer.Option(help="Metres per overhead pixel.")] = 0.5,
    width: Annotated[int, typer.Option(help="Width of the 16:9 photos in pixels.")] = 384,
    test: Annotated[int | None, typer.Option(help="Photos held out for testing (default 1 in 40).")] = None,
    val: Annotated[
        int | None, typer.Option(help="Photos held out for validation (default 1 in 120).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (default: one a core).")] = None,
) -> None:
    """Simulate a town: an orthophoto and street photos cast from one geometry."""
    make_city(
        out,
        seed=seed,
        photos=photos,
        size_m=size_m,
        gsd_m=gsd_m,
        width=width,
        test=test,
        val=val,
        workers=workers,
    )
