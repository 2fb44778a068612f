"""Tiles of the next zoom level, and gaps filled, on ground that was held out: by bicubic interpolation, by a regression
of as many parameters, by VAR and by FlexVAR.

    python -m benchmarks.tile_models configs/tiles_var.toml --var runs/tiles-var/checkpoint \
        --flexvar runs/tiles-flexvar/checkpoint --regression runs/tiles-regression/checkpoint \
        --unseen data/tiles-city-held/city.tif --out docs/results/tile-models

Sources and held-out blocks are those of the configuration; sources with --simulated in their URI count as simulated,
the others as real. Writes OUT.json, OUT.md and OUT.png.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from rich.progress import track
from torch import Tensor

from generation.fidelity import edge_f1, feature_distance, psnr, ssim
from generation.tile_checkpoint import load as load_checkpoint
from generation.tile_config import SourceConfig, load
from generation.tile_model import TileModel, consistent, enlarged, halved, spread
from generation.windows import Windows, as_images, open_places

SHOWN = 3  # tiles of each group in the picture
BATCH = 32
Enlarge = Callable[[Tensor, Tensor], Tensor]  # parents and zoom levels -> tiles
Fill = Callable[[Tensor, Tensor, Tensor], Tensor]  # tiles, where they are known, zoom levels -> tiles


def fine_contrast(image: np.ndarray) -> float:
    """How much a pixel differs from its surroundings, in the root mean square."""
    return float(np.sqrt(np.square(image - cv2.GaussianBlur(image, (0, 0), 1.5)).mean()))


def figures(truth: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Of one tile (px, px, 3), 0 to 1."""
    return {
        "psnr": psnr(truth, made),
        "ssim": ssim(truth, made),
        "feature_distance": feature_distance(truth, made),
        "edge_f1": edge_f1(truth, made),
        "fine_contrast": fine_contrast(made) / max(fine_contrast(truth), 1e-3),
    }


def mean_figures(truth: Tensor, made: Tensor) -> dict[str, Any]:
    """Means over tiles, and their standard errors."""
    pairs = zip(_pixels(truth), _pixels(made), strict=True)
    rows = [figures(one, other) for one, other in pairs]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {
        name: {"mean": float(v.mean()), "standard_error": float(v.std() / len(v) ** 0.5)}
        for name, v in columns.items()
    }


def _pixels(images: Tensor) -> np.ndarray:
    return np.ascontiguousarray(((images + 1) / 2).clamp(0, 1).movedim(1, 3).numpy())


def enlargers(models: Mapping[str, TileModel], regression: Any) -> dict[str, Enlarge]:
    """By name: what makes tiles of their parents."""
    ways: dict[str, Enlarge] = {
        "bicubic": lambda parents, zoom: enlarged(parents),
        "bicubic, back-projected": lambda parents, zoom: consistent(enlarged(parents), parents),
        "regression": lambda parents, zoom: regression(parents).clamp(-1, 1),
        "regression, back-projected": lambda parents, zoom: consistent(regression(parents), parents),
    }
    for name, model in models.items():
        ways[f"{name}'s decoder alone"] = lambda parents, zoom, model=model: model.decode(
            model.encode(enlarged(parents)), parents
        )
        ways[name] = lambda parents, zoom, model=model: (
            model.enlarge(parents, zoom, seeds=range(len(parents))).images
        )
    return ways


def fillers(models: Mapping[str, TileModel]) -> dict[str, Fill]:
    """By name: what fills gaps, without the parent tile."""
    ways: dict[str, Fill] = {"smooth": lambda tiles, known, zoom: spread(tiles, known), "Telea": telea}
    for name, model in models.items():
        ways[name] = lambda tiles, known, zoom, model=model: (
            model.fill(tiles, known, zoom, seeds=range(len(tiles))).images
        )
    return ways


def telea(tiles: Tensor, known: Tensor, zoom: Tensor) -> Tensor:
    """Telea's in-painting (2004), as OpenCV has it."""
    filled = [
        cv2.inpaint(
            (pixels * 255).round().astype(np.uint8), (~there).numpy().astype(np.uint8), 3, cv2.INPAINT_TELEA
        )
        for pixels, there in zip(_pixels(tiles), known, strict=True)
    ]
    return as_images(torch.from_numpy(np.stack(filled)).movedim(3, 1))


