"""A picture of where a file carries the mark."""

from pathlib import Path

from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from generation.provenance import Provenance

SIDE = 256  # squares along the longer side
COLOURS = ("#ffffff", "#d9dee3", "#d55e00")  # not looked at, looked at, marked


def draw(found: Provenance, path: Path) -> None:
    """Write a PNG: the file's outline, and in orange what is marked. Raises OSError."""
    (height, width), step = found.shape, found.step(SIDE)
    marked = found.map(SIDE)
    picture = marked.astype(int) * 2
    for part in found.parts:
        here = (slice(each.start // step, -(-each.stop // step)) for each in (part.rows, part.cols))
        square = picture[tuple(here)]
        square[square == 0] = 1
    figure = Figure(figsize=(6, 6 * height / width + 0.8), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, cmap=ListedColormap(COLOURS), vmin=0, vmax=2, extent=(0, width, height, 0))
    axes.set(xlabel="pixels", ylabel="pixels")
    axes.set_title(
        f"{Path(found.name).name}: {found.marked:.1%} marked, p ≤ {found.p_value:.1e}", fontsize=10
    )
    figure.savefig(path, format="png", dpi=100)
