"""Evaluation: how far from the truth the answers are, beside what blind guessing would reach."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

from zoomloc.config import LabelMode
from zoomloc.dataset import Batch, PhotoDataset
from zoomloc.grid import Grid
from zoomloc.labels import label_paths
from zoomloc.localizer import Localizer, Search, predict
from zoomloc.posterior import rows_cols
from zoomloc.prediction import Prediction
from zoomloc.progress import progress
from zoomloc.region import Region
from zoomloc.reliability import SHARES, Claims, Trust, all_of, auroc, trust

RADII_M = (5, 10, 25, 40, 50, 100)
AREAS_KM2 = (0.0016, 0.01, 0.1, 1.0, 10.0)
RIGHT_M = 25  # an answer as near as this is at the right place: what it says of the heading counts
LEAST_PROBABILITY = 1e-12  # so that one leaf called impossible does not decide the mean
BATCH = 32


@dataclass(frozen=True)
class Metrics:
    """recall: share of photos answered within so many metres, all in 0..1. median_m, mean_m: of the error.
    path_accuracy: share whose whole path is right. level_accuracy: share whose path is right down to each level.
    Where the search makes a posterior, else None: nll, the mean of -log of the probability of the leaf that holds the
    truth, given that the photo is here; area_recall, the share of photos whose true leaf is among the likeliest so
    many km²; trust, whether probabilities hold what they promise. heading_deg: median error of the heading, of the
    photos answered within 25 m; None where none is told.
    """

    recall: dict[int, float]
    median_m: float
    mean_m: float
    path_accuracy: float
    level_accuracy: tuple[float, ...]
    nll: float | None = None
    area_recall: dict[float, float] | None = None
    trust: Trust | None = None
    heading_deg: float | None = None


@dataclass(frozen=True)
class Outcomes:
    """How each of N photos came out, in the order of the photos, so that two searches can be compared photo by photo.

    errors_m: (N,). right: (N, depth) whether the path is right down to each level. Where there are posteriors, else
    None: nll (N,) of the leaf that holds the truth, areas_m2 (N,), the ground of the likeliest leaves up to it, and
    claims. not_here: (N,). turned_deg: (N,) by how much the heading is wrong, nan where that is unknown.
    """

    errors_m: NDArray[np.float64]
    right: NDArray[np.bool_]
    nll: NDArray[np.float64] | None = None
    areas_m2: NDArray[np.float64] | None = None
    claims: Claims | None = None
    not_here: NDArray[np.float64] | None = None
    turned_deg: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Strangers:
    """n photos of another place: auroc, how well `not_here` tells them from photos of the region, and the share that
    was rejected."""

    n: int
    auroc: float
    rejected: float


@dataclass(frozen=True)
class Report:
    """What `evaluate` found: one Metrics for each search, and for guessing a leaf blindly ("chance").

    others: by dataset, where there were any. outcomes: of every photo, for each search; not part of the report as a
    dict.
    """

    data: str
    split: str
    region: str
    n_photos: int
    n_outside: int
    metrics: dict[str, Metrics]
    others: dict[str, Strangers] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, object]:
        return {key: value for key, value in asdict(self).items() if key != "outcomes"}


def evaluate(
    localizer: Localizer,
    data: Path,
    *,
    split: str = "test",
    searches: Sequence[Search],
    limit: int | None = None,
    labels: LabelMode = "grid",
    others: Sequence[Path] = (),
) -> Report:
    """Localize the photos of a split and compare with their positions.

    data: folder with manifest.parquet and region.json. limit: only the first so many photos. labels: which paths count
    as right; distances do not depend on it. others: datasets of other places, whose photos of the split are looked for
    in the region too, where they are not. Photos outside the region are left out and counted. Raises ManifestError,
    RegionError, CheckpointError or tiles.TilesError.
    """
    region = Region.load(data / "region.json")
    photos = PhotoDataset(data, split, region.grid, px=localizer.model.config.photo_px)
    headings_deg = photos.heading_deg.numpy() + region.grid.convergence_deg(*photos.lat_lon.T)
    chosen = range(min(len(photos), limit or len(photos)))
    parts: dict[Search, list[Outcomes]] = {how: [] for how in searches}
    batches = [list(chosen[i : i + BATCH]) for i in range(0, len(chosen), BATCH)]
    for batch in progress(batches, f"locating {len(chosen)} {split} photos", len(batches)):
        looked_at = photos.__getitems__(batch)
        features = localizer.encode(looked_at.photos, looked_at.fov_deg)
        for how in searches:
            found = localizer.zoom(features, region, how=how)
            answers = [
                predict(leaves, region, str(photos.path(i)), how, top_k=1, threshold=localizer.threshold)
                for i, leaves in zip(batch, found, strict=True)
            ]
            xy, facing_deg = photos.xy[batch].numpy(), headings_deg[batch]
            parts[how].append(compare(region.grid, xy, answers, labels, facing_deg=facing_deg))
    outcomes: dict[str, Outcomes] = {how: joined(parts[how]) for how in searches}
    metrics = {"chance": chance(region.grid, photos.xy[list(chosen)].numpy())}
    metrics |= {how: summary(outcomes[how]) for how in searches}
    here = outcomes[searches[-1]].not_here
    assert here is not None
    strangers = {folder.name: _strangers(localizer, folder, split, region, here, limit) for folder in others}
    n_outside = photos.n_outside
    return Report(str(data), split, region.name, len(chosen), n_outside, metrics, strangers, outcomes)


def _strangers(
    localizer: Localizer,
    folder: Path,
    split: str,
    region: Region,
    here: NDArray[np.float64],
    limit: int | None,
) -> Strangers:
    """Photos of another place. here: (N,) `not_here` of photos of the region."""
    home = Region.load(folder / "region.json").grid
    photos = PhotoDataset(folder, split, home, px=localizer.model.config.photo_px)
    chosen, found = range(min(len(photos), limit or len(photos))), list[float]()
    batches = [list(chosen[i : i + BATCH]) for i in range(0, len(chosen), BATCH)]
    for batch in progress(batches, f"looking for {len(chosen)} photos of {folder.name}", len(batches)):
        found += not_here(localizer, photos.__getitems__(batch), region)
    there = np.array(found)
    return Strangers(len(there), auroc(here, there), float((there > localizer.threshold).mean()))


def not_here(localizer: Localizer, batch: Batch, region: Region) -> list[float]:
    """The probability that photos are not from a region, which the quickest search tells too."""
    features = localizer.encode(batch.photos, batch.fov_deg)
    return [leaves.not_here for leaves in localizer.zoom(features, region, how="greedy")]


def measure(
    grid: Grid, xy: NDArray[np.float64], predictions: Sequence[Prediction], labels: LabelMode = "grid"
) -> Metrics:
    """Compare predictions with true positions xy (N, 2) in the grid's CRS."""
    return summary(compare(grid, xy, predictions, labels))


