"""A picture of why: the photo and the views under what each of their parts spoke for the answer, and the runner-up."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoomloc.explain import Decision, explain
from zoomloc.figure import ANSWER, FAINT, INK, OTHER, checkered, length, percent, shortened
from zoomloc.files import atomic
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.localizer import Localizer
from zoomloc.photo import Photo
from zoomloc.prediction import Place, Prediction
from zoomloc.region import Region

VIEW_PX = 480
TILE_IN, LEAST_WIDTH_IN = 2.9, 7.5  # of a view, and of the whole
PHOTO_HEIGHT = (0.4, 1.3)  # of a photo as drawn, at least and at most, in sides of a view
COLOURS = "PRGn"  # green for, purple against: told apart by the colour-blind too
FAINTEST_BITS = 0.1  # a scale never ends below this: where nothing matters, nothing shall glow
OPACITY = 0.85
METHOD = (
    "Method: occlusion. One square after the other is covered in a neutral colour and the model decides anew; by so "
    "many bits the odds of the framed child, against its siblings, were higher with the square than without: 1 bit "
    "doubles them. Photos and views have scales of their own."
)
CHARACTERS = 16.5  # of the method's text, to an inch


class Way(NamedTuple):
    """A place with the decisions that lead there, and how its children are outlined."""

    title: str
    decisions: Sequence[Decision]
    colour: str


def panel(
    localizer: Localizer, photo: Photo, prediction: Prediction, region: Region, path: str | Path
) -> None:
    """Explains a prediction and draws a PNG: for the answer, then for the runner-up if there is one, at every level
    what the squares of the photo, and those of the view, spoke for or against the child on the way there.

    Raises OutputError if the file cannot be written.
    """
    other = runner_up(prediction)
    paths = [prediction.path, *([other.path] if other else [])]
    explained = explain(localizer, photo.pixels, region, paths, fov_deg=photo.fov_deg)
    ways = [Way(f"The answer, framed in orange: {_where(prediction)}", explained[0], ANSWER)]
    if other:
        ways.append(Way(f"The runner-up, framed in yellow: {_where(other)}", explained[1], OTHER))
    draw(ways, photo, localizer.index(region), region, path)


def runner_up(prediction: Prediction) -> Place | None:
    """The likeliest place but the answer."""
    return next((place for place in prediction.places if place.path != prediction.path), None)


def draw(ways: Sequence[Way], photo: Photo, index: Index, region: Region, path: str | Path) -> None:
    """Raises OutputError if the file cannot be written."""
    from matplotlib.figure import Figure

    levels = len(ways[0].decisions)
    height, width = photo.pixels.shape[:2]
    photo_height = float(np.clip(height / width, *PHOTO_HEIGHT))
    rows = [photo_height, 1.0]
    size = max(levels * TILE_IN + 1.0, LEAST_WIDTH_IN), len(ways) * (sum(rows) * TILE_IN + 1.0) + 0.9
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    parts = figure.subfigures(len(ways), 1, squeeze=False, hspace=0.02)[:, 0]
    limits = [
        max(FAINTEST_BITS, *(float(abs(getattr(d, kind)).max()) for way in ways for d in way.decisions))
        for kind in ("photo", "view")
    ]
    for way, part in zip(ways, parts, strict=True):
        part.suptitle(way.title, x=0.012, ha="left", weight="bold", color=INK, size=13)
        axes = part.subplots(2, levels, height_ratios=rows, squeeze=False)
        for column, decision in zip(axes.T, way.decisions, strict=True):
            _draw_photo(column[0], photo.pixels, decision, limits[0], region.grid)
            _draw_view(column[1], decision, limits[1], index, ways)
        for row, limit, what in zip(axes, limits, ("the photo", "the view"), strict=True):
            _scale(part, row, limit, f"bits of {what}")
    figure.suptitle(
        f"Why: {shortened(photo.path.name)}", x=0.012, ha="left", color=INK, size=15, weight="bold"
    )
    note = f"{fill(METHOD, int(size[0] * CHARACTERS))}\nImagery: {region.attribution}"
    figure.supxlabel(note, x=0.012, ha="left", size=8, color=FAINT)
    with atomic(path) as draft:
        figure.savefig(draft, dpi=110, format="png")


def _draw_photo(axes: Any, pixels: NDArray[np.uint8], decision: Decision, limit: float, grid: Grid) -> None:
    height, width = pixels.shape[:2]
    _overlay(axes, pixels, decision.photo, limit, (0, width, height, 0))
    axes.set_box_aspect(float(np.clip(height / width, *PHOTO_HEIGHT)))
    side_m = grid.side_m(decision.cell.level)
    axes.set_title(f"Level {decision.cell.level + 1} · {length(side_m)}", loc="left", size=10, color=INK)


def _draw_view(axes: Any, decision: Decision, limit: float, index: Index, ways: Sequence[Way]) -> None:
    """In sides of a child, the cell's north-west corner at 0, 0."""
    branch = index.grid.branch
    rim = branch * (index.reach - 1) / 2
    edges = (-rim, branch + rim, branch + rim, -rim)
    _overlay(axes, checkered(index.view(decision.cell, VIEW_PX)), decision.view, limit, edges)
    for line in range(branch + 1):
        axes.plot([line, line], [0, branch], color="white", lw=0.6, alpha=0.7)
        axes.plot([0, branch], [line, line], color="white", lw=0.6, alpha=0.7)
    axes.set_box_aspect(1)
    for width, way in zip((2.2, 4.6), ways, strict=False):  # both are seen where both are of one child
        for each in way.decisions:
            if each.cell == decision.cell:
                _outline(axes, each.child, branch, way.colour, width)
    axes.set_title(
        f"by the model {percent(decision.probability)} of its cell", loc="left", size=9, color=FAINT
    )


def _overlay(
    axes: Any,
    pixels: NDArray[np.uint8],
    spoke: NDArray[np.float32],
    limit: float,
    edges: tuple[float, float, float, float],
) -> None:
    """A greyed picture under coloured squares, the clearer, the less they matter."""
    grey = pixels.mean(axis=2)
    axes.imshow(grey, cmap="gray", vmin=-60, vmax=300, extent=edges, aspect="auto")
    axes.imshow(
        spoke,
        cmap=COLOURS,
        vmin=-limit,
        vmax=limit,
        alpha=OPACITY * (abs(spoke) / limit) ** 0.5,
        extent=edges,
        interpolation="nearest",
        aspect="auto",
    )
    axes.set(xticks=[], yticks=[], xlim=edges[:2], ylim=edges[2:])


def _outline(axes: Any, child: int, branch: int, colour: str, width: float) -> None:
    from matplotlib.patches import Rectangle

    row, col = divmod(child, branch)
    for line, its_width in (("black", width + 1.2), (colour, width)):
        frame = Rectangle((col, row), 1, 1, fill=False, edgecolor=line, lw=its_width, zorder=10 - width)
        axes.add_patch(frame)


def _scale(figure: Any, axes: Sequence[Any], limit: float, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), COLOURS), ax=list(axes), shrink=0.9, pad=0.01, aspect=28
    )
    bar.set_label(f"{label}\nagainst   ←   →   for", size=8, color=INK)
    bar.ax.tick_params(labelsize=8)


def _where(place: Prediction | Place) -> str:
    return f"{place.lat:.5f}, {place.lon:.5f}"
