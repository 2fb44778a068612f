"""The demonstration that comes with the package: a simulated city, photos of it held out from training, a model."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from zoomloc import figure, manifest, webmap
from zoomloc.errors import ZoomlocError
from zoomloc.evaluate import Metrics, chance, measure
from zoomloc.localizer import Localizer
from zoomloc.outputs import error_m
from zoomloc.photo import Photo, load
from zoomloc.prediction import Prediction
from zoomloc.progress import progress
from zoomloc.region import Region

FOLDER = Path(str(files("zoomloc"))) / "assets" / "demo"


def run(out: Path, *, device: str = "auto") -> None:
    """Locate the demo photos, print how well that went, and draw it: `out`/map.html and `out`/panels/*.png.

    Raises OutputError where `out` cannot be written.
    """
    region = Region.load(FOLDER / "region.json")
    names = manifest.read(FOLDER / "manifest.parquet").photo
    photos = [load(FOLDER / name) for name in names]
    localizer = Localizer.from_pretrained(FOLDER / "checkpoint", device=device)
    index = localizer.index(region)
    index.fill()
    predictions = localizer.locate(
        [p.pixels for p in photos],
        region,
        names=[p.path.name for p in photos],
        fovs_deg=[p.fov_deg for p in photos],
    )
    _print(region, photos, predictions)
    pairs = list(zip(photos, predictions, strict=True))
    for photo, prediction in progress(pairs, "drawing panels", len(pairs)):
        path = out / "panels" / f"{photo.path.stem}.png"
        figure.panel(photo, prediction, region=region, pyramid=index.pyramid, path=path)
    webmap.write(
        out / "map.html", region=region, pyramid=index.pyramid, photos=photos, predictions=predictions
    )
    print(f"map: {out / 'map.html'}\npanels: {out / 'panels'}")


def _print(region: Region, photos: Sequence[Photo], predictions: Sequence[Prediction]) -> None:
    """Every answer beside its error, and the whole beside chance."""
    table = Table(
        "photo", "latitude", "longitude", "probability", "error", title=f"{region.name} (simulated)"
    )
    for photo, prediction in zip(photos, predictions, strict=True):
        error = f"{error_m(photo, prediction):.0f} m"
        table.add_row(
            prediction.photo,
            f"{prediction.lat:.6f}",
            f"{prediction.lon:.6f}",
            f"{prediction.probability:.1%}",
            error,
        )
    console = Console()
    console.print(table)
    xy = np.array([region.grid.project(*_position(photo)) for photo in photos])
    for name, metrics in (
        ("zoomloc", measure(region.grid, xy, predictions)),
        ("chance", chance(region.grid, xy)),
    ):
        console.print(_summary(name, metrics))


def _summary(name: str, metrics: Metrics) -> str:
    return f"{name:>8}: R@50 m {metrics.recall[50]:6.1%}   median error {metrics.median_m:.0f} m"


def _position(photo: Photo) -> tuple[float, float]:
    if photo.lat is None or photo.lon is None:
        raise ZoomlocError(f"{photo.path} has no EXIF position; install the package again")
    return photo.lat, photo.lon
