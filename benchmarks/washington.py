"""The demonstration model on the real world, which it has never seen: six photos of Washington DC.

    python benchmarks/washington.py DC --out docs/results/washington.json

DC is a folder with photos/photos.csv (file, latitude, longitude), photos/*.jpg and imagery/*.tif, as the project page
of Just Zoom In shows them. The square is the published 10 km one, zoomed into four times: leaves of 39 m.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import pandas as pd
import typer
from rich.console import Console

sys.path = [
    folder for folder in sys.path if Path(folder) != Path(__file__).parent
]  # tiles.py there is no package
from zoomloc import demo, manifest  # noqa: E402
from zoomloc.evaluate import Report, evaluate, table  # noqa: E402
from zoomloc.localizer import Localizer  # noqa: E402
from zoomloc.region import Region  # noqa: E402

DEPTH = 4


def make_dataset(dc: Path, folder: Path, *, depth: int) -> None:
    """Write the six photos as a dataset of split "test", the imagery staying where it is."""
    positions = pd.read_csv(dc / "photos" / "photos.csv")
    (folder / "photos").symlink_to((dc / "photos").resolve())
    imagery = (str(dc.resolve() / "imagery" / "*.tif"),)
    place = Region(
        "washington-dc", "EPSG:26985", (395993.5, 141189.0), 10000, 4, depth, imagery, "Open Data DC", folder
    )
    place.save(folder / "region.json")
    points = gpd.points_from_xy(positions.longitude, positions.latitude, crs="EPSG:4326")
    frame = gpd.GeoDataFrame({"photo": "photos/" + positions.file}, geometry=points)
    frame = frame.assign(
        heading=None, captured_at=None, sequence=None, split="test", fov=None, projection="perspective"
    )
    manifest.write(frame, folder / "manifest.parquet")


def run(dc: Path) -> Report:
    localizer = Localizer.from_pretrained(demo.FOLDER / "checkpoint", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(dc, Path(folder), depth=DEPTH)
        return evaluate(localizer, Path(folder), searches=["greedy", "beam", "posterior"])


def main(
    dc: Path, out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None
) -> None:
    report = run(dc)
    Console(width=140).print(table(report))
    if out:
        out.write_text(
            json.dumps(report.as_dict() | {"data": "Washington DC, six real photos"}, indent=1) + "\n"
        )


if __name__ == "__main__":
    typer.run(main)
