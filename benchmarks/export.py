"""What exporting a checkpoint saves and costs: time by PyTorch, ONNX Runtime and in 8 bits, and the accuracy of each.

    python -m benchmarks.export zoomloc/assets/demo/checkpoint data/demo-city --threads 2 --out docs/results/export.json

Contenders take turns; medians. Accuracy is that of `zoomloc evaluate` on photos held out from training; an 8-bit model
has the calibration of the one it came from, and once more one fitted anew to the photos for validation. Prints a table;
with --out writes it (.md), and its numbers (.json).
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import onnxruntime
import torch
import typer
from torch import Tensor

from data_prep.command import run
from zoomloc.calibrate import calibrate
from zoomloc.evaluate import evaluate
from zoomloc.export import export, quantise
from zoomloc.files import atomic
from zoomloc.localizer import Localizer
from zoomloc.region import Region

WHOLE, SMALL, REFITTED = "ONNX Runtime", "ONNX Runtime, int8", "ONNX Runtime, int8, calibrated anew"


@dataclass(frozen=True)
class Found:
    """Of one contender. Times in milliseconds a photo or view; accuracy of the posterior."""

    photo_ms: float
    view_ms: float
    search_ms: float
    megabytes: float
    median_m: float
    recall: dict[int, float]
    nll: float
    ece: float


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    data: Annotated[Path, typer.Argument(help="Folder with manifest.parquet and region.json.")],
    batch: Annotated[int, typer.Option(min=1, help="Photos, and views, at a time.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of every contender.")] = 7,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the numbers here (.json), the table beside.")
    ] = None,
) -> None:
    """Measure the three side by side."""
    if threads:
        torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    found = measure(checkpoint, data, batch, rounds, limit)
    n = limit or evaluate_size(data)
    facts = {
        "command": " ".join(["python -m benchmarks.export", *sys.argv[1:]]),
        "machine": f"{platform.machine()} CPU, {threads or torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}",
        "load_before": round(load, 1),
        "batch": batch,
        "n_photos": n,
        "contenders": {name: asdict(each) for name, each in found.items()},
    }
    page = markdown(facts, found)
    typer.echo(page)
    if out:
        with atomic(out) as draft:
            draft.write_text(json.dumps(facts, indent=1) + "\n")
        with atomic(out.with_suffix(".md")) as draft:
            draft.write_text(page)


def measure(checkpoint: Path, data: Path, batch: int, rounds: int, limit: int | None) -> dict[str, Found]:
    """Every contender's numbers, by name."""
    region = Region.load(data / "region.json")
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "onnx", Path(folder) / "int8"
        export(checkpoint, whole)
        for graph in Path(shutil.copytree(whole, small)).glob("*.onnx"):
            quantise(graph)
        localizers = {
            "PyTorch": Localizer.from_pretrained(checkpoint, device="cpu"),
            WHOLE: Localizer.from_pretrained(whole),
            SMALL: Localizer.from_pretrained(small),
        }
        sizes = [_megabytes(place) for place in (checkpoint, whole, small)]
    for each in localizers.values():
        each.index(region).fill()
    times = _times(localizers, region, batch, rounds)
    localizers[REFITTED] = Localizer(localizers[SMALL].model, calibrate(localizers[SMALL], [data]))
    found = {}
    for (name, each), milliseconds, megabytes in zip(
        localizers.items(), [*times, times[-1]], [*sizes, sizes[-1]], strict=True
    ):
        metrics = evaluate(each, data, searches=["posterior"], limit=limit).metrics["posterior"]
        assert metrics.nll is not None and metrics.trust is not None
        accuracy = (metrics.median_m, metrics.recall, metrics.nll, metrics.trust.ece)
        found[name] = Found(*milliseconds, megabytes, *accuracy)
    return found


def evaluate_size(data: Path) -> int:
    """Photos of the split that is evaluated."""
    from zoomloc import manifest

    return len(manifest.read(data / "manifest.parquet", "test"))


def markdown(facts: dict, found: dict[str, Found]) -> str:
    """The table, and what it is of."""
    lines = [
        "# Exported models",
        "",
        f"`{facts['command']}` on {facts['machine']}; load before {facts['load_before']}. "
        f"{facts['batch']} photos or views at a time; accuracy on {facts['n_photos']} held-out photos.",
        "",
        "| | photo, ms | view, ms | posterior, ms | MB | median error, m | recall at 40 m | at 100 m | NLL | ECE |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in found.items():
        lines.append(
            f"| {name} | {each.photo_ms:.1f} | {each.view_ms:.1f} | {each.search_ms:.1f} | {each.megabytes:.1f} "
            f"| {each.median_m:.0f} | {each.recall[40]:.1%} | {each.recall[100]:.1%} "
            f"| {each.nll:.3f} | {each.ece:.3f} |"
        )
    return "\n".join(lines) + "\n"


def _times(localizers: dict[str, Localizer], region: Region, batch: int, rounds: int) -> list[list[float]]:
    """Of each, milliseconds a photo, a view, and a search of the map."""
    times = {name: list[list[float]]() for name in localizers}
    for _ in range(rounds + 1):  # the first warms up
        for name, each in localizers.items():
            times[name].append([1000 * seconds / batch for seconds in _turn(each, region, batch)])
    return [[median(column) for column in zip(*rows[1:], strict=True)] for rows in times.values()]


def _turn(localizer: Localizer, region: Region, batch: int) -> list[float]:
    """Seconds to encode photos and views, and to search the map for the photos."""
    config, features = localizer.model.config, list[Tensor]()
    photos = torch.randint(0, 256, (batch, config.photo_px, 2 * config.photo_px, 3), dtype=torch.uint8)
    views = torch.randint(0, 256, (batch, config.view_px, config.view_px, 3), dtype=torch.uint8)
    side_m = torch.full((batch,), region.grid.leaf_m)
    return [
        _seconds(lambda: features.append(localizer.encode(photos))),
        _seconds(lambda: localizer.model.encode_views(views, side_m)),
        _seconds(lambda: localizer.zoom(features[0], region)),
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        work()
    return time.perf_counter() - start


def _megabytes(folder: Path) -> float:
    return (
        sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".onnx", ".safetensors"))
        / 1e6
    )


if __name__ == "__main__":
    run(main)
