"""Divides the photos of a manifest into train, val and test so that a measured result can be trusted."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import typer
from numpy.typing import NDArray

from data_prep.positions import blocks, nearest
from data_prep.region import adopt
from data_prep.report import Rejected, finish
from zoomloc import manifest
from zoomloc.errors import ConfigError, OutputError
from zoomloc.region import Region

Labels = NDArray[np.str_]


class By(StrEnum):
    """What stays together."""

    random = "random"  # nothing: every photo for itself
    block = "block"  # a square of ground
    sequence = "sequence"  # a drive or walk
    area = "area"  # an area named by the user


def by_groups(groups: NDArray[np.intp], fractions: dict[str, float], seed: int) -> Labels:
    """A split for every photo, whole groups together, as near to the fractions of photos as the groups allow.

    groups: (n,) the number of each photo's group. The groups are shuffled; each goes to the split that lacks
    most photos then.
    """
    numbers, sizes = np.unique(groups, return_counts=True)
    lacking = {split: fraction * len(groups) for split, fraction in fractions.items()}
    of_group = np.empty(numbers.max() + 1, dtype=object)
    for at in np.random.default_rng(seed).permutation(len(numbers)):
        split = max(lacking, key=lacking.__getitem__)
        of_group[numbers[at]] = split
        lacking[split] -= sizes[at]
    return of_group[groups].astype(str)


def by_areas(frame: gpd.GeoDataFrame, areas: dict[str, shapely.Geometry], labels: Labels) -> Labels:
    """The labels, but for photos in an area its name; where areas overlap, the first counts."""
    inside = [frame.geometry.intersects(area).to_numpy() for area in areas.values()]
    return np.select(inside, list(areas), default=labels)


def too_near(frame: gpd.GeoDataFrame, buffer_m: float) -> NDArray[np.bool_]:
    """Which photos to leave out so that splits are `buffer_m` apart: val photos closer than that to a test photo,
    then train photos closer to a val or test photo that is left; (n,)."""
    near, splits = np.zeros(len(frame), bool), frame["split"].to_numpy()
    for split, others in (("val", ("test",)), ("train", ("val", "test"))):
        ours, theirs = splits == split, np.isin(splits, others) & ~near
        near[ours] = nearest(frame[ours], frame[theirs])[0] < buffer_m
    return near


def read_area(text: str) -> shapely.Geometry:
    """An area in WGS 84 (lon, lat) from "W,S,E,N" in degrees, or from a file of polygons such as GeoJSON.

    Raises ConfigError.
    """
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        return _read_polygons(Path(text))
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ConfigError(
            f"area {text}: not west,south,east,north in degrees; correct the order or the numbers"
        )
    return shapely.box(west, south, east, north)


def _read_polygons(path: Path) -> shapely.Geometry:
    if not path.is_file():
        raise ConfigError(
            f"area {path}: neither a file nor west,south,east,north in degrees; give one of them"
        )
    try:
        shapes = gpd.read_file(path)
        area = shapes.to_crs(4326).union_all()
    except Exception as error:  # GDAL's drivers fail in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"area {path}: cannot be read ({reason}); give polygons as GeoJSON") from None
    if area.geom_type not in ("Polygon", "MultiPolygon"):
        raise ConfigError(f"area {path}: holds {area.geom_type or 'nothing'}, not polygons; draw an area")
    return area


def divide(
    frame: gpd.GeoDataFrame,
    *,
    by: By,
    test: float,
    val: float,
    block_m: float,
    areas: dict[str, shapely.Geometry],
    seed: int,
) -> gpd.GeoDataFrame:
    """The manifest with a new column `split`; see `main` for what the arguments mean. Raises ConfigError."""
    fractions = {"train": 1 - test - val, "val": val, "test": test}
    if by is By.area:  # what the areas do not say is divided between train and val, by blocks
        fractions = {"train": 1 - val, "val": 0.0 if "val" in areas else val}
    fractions = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    labels = by_groups(_groups(frame, by, block_m), fractions, seed)
    frame = frame.assign(split=by_areas(frame, areas, labels) if areas else labels)
    for split in {**fractions, **areas}:
        if not (frame["split"] == split).any():
            raise ConfigError(
                f"no photo falls to {split}; use smaller blocks, other fractions or other areas"
            )
    return frame


def _groups(frame: gpd.GeoDataFrame, by: By, block_m: float) -> NDArray[np.intp]:
    if by is By.random:
        return np.arange(len(frame))
    if by is not By.sequence:
        return blocks(frame, block_m)
    if frame["sequence"].isna().all():
        raise ConfigError("no photo has a sequence; split --by block instead")
    alone = pd.Series([f"\0{row}" for row in range(len(frame))], index=frame.index)
    return pd.factorize(frame["sequence"].fillna(alone))[0]  # without a sequence: a group of its own


def main(
    dataset: Annotated[Path, typer.Argument(help="A manifest, or the folder of one.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the new manifest; photos and imagery stay where they are.")
    ],
    by: Annotated[By, typer.Option(help="What stays together in one split.")] = By.block,
    test: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the photos for test.")] = 0.1,
    val: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the photos for val.")] = 0.05,
    block_m: Annotated[float, typer.Option(min=1, help="Side of a block in metres.")] = 250.0,
    test_area: Annotated[
        str | None, typer.Option(help="--by area: polygons (GeoJSON) or west,south,east,north of test.")
    ] = None,
    val_area: Annotated[
        str | None, typer.Option(help="--by area: the same of val; else blocks of the rest are.")
    ] = None,
    buffer_m: Annotated[
        float,
        typer.Option(
            min=0, help="Leave out train photos closer than this to val or test ones, and val to test ones."
        ),
    ] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
) -> None:
    """Divide a dataset into train, val and test; photos too near those of another split are left out, and listed."""
    path = dataset / "manifest.parquet" if dataset.is_dir() else dataset
    if test + val >= 1:
        raise ConfigError(f"--test {test:g} and --val {val:g} leave nothing for train; give less")
    if (test_area is not None) != (by is By.area) or (val_area and by is not By.area):
        raise ConfigError("--test-area and --val-area go with --by area, and --by area needs --test-area")
    if (out / "manifest.parquet").exists():
        raise OutputError(f"{out / 'manifest.parquet'} is there already; name another folder with --out")
    areas = {name: read_area(text) for name, text in (("test", test_area), ("val", val_area)) if text}
    frame = divide(manifest.read(path), by=by, test=test, val=val, block_m=block_m, areas=areas, seed=seed)
    near = too_near(frame, buffer_m)
    gone = sorted(set(frame["split"]) - set(frame["split"][~near]))
    if gone:
        raise ConfigError(
            f"no {gone[0]} photo is {buffer_m:g} m from the other splits; split --by block or lower --buffer-m"
        )
    there = os.path.relpath(path.parent.resolve(), out.resolve())
    frame["photo"] = [os.path.normpath(f"{there}/{name}") for name in frame["photo"]]
    if (path.parent / "region.json").exists():
        adopt(Region.load(path.parent / "region.json"), out)
    manifest.write(frame[~near], out / "manifest.parquet")
    reasons = {
        "train": f"train photo closer than {buffer_m:g} m to a val or test photo",
        "val": f"val photo closer than {buffer_m:g} m to a test photo",
    }
    left_out = frame[near]
    finish(
        out, [Rejected(*row) for row in zip(left_out["photo"], left_out["split"].map(reasons), strict=True)]
    )


if __name__ == "__main__":
    from data_prep.command import run

    run(main)
