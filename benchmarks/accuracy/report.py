"""The results as JSON, a Markdown page and plots."""

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.answers import Scored
from benchmarks.accuracy.cities import APART_M, Cities
from benchmarks.accuracy.rows import CHANCE, OURS_ROW, RIVALS, ROWS
from benchmarks.accuracy.score import ALL_LEAVES, GALLERIES
from benchmarks.accuracy.settings import Setting
from benchmarks.accuracy.training import Trained
from zoomloc import manifest
from zoomloc.bootstrap import recall_difference
from zoomloc.evaluate import AREAS_KM2, RADII_M, Outcomes, summary
from zoomloc.files import atomic
from zoomloc.region import Region

COMPARED_M = (40, 50)
PLOTTED = (CHANCE.name, *RIVALS, OURS_ROW)
Results = dict[str, dict[str, Scored]]


def facts(
    setting: Setting,
    seed: int,
    cities: Cities,
    trained: dict[str, Trained],
    results: Results,
    speeds: dict[str, float],
) -> dict[str, Any]:
    """Everything that is to be told, as plain values."""
    return {
        "setting": setting.name,
        "command": _command(),
        "seed": seed,
        "date": date.today().isoformat(),
        "machine": machine(),
        "data": {folder.name: _data(folder) for folders in cities.queries.values() for folder in folders},
        "trainings": {
            name: {"photos_seen": t.photos_seen, "minutes": round(t.minutes, 2)}
            for name, t in trained.items()
        },
        "settings": setting.record(seed),
        "photos_per_second": {name: round(speed, 2) for name, speed in speeds.items()},
        "results": {
            split: {
                gallery: {
                    row.name: columns(rows[row.name][gallery]) for row in ROWS if gallery in rows[row.name]
                }
                for gallery in GALLERIES
            }
            for split, rows in results.items()
        },
        "gains": {split: _gains(rows) for split, rows in results.items()},
    }


def columns(outcomes: Outcomes) -> dict[str, Any]:
    """The figures of a row."""
    found = summary(outcomes)
    wanted = ("recall", "median_m", "nll", "area_recall")
    return {key: value for key, value in asdict(found).items() if key in wanted} | {
        "strict": found.path_accuracy
    }


def _gains(rows: dict[str, Scored]) -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """Of ours over each rival, by gallery, rival and radius, with a 95 % interval over the same queries."""
    return {
        gallery: {
            rival: {
                radius: recall_difference(
                    rows[OURS_ROW][gallery].errors_m, rows[rival][gallery].errors_m, radius
                )._asdict()
                for radius in COMPARED_M
            }
            for rival in RIVALS
            if gallery in rows[rival]
        }
        for gallery in GALLERIES
    }


def machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def write(told: dict[str, Any], results: Results, out: Path) -> Path:
    """Write accuracy-<setting>.json, .md and two plots; returns the page. Raises OutputError."""
    name = f"accuracy-{told['setting']}"
    with atomic(out / f"{name}.json") as draft:
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    distance, area = f"{name}-distance.png", f"{name}-area.png"
    _plot_distance(results, out / distance)
    _plot_area(results, out / area)
    with atomic(out / f"{name}.md") as draft:
        draft.write_text(page(told, distance, area), encoding="utf-8")
    return out / f"{name}.md"


def page(told: dict[str, Any], distance: str, area: str) -> str:
    place = told["machine"]
    on = f"{place['cores']} cores" + (f", {place['gpu']}" if place["gpu"] else "")
    queries = sum(city["queries"] for city in told["data"].values())
    lines = [
        f"# Accuracy on simulated cities, setting `{told['setting']}`",
        "",
        f"`{told['command']}`, seed {told['seed']}, {told['date']}; {on}, Python {place['python']}, "
        f"torch {place['torch']}. What is measured and how: [benchmark.md](../benchmark.md).",
        "",
        f"{queries:,} queries in all; every one is {APART_M:g} m or more from any photo trained on. All photos and "
        f"imagery are simulated ({'; '.join(sorted({city['attribution'] for city in told['data'].values()}))}).",
        "",
        *_table(
            ["city", "side", "leaves", "training photos", "queries"], map(_city_line, told["data"].items())
        ),
        "",
        *_table(["training", "photos seen", "minutes"], map(_training_line, told["trainings"].items())),
    ]
    for split, galleries in told["results"].items():
        for gallery, rows in galleries.items():
            lines += ["", f"## {split.capitalize()}, gallery: {gallery}", ""]
            lines += _table(
                ["", *(f"R@{r} m" for r in RADII_M), "median", "strict", "NLL", "photos/s"],
                [_row_line(name, row, told["photos_per_second"].get(name)) for name, row in rows.items()],
            )
            lines += ["", "Share of queries whose leaf is among the likeliest so much ground:", ""]
            lines += _table(["", *(f"{km2:g} km²" for km2 in AREAS_KM2)], _area_lines(rows))
            lines += ["", "Points that ours is ahead, with the 95 % interval of a paired bootstrap:", ""]
            lines += _table(
                ["over", *(f"R@{r} m" for r in COMPARED_M)],
                [
                    [rival, *map(_gain, gains.values())]
                    for rival, gains in told["gains"][split][gallery].items()
                ],
            )
    lines += ["", "## Curves, gallery: all leaves", "", f"![Recall against distance]({distance})", ""]
    lines += [f"![Recall against area]({area})", ""]
    return "\n".join(lines)


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks.accuracy", *sys.argv[1:]])


