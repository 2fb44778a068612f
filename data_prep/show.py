"""Pictures of a dataset: a map to look around in, one to print, and photos beside the ground under them."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep import maps, photomap, sheet
from zoomloc import manifest

IMAGERY_PX = 3072  # a side of the imagery in the HTML map


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the dataset, with manifest.parquet.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures (default: the dataset's).")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="Photos on the contact sheet.")] = 12,
    side_m: Annotated[float, typer.Option(min=1, help="Metres of ground beside each of them.")] = 100.0,
    seed: Annotated[int, typer.Option(help="Another seed picks other photos.")] = 0,
) -> None:
    """Draw a dataset: map.html and map.png over its imagery, and sheet.png, a contact sheet."""
    out = out or folder
    frame = manifest.read(folder / "manifest.parquet")
    ground = maps.ground(frame, folder, IMAGERY_PX)
    photomap.write(frame, ground, folder, out / "map.html")
    maps.draw(frame, maps.ground(frame, folder), out / "map.png", title=folder.resolve().name)
    sheet.write(frame, ground, folder, out / "sheet.png", count=photos, side_m=side_m, seed=seed)
    for name in ("map.html", "map.png", "sheet.png"):
        typer.echo(out / name)


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
