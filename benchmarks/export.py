"""What exporting a checkpoint saves and costs: time by PyTorch, ONNX Runtime and in 8 bits, and the accuracy of each.

    python -m benchmarks.export zoomloc/assets/demo/checkpoint data/demo-city --threads 2

Contenders take turns; medians. Accuracy is that of `zoomloc evaluate`. Prints a table.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from torch import Tensor

from data_prep.command import run
from zoomloc.evaluate import evaluate
from zoomloc.export import export, quantise
from zoomloc.localizer import Localizer
from zoomloc.region import Region


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    data: Annotated[Path, typer.Argument(help="Folder with manifest.parquet and region.json.")],
    batch: Annotated[int, typer.Option(min=1, help="Photos, and views, at a time.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of every contender.")] = 7,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor.")] = None,
) -> None:
    """Measure the three side by side."""
    if threads:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "onnx", Path(folder) / "int8"
        export(checkpoint, whole)
        for graph in Path(shutil.copytree(whole, small)).glob("*.onnx"):
            quantise(graph)
        found = {
            "PyTorch": Localizer.from_pretrained(checkpoint, device="cpu"),
            "ONNX Runtime": Localizer.from_pretrained(whole),
            "ONNX Runtime, int8": Localizer.from_pretrained(small),
        }
    typer.echo(table(found, data, batch, rounds, limit))


def table(localizers: dict[str, Localizer], data: Path, batch: int, rounds: int, limit: int | None) -> str:
    """Markdown: milliseconds a photo, a view and a search, and what `zoomloc evaluate` says of the posterior."""
    lines = [
        "| | photo, ms | view, ms | posterior, ms | median error, m | recall at 40 m |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    accuracy = {
        name: evaluate(each, data, searches=["posterior"], limit=limit).metrics["posterior"]
        for name, each in localizers.items()  # first, as it fills the indexes that the searches use
    }
    region = Region.load(data / "region.json")
    times = {name: list[list[float]]() for name in localizers}
    for _ in range(rounds + 1):  # the first warms up
        for name, each in localizers.items():
            times[name].append([1000 * seconds / batch for seconds in _turn(each, region, batch)])
    for name, rows in times.items():
        photo, view, search = (median(column) for column in zip(*rows[1:], strict=True))
        metrics = accuracy[name]
        lines.append(
            f"| {name} | {photo:.1f} | {view:.1f} | {search:.1f} "
            f"| {metrics.median_m:.0f} | {metrics.recall[40]:.1%} |"
        )
    return "\n".join(lines)


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


if __name__ == "__main__":
    run(main)
