"""A prediction as a matplotlib plot: where in the region the probability lies."""

import base64
import io
import math

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from zoomloc.figure import ANSWER, OTHER
from zoomloc.grid import Grid
from zoomloc.prediction import Prediction

SIDE_INCHES = 4.5
CHANCES = 100  # from chance to so many times as much, and on


def draw(prediction: Prediction, axes: Axes | None = None) -> Axes:
    """See `Prediction.plot`."""
    grid = prediction.grid
    if grid is None:
        raise ValueError(f"the prediction of {prediction.photo} does not know its grid, and cannot be drawn")
    if axes is None:
        from matplotlib import pyplot

        axes = pyplot.subplots(figsize=(SIDE_INCHES, SIDE_INCHES))[1]
    if prediction.posterior is not None:
        chance = 1 / prediction.posterior.size
        axes.imshow(
            prediction.posterior.clip(min=chance / CHANCES),
            norm=LogNorm(chance / CHANCES, 1),
            extent=(0, grid.size_m, grid.size_m, 0),
            cmap="viridis",
            interpolation="nearest",
        )
    places = [_east_south(grid, place.lat, place.lon) for place in prediction.places]
    if places:
        axes.plot(*zip(*places, strict=True), "o", color=OTHER, markersize=4, label="places")
    answer = _east_south(grid, prediction.lat, prediction.lon)
    axes.plot(*answer, "x", color=ANSWER, markersize=9, markeredgewidth=2, label="answer")
    for radius_m, style in ((prediction.radius_50_m, "-"), (prediction.radius_90_m, "--")):
        if math.isfinite(radius_m):
            axes.add_patch(Circle(answer, radius_m, fill=False, color=ANSWER, linestyle=style))
    axes.set(
        xlim=(0, grid.size_m),
        ylim=(grid.size_m, 0),
        aspect="equal",
        xlabel="m east",
        ylabel="m south",
        title=prediction.region if prediction.located else f"not in {prediction.region}",
    )
    axes.legend(loc="upper right", fontsize="small")
    return axes


def png(prediction: Prediction) -> str:
    """The plot as a PNG in base64."""
    figure = Figure(figsize=(SIDE_INCHES, SIDE_INCHES), layout="constrained")
    draw(prediction, figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return base64.b64encode(file.getvalue()).decode()


def _east_south(grid: Grid, lat: float, lon: float) -> tuple[float, float]:
    x, y = grid.project(lat, lon)
    return x - grid.north_west[0], grid.north_west[1] - y