def _data(folder: Path) -> dict[str, Any]:
    region, splits = Region.load(folder / "region.json"), manifest.read(folder / "manifest.parquet")["split"]
    return {
        "size_m": region.size_m,
        "leaf_m": region.grid.leaf_m,
        "leaves": region.grid.n_cells(region.depth) ** 2,
        "training_photos": int((splits == "train").sum()),
        "queries": int((splits == "test").sum()),
        "attribution": region.attribution,
    }


def _table(head: Sequence[str], rows: Any) -> list[str]:
    lines = [list(head), ["---"] + ["---:"] * (len(head) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _city_line(item: tuple[str, dict[str, Any]]) -> list[str]:
    name, city = item
    leaves = f"{city['leaves']:,} of {city['leaf_m']:g} m"
    return [name, f"{city['size_m']:,.0f} m", leaves, f"{city['training_photos']:,}", f"{city['queries']:,}"]


def _training_line(item: tuple[str, dict[str, Any]]) -> list[str]:
    return [item[0], f"{item[1]['photos_seen']:,}", f"{item[1]['minutes']:.1f}"]


def _row_line(name: str, row: dict[str, Any], speed: float | None) -> list[str]:
    nll = "" if row["nll"] is None else f"{row['nll']:.2f}"
    recalls = [_percent(value) for value in row["recall"].values()]
    median = f"{row['median_m']:.1f} m" if math.isfinite(row["median_m"]) else ""
    return [name, *recalls, median, _percent(row["strict"]), nll, "" if speed is None else f"{speed:.1f}"]


def _area_lines(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Of rows with a posterior, each posterior once."""
    names = [row.name for row in ROWS if row.name in rows and not row.told_once]
    areas = {name: rows[name]["area_recall"] for name in names}
    return [[name, *map(_percent, shares.values())] for name, shares in areas.items() if shares]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _gain(gain: dict[str, float]) -> str:
    return f"{100 * gain['value']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def _plot_distance(results: Results, path: Path) -> None:
    metres = np.geomspace(1, 1000, 200)
    lines = {
        split: {name: (metres, _share_within(rows[name][ALL_LEAVES].errors_m, metres)) for name in PLOTTED}
        for split, rows in results.items()
    }
    _draw(lines, path, along="metres from the truth", up="share of queries")


def _plot_area(results: Results, path: Path) -> None:
    lines = {}
    for split, rows in results.items():
        areas = {name: rows[name][ALL_LEAVES].areas_m2 for name in PLOTTED}
        known = {name: km2 / 1e6 for name, km2 in areas.items() if km2 is not None}
        ground = np.geomspace(min(a.min() for a in known.values()), max(a.max() for a in known.values()), 200)
        lines[split] = {name: (ground, _share_within(km2, ground)) for name, km2 in known.items()}
    _draw(lines, path, along="km² of the likeliest leaves", up="share of queries whose leaf is among them")


def _share_within(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(values), limits * (1 + 1e-9), side="right") / len(values)


def _draw(
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], path: Path, *, along: str, up: str
) -> None:
    """A panel for each split, a line for each row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(lines) + 0.4, 4.4), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(lines), sharey=True, squeeze=False)[0]
    for panel, (split, curves) in zip(panels, lines.items(), strict=True):
        for number, name in enumerate(PLOTTED):
            if name in curves:
                ours = name == OURS_ROW
                panel.plot(*curves[name], label=name, color=f"C{number}", lw=2.6 if ours else 1.5)
        panel.set(xscale="log", ylim=(0, 1), title=split, xlabel=along)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(up)
    panels[0].legend(loc="upper left", fontsize=8)
    with atomic(path) as draft:
        figure.savefig(draft)
