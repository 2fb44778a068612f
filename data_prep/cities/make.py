"""Makes a town: its overhead picture, its street photos and their manifest."""

import io
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from rich.console import Console

from data_prep.cities import ortho
from data_prep.cities.camera import take
from data_prep.cities.drives import drive
from data_prep.cities.look import MIXED, Look, Season, Weather, overhead_look, street_look
from data_prep.cities.osm import centre, read, survey
from data_prep.cities.placement import FOV_DEG, Placement, Split, place, turn_around
from data_prep.cities.plan import Plan, make_plan
from data_prep.cities.settings import OSM_LICENCE, Settings, check
from data_prep.cities.square import Square, around
from data_prep.cities.tags import exif, panorama_xmp
from data_prep.cities.world import World, make_world
from zoomloc import manifest
from zoomloc.errors import OutputError
from zoomloc.progress import progress

BRANCH, LEAF_M = 4, 40.0
MAP_MARGIN_M = 420.0  # how far beyond the square a map is read


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
    osm: Path | None = None,
    square: Square | None = None,
    panoramas: float = 0.0,
    drives: int = 0,
    season: Season = Season.mixed,
    weather: Weather = Weather.mixed,
    hours: tuple[float, float] = MIXED.hours,
    fov_deg: tuple[float, float] = FOV_DEG,
) -> None:
    """Write `out/{city.tif, region.json, manifest.parquet, photos/*.jpg}`; a second call finishes a killed one.

    `size_m` is the side of the town's square, `gsd_m` the pixel of the overhead picture and `width` that of
    the 16:9 photos in pixels. `test` and `val` are numbers of photos held out at spots at least 30 m from every
    training photo. Photo `i` depends on the settings and `i` only, not on `workers`.

    `osm` is a file of OpenStreetMap: the town is laid out on what it has in `square` (its middle by default).
    `panoramas` is the share of photos that show all around, 2:1 equirectangular, `2 * width` wide. With `drives`
    the photos are taken on that many drives along the streets. `hours` are solar, `fov_deg` horizontal.

    Raises ConfigError for impossible sizes, OutputError for a folder that cannot be used, SourceError for a map
    that cannot be read or has no street there.
    """
    split = Split.of(photos, test=test, val=val)
    settings = Settings(
        seed, photos, size_m, gsd_m, width, round(width * 9 / 16), split.test, split.val,
        panoramas=panoramas, drives=drives, season=season, weather=weather, hours=hours, fov_deg=fov_deg,
    )  # fmt: skip
    check(settings)
    if osm is not None:
        settings = _on_map(settings, osm, square)
    plan = _plan(settings, osm)
    _claim(out, settings)
    with Console(stderr=True).status("building the town"):
        world = make_world(plan, seed=seed)
        placements = _placements(world, settings, split)
    job = _Job(out, world, placements, settings)
    jobs = workers or len(os.sched_getaffinity(0))
    if not (out / "city.tif").exists():
        _overhead(job, jobs)
    missing = [p.number for p in placements if not _photo_path(out, p.number).exists()]
    for _ in _parallel(_shoot, job, missing, jobs, "photos"):
        pass
    _write_manifest(out, job)
    _write_region(out, settings)


def _on_map(s: Settings, osm: Path, square: Square | None) -> Settings:
    """The settings of a town laid out on a map."""
    if square is None:
        square = around(*centre(read(osm)), s.size_m)
    sized = replace(
        s, map=f"{osm.name}, {osm.stat().st_size} bytes", crs=square.crs, north_west=square.north_west,
        size_m=square.size_m,
    )  # fmt: skip
    check(sized)
    return sized


def _plan(s: Settings, osm: Path | None) -> Plan:
    if osm is None:
        return make_plan(seed=s.seed, size_m=s.size_m)
    return survey(read(osm, s.square.window(MAP_MARGIN_M)), s.square, seed=s.seed)


def _placements(world: World, s: Settings, split: Split) -> list[Placement]:
    if s.drives:
        placed = drive(world, seed=s.seed, split=split, drives=s.drives, fov_deg=s.fov_deg)
    else:
        placed = place(world, seed=s.seed, split=split, fov_deg=s.fov_deg)
    return turn_around(placed, seed=s.seed, share=s.panoramas)


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


