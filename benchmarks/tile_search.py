"""What a search on token maps is worth: tiles by particles, and as many drawn singly, against what was there.

    python -m benchmarks.tile_search zoomloc/assets/demo/city.tif --out docs/results/tile_search.json

Parents are areas of the imagery, halved; the imagery itself is what was there. As compared: one tile drawn; particles
of 8, 4 and 2 rows with the likeness of the halved tile to its parent as verifier; and of 8 whole tiles one at random.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor

import tiles
from benchmarks.provenance import read, windows
from generation.fidelity import feature_distance, psnr, ssim
from generation.synthetic import zoom_of
from generation.tile_model import SHIPPED, TileModel, enlarged, halved
from generation.tile_search import enlarge
from zoomloc.bootstrap import DRAWS
from zoomloc.files import atomic

MEASURES = {"PSNR, dB": psnr, "SSIM": ssim, "feature distance": feature_distance}


def measure(uri: str, model: TileModel, *, n: int, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Figures, and the tiles of the figure."""
    source, rng = tiles.open(uri), np.random.default_rng(seed)
    unit = source.bounds.width / max(1, round(source.bounds.width / source.gsd_m))
    views = [read(source, bounds, model.px) for bounds in windows(source, n, model.px, unit, rng)]
    true = torch.from_numpy(np.stack(views)).movedim(-1, 1).float() / 127.5 - 1
    parents, zoom = halved(true), torch.full((len(true),), zoom_of(source.gsd_m))
    began = time.process_time()
    single = model.enlarge(parents, zoom, seeds=range(len(true))).images
    singly_s = time.process_time() - began
    began = time.process_time()
    found = enlarge(model, parents, zoom, generator=torch.Generator().manual_seed(seed)).images
    search_s = time.process_time() - began
    made = {"bicubic": enlarged(parents), "one drawn": single, "particles": found}
    scores = {name: _scores(images, true) for name, images in made.items()}
    gain = {key: _interval(scores["particles"][key] - scores["one drawn"][key], rng) for key in MEASURES}
    report = {
        "imagery": Path(uri).name,
        "tiles": len(true),
        "means": {name: {key: float(v.mean()) for key, v in each.items()} for name, each in scores.items()},
        "particles_less_one_drawn": gain,
        "seconds_a_tile": {"one drawn": singly_s / len(true), "particles": search_s / len(true)},
    }
    return report, {**made, "what was there": true}


def _scores(images: Tensor, true: Tensor) -> dict[str, Any]:
    pairs = [
        tuple(((x.movedim(0, -1) + 1) / 2).numpy().astype(np.float32) for x in pair)
        for pair in zip(true, images, strict=True)
    ]
    return {name: np.array([measured(*pair) for pair in pairs]) for name, measured in MEASURES.items()}


def _interval(differences: Any, rng: np.random.Generator) -> list[float]:
    """The mean difference, and what holds 95 % of a bootstrap of it."""
    drawn = differences[rng.integers(len(differences), size=(DRAWS, len(differences)))].mean(1)
    return [float(differences.mean()), *np.percentile(drawn, (2.5, 97.5)).tolist()]


def draw(made: dict[str, Tensor], path: Path, *, n: int = 4) -> None:
    """Tiles beside each other: a row for each of the first n."""
    figure = Figure(figsize=(2 * len(made), 2.1 * n), layout="constrained")
    all_axes = figure.subplots(n, len(made), squeeze=False)
    for column, (name, images) in enumerate(made.items()):
        for row in range(n):
            axes = all_axes[row, column]
            axes.imshow(((images[row].movedim(0, -1) + 1) / 2).clamp(0, 1).numpy(), interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=9)
    figure.savefig(path, format="png", dpi=90)


def page(report: dict[str, Any], command: str) -> str:
    """The figures as Markdown."""
    lines = ["# Search on token maps", "", f"`{command}`: {report['tiles']} tiles of {report['imagery']}.", "",
             "| | " + " | ".join(MEASURES) + " | s a tile |", "|---|" + "---|" * (len(MEASURES) + 1)]  # fmt: skip
    for name, row in report["means"].items():
        seconds = report["seconds_a_tile"].get(name)
        lines.append(
            f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in MEASURES)
            + f" | {'' if seconds is None else f'{seconds:.2f}'} |"
        )  # fmt: skip
    gains = report["particles_less_one_drawn"].items()
    words = "; ".join(f"{key} {mean:+.3f} [{low:+.3f}, {high:+.3f}]" for key, (mean, low, high) in gains)
    return "\n".join(
        [
            *lines,
            "",
            f"Particles less one drawn, with 95 % intervals: {words}.",
            "",
            "![Tiles](tile_search.png)",
            "",
        ]
    )


def main(
    imagery: Annotated[str, typer.Argument(help="Imagery, as `zoomloc tiles` takes it.")],
    model: Annotated[Path, typer.Option(help="Folder of a tile model's checkpoint.")] = SHIPPED,
    n: Annotated[int, typer.Option(min=4, help="Tiles.")] = 48,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="Write here (.json; .md and .png beside it).")] = Path(
        "tile_search.json"
    ),
) -> None:
    """Compare particles with single draws."""
    report, made = measure(imagery, TileModel.load(model), n=n, seed=seed)
    with atomic(out) as draft:
        draft.write_text(json.dumps(report, indent=1) + "\n")
    draw(made, out.with_suffix(".png"))
    out.with_suffix(".md").write_text(
        page(report, f"python -m benchmarks.tile_search {imagery} --n {n}"), encoding="utf-8"
    )
    typer.echo(out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
