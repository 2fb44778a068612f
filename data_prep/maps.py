"""A picture of where the photos of a manifest were taken, over the region's imagery where there is any."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Transformer

from data_prep.positions import ELLIPSOID
from tiles import Bounds, TilesError, View
from zoomloc import manifest
from zoomloc.errors import RegionError
from zoomloc.files import atomic
from zoomloc.grid import WGS84
from zoomloc.region import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"train": "#56B4E9", "val": "#F0E442", "test": "#D55E00"}  # told apart by the colour-blind too
INK, PLAIN = "#1f2328", "#eef0f2"
PX, SIDE_IN = 1260, 9.0  # the longer side of the map, in pixels and inches
SMALLEST_M = 200.0
WIDE_DEG = 5.0  # photos farther apart than this are drawn in degrees: no scale is right for all of them
MOST_ARROWS = 2000


@dataclass(frozen=True)
class Ground:
    """What the photos are drawn on.

    crs, bounds: of the picture. view: the imagery in it, None for a plain background. attribution: of the
    imagery. region: the region it belongs to, None without one.
    """

    crs: str
    bounds: Bounds
    view: View | None
    attribution: str
    region: Region | None

    @property
    def in_degrees(self) -> bool:
        return self.crs == WGS84


def ground(frame: gpd.GeoDataFrame, folder: Path, px: int = PX) -> Ground:
    """The ground under the photos: the part of `folder/region.json` that holds them, else a plain one.

    px: the longer side of the imagery. Imagery that cannot be read is told on stderr and left out: a picture
    is no reason to fail. Raises RegionError for a region file that is broken.
    """
    if not (folder / "region.json").exists():
        return _plain_ground(frame)
    region = Region.load(folder / "region.json")
    square = region.grid.bounds(region.grid.root)
    points = project(frame, region.crs)
    inside = points[_within(points, square)]
    around = _around(inside, smallest=SMALLEST_M) if len(inside) else square
    bounds = Bounds(
        max(around.west, square.west), max(around.south, square.south),
        min(around.east, square.east), min(around.north, square.north),
    )  # fmt: skip
    scale = px / max(bounds.width, bounds.height)
    try:
        pyramid = region.open()
        shape = max(1, round(bounds.height * scale)), max(1, round(bounds.width * scale))
        view = pyramid.source.read(bounds, region.crs, shape)
        attribution = pyramid.source.attribution
        pyramid.close()
    except (RegionError, TilesError) as error:
        print(f"the map goes without imagery: {error}", file=sys.stderr)
        view, attribution = None, ""
    return Ground(region.crs, bounds, view, attribution, region)


def credit(row: Mapping[str, Any]) -> str:
    """The licence of a photo and whom to name for it, as far as its row in the manifest says."""
    return " · ".join(row[name] for name in manifest.CREDITS if pd.notna(row[name]))


def project(frame: gpd.GeoDataFrame, crs: str) -> NDArray[np.float64]:
    """The photos' positions in a CRS, (n, 2) as (x, y)."""
    transformer = Transformer.from_crs(WGS84, crs, always_xy=True)
    return np.column_stack(transformer.transform(frame.geometry.x, frame.geometry.y))


def looking(frame: gpd.GeoDataFrame, crs: str) -> NDArray[np.float64]:
    """Unit vectors of the photos' headings in a CRS, whose grid north is not true north; (n, 2), nan where unknown.

    In degrees they point as on a compass, though such a map is stretched.
    """
    lons, lats = frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy()
    headings = frame["heading"].to_numpy(np.float64)
    if crs == WGS84:
        return np.column_stack([np.sin(np.radians(headings)), np.cos(np.radians(headings))])
    known = np.isfinite(headings)
    ahead_lons, ahead_lats, _ = ELLIPSOID.fwd(lons[known], lats[known], headings[known], np.ones(known.sum()))
    transform = Transformer.from_crs(WGS84, crs, always_xy=True).transform
    steps = np.full((len(frame), 2), np.nan)
    steps[known] = np.column_stack(transform(ahead_lons, ahead_lats)) - np.column_stack(
        transform(lons[known], lats[known])
    )
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


def beyond(frame: gpd.GeoDataFrame, ground: Ground) -> int:
    """How many photos lie outside the picture."""
    return int((~_within(project(frame, ground.crs), ground.bounds)).sum())


