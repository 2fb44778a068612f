"""How fast many photos are located, by stage, beside a loop over them, and whether memory stays flat:

    python -m benchmarks.batch

The loop is what one writes at first: load a photo, locate it, write a row, next. Both have the same photos (JPEG of a
camera's size), the shipped demonstration's model and region, all its cells encoded before. They take turns; medians.
Memory is watched in one run over many photos, where a tiny model with random weights leaves no time for anything but
the batch itself. Writes batch.json and batch.md.
"""

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from data_prep.command import run as run_command
from zoomloc import demo, tables
from zoomloc.batch import run
from zoomloc.batch.jobs import Job
from zoomloc.config import PointerConfig
from zoomloc.localizer import Localizer
from zoomloc.photo import load
from zoomloc.pointer import PointerModel
from zoomloc.region import Region
from zoomloc.rows import of_prediction

PHOTO_WH = (2400, 1350)
TINY = {
    "width": 32,
    "encoder_layers": 1,
    "encoder_heads": 2,
    "patch_px": 14,
    "table_px": 84,
    "decoder_heads": 2,
}
WATCHED = 1000  # photos between two looks at the memory


def main(
    photos: Annotated[int, typer.Option(min=1, help="Photos located by both.")] = 240,
    many: Annotated[int, typer.Option(min=2 * WATCHED, help="Photos over which memory is watched.")] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of both.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("docs/results"),
) -> None:
    """Measure batches beside a loop."""
    facts = measure(photos, many, rounds, device)
    out.mkdir(parents=True, exist_ok=True)
    (out / "batch.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "batch.md").write_text(markdown(facts))
    typer.echo(markdown(facts))


def measure(n_photos: int, n_many: int, rounds: int, device: str) -> dict[str, Any]:
    """Photos a second of both, seconds of each stage, and megabytes along the way."""
    localizer = Localizer.from_pretrained(demo.FOLDER / "checkpoint", device=device)
    with _workplace() as folder:
        region = Region.load(folder / "region.json")
        files = _files(folder, n_photos)
        jobs = [Job(path) for path in files]
        stages: list[run.Stages] = []
        run.Batch(localizer, [region]).prepare()

        def ours() -> None:
            batch = run.Batch(localizer, [region])
            run.to_file(batch, jobs, folder / "ours.csv", resume=False)
            stages.append(batch.stages)

        contenders: dict[str, Callable[[], None]] = {
            "loop": lambda: loop(localizer, region, files, folder / "loop.csv"),
            "batch": ours,
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds + 1):  # the first warms up
            for name, work in contenders.items():
                began = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - began)
        same = [row.path for row in tables.read(folder / "ours.csv")] == [
            row.path for row in tables.read(folder / "loop.csv")
        ]
        return {
            "device": _named(localizer.device),
            "load": round(os.getloadavg()[1], 1),
            "n_photos": n_photos,
            "photos_a_second": {name: n_photos / median(each[1:]) for name, each in seconds.items()},
            "stages_s": {
                stage: median(asdict(each)[stage] for each in stages[1:]) for stage in asdict(stages[0])
            },
            "whole_s": median(seconds["batch"][1:]),
            "same_answers": same,
            "n_many": n_many,
            "megabytes": watched(folder, region, files[:24], n_many),
        }


def loop(localizer: Localizer, region: Region, files: list[Path], out: Path) -> None:
    """One photo at a time."""
    rows = []
    for path in files:
        photo = load(path)
        (found,) = localizer.locate([photo.pixels], region, names=[str(path)], fovs_deg=[photo.fov_deg])
        rows.append(of_prediction(found, photo, min_confidence=0.5))
    tables.write(rows, out)


def watched(folder: Path, region: Region, files: list[Path], n: int) -> list[float]:
    """Megabytes of this process after each thousand photos of one run."""
    torch.manual_seed(0)
    small = [path.with_suffix(".png") for path in files]
    for path, target in zip(files, small, strict=True):
        Image.open(path).resize((320, 180)).save(target)
    tiny = PointerModel(PointerConfig(kind="pointer", **TINY, photo_px=56, view_px=84, key_width=8))
    batch = run.Batch(Localizer(tiny), [region], run.Options(how="greedy", top_k=1))
    jobs = [Job(small[i % len(small)]) for i in range(n)]
    found: list[float] = []
    rows_of = batch.rows

    def rows(some: Any) -> Iterator[Any]:
        done = 0
        for each in rows_of(some):
            yield each
            done += len(each)
            if done // WATCHED > len(found):
                found.append(_megabytes())

    batch.rows = rows  # type: ignore[method-assign]
    run.to_file(batch, jobs, folder / "many.csv", resume=False)
    return found


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder with the demonstration's region, whose index does not belong into the package."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("region.json", "city.tif"):
            shutil.copy(demo.FOLDER / each, folder)
        yield folder


def _files(folder: Path, n: int) -> list[Path]:
    """The demonstration's photos at the size of a camera's, again and again."""
    sources = sorted((demo.FOLDER / "photos").glob("*.jpg"))
    files = []
    for i in range(n):
        target = folder / f"{i:05d}.jpg"
        if i < len(sources):
            Image.open(sources[i]).resize(PHOTO_WH, Image.Resampling.BICUBIC).save(target, quality=90)
        else:
            shutil.copy(files[i % len(sources)], target)
        files.append(target)
    return files


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return (
        f"{platform.machine()} CPU, {cores} cores, {threads} threads for the model, torch {torch.__version__}"
    )


def markdown(facts: dict[str, Any]) -> str:
    """The figures as a page."""
    n, speed, stages = facts["n_photos"], facts["photos_a_second"], facts["stages_s"]
    rows = [
        f"| {stage} | {n / max(s, 1e-9):.1f} | {1000 * s / n:.2f} |"
        for stage, s in stages.items()
        if stage != "wait"
    ]
    first, *_, last = facts["megabytes"]
    lines = [
        "# Photos in batches",
        "",
        f"`python -m benchmarks.batch` on {facts['device']}: {n} photos of {PHOTO_WH[0]} x {PHOTO_WH[1]} JPEG, the "
        f"shipped demonstration's model and region. So many processes wanted a core meanwhile: {facts['load']}.",
        "",
        "| | photos/s |",
        "|---|---|",
        f"| a loop, one photo at a time | {speed['loop']:.2f} |",
        f"| `zoomloc batch` | {speed['batch']:.2f} ({speed['batch'] / speed['loop']:.2f} times as many) |",
        "",
        "| stage | photos/s by itself | ms a photo |",
        "|---|---|---|",
        *rows,
        "",
        f"The model waits for photos {stages['wait'] / facts['whole_s']:.1%} of the time. Decoding is counted in all "
        "its threads together, and goes on while the model works. "
        f"The answers are {'the same' if facts['same_answers'] else 'NOT the same'} leaves as the loop's.",
        "",
        f"Memory over {facts['n_many']:,} photos: {first:.0f} MB after the first thousand, {last:.0f} MB at the end "
        f"(highest {max(facts['megabytes']):.0f} MB).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