def gap(n: int, px: int) -> Tensor:
    """(n, px, px) bool, False in the middle."""
    known = torch.ones(n, px, px, dtype=torch.bool)
    quarter = px // 4
    known[:, quarter + 4 : -quarter, quarter : -quarter - 4] = False
    return known


@torch.no_grad()
def in_batches(way: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, float]:
    """What a way makes, and tiles a second."""
    way(*(x[:2] for x in inputs))
    start = time.perf_counter()
    made = torch.cat([way(*some) for some in zip(*(x.split(BATCH) for x in inputs), strict=True)])
    return made, len(made) / (time.perf_counter() - start)


def compare(
    images: Tensor, zoom: Tensor, enlarge: Mapping[str, Enlarge], fill: Mapping[str, Fill]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Figures of all ways on tiles (n, 3, px, px), and what they made of the first ones."""
    parents, known = halved(images), gap(len(images), images.shape[-1])
    found: dict[str, Any] = {"enlarged": {}, "filled": {}}
    shown = {"truth": images[:SHOWN]}
    for name, way in enlarge.items():
        made, speed = in_batches(way, parents, zoom)
        found["enlarged"][name] = mean_figures(images, made) | {"tiles_a_second": speed}
        shown[name] = made[:SHOWN]
    hidden = (~known)[:, None]
    box = [slice(int(i.min()), int(i.max()) + 1) for i in torch.where(~known[0])]
    shown["with a gap"] = torch.where(hidden, torch.ones_like(images), images)[:SHOWN]
    for name, way in fill.items():
        made, speed = in_batches(way, images, known, zoom)
        within = images[:, :, box[0], box[1]], made[:, :, box[0], box[1]]
        found["filled"][name] = mean_figures(*within) | {"tiles_a_second": speed}
        shown[f"{name}, filled"] = made[:SHOWN]
    return found, shown


HEADINGS = {
    "psnr": ("PSNR dB", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "feature_distance": ("feature distance", "{:.3f}"),
    "edge_f1": ("edge F1", "{:.3f}"),
    "fine_contrast": ("fine contrast : truth", "{:.2f}"),
}


def table(found: Mapping[str, Any]) -> list[str]:
    """The lines of a Markdown table: a way a row."""
    lines = [
        "| | " + " | ".join(heading for heading, _ in HEADINGS.values()) + " | tiles/s |",
        "|---|" + "---|" * (len(HEADINGS) + 1),
    ]
    for name, row in found.items():
        cells = [
            f"{form.format(row[key]['mean'])} ± {form.format(row[key]['standard_error'])}"
            for key, (_, form) in HEADINGS.items()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['tiles_a_second']:.1f} |")
    return lines


def report(results: Mapping[str, Any], px: int) -> str:
    """The page of results."""
    lines = [
        "# Tiles made at the next zoom level, and gaps filled",
        "",
        f"Written by `benchmarks/tile_models.py`. Tiles of {px} px on ground that was held out from training; means "
        "and their standard errors. The feature distance is LPIPS in form only (`generation/fidelity.py`): lower is "
        "better. Fine contrast is the tile's beside the truth's: 1.00 is as much, which is not the same as the right "
        "one. A decoder alone is given the codes of the parent enlarged, and nothing is generated. "
        '"True codes" is what the tokenizer makes of the true tile\'s codes, which no model of codes can be '
        "expected to surpass. All is brought into line with the parent (back-projection) but plain bicubic and the "
        f"plain regression. One thread, batches of {BATCH}.",
        "",
        "Parameters: "
        + ", ".join(f"{name} {n / 1e6:.2f} M" for name, n in results["parameters"].items())
        + ".",
        "",
    ]
    for name, found in results["groups"].items():
        lines += [f"## {name.capitalize()}: {found['tiles']} tiles", "", *table(found["enlarged"]), ""]
        lines += ["A gap in the middle filled, without the parent; figures of the gap alone:", ""]
        lines += [*table(found["filled"]), ""]
    return "\n".join(lines)


def draw(groups: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """A picture: a tile a row, a way a column."""
    from matplotlib.figure import Figure

    columns = list(next(iter(groups.values())))
    rows = [[_pixels(shown[name])[i] for name in columns] for shown in groups.values() for i in range(SHOWN)]
    px, border = len(rows[0][0]), 4
    grid = np.ones((len(rows) * (px + border), len(columns) * (px + border), 3), np.float32)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            top, left = i * (px + border), j * (px + border)
            grid[top : top + px, left : left + px] = tile
    figure = Figure(figsize=(1.5 * len(columns), 1.55 * len(rows) + 0.6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(grid, interpolation="nearest")
    middle = (np.arange(max(len(columns), len(rows))) + 0.5) * (px + border)
    ax.set_xticks(middle[: len(columns)], [name.replace(", ", ",\n") for name in columns], fontsize=8)
    ax.set_yticks(middle[: len(rows) : SHOWN], list(groups), fontsize=8, rotation=90, va="center")
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.set_frame_on(False)
    figure.savefig(path, dpi=110)


def true_codes(model: TileModel, images: Tensor) -> Tensor:
    """What the tokenizer makes of the codes of true tiles and their parents."""
    return model.decode(model.encode(images), halved(images))


def main(
    config: Annotated[Path, typer.Argument(help="A training configuration: sources and blocks.")],
    var: Annotated[Path, typer.Option(help="Checkpoint.")],
    flexvar: Annotated[Path, typer.Option(help="Checkpoint.")],
    regression: Annotated[Path, typer.Option(help="Checkpoint.")],
    out: Annotated[Path, typer.Option(help="Without its suffix.")],
    unseen: Annotated[str | None, typer.Option(help="A simulated town that no training saw.")] = None,
    simulated: Annotated[str, typer.Option(help="In the URIs of simulated sources.")] = "city",
    tiles: Annotated[int, typer.Option(min=SHOWN, help="Of each group.")] = 128,
    seed: int = 1,
) -> None:
    """Compare what makes tiles of their parents, and what fills gaps."""
    settings = load(config)
    models = {"VAR": TileModel.load(var), "FlexVAR": TileModel.load(flexvar)}
    net = load_checkpoint(regression)[0]
    px = models["VAR"].px
    real = [s for s in settings.sources if simulated not in s.uri]
    made_up = [s for s in settings.sources if simulated in s.uri]
    groups: dict[str, tuple[list[SourceConfig], float]] = {
        "real": (real, settings.held_out),
        "simulated": (made_up, settings.held_out),
    }
    if unseen:
        groups["simulated, another town"] = ([made_up[0].model_copy(update={"uri": unseen})], 1 - 1e-9)
    counts = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    results: dict[str, Any] = {
        "parameters": counts | {"regression": sum(p.numel() for p in net.parameters())},
        "groups": {},
    }
    pictures = {}
    for name, (sources, share) in track(list(groups.items()), "comparing"):
        if not sources:
            continue
        spaces: dict[str, Any] = {"px": px, "block_m": settings.block_m, "held_out": share}
        windows = Windows(open_places(sources), **spaces, split="held_out")
        drawn, zoom = windows.batch(tiles, np.random.default_rng(seed))
        images = as_images(drawn)
        ways = enlargers(models, net)
        found, shown = compare(images, zoom, ways, fillers(models))
        with torch.no_grad():
            for kind, model in models.items():
                made, speed = in_batches(lambda x, model=model: true_codes(model, x), images)
                found["enlarged"][f"{kind}, true codes"] = mean_figures(images, made) | {
                    "tiles_a_second": speed
                }
        results["groups"][name] = {"tiles": tiles} | found
        pictures[name] = shown
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    out.with_suffix(".md").write_text(report(results, px))
    draw(pictures, out.with_suffix(".png"))
    print(out.with_suffix(".md"))


if __name__ == "__main__":
    typer.run(main)
