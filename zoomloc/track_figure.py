"""A picture of a walk: its way over the imagery, and how sure each point of it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiles import Bounds, Pyramid
from zoomloc.figure import ANSWER, FAINT, INK, TRUTH, checkered
from zoomloc.files import atomic
from zoomloc.region import Region
from zoomloc.track import Fix

MAP_PX = 900
MARGIN_M = 60.0  # around what is shown
CIRCLES = 12  # of a walk's photos, at most so many show how far off they may be
AWAY = 0.5  # likelier not here than here


def draw(walk: Sequence[Fix], *, region: Region, pyramid: Pyramid, path: str | Path) -> None:
    """Draws a PNG: the walk on the map, with the circle that holds half of the probability around some of its points,
    where single photos would have put them, and their EXIF positions where they have one; below, the radii and the
    probability of not being on the map over time.

    Raises OutputError if the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 12.4), layout="constrained", facecolor="white")
    top, bottom = figure.subplots(2, 1, height_ratios=[10, 2.4])
    _draw_map(top, walk, region, pyramid)
    _draw_course(bottom, walk)
    with atomic(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def _draw_map(axes: Any, walk: Sequence[Fix], region: Region, pyramid: Pyramid) -> None:
    project = region.grid.project
    here = [fix for fix in walk if fix.prediction.not_here <= AWAY]
    way = np.array([project(fix.prediction.lat, fix.prediction.lon) for fix in here]).reshape(-1, 2)
    alone = np.array([project(*fix.alone) for fix in walk if fix.alone]).reshape(-1, 2)
    true = [
        project(f.photo.lat, f.photo.lon) for f in walk if f.photo.lat is not None and f.photo.lon is not None
    ]
    truth = np.array(true).reshape(-1, 2)
    view = _around(np.concatenate([way, truth]), region)
    shown = pyramid.source.read(view, region.crs, (MAP_PX, MAP_PX))
    width, height = view.width, view.height
    ground = checkered(shown).mean(axis=2, keepdims=True) * 0.55 + 100  # grey, so that colours tell
    axes.imshow(ground.astype(np.uint8).repeat(3, axis=2), extent=(0, width, 0, height))
    way, alone, truth = (points - (view.west, view.south) for points in (way, alone, truth))
    axes.plot(*alone.T, "x", color=INK, ms=5, mew=1, alpha=0.7, label="each photo alone")
    if len(truth):
        axes.plot(*truth.T, "-", color=TRUTH, lw=5, alpha=0.9, label="EXIF positions", solid_capstyle="round")
    axes.plot(*way.T, "-o", color=ANSWER, lw=2, ms=4, mec="white", mew=0.6, label="the walk, by all photos")
    for i in range(0, len(here), max(1, len(here) // CIRCLES)):
        radius_m = here[i].prediction.radius_50_m
        if np.isfinite(radius_m):
            axes.add_patch(_circle(way[i], radius_m))
    if len(way):
        axes.annotate("start", way[0], xytext=(8, 8), textcoords="offset points", weight="bold", color=INK)
    axes.set(xlim=(0, width), ylim=(0, height), xlabel="metres east", ylabel="metres north", aspect="equal")
    name = walk[0].photo.path.name if walk[0].row.frame_s is not None else walk[0].photo.path.parent.name
    axes.set_title(f"{name} · {len(walk)} photos in {region.name}; circles hold 50 %", loc="left", color=INK)
    axes.legend(loc="upper right", framealpha=0.9)
    axes.text(0, -0.075, f"Imagery: {region.attribution}", transform=axes.transAxes, size=8, color=FAINT)


def _draw_course(axes: Any, walk: Sequence[Fix]) -> None:
    seconds = np.array([fix.seconds - walk[0].seconds for fix in walk])
    for name, style in (("radius_90_m", "--"), ("radius_50_m", "-")):
        radii = np.array([getattr(fix.prediction, name) for fix in walk])
        axes.plot(seconds, radii, style, color=ANSWER, label=f"{name[7:9]} % within")
    axes.set_yscale("log")
    axes.set(xlabel="seconds", ylabel="metres")
    axes.grid(alpha=0.3)
    away = axes.twinx()
    away.fill_between(
        seconds, [fix.prediction.not_here for fix in walk], color=FAINT, alpha=0.35, lw=0, step="mid"
    )
    away.set(ylim=(0, 1), ylabel="not on this map")
    axes.legend(loc="upper right", framealpha=0.9, ncols=2)


def _around(points: Any, region: Region) -> Bounds:
    """A square that shows all points, or the whole region where there are none."""
    west, south, east, north = region.grid.bounds(region.grid.root)
    if not len(points):
        return Bounds(west, south, east, north)
    low, high = points.min(axis=0), points.max(axis=0)
    half_m = max(high - low) / 2 + MARGIN_M + 2 * region.grid.leaf_m
    x, y = (low + high) / 2
    return Bounds(x - half_m, y - half_m, x + half_m, y + half_m)


def _circle(centre: Any, radius_m: float) -> Any:
    from matplotlib.patches import Circle

    return Circle(tuple(centre), radius_m, facecolor=ANSWER, edgecolor=INK, alpha=0.1, lw=1)
