"""`python -m generation.sample`: enlarges or fills images, or a window of a source, with a checkpoint, into PNGs.

    python -m generation.sample runs/tiles-var/checkpoint tile.png --zoom 19 --out made
    python -m generation.sample runs/tiles-var/checkpoint --source city.tif --at 51.46,9.55 --zoom 19 --out made

This module, `windows` and `train` are on the map's side: they know the package `tiles`.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from generation import large
from generation.tile_model import TileModel
from generation.windows import pixel_m

NOTE = "made up by a generative model of zoomloc; no evidence of what is there"


def read_image(path: Path) -> tuple[Tensor, Tensor]:
    """An image file as (3, h, w), -1 to 1, and where it is known (h, w): not where it is transparent.

    Raises ValueError, one line, for a file that is none.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGBA"))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: no image; give a JPEG, PNG or the like") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    return _as_tensors(pixels[..., :3], pixels[..., 3] > 127)


def read_window(uri: str, at: str, zoom: int, px: int) -> tuple[Tensor, Tensor]:
    """px x px pixels of zoom level `zoom` of a source around "LAT,LON", likewise; unknown is what the source masks.

    Raises ValueError for a place that is none, TilesError for a source that cannot be read.
    """
    import tiles
    from tiles.bounds import Bounds
    from tiles.geo import ground_m, transform

    try:
        lat, lon = (float(part) for part in at.split(","))
    except ValueError:
        raise ValueError(f"--at {at}: no place; give LAT,LON in degrees, such as 51.46,9.55") from None
    source = tiles.open(uri)
    x, y = (float(v[0]) for v in transform(np.array([lon]), np.array([lat]), "EPSG:4326", source.crs))
    unit = max(source.bounds.width, source.bounds.height) / 1000
    across, _ = ground_m(Bounds(x - unit / 2, y - unit / 2, x + unit / 2, y + unit / 2), source.crs)
    half = px * pixel_m(zoom) / 2 / (across / unit)
    view = source.read(Bounds(x - half, y - half, x + half, y + half), source.crs, (px, px))
    if not view.mask.any():
        raise ValueError(f"{uri}: no imagery at {at}; its bounds are {tuple(source.bounds)} in {source.crs}")
    return _as_tensors(view.pixels, view.mask)


def _as_tensors(pixels: np.ndarray, known: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pixels).movedim(2, 0).float() / 127.5 - 1, torch.from_numpy(known)


def write(image: Tensor, path: Path) -> None:
    """(3, h, w), -1 to 1, into a PNG that says that it is made up."""
    note = PngInfo()
    note.add_text("Description", NOTE)
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(0, 2).numpy()
    Image.fromarray(pixels).save(path, pnginfo=note)


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a model of tiles.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    zoom: Annotated[int, typer.Option(help="Zoom level of what is made: 156,543 m / 2^zoom a pixel.")] = 18,
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill what is transparent or masked; no enlarging.")
    ] = False,
    source: Annotated[str | None, typer.Option(help="Imagery to read instead of image files.")] = None,
    at: Annotated[str | None, typer.Option(metavar="LAT,LON", help="With --source: the middle.")] = None,
    px: Annotated[int, typer.Option(min=16, help="With --source: pixels across of what is read.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed makes the same image.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("made"),
) -> None:
    """Enlarge images to twice their size, or fill their gaps, by what a model of map tiles makes up."""
    from tiles import TilesError

    try:
        if bool(images) == bool(source) or bool(source) != bool(at):
            raise ValueError("give image files, or --source with --at")
        model = TileModel.load(checkpoint)
        if source and at:
            given = {"window": read_window(source, at, zoom if fill else zoom - 1, px)}
        else:
            given = {path.stem: read_image(path) for path in images or []}
        out.mkdir(parents=True, exist_ok=True)
        for name, (image, known) in given.items():
            if not (fill or known.all()):
                raise ValueError(f"{name}: is transparent or masked in part; give --fill to fill it first")
            made = (
                large.fill(model, image, known, zoom, seed=seed)
                if fill
                else large.enlarge(model, image, zoom, seed=seed)
            )
            write(made, out / f"{name}.png")
            print(out / f"{name}.png")
    except (ValueError, TilesError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