def compare(
    grid: Grid,
    xy: NDArray[np.float64],
    predictions: Sequence[Prediction],
    labels: LabelMode = "grid",
    *,
    facing_deg: NDArray[np.float64] | None = None,
) -> Outcomes:
    """How each prediction compares with its photo's true position, xy (N, 2) in the grid's CRS, and with its heading,
    facing_deg (N,) clockwise from true north, nan where unknown."""
    answers = np.array([grid.project(p.lat, p.lon) for p in predictions])
    right = np.array([p.path for p in predictions]) == label_paths(grid, xy, labels)
    errors_m, right = np.linalg.norm(answers - xy, axis=1), np.logical_and.accumulate(right, axis=1)
    not_here = np.array([p.not_here for p in predictions])
    turned_deg = _turned(predictions, facing_deg)
    posteriors = [p.posterior for p in predictions if p.posterior is not None]
    if len(posteriors) < len(predictions):
        return Outcomes(errors_m, right, not_here=not_here, turned_deg=turned_deg)
    rows, cols = rows_cols(
        label_paths(grid, xy, "grid"), grid.branch
    )  # where the photo was, whatever the labels
    true = np.array([p[row, col] for p, row, col in zip(posteriors, rows, cols, strict=True)])
    given = [_given(p, float(value)) for p, value in zip(predictions, true, strict=True)]
    nll = -np.log(np.maximum(given, LEAST_PROBABILITY))
    ranks = [_rank(p, value) for p, value in zip(posteriors, true, strict=True)]
    claims = _claims(predictions, posteriors, true, errors_m)
    areas_m2 = np.array(ranks) * grid.leaf_m**2
    return Outcomes(errors_m, right, nll, areas_m2, claims, not_here, turned_deg)