def _claim(out: Path, settings: Settings) -> None:
    """Make the folder, or make sure that it was begun with the same settings."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder for the town")
    (out / "photos").mkdir(parents=True, exist_ok=True)
    record = out / "simulation.json"
    wanted = settings.record
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
    ortho.write(
        pixels, job.out / "city.tif", crs=s.crs, north_west=s.north_west, gsd_m=s.gsd_m, quality=76,
        copyright=_copyright(s),
    )  # fmt: skip


def _strip(first: int) -> Any:
    job = _inherited()
    look = overhead_look(np.random.default_rng([job.settings.seed, 5]), job.settings.conditions)
    return ortho.strip(job.world, look, first, job.settings.gsd_m)


def _photo_path(out: Path, number: int) -> Path:
    return out / "photos" / f"{number:06d}.jpg"


def _look(s: Settings, placed: Placement) -> tuple[Look, np.random.Generator]:
    """The look of a photo, and the generator for the rest of it; photos of one drive share the day and the light."""
    rng = np.random.default_rng([s.seed, 6, placed.number])
    if placed.drive is None:
        return street_look(rng, s.conditions), rng
    look = street_look(np.random.default_rng([s.seed, 13, placed.drive]), s.conditions)
    return replace(look, captured_at=look.captured_at + timedelta(seconds=round(placed.elapsed_s))), rng


def _shoot(number: int) -> None:
    job = _inherited()
    s, placed = job.settings, job.placements[number]
    look, rng = _look(s, placed)
    whole = placed.pose.spherical
    width, height = (2 * s.width, s.width) if whole else (s.width, s.height)
    if whole:
        look = replace(look, vignette=0.0)  # stitched from many
    picture = take(job.world, placed.pose, look, width=width, height=height, moment=placed.moment, rng=rng)
    lat, lon, heading = geographic(s.square, placed)
    tags = exif(
        lat=lat, lon=lon, heading_deg=heading, fov_deg=None if whole else placed.pose.fov_deg,
        captured_at=look.captured_at, copyright=_copyright(s),
    )  # fmt: skip
    xmp = {"xmp": panorama_xmp(heading_deg=heading, width=width, height=height)} if whole else {}
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=look.quality, exif=tags, **xmp)
    path = _photo_path(job.out, number)
    part = path.with_suffix(".part")
    part.write_bytes(data.getvalue())
    part.replace(path)


def geographic(square: Square, placed: Placement) -> tuple[float, float, float]:
    """Latitude, longitude and heading from true north, in degrees.

    Grid north leans from true north by the meridian convergence, so it is added to the azimuth.
    """
    lat, lon = square.geographic(placed.pose.x, placed.pose.y)
    return lat, lon, (placed.pose.azimuth_deg + square.lean_deg(lat, lon)) % 360


def _copyright(s: Settings) -> str | None:
    """For the files' own tags, which hold ASCII."""
    return None if s.map is None else s.attribution.replace("©", "(c)")


def _write_manifest(out: Path, job: _Job) -> None:
    s = job.settings
    where = [geographic(s.square, p) for p in job.placements]
    looks = [_look(s, p)[0] for p in job.placements]
    frame = gpd.GeoDataFrame(
        {
            "photo": [f"photos/{p.number:06d}.jpg" for p in job.placements],
            "heading": [heading for _, _, heading in where],
            "captured_at": [look.captured_at for look in looks],
            "sequence": [p.sequence for p in job.placements],
            "split": [p.split for p in job.placements],
            "fov": [p.pose.fov_deg for p in job.placements],
            "projection": ["spherical" if p.pose.spherical else "perspective" for p in job.placements],
            **({} if s.map is None else {"licence": OSM_LICENCE, "attribution": s.attribution}),
        },
        geometry=[shapely.Point(lon, lat) for lat, lon, _ in where],
        crs="EPSG:4326",
    )
    manifest.write(frame, out / "manifest.parquet")


def _write_region(out: Path, s: Settings) -> None:
    depth = max(1, round(np.log(s.size_m / LEAF_M) / np.log(BRANCH)))
    region = {
        "name": f"simulated-{s.seed}" if s.map is None else f"simulated-{s.map.split('.')[0]}",
        "crs": s.crs,
        "north_west": list(s.north_west),
        "size_m": s.size_m,
        "branch": BRANCH,
        "depth": depth,
        "imagery": ["city.tif"],
        "attribution": s.attribution,
    }
    (out / "region.json").write_text(
        json.dumps(region, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
