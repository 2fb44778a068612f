"""A picture of one answer: the photo, the zoom into the imagery, and where the probability lies."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tiles import Bounds, Pyramid, View
from zoomloc.files import atomic
from zoomloc.grid import Cell
from zoomloc.outputs import error_m
from zoomloc.photo import Photo
from zoomloc.prediction import Prediction
from zoomloc.region import Region

# Sizes are of the drawing, which is halved at the end to smooth lines and text; imagery is read at half size.
OVERSAMPLING = 2
TILE, TITLE, GAP, MARGIN = 680, 112, 40, 56
ROWS = 2
VIEW = TILE // OVERSAMPLING
CLOSE_UP_LEAVES = 3
PHOTO_WIDTH, PHOTO_HEIGHT = 1120, 700
LINE = 46  # height of a line of text
WORTH_TELLING = 0.001  # of a probability
BARS = 5  # of the likeliest places

INK, FAINT, PAPER = "#1f2328", "#6a737d", "#ffffff"
ANSWER, TRUTH, OTHER = "#D55E00", "#56B4E9", "#F0E442"  # Okabe-Ito: told apart by the colour-blind too
NO_IMAGERY = ((214, 214, 214), (190, 190, 190))  # a checkerboard, so nobody takes it for ground
CHECK_PX = 10
HATCH, HATCH_PX = (213, 94, 0), 12  # of lines over what was made up


class Mark(NamedTuple):
    """A point to be marked: where (x, y in the region's CRS), and how."""

    x: float
    y: float
    shape: str  # "dot", "ring" or "diamond"
    colour: str


def panel(
    photo: Photo, prediction: Prediction, *, region: Region, pyramid: Pyramid, path: str | Path
) -> None:
    """Draws a PNG: the photo and the facts at the left; the view of every level with the chosen cell in it; then
    the whole region with the posterior, where the search made one (log scale, from chance to certainty); and
    where that leaves a tile free, the ground around the answer.

    Raises OutputError if the file cannot be written.
    """
    tiles = list(_tiles(photo, prediction, region, pyramid))
    columns = len(tiles) // ROWS
    width = 2 * MARGIN + PHOTO_WIDTH + columns * (TILE + GAP)
    height = 2 * MARGIN + ROWS * (TILE + TITLE) + GAP
    canvas = Image.new("RGB", (width, height), PAPER)
    for i, (title, subtitle, tile) in enumerate(tiles):
        left = MARGIN + PHOTO_WIDTH + GAP + i % columns * (TILE + GAP)
        top = MARGIN + i // columns * (TITLE + TILE + GAP)
        _write(canvas, (left, top), title, bold=True)
        _write(canvas, (left, top + LINE), subtitle, colour=FAINT, size=30)
        canvas.paste(tile, (left, top + TITLE))
    _left_column(canvas, photo, prediction, region)
    with atomic(path) as draft:
        canvas.reduce(OVERSAMPLING).save(draft, format="PNG", compress_level=4)


def checkered(view: View) -> NDArray[np.uint8]:
    """The pixels of a view, (h, w, 3), with a checkerboard where it has no imagery, hatched where it is made up."""
    rows, cols = np.indices(view.mask.shape)
    board = np.array(NO_IMAGERY, np.uint8)[(rows // CHECK_PX + cols // CHECK_PX) % 2]
    shown = np.where(view.mask[..., None], view.pixels, board)
    if view.synthetic is not None:
        hatched = view.synthetic & ((rows + cols) % HATCH_PX == 0)
        shown[hatched] = HATCH
    return shown


def heat(posterior: NDArray[np.float32], branch: int, *, at_most_px: int) -> NDArray[np.uint8]:
    """The posterior as a picture to lay over a map, (n, n, 4) RGBA, n at most `at_most_px`.

    On a log scale: clear where a leaf has what chance would give it or less, bright where it is certain.
    """
    import matplotlib

    leaves = posterior.size
    while len(posterior) > at_most_px:  # joined leaves show their likeliest: a lone peak must not vanish
        n = len(posterior) // branch
        posterior = posterior.reshape(n, branch, n, branch).max(axis=(1, 3))
    certainty = 1 + np.log(np.maximum(posterior, 1e-12)) / np.log(leaves)
    steps = (certainty.clip(0, 1) * 48).round() / 48  # few colours, small files
    colours = matplotlib.colormaps["inferno"](0.5 + 0.5 * steps)  # what is darker would darken the ground
    colours[..., 3] = 0.9 * np.sqrt(steps)
    return (colours * 255).round().astype(np.uint8)


# --- the tiles at the right


def _tiles(
    photo: Photo, prediction: Prediction, region: Region, pyramid: Pyramid
) -> Iterator[tuple[str, str, Image.Image]]:
    """(title, subtitle, drawing), an even number of them."""
    grid, marks = region.grid, _marks(photo, prediction, region)
    for level in range(grid.depth):
        cell = grid.cell(prediction.path[:level])
        chosen = grid.cell(prediction.path[: level + 1])
        tile = _drawable(checkered(pyramid.view(*cell, VIEW)))
        _draw_grid(tile, grid.branch, chosen)
        _draw_marks(tile, [mark for mark in marks if mark.shape == "diamond"], grid.bounds(cell))
        share = _mass(prediction, chosen, region)
        within = "" if share is None else f" · {percent(share)} in the marked cell"
        yield (
            f"Level {level + 1} · {length(grid.side_m(level))}",
            f"{_gsd(grid.side_m(level))}{within}",
            tile,
        )
    ground = checkered(pyramid.view(*grid.root, VIEW))
    heat = "" if prediction.posterior is None else "the brighter, the likelier (log scale)"
    tile = _drawable(_heated(ground, prediction.posterior, grid.branch))
    _draw_marks(tile, marks, grid.bounds(grid.root))
    yield "Where it may be", heat or f"found by {prediction.search} search", tile
    if grid.depth % 2 == 0:
        yield _close_up(prediction, marks, region, pyramid)


def _close_up(
    prediction: Prediction, marks: list[Mark], region: Region, pyramid: Pyramid
) -> tuple[str, str, Image.Image]:
    half_m = CLOSE_UP_LEAVES / 2 * region.grid.leaf_m
    x, y = region.grid.project(prediction.lat, prediction.lon)
    bounds = Bounds(x - half_m, y - half_m, x + half_m, y + half_m)
    tile = _drawable(checkered(pyramid.source.read(bounds, region.crs, (VIEW, VIEW))))
    _draw_marks(tile, marks, bounds)
    return f"The answer · {length(2 * half_m)}", _gsd(2 * half_m), tile


def _drawable(pixels: NDArray[np.uint8]) -> Image.Image:
    """Doubled without interpolation, so that halving gives the very pixels back."""
    return Image.fromarray(pixels.repeat(OVERSAMPLING, axis=0).repeat(OVERSAMPLING, axis=1))


def _marks(photo: Photo, prediction: Prediction, region: Region) -> list[Mark]:
    """In drawing order: the other places, the answer, the true place."""
    project = region.grid.project
    others = [Mark(*project(place.lat, place.lon), "ring", OTHER) for place in prediction.places]
    truth = [] if photo.lat is None else [Mark(*project(photo.lat, photo.lon or 0.0), "diamond", TRUTH)]
    return [*others, Mark(*project(prediction.lat, prediction.lon), "dot", ANSWER), *truth]


def _draw_grid(tile: Image.Image, branch: int, chosen: Cell) -> None:
    lines = Image.new("RGBA", tile.size)
    draw = ImageDraw.Draw(lines)
    for i in range(1, branch):
        at = round(i * TILE / branch)
        draw.line([(at, 0), (at, TILE)], fill=(255, 255, 255, 110), width=2)
        draw.line([(0, at), (TILE, at)], fill=(255, 255, 255, 110), width=2)
    side = TILE / branch
    left, top = chosen.col % branch * side, chosen.row % branch * side
    box = (left, top, left + side - 1, top + side - 1)
    draw.rectangle([box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3], outline=PAPER, width=3)
    draw.rectangle(box, outline=ANSWER, width=10)
    tile.paste(lines, mask=lines)


def _draw_marks(tile: Image.Image, marks: list[Mark], bounds: Bounds) -> None:
    """Those of the marks that lie in what the tile shows."""
    for mark in marks:
        x = (mark.x - bounds.west) / bounds.width * TILE
        y = (bounds.north - mark.y) / bounds.height * TILE
        if 0 <= x <= TILE and 0 <= y <= TILE:
            _draw_mark(ImageDraw.Draw(tile), x, y, mark)


def _draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, mark: Mark) -> None:
    if mark.shape == "ring":
        draw.circle((x, y), 17, outline="black", width=9)
        draw.circle((x, y), 15, outline=mark.colour, width=5)
    elif mark.shape == "dot":
        draw.circle((x, y), 15, fill=mark.colour, outline=PAPER, width=4)
    else:
        for reach, width, colour in (
            (36, 14, "black"),
            (33, 8, mark.colour),
        ):  # hollow: the answer shows inside
            draw.polygon(
                [(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)], None, colour, width
            )


def _heated(
    ground: NDArray[np.uint8], posterior: NDArray[np.float32] | None, branch: int
) -> NDArray[np.uint8]:
    """The ground (h, w, 3), greyed, under the posterior."""
    if posterior is None:
        return ground
    glow = heat(posterior, branch, at_most_px=len(ground))
    spots = (np.arange(len(ground)) * len(glow)) // len(ground)
    glow = glow[spots][:, spots].astype(np.float32)  # (h, w, 4)
    grey = ground.mean(axis=2, keepdims=True) * 0.6 + 50
    strength = glow[..., 3:] / 255
    return (grey * (1 - strength) + glow[..., :3] * strength).astype(np.uint8)


def _mass(prediction: Prediction, cell: Cell, region: Region) -> float | None:
    """The probability of all leaves in a cell."""
    if prediction.posterior is None:
        return None
    side = len(prediction.posterior) // region.grid.n_cells(cell.level)
    rows, cols = cell.row * side, cell.col * side
    return float(prediction.posterior[rows : rows + side, cols : cols + side].sum())


# --- the left column


def _left_column(canvas: Image.Image, photo: Photo, prediction: Prediction, region: Region) -> None:
    picture = Image.fromarray(photo.pixels)
    scale = min(PHOTO_WIDTH / picture.width, PHOTO_HEIGHT / picture.height)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    y = MARGIN
    _write(canvas, (MARGIN, y), shortened(photo.path.name), bold=True)
    _write(canvas, (MARGIN, y + LINE), f"region {region.name}", colour=FAINT, size=30)
    y += TITLE
    canvas.paste(picture, (MARGIN, y))
    y += picture.height + GAP
    for text in _facts(photo, prediction):
        _write(canvas, (MARGIN, y), text)
        y += LINE
    y += LINE // 2
    draw = ImageDraw.Draw(canvas)
    for shape, colour, text in _legend(photo, prediction):
        _draw_mark(draw, MARGIN + 30, y + 20, Mark(0, 0, shape, colour))
        _write(canvas, (MARGIN + 80, y), text, size=30)
        y += 2 * LINE - 20
    for place in prediction.places[:BARS]:
        right = MARGIN + 80 + max(4, round(place.probability * (PHOTO_WIDTH - 240)))
        draw.rectangle([MARGIN + 80, y + 6, right, y + 26], fill=ANSWER)
        _write(canvas, (right + 16, y), percent(place.probability), size=26)
        y += LINE - 8
    bottom = canvas.height - MARGIN - 30
    _write(canvas, (MARGIN, bottom), f"Imagery: {region.attribution}", colour=FAINT, size=26)


def _facts(photo: Photo, prediction: Prediction) -> Iterator[str]:
    yield f"{prediction.lat:.5f}, {prediction.lon:.5f} · probability {percent(prediction.probability)}"
    if np.isfinite(prediction.radius_90_m):
        yield f"50 % within {length(prediction.radius_50_m)}, 90 % within {length(prediction.radius_90_m)}"
    if np.isfinite(prediction.area_90_m2):
        yield f"50 % on {_area(prediction.area_50_m2)}, 90 % on {_area(prediction.area_90_m2)}"
    elsewhere = {"not on this map": prediction.not_here, "not looked at": prediction.unexpanded}
    told = [f"{what}: {percent(p)}" for what, p in elsewhere.items() if p >= WORTH_TELLING]
    if told:
        yield ", ".join(told)
    error = error_m(photo, prediction)
    yield (
        "the photo's own position is not known" if error is None else f"{length(error)} from the true place"
    )


def _legend(photo: Photo, prediction: Prediction) -> Iterator[tuple[str, str, str]]:
    yield "dot", ANSWER, "answer"
    if photo.lat is not None:
        yield "diamond", TRUTH, "true place (EXIF)"
    yield "ring", OTHER, f"the likeliest places, and the probability within {length(prediction.radius_m)}"


# --- words


def _write(
    canvas: Image.Image,
    at: tuple[int, int],
    text: str,
    *,
    bold: bool = False,
    colour: str = INK,
    size: int = 34,
) -> None:
    ImageDraw.Draw(canvas).text(at, text, fill=colour, font=font(bold, size))


@lru_cache
def font(bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib carries it: photo names come in many scripts."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def shortened(name: str, limit: int = 48) -> str:
    return name if len(name) <= limit else f"{name[: limit // 2]}…{name[-limit // 2 :]}"


def percent(probability: float) -> str:
    if 0 < probability < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < probability < 1 else f"{probability:.0%}".replace("%", " %")


def length(metres: float) -> str:
    return f"{metres / 1000:.3g} km" if metres >= 1000 else f"{metres:.0f} m"


def _area(square_metres: float) -> str:
    return f"{square_metres / 1e6:.2g} km²" if square_metres >= 1e5 else f"{square_metres:.0f} m²"


def _gsd(side_m: float) -> str:
    return f"{side_m / TILE * OVERSAMPLING:.2g} m per pixel"
