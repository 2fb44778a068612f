"""Evaluation: how far from the truth the answers are, beside what blind guessing would reach."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from zoomloc.config import LabelMode
from zoomloc.dataset import PhotoDataset
from zoomloc.grid import Grid
from zoomloc.labels import label_paths
from zoomloc.localizer import Localizer, Search, predict
from zoomloc.prediction import Prediction
from zoomloc.progress import progress
from zoomloc.region import Region

RADII_M = (5, 10, 25, 40, 50, 100)
BATCH = 32


@dataclass(frozen=True)
class Metrics:
    """recall: share of photos answered within so many metres, all in 0..1. median_m, mean_m: of the error.
    path_accuracy: share whose whole path is right. level_accuracy: share whose path is right down to each level.
    """

    recall: dict[int, float]
    median_m: float
    mean_m: float
    path_accuracy: float
    level_accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What `evaluate` found: one Metrics for each search, and for guessing a leaf blindly ("chance")."""

    data: str
    split: str
    region: str
    n_photos: int
    n_outside: int
    metrics: dict[str, Metrics]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def evaluate(
    localizer: Localizer,
    data: Path,
    *,
    split: str = "test",
    searches: Sequence[Search],
    limit: int | None = None,
    labels: LabelMode = "grid",
) -> Report:
    """Localize the photos of a split and compare with their positions.

    data: folder with manifest.parquet and region.json. limit: only the first so many photos. labels: which paths count
    as right; distances do not depend on it. Photos outside the region are left out and counted. Raises ManifestError,
    RegionError, CheckpointError or tiles.TilesError.
    """
    region = Region.load(data / "region.json")
    photos = PhotoDataset(data, split, region.grid, px=localizer.model.config.photo_px)
    chosen = range(min(len(photos), limit or len(photos)))
    answers: dict[Search, list[Prediction]] = {how: [] for how in searches}
    batches = [list(chosen[i : i + BATCH]) for i in range(0, len(chosen), BATCH)]
    for batch in progress(batches, f"locating {len(chosen)} {split} photos", len(batches)):
        features = localizer.encode(photos.__getitems__(batch).photos)
        for how in searches:
            found = localizer.zoom(features, region, how=how)
            answers[how] += [
                predict(leaves, region, str(photos.paths[i]), how, top_k=1)
                for i, leaves in zip(batch, found, strict=True)
            ]
    xy = photos.xy[list(chosen)].numpy()
    metrics = {"chance": chance(region.grid, xy)}
    metrics |= {how: measure(region.grid, xy, predictions, labels) for how, predictions in answers.items()}
    return Report(str(data), split, region.name, len(chosen), photos.n_outside, metrics)


def measure(
    grid: Grid, xy: NDArray[np.float64], predictions: Sequence[Prediction], labels: LabelMode = "grid"
) -> Metrics:
    """Compare predictions with true positions xy (N, 2) in the grid's CRS."""
    answers = np.array([grid.project(p.lat, p.lon) for p in predictions])
    truth = label_paths(grid, xy, labels)
    right = (np.array([p.path for p in predictions]) == truth).cumprod(axis=1)  # (N, depth): right so far
    levels = right.mean(axis=0)
    errors = np.linalg.norm(answers - xy, axis=1)
    return _summary(errors, float(levels[-1]), tuple(levels.tolist()))


def chance(grid: Grid, xy: NDArray[np.float64]) -> Metrics:
    """What guessing leaves evenly at random reaches: photos (at most about 500) against the centres of all leaves."""
    xy = xy[:: -(-len(xy) // 500)]
    n = grid.branch**grid.depth
    steps = (np.arange(n) + 0.5) * grid.leaf_m
    east = grid.north_west[0] + steps - xy[:, :1]  # (N, n)
    south = grid.north_west[1] - steps - xy[:, 1:]
    errors = np.hypot(east[:, None, :], south[:, :, None]).astype(np.float32).ravel()
    levels = tuple(float(grid.branch) ** (-2 * level) for level in range(1, grid.depth + 1))
    return _summary(errors, levels[-1], levels)


def _summary(errors: NDArray[np.floating], path_accuracy: float, levels: tuple[float, ...]) -> Metrics:
    return Metrics(
        recall={radius: float((errors <= radius).mean()) for radius in RADII_M},
        median_m=float(np.median(errors)),
        mean_m=float(errors.mean(dtype=np.float64)),
        path_accuracy=path_accuracy,
        level_accuracy=levels,
    )


def table(report: Report) -> Table:
    """The report as a table for the terminal."""
    title = f"{report.region}, {report.split}: {report.n_photos} photos"
    if report.n_outside:
        title += f" ({report.n_outside} outside the region left out)"
    out = Table("", *(f"R@{r} m" for r in RADII_M), "median", "mean", "path", "levels", title=title)
    for name, m in report.metrics.items():
        recalls = [f"{100 * m.recall[r]:.1f} %" for r in RADII_M]
        levels = " / ".join(f"{100 * a:.1f}" for a in m.level_accuracy)
        out.add_row(
            name,
            *recalls,
            f"{m.median_m:.1f} m",
            f"{m.mean_m:.1f} m",
            f"{100 * m.path_accuracy:.1f} %",
            levels,
        )
    return out


def markdown(facts: dict[str, Any]) -> str:
    """A report that was written as JSON and read again, as a Markdown table."""
    radii = list(facts["metrics"]["chance"]["recall"])
    head = ["", *(f"R@{r} m" for r in radii), "median", "mean", "path"]
    lines = [head, ["---"] * len(head)]
    for name, m in facts["metrics"].items():
        recalls = [f"{100 * m['recall'][r]:.1f} %" for r in radii]
        path = f"{100 * m['path_accuracy']:.1f} %"
        lines.append([name, *recalls, f"{m['median_m']:.1f} m", f"{m['mean_m']:.1f} m", path])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
