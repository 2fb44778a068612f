"""How fast `synthetic:` imagery is made, and whether its windows meet without seams.

    python -m benchmarks.synthetic zoomloc/assets/demo/city.tif --out docs/results/synthetic.json

Seams: the mean difference of neighbouring pixels across the lines where windows begin and end, over that across other
lines between tokens; 1 where nothing can be seen. Of what is made in windows that overlap (as it is), of windows made
each by itself and laid side by side, and of real imagery along the same lines.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import tiles
from generation.mark import Pixels
from generation.synthetic import SyntheticSource, _images, _pixels, zoom_of
from tiles import Bounds
from zoomloc.files import atomic

TILE_PX = 256


def seam(image: Pixels, lines: list[int], every: int = 1) -> float:
    """image: (h, w, 3). lines: the first columns beyond each border of windows; rows likewise. every: of so many lines
    one is compared with them, so that the borders of tokens are compared with borders of tokens."""
    grey = image.astype(float).mean(-1)
    along = [np.abs(np.diff(each, axis=1)).mean(0) for each in (grey, grey.T)]
    at = np.array(lines) - 1
    inside = np.setdiff1d(np.arange(every - 1, len(along[0]), every), at)
    return float(np.mean([a[at].mean() for a in along]) / np.mean([a[inside].mean() for a in along]))


def measure(uri: str, model: str | None, *, n_tiles: int) -> dict[str, Any]:
    """n_tiles: along a side of the square that is made."""
    real = tiles.open(uri)
    source = SyntheticSource(real, model, levels=1)
    mosaic, side = source._mosaic, source._grid.side(1)
    px = n_tiles * TILE_PX
    rows = cols = range(px)
    began, used = time.perf_counter(), time.process_time()
    made = source.canvas(1, rows, cols)[..., :3]
    seconds, used = time.perf_counter() - began, time.process_time() - used
    again = time.perf_counter()
    source.canvas(1, rows, cols)
    kept = time.perf_counter() - again
    period, token = 2 * mosaic.step, source._maker.token_px
    lines = sorted(
        edge for start in range(0, px, period) for edge in (start, start + mosaic.px) if 0 < edge < px
    )
    alone, alone_lines = _side_by_side(source, px)
    west, north = real.bounds.west, real.bounds.north
    bounds = Bounds(west, north - px * 2 * side, west + px * 2 * side, north)
    true = real.read(bounds, real.crs, (px, px)).pixels
    return {
        "imagery": Path(uri).name,
        "tiles": n_tiles**2,
        "tiles_a_second": n_tiles**2 / seconds,
        "processor_seconds_a_tile": used / n_tiles**2,
        "tiles_a_second_kept": n_tiles**2 / kept,
        "between_tokens": seam(made, list(range(token, px, token))),
        "seams": {
            "as it is": seam(made, lines, token),
            "windows side by side": seam(alone, alone_lines, token),
            "real, same lines": seam(true, lines, token),
        },
    }


def _side_by_side(source: SyntheticSource, px: int) -> tuple[Pixels, list[int]]:
    """Windows made each by itself, as many as fit."""
    model, size = source._maker.model, source._mosaic.px
    n = px // size
    whole = np.zeros((n * size, n * size, 3), np.uint8)
    zoom = torch.full((n,), zoom_of(source.gsd_m))
    for row in range(n):
        half = size // 2
        strips = [range(row * half, (row + 1) * half), range(n * half)]
        parents = source.canvas(0, *strips)
        split = [parents[:, i * half : (i + 1) * half] for i in range(n)]
        with torch.inference_mode():
            images = model.enlarge(_images(split), zoom, seeds=range(row * n, (row + 1) * n)).images
        for col in range(n):
            whole[row * size : (row + 1) * size, col * size : (col + 1) * size] = _pixels(images[col])
    return whole, list(range(size, n * size, size))


def page(report: dict[str, Any], command: str) -> str:
    """The figures as Markdown."""
    seams = report["seams"]
    return "\n".join([
        "# Making imagery up: speed and seams", "",
        f"`{command}`, on a CPU, {torch.get_num_threads()} thread(s) of torch; "
        f"{report['tiles']} tiles of {TILE_PX} px, one level finer than {report['imagery']}.", "",
        "| | |", "|---|---|",
        f"| tiles made a second | {report['tiles_a_second']:.2f} |",
        f"| processor time a tile, s | {report['processor_seconds_a_tile']:.2f} |",
        f"| tiles a second that are kept already | {report['tiles_a_second_kept']:,.0f} |",
        *(f"| seam energy, {name} | {value:.3f} |" for name, value in seams.items()),
        f"| difference between tokens, over that elsewhere | {report['between_tokens']:.3f} |", "",
    ])  # fmt: skip


def main(
    imagery: Annotated[str, typer.Argument(help="Imagery, as `zoomloc tiles` takes it.")],
    model: Annotated[str | None, typer.Option(help="Folder of a tile model's checkpoint.")] = None,
    tiles_along: Annotated[int, typer.Option(min=1, help="Tiles along a side of what is made.")] = 2,
    out: Annotated[Path, typer.Option(help="Write here (.json; .md beside it).")] = Path("synthetic.json"),
) -> None:
    """Measure tiles a second, and seams."""
    report = measure(imagery, model, n_tiles=tiles_along)
    with atomic(out) as draft:
        draft.write_text(json.dumps(report, indent=1) + "\n")
    command = f"python -m benchmarks.synthetic {imagery} --tiles-along {tiles_along}"
    out.with_suffix(".md").write_text(page(report, command), encoding="utf-8")
    typer.echo(out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
