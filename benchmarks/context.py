"""What else is known, and what it is worth: a measured position beside a photo, photos before and after it, and what
is behind the camera.

    python -m benchmarks.context data/demo-city --checkpoint zoomloc/assets/demo/checkpoint \
        --walks 24 --work data/walks --out docs/results/context.json

The town is one that `zoomloc prep city` made. Positions: its test photos are located alone, and with their true
position moved by Gaussian errors as a prior. Walks: new drives through the very town, photographed; each photo alone,
the last of so many by those before it, and all of them together. Panoramas: new ones at the town's test spots, by the
view ahead, and by all of them. Intervals are of a paired bootstrap, of whole walks where these are compared, as photos
of a walk are alike. Everything is simulated.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from data_prep.cities.make import make_city
from zoomloc import manifest, panorama, photo
from zoomloc.bootstrap import DRAWS, Difference, recall_difference
from zoomloc.dataset import PhotoDataset
from zoomloc.encoder import shrink
from zoomloc.localizer import Localizer, predict
from zoomloc.posterior import Leaves
from zoomloc.priors import HEADING_SIGMA_DEG, Around, Evidence, Facing
from zoomloc.progress import progress
from zoomloc.region import Region
from zoomloc.sequence import SPEEDS_M_S, Motion, sighting, smooth

RADII_M = (25, 40, 100)
SIGMAS_M = (30.0, 100.0, 300.0)
FRAMES, LENGTHS = 20, (10, 20)
WRONG_M, BATCH = 2000.0, 8

Errors = NDArray[np.float64]


def measure_positions(localizer: Localizer, town: Path, *, limit: int | None, seed: int) -> dict[str, Any]:
    """Test photos alone, and with a measured position, or heading where the model states them, as a prior."""
    region = Region.load(town / "region.json")
    photos = PhotoDataset(town, "test", region.grid, px=localizer.model.config.photo_px)
    n = min(len(photos), limit or len(photos))
    xy = photos.xy[:n].numpy()
    rng = np.random.default_rng(seed)
    off = rng.normal(size=(n, 2))
    angle = rng.uniform(0, 2 * np.pi, n)
    measured = {f"{sigma:g} m": (sigma, xy + sigma * off) for sigma in SIGMAS_M}
    away = xy + WRONG_M * np.column_stack([np.cos(angle), np.sin(angle)])
    measured[f"100 m, but {WRONG_M:g} m off"] = (100.0, away)
    known: dict[str, list[Evidence | None]] = {"none": [None] * n}
    for name, (sigma_m, points) in measured.items():
        known[name] = [
            Evidence([Around(*region.grid.unproject(*point), sigma_m)], region.grid) for point in points
        ]
    if localizer.states_headings:
        lean_deg = region.grid.convergence_deg(*photos.lat_lon[:n].T)
        told = photos.heading_deg[:n].numpy() + lean_deg + HEADING_SIGMA_DEG * rng.normal(size=n)
        facing = [Facing(float(heading), HEADING_SIGMA_DEG) for heading in told]
        known[f"heading {HEADING_SIGMA_DEG:g}°"] = [Evidence([each], region.grid) for each in facing]
    errors: dict[str, list[float]] = {name: [] for name in known}
    for i in progress(range(0, n, BATCH), "locating test photos", -(-n // BATCH)):
        looked_at = photos.__getitems__(list(range(i, min(i + BATCH, n))))
        features = localizer.encode(looked_at.photos, looked_at.fov_deg)
        for name, evidence in known.items():
            found = localizer.zoom(features, region, evidence=evidence[i : i + BATCH])
            errors[name] += _errors_m(found, region, xy[i : i + BATCH])
    alone = np.array(errors.pop("none"))
    rows = {name: _row(np.array(each), alone) for name, each in errors.items()}
    return {"n_photos": n, "alone": _summary(alone), "with a position": rows}


def photograph(town: Path, out: Path, photos: int, **asked: Any) -> Path:
    """New photos of a town, as `make_city` is asked for them; the imagery is the town's own."""
    made = json.loads((town / "simulation.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "city.tif").exists():
        (out / "city.tif").symlink_to((town / "city.tif").resolve())
    if not (out / "manifest.parquet").exists():
        size = {name: made[name] for name in ("seed", "size_m", "gsd_m", "width")}
        make_city(out, photos=photos, val=0, **size, **asked)
    return out


def measure_walks(localizer: Localizer, folder: Path, region: Region, motion: Motion) -> dict[str, Any]:
    """Every photo of the walks alone, by those before it, and by all of its walk."""
    rows = manifest.read(folder / "manifest.parquet", "train")
    photos = PhotoDataset(folder, "train", region.grid, px=localizer.model.config.photo_px)
    assert len(photos) == len(rows), "every photo of a drive lies in the town"
    xy, names = photos.xy.numpy(), rows.sequence.to_numpy()
    seconds = rows.captured_at.astype("datetime64[ns, UTC]").astype("int64").to_numpy() / 1e9
    found: list[Leaves] = []
    localizer.index(region).fill()
    spent = {"photo": 0.0, "filter": 0.0}
    for i in progress(range(0, len(photos), BATCH), "locating walks", -(-len(photos) // BATCH)):
        looked_at = photos.__getitems__(list(range(i, min(i + BATCH, len(photos)))))
        began = time.process_time()
        found += localizer.zoom(localizer.encode(looked_at.photos, looked_at.fov_deg), region)
        spent["photo"] += time.process_time() - began
    walks = [np.flatnonzero(names == name) for name in np.unique(names)]
    walks = [walk[np.argsort(seconds[walk], kind="stable")] for walk in walks]
    alone = np.array([_errors_m([found[k] for k in walk], region, xy[walk]) for walk in walks])
    out: dict[str, Any] = {"n_walks": len(walks), "alone": _summary(alone)}
    for length in LENGTHS:
        before, together = [], []
        for walk in (each[:length] for each in walks):
            began = time.process_time()
            seen = [sighting(found[k], region.grid, motion) for k in walk]
            filtered, smoothed = smooth(seen, seconds[walk], region.grid, motion)
            spent["filter"] += time.process_time() - began
            before.append(_errors_m([filtered[-1].leaves(region.grid)], region, xy[walk[-1:]]))
            together.append(_errors_m([b.leaves(region.grid) for b in smoothed], region, xy[walk]))
        out[f"{length} photos"] = {
            "last, by those before": _row(np.array(before), alone[:, length - 1 : length]),
            "all, together": _row(np.array(together), alone[:, :length]),
            "walks with a median within 15 m": float((np.median(together, axis=1) <= 15).mean()),
        }
    frames = len(photos)
    out["milliseconds a photo"] = {
        "alone": 1000 * spent["photo"] / frames,
        "filter and smoother": 1000 * spent["filter"] / (len(walks) * sum(LENGTHS)),
    }
    return out


def measure_panoramas(localizer: Localizer, folder: Path, region: Region, spots: int) -> dict[str, Any]:
    """Spots photographed all around, on two days: by the view ahead alone, and by all views together."""
    rows = manifest.read(folder / "manifest.parquet", "test")[: 2 * spots]
    xy = np.column_stack(region.grid.project(rows.geometry.y.to_numpy(), rows.geometry.x.to_numpy()))
    ahead, around = [], []
    for name, at in progress(zip(rows.photo, xy, strict=True), "locating panoramas", len(rows)):
        its = panorama.views(photo.load(folder / name))
        pixels = torch.from_numpy(np.stack([shrink(each, localizer.model.config.photo_px) for each in its]))
        features = localizer.encode(pixels, torch.full((len(its),), panorama.FOV_DEG))
        for errors, n in ((ahead, 1), (around, len(its))):
            found = panorama.zoom(localizer, features[:n], region, [n], [None])
            errors += _errors_m(found, region, at[None])
    ours, theirs = np.array(around), np.array(ahead)
    days = ours.reshape(-1, 2), theirs.reshape(-1, 2)  # of a spot, two
    more = {f"R@{radius} more": _group_difference(*days, radius)._asdict() for radius in RADII_M}
    return {"n_spots": spots, "ahead": _summary(theirs), "around": _summary(ours)} | more


def _errors_m(found: Sequence[Leaves], region: Region, xy: Errors) -> list[float]:
    answers = [predict(leaves, region, "", "posterior", top_k=1) for leaves in found]
    points = np.array([region.grid.project(answer.lat, answer.lon) for answer in answers])
    return np.linalg.norm(points - xy, axis=1).tolist()


def _row(ours: Errors, theirs: Errors) -> dict[str, Any]:
    """How ours came out, and how much better than theirs within 25 m."""
    better = (
        recall_difference(ours, theirs, RADII_M[0])
        if ours.ndim == 1
        else _group_difference(ours, theirs, RADII_M[0])
    )
    return _summary(ours) | {"alone": _summary(theirs), "R@25 more": better._asdict()}


def _group_difference(ours: Errors, theirs: Errors, radius_m: float, *, seed: int = 0) -> Difference:
    """As `recall_difference`, with whole groups of photos (groups, photos), such as walks, drawn anew."""
    gain = ((ours <= radius_m).astype(int) - (theirs <= radius_m)).mean(axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(gain), (DRAWS, len(gain)))
    low, high = np.quantile(gain[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(float(gain.mean()), float(low), float(high))


def _summary(errors: Errors) -> dict[str, float]:
    return {f"R@{r}": float((errors <= r).mean()) for r in RADII_M} | {"median_m": float(np.median(errors))}


def main(
    town: Annotated[Path, typer.Argument(help="A folder that `zoomloc prep city` made.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    walks: Annotated[int, typer.Option(min=1, help="Drives of 20 photos.")] = 24,
    work: Annotated[Path, typer.Option(help="Keep their photos here.")] = Path("data/walks"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many test photos.")] = None,
    spots: Annotated[int, typer.Option(min=1, help="Test spots with panoramas, two each.")] = 130,
    depth: Annotated[
        int | None, typer.Option(min=1, help="Zoom to this depth instead of the town's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the errors of positions.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
) -> None:
    """Measure what a position, a walk, and a view all around add to a photo."""
    localizer = Localizer.from_pretrained(checkpoint, device="cpu")
    region = Region.load(town / "region.json")
    motion = Motion(speed_m_s=SPEEDS_M_S["drive"])
    here = work / town.resolve().name
    drives = photograph(town, Path(f"{here}-{walks}"), FRAMES * walks, test=0, drives=walks)
    spheres = photograph(town, Path(f"{here}-around-{spots}"), 2 * spots + 1, test=2 * spots, panoramas=1.0)
    report = {
        "town": town.name,
        "checkpoint": str(checkpoint),
        "motion": asdict(motion),
        "positions": measure_positions(localizer, town, limit=limit, seed=seed),
        "walks": measure_walks(localizer, drives, replace(region, depth=depth or region.depth), motion),
        "panoramas": measure_panoramas(localizer, spheres, region, spots),
    }
    text = json.dumps(report, indent=1)
    typer.echo(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    typer.run(main)