def _claims(
    predictions: Sequence[Prediction],
    posteriors: Sequence[NDArray[np.float32]],
    true: NDArray[np.float64],
    errors_m: NDArray[np.float64],
) -> Claims:
    """true: (N,) what the posteriors give the true leaves."""
    here = np.maximum([1 - p.not_here for p in predictions], LEAST_PROBABILITY)
    above = [_above(posterior, value) for posterior, value in zip(posteriors, true, strict=True)]
    radii_m = np.array([(p.radius_50_m, p.radius_90_m) for p in predictions])
    return Claims(
        within=np.array([sum(place.probability for place in p.places[:1]) for p in predictions]) / here,
        is_within=errors_m <= [p.radius_m for p in predictions],
        before=np.array(above) / here,
        own=true / here,
        is_around=errors_m[:, None] <= radii_m,
        located=np.array([p.located for p in predictions]),
    )


def _above(posterior: NDArray[np.float32], probability: float) -> float:
    """What the leaves more probable than one hold, and half of those that are as probable, itself left out."""
    more = float(posterior[posterior > probability].sum(dtype=np.float64))
    return more + float(probability) * ((posterior == probability).sum() - 1) / 2


def _turned(
    predictions: Sequence[Prediction], facing_deg: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """By how many degrees headings are wrong: (N,), nan where the true one or the answer's is unknown."""
    if facing_deg is None:
        return None
    found = np.array([np.nan if p.heading_deg is None else p.heading_deg for p in predictions])
    return np.abs((found - facing_deg + 180) % 360 - 180)


def _given(prediction: Prediction, probability: float) -> float:
    """The probability of a leaf given that the photo is here; what the search left out is spread over leaves it did
    not find."""
    assert prediction.posterior is not None
    if probability == 0 and prediction.unexpanded > 0:
        probability = prediction.unexpanded / int((prediction.posterior == 0).sum())
    here = 1 - prediction.not_here
    return probability / here if here > 0 else 0.0


def _rank(posterior: NDArray[np.float32], probability: float) -> float:
    """How many leaves come up to one of this probability, itself included; among equals the middle."""
    return float((posterior > probability).sum() + ((posterior == probability).sum() + 1) / 2)


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Of several sets of photos, one after the other."""

    def column(arrays: list[Any]) -> Any:
        return None if any(a is None for a in arrays) else np.concatenate(arrays)

    names = ("errors_m", "right", "nll", "areas_m2", "not_here", "turned_deg")
    claims = [part.claims for part in parts if part.claims is not None]
    return Outcomes(
        **{name: column([getattr(part, name) for part in parts]) for name in names},
        claims=all_of(claims) if len(claims) == len(parts) else None,
    )


def summary(outcomes: Outcomes) -> Metrics:
    """The figures of a set of photos."""
    levels = tuple(outcomes.right.mean(axis=0).tolist())
    metrics = replace(_summary(outcomes.errors_m, levels), heading_deg=_heading_error(outcomes))
    if outcomes.nll is None or outcomes.areas_m2 is None:
        return metrics
    area_recall = {km2: float((outcomes.areas_m2 <= km2 * 1e6).mean()) for km2 in AREAS_KM2}
    trusted = trust(outcomes.claims) if outcomes.claims else None
    return replace(metrics, nll=float(outcomes.nll.mean()), area_recall=area_recall, trust=trusted)


def _heading_error(outcomes: Outcomes) -> float | None:
    if outcomes.turned_deg is None:
        return None
    known = (outcomes.errors_m <= RIGHT_M) & np.isfinite(outcomes.turned_deg)
    return float(np.median(outcomes.turned_deg[known])) if known.any() else None


def chance(grid: Grid, xy: NDArray[np.float64]) -> Metrics:
    """What guessing leaves evenly at random reaches: photos (at most about 500) against the centres of all leaves."""
    xy = xy[:: -(-len(xy) // 500)]
    n = grid.branch**grid.depth
    steps = (np.arange(n) + 0.5) * grid.leaf_m
    east = grid.north_west[0] + steps - xy[:, :1]  # (N, n)
    south = grid.north_west[1] - steps - xy[:, 1:]
    errors = np.hypot(east[:, None, :], south[:, :, None]).astype(np.float32).ravel()
    levels = tuple(float(grid.branch) ** (-2 * level) for level in range(1, grid.depth + 1))
    n_leaves, leaf_km2 = n**2, grid.leaf_m**2 / 1e6
    area_recall = {km2: min(1.0, int(km2 / leaf_km2) / n_leaves) for km2 in AREAS_KM2}
    return replace(_summary(errors, levels), nll=math.log(n_leaves), area_recall=area_recall)


def _summary(errors_m: NDArray[np.floating], levels: tuple[float, ...]) -> Metrics:
    return Metrics(
        recall={radius: float((errors_m <= radius).mean()) for radius in RADII_M},
        median_m=float(np.median(errors_m)),
        mean_m=float(errors_m.mean(dtype=np.float64)),
        path_accuracy=levels[-1],
        level_accuracy=levels,
    )


def table(report: Report) -> Group:
    """The report as tables for the terminal: the errors, and what posteriors are worth where there are any."""
    metrics = report.metrics
    posteriors = [name for name, m in metrics.items() if m.nll is not None and name != "chance"]
    tables = [_errors_table(report)]
    if posteriors:
        tables.append(_posterior_table({name: metrics[name] for name in ("chance", *posteriors)}))
    trusted = {name: m.trust for name, m in metrics.items() if m.trust is not None}
    if trusted:
        tables.append(_trust_table(trusted))
    if report.others:
        tables.append(_others_table(report.others))
    return Group(*tables)


def _errors_table(report: Report) -> Table:
    title = f"{report.region}, {report.split}: {report.n_photos} photos"
    if report.n_outside:
        title += f" ({report.n_outside} outside the region left out)"
    columns = [*(f"R@{r} m" for r in RADII_M), "median", "mean", "path", "levels"]
    told = any(m.heading_deg is not None for m in report.metrics.values())
    out = Table("", *columns, *["heading"] * told, title=title)
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
            *(["–" if m.heading_deg is None else f"{m.heading_deg:.0f}°"] * told),
        )
    return out


def _posterior_table(metrics: dict[str, Metrics]) -> Table:
    title = "photos whose true leaf is among the likeliest so much ground"
    out = Table("", *(f"{km2:g} km²" for km2 in AREAS_KM2), "NLL per photo", title=title)
    for name, m in metrics.items():
        shares = [f"{100 * share:.1f} %" for share in (m.area_recall or {}).values()]
        out.add_row(name, *shares, f"{m.nll:.2f}")
    return out


def _trust_table(trusted: dict[str, Trust]) -> Table:
    title = "whether probabilities hold what they promise, of photos that are from the region"
    ways = [f"{100 * share:.0f} % {way}" for way in ("area", "circle") for share in SHARES]
    out = Table("", "ECE", "ECE by chance", *ways, "called not here", title=title)
    for name, t in trusted.items():
        covered = [f"{100 * share:.1f} %" for share in (*t.area.values(), *t.circle.values())]
        out.add_row(
            name, f"{t.ece:.3f}", f"{t.ece_by_chance:.3f}", *covered, f"{100 * (1 - t.located):.1f} %"
        )
    return out


def _others_table(others: dict[str, Strangers]) -> Table:
    out = Table("", "photos", "AUROC", "called not here", title="photos that are not from the region")
    for name, s in others.items():
        out.add_row(name, str(s.n), f"{s.auroc:.3f}", f"{100 * s.rejected:.1f} %")
    return out


def markdown(facts: dict[str, Any]) -> str:
    """A report that was written as JSON and read again, as a Markdown table."""
    radii = list(facts["metrics"]["chance"]["recall"])
    head = ["", *(f"R@{r} m" for r in radii), "median", "mean", "path"]
    nll = {name: m.get("nll") for name, m in facts["metrics"].items()}  # older reports lack it
    if any(value is not None for value in nll.values()):
        head.append("NLL")
    lines = [head, ["---"] * len(head)]
    for name, m in facts["metrics"].items():
        recalls = [f"{100 * m['recall'][r]:.1f} %" for r in radii]
        path = f"{100 * m['path_accuracy']:.1f} %"
        line = [name, *recalls, f"{m['median_m']:.1f} m", f"{m['mean_m']:.1f} m", path]
        if "NLL" in head:
            line.append("–" if nll[name] is None else f"{nll[name]:.2f}")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