def draw(frame: gpd.GeoDataFrame, ground: Ground, path: Path, *, title: str) -> None:
    """Write a PNG of the photos, coloured by split, with their headings. Raises OutputError."""
    from matplotlib.figure import Figure

    scale = SIDE_IN / max(ground.bounds.width, ground.bounds.height)
    width, height = ground.bounds.width * scale, ground.bounds.height * scale
    left, low, right, top = (0.8, 0.8, 0.2, 0.4) if ground.in_degrees else (0.15, 0.35, 0.15, 0.4)
    page = left + width + right, low + height + top
    figure = Figure(figsize=page, dpi=PX / SIDE_IN)
    axes = figure.add_axes((left / page[0], low / page[1], width / page[0], height / page[1]))
    _draw_ground(axes, ground)
    size = float(np.clip(4000 / len(frame), 5, 60))
    _draw_photos(axes, frame, ground, size)
    outside = beyond(frame, ground)
    heading = title + (f" · {outside:,} beyond this map" if outside else "")
    axes.set_title(heading, loc="left", color=INK, parse_math=False)
    axes.legend(loc="upper right", framealpha=0.9, fontsize=9, markerscale=max(1.0, (40 / size) ** 0.5))
    if ground.attribution:
        credit = f"Imagery: {ground.attribution}"
        figure.text(left / page[0], 0.1 / page[1], credit, fontsize=8, color=INK, parse_math=False)
    with atomic(path) as draft:
        figure.savefig(draft, format="png")


def _draw_ground(axes: "Axes", ground: Ground) -> None:
    bounds = ground.bounds
    axes.set_xlim(bounds.west, bounds.east)
    axes.set_ylim(bounds.south, bounds.north)
    axes.set_facecolor(PLAIN)
    if ground.in_degrees:
        axes.set_aspect("auto")
        axes.grid(color="white")
        axes.set_xlabel("longitude")
        axes.set_ylabel("latitude")
        return
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    if ground.view is not None:
        from zoomloc.figure import checkered

        extent = (bounds.west, bounds.east, bounds.south, bounds.north)
        axes.imshow(checkered(ground.view), extent=extent, interpolation="nearest")
    _draw_scale(axes, bounds)


def _draw_scale(axes: "Axes", bounds: Bounds) -> None:
    """A bar of 1, 2 or 5 times a power of ten metres, at most a quarter of the width."""
    length = round_length(bounds.width / 4)
    left, low = bounds.west + bounds.width * 0.03, bounds.south + bounds.height * 0.03
    for colour, line in (("white", 7), (INK, 3)):
        axes.plot([left, left + length], [low, low], color=colour, linewidth=line, solid_capstyle="butt")
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.text(
        left, low + bounds.height * 0.012, text, color=INK, fontsize=9,
        bbox={"facecolor": "white", "alpha": 0.8, "pad": 1.5, "edgecolor": "none"},
    )  # fmt: skip


def round_length(at_most: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not more."""
    power = 10.0 ** (ceil(log10(at_most)) - 1)
    return max(step * power for step in (0.5, 1, 2, 5, 10) if step * power <= at_most)


def _draw_photos(axes: "Axes", frame: gpd.GeoDataFrame, ground: Ground, size: float) -> None:
    """Held-out photos last, on top: they are few and they matter most."""
    points, ahead = project(frame, ground.crs), looking(frame, ground.crs)
    for split, colour in COLOURS.items():
        rows = (frame["split"] == split).to_numpy()
        if not rows.any():
            continue
        area = size if split == "train" else 2 * size
        axes.scatter(
            points[rows, 0], points[rows, 1], s=area, color=colour, edgecolors=INK, linewidths=0.1 * area**0.5,
            label=f"{split} ({rows.sum():,})", zorder=3,
        )  # fmt: skip
        arrows = rows & np.isfinite(ahead[:, 0])
        if len(frame) <= MOST_ARROWS and arrows.any():
            axes.quiver(
                *points[arrows].T, *ahead[arrows].T, color=colour, edgecolor=INK, linewidth=0.4,
                scale=28, width=0.0028, zorder=2,
            )  # fmt: skip


def _plain_ground(frame: gpd.GeoDataFrame) -> Ground:
    """In metres around the middle of the photos, or in degrees where they are too far apart for that."""
    west, south, east, north = frame.total_bounds
    if max(east - west, north - south) > WIDE_DEG:
        return Ground(WGS84, _around(project(frame, WGS84), smallest=WIDE_DEG), None, "", None)
    crs = f"+proj=aeqd +lat_0={(south + north) / 2:.6f} +lon_0={(west + east) / 2:.6f} +datum=WGS84"
    return Ground(crs, _around(project(frame, crs), smallest=SMALLEST_M), None, "", None)


def _around(points: NDArray[np.float64], *, smallest: float) -> Bounds:
    """The square around points, with a margin, at least `smallest` a side."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(float((high - low).max()) * 0.54, smallest / 2)
    x, y = (low + high) / 2
    return Bounds(x - half, y - half, x + half, y + half)


def _within(points: NDArray[np.float64], bounds: Bounds) -> NDArray[np.bool_]:
    x, y = points.T
    return (bounds.west <= x) & (x <= bounds.east) & (bounds.south <= y) & (y <= bounds.north)
