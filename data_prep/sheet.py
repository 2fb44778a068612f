"""A contact sheet: photos beside the ground they were taken on."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from data_prep.maps import COLOURS, INK, Ground, credit, looking, project, round_length
from tiles import Bounds
from tiles.view import empty_view
from zoomloc import photo
from zoomloc.errors import PhotoError
from zoomloc.figure import checkered, font
from zoomloc.files import atomic

COLUMNS = 3
PHOTO_PX = (448, 300)  # width, height of the box a photo is fitted into
SIDE_PX = 300  # of the overhead view
GAP, LINE = 24, 22
CAPTION = 2 * LINE  # what the photo is, and whom to name for it
DOUBLE = 2  # marks are drawn at twice the size and halved, to smooth them


def write(
    frame: gpd.GeoDataFrame, ground: Ground, folder: Path, path: Path, *, count: int, side_m: float, seed: int
) -> None:
    """Write a PNG of `count` photos, of every split as many, each beside `side_m` metres of imagery around it.

    North is up; the dot is the camera, the fan its field of view. Raises OutputError.
    """
    rows = pick(frame, count, seed)
    width, height = PHOTO_PX[0] + SIDE_PX + GAP, SIDE_PX + CAPTION + GAP
    lines = -(-len(rows) // COLUMNS)
    sheet = Image.new("RGB", (GAP + COLUMNS * width, GAP + lines * height + LINE), "white")
    views = overhead(rows, ground, side_m)
    for i, (row, view) in enumerate(zip(rows.to_dict("records"), views, strict=True)):
        left, top = GAP + i % COLUMNS * width, GAP + i // COLUMNS * height
        sheet.paste(_photo(folder / row["photo"]), (left, top))
        sheet.paste(view, (left + PHOTO_PX[0], top))
        _caption(sheet, (left, top + SIDE_PX + 4), row)
    if ground.attribution:
        text = f"Imagery: {ground.attribution}"
        ImageDraw.Draw(sheet).text((GAP, sheet.height - LINE - 8), text, fill=INK, font=font(False, 15))
    with atomic(path) as draft:
        sheet.save(draft, format="PNG")


def pick(frame: gpd.GeoDataFrame, count: int, seed: int) -> gpd.GeoDataFrame:
    """`count` rows, or all; of every split as many as there are and the count allows. The same for the same seed."""
    shuffled = frame.sample(frac=1, random_state=seed)
    turn = shuffled.groupby("split").cumcount()
    return (
        shuffled.assign(turn=turn)
        .sort_values(["turn", "split"], kind="stable")
        .head(count)
        .sort_values("split", kind="stable")
    )


def _photo(path: Path) -> Image.Image:
    """The photo fitted into its box, or what is wrong with it."""
    box = Image.new("RGB", PHOTO_PX, "#eef0f2")
    try:
        picture = Image.fromarray(photo.load(path).pixels)
    except PhotoError as error:
        words = str(error).removeprefix(f"{path}: ").split()
        lines = [" ".join(words[at : at + 6]) for at in range(0, len(words), 6)]
        ImageDraw.Draw(box).multiline_text((20, 20), "\n".join(lines), fill=INK, font=font(False, 18))
        return box
    picture = ImageOps.contain(picture, PHOTO_PX, Image.Resampling.BICUBIC)
    box.paste(picture, ((PHOTO_PX[0] - picture.width) // 2, (PHOTO_PX[1] - picture.height) // 2))
    return box


def overhead(rows: gpd.GeoDataFrame, ground: Ground, side_m: float) -> list[Image.Image]:
    """The ground around every photo with the camera on it; a checkerboard where there is no imagery."""
    pyramid = ground.region.open() if ground.region and ground.view else None
    tiles = []
    for (x, y), ahead, fov, split in zip(
        project(rows, ground.crs), looking(rows, ground.crs), rows["fov"], rows["split"], strict=True
    ):
        bounds = Bounds(x - side_m / 2, y - side_m / 2, x + side_m / 2, y + side_m / 2)
        shape = (SIDE_PX, SIDE_PX)
        view = pyramid.source.read(bounds, ground.crs, shape) if pyramid else empty_view(shape)
        tile = Image.fromarray(checkered(view)).resize((SIDE_PX * DOUBLE,) * 2, Image.Resampling.NEAREST)
        _draw_camera(tile, ahead, fov, COLOURS[split])
        tile = tile.reduce(DOUBLE)
        _draw_scale(tile, side_m)
        tiles.append(tile)
    if pyramid:
        pyramid.close()
    return tiles


def _draw_camera(tile: Image.Image, ahead: NDArray[np.float64], fov: float, colour: str) -> None:
    """A dot in the middle; a fan as wide as the field of view, or an arrow where that is not known."""
    middle, reach = tile.width / 2, tile.width * 0.36
    if np.isfinite(ahead).all():
        angle = float(np.degrees(np.arctan2(-ahead[1], ahead[0])))  # Pillow's: clockwise from east
        layer = Image.new("RGBA", tile.size)
        draw = ImageDraw.Draw(layer)
        around = (middle - reach, middle - reach, middle + reach, middle + reach)
        if pd.notna(fov) and 0 < fov < 360:
            draw.pieslice(
                around, angle - fov / 2, angle + fov / 2, fill=(*_rgb(colour), 90), outline="black", width=2
            )
        tip = (middle + ahead[0] * reach, middle - ahead[1] * reach)
        draw.line([(middle, middle), tip], fill="black", width=9)
        draw.line([(middle, middle), tip], fill=colour, width=5)
        draw.regular_polygon((*tip, 17), 3, rotation=-90 - angle, fill=colour, outline="black")
        tile.paste(layer, mask=layer)
    ImageDraw.Draw(tile).circle((middle, middle), 12, fill=colour, outline="black", width=4)


def _draw_scale(tile: Image.Image, side_m: float) -> None:
    draw, length_m = ImageDraw.Draw(tile), round_length(side_m / 4)
    right, low = tile.width - 10, tile.height - 10
    left = right - length_m / side_m * tile.width
    draw.rectangle((left - 4, low - 22, right + 4, low + 5), fill="white")
    draw.line([(left, low), (right, low)], fill="black", width=3)
    draw.text((left, low - 21), f"{length_m:g} m", fill="black", font=font(False, 14))


def _caption(sheet: Image.Image, at: tuple[int, int], row: dict[str, Any]) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.circle((at[0] + 8, at[1] + 11), 6, fill=COLOURS[row["split"]], outline=INK)
    for line, text in enumerate((f"{row['split']} · {row['photo']}", credit(row))):
        short = text if len(text) < 80 else f"{text[:40]}…{text[-38:]}"
        draw.text((at[0] + 22, at[1] + line * LINE), short, fill=INK, font=font(False, 16))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
