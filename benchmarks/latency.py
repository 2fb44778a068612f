"""How many photos a second are located, beside the published loop with the same encoder:

    python -m benchmarks.latency

The published loop, written straightforwardly: the photo is encoded, then, four times, the view of the present cell
is encoded and the decoder runs over all tokens so far. Its views lie ready in memory. Ours encodes the photo and asks
an index. Weights are random, which changes no time but that of the search, whose cells to open depend on how sure a
model is: the posterior is timed opening every cell, and with keys planted so that it is about as sure as the
probabilities printed say. JPEG photos are decoded by both. Contenders take turns; medians. Writes latency.json and .md.
"""

import io
import json
import platform
import resource
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor

from data_prep.command import run
from tiles.pyramid import Pyramid
from zoomloc import markov
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.encoder import normalise, shrink
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.model import ZoomModel, pick_device
from zoomloc.pointer import PointerModel

ENCODERS: dict[str, dict[str, int]] = {
    "base": {"width": 768, "encoder_layers": 12, "encoder_heads": 12, "patch_px": 14, "table_px": 518},
    "small": {"width": 384, "encoder_layers": 12, "encoder_heads": 6, "patch_px": 14, "table_px": 518},
    "tiny": {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 14, "table_px": 84},
}
Size = StrEnum("Size", list(ENCODERS))
CITY = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 10_000.0, 4, 4)  # 100 km², 4,369 inner cells
LAND = Grid("EPSG:32632", (450_000.0, 5_100_000.0), 160_000.0, 4, 6)  # 25,600 km², 1,118,481 inner cells
PHOTO_WH = (640, 360)
SURE = 12.0  # of a planted key: its score beside random ones, which have about 0


def main(
    encoder: Annotated[Size, typer.Option(help="DINOv2's size.")] = Size.base,
    batch: Annotated[int, typer.Option(min=1, help="Photos at a time.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of every contender.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor.")] = None,
    large: Annotated[bool, typer.Option(help="Measure the large index too (4 GB of memory).")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("docs/results"),
) -> None:
    """Measure photos a second, ours beside the published loop."""
    if threads:
        torch.set_num_threads(threads)
    place = pick_device(device)
    facts = measure(ENCODERS[encoder], batch, rounds, place, large=large)
    facts = {"encoder": encoder.value, "batch": batch, "device": _named(place), **facts}
    out.mkdir(parents=True, exist_ok=True)
    (out / "latency.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "latency.md").write_text(markdown(facts))
    typer.echo(markdown(facts))


def measure(
    encoder: dict[str, int], batch: int, rounds: int, device: torch.device, *, large: bool
) -> dict[str, Any]:
    """Seconds a photo of everything, and what the indexes weigh."""
    torch.manual_seed(0)
    heads = {"decoder_heads": encoder["encoder_heads"]}
    published = ZoomModel(ModelConfig(**encoder, **heads, photo_px=224, view_px=224)).to(device).eval()
    ours = PointerModel(PointerConfig(kind="pointer", **encoder, **heads, photo_px=224)).to(device).eval()
    files, views = _files(batch), torch.randint(0, 256, (4, batch, 224, 224, 3), dtype=torch.uint8)
    city = _index(ours, CITY)
    tokens = _encoded(ours, files, device)
    _plant(ours, city, tokens)
    contenders: dict[str, Callable[[], Any]] = {
        "published loop, greedy": lambda: published_loop(published, files, views, device),
        "ours, greedy": lambda: markov.beam(ours, city, _encoded(ours, files, device), width=1),
        "ours, posterior": lambda: markov.posterior(ours, city, _encoded(ours, files, device), epsilon=1e-3),
        "ours, posterior, every cell": lambda: markov.posterior(
            ours, city, _encoded(ours, files, device), epsilon=0.0
        ),
        "encoding the photo": lambda: _encoded(ours, files, device),
        "the encoder alone, no JPEG": _ceiling(ours, batch, device),
    }
    found = markov.posterior(ours, city, tokens, epsilon=1e-3)
    facts: dict[str, Any] = {
        "best_leaf": float(median(leaves.probabilities[0] for leaves in found)),
        "index_bytes_a_cell": city.nbytes / city.n_cells,
        "cells": city.n_cells,
    }
    if large:
        land = _index(ours, LAND)
        _plant(ours, land, tokens)
        contenders["ours, posterior, 25,600 km²"] = lambda: markov.posterior(
            ours, land, _encoded(ours, files, device), epsilon=1e-3
        )
        facts |= {"large_cells": land.n_cells, "large_bytes": land.nbytes}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):  # the first warms up
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            _wait(device)
            seconds[name].append((time.perf_counter() - start) / batch)
    facts["seconds"] = {name: median(each[1:]) for name, each in seconds.items()}
    facts["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return facts


@torch.inference_mode()
def published_loop(model: ZoomModel, files: list[bytes], views: Tensor, device: torch.device) -> Tensor:
    """Greedy paths (B, 4): at every step the view is encoded and the decoder runs over everything so far."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        photo = model.encode_photos(_pixels(files).to(device))
        seen: list[Tensor] = []
        actions = torch.zeros(len(files), 0, dtype=torch.long, device=device)
        for level in range(4):
            seen.append(model.encode_views(views[level].to(device)))
            padded = torch.cat([actions, actions.new_zeros(len(files), 1)], dim=1)
            logits = model.decoder(photo, torch.stack(seen, dim=1), padded)[:, -1]
            actions = torch.cat([actions, logits.argmax(-1, keepdim=True)], dim=1)
    return actions


@torch.inference_mode()
def _encoded(model: PointerModel, files: list[bytes], device: torch.device) -> Tensor:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        return model.encode_photos(_pixels(files).to(device)).float()


def _ceiling(model: PointerModel, batch: int, device: torch.device) -> Callable[[], Tensor]:
    images = normalise(torch.randint(0, 256, (2 * batch, 224, 224, 3), dtype=torch.uint8)).to(device)

    @torch.inference_mode()
    def work() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            return model.encoder(images)

    return work


def _pixels(files: list[bytes]) -> Tensor:
    photos = [shrink(np.asarray(Image.open(io.BytesIO(file))), 224) for file in files]
    return torch.from_numpy(np.stack(photos))


def _files(n: int) -> list[bytes]:
    rng, files = np.random.default_rng(0), []
    for _ in range(n):
        coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize(PHOTO_WH).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def _index(model: PointerModel, grid: Grid) -> Index:
    """An index of keys drawn at random, as if every cell had been encoded."""
    none = SimpleNamespace(
        source=SimpleNamespace(synthetic=False)
    )  # there is no imagery, and none is asked for
    none.real = none
    index = Index(model, cast(Pyramid, none), grid)
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((4096, *model.feature_shape), dtype=np.float32)
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    for numbers in np.array_split(np.arange(index.n_cells), index.n_cells // len(keys) + 1):
        index.put(numbers, keys[rng.integers(0, len(keys), len(numbers))])
    return index


@torch.inference_mode()
def _plant(model: PointerModel, index: Index, photos: Tensor) -> None:
    """For every photo a path whose children look as the photo asks, and a model that is sure of it."""
    model.log_scale.fill_(float(np.log(SURE)))
    asked, rng = markov.ask(model, index, photos), np.random.default_rng(1)
    for i in range(len(photos)):
        number = 0
        for level in range(index.grid.depth):
            child = int(rng.integers(index.grid.branch**2))
            key = index.at(np.array([number]))[0].cpu().numpy()
            best = int(asked.weight[level, i].argmax())
            key[child] = asked.query[level, i, best].cpu().numpy() / SURE
            index.put(np.array([number]), key[None])
            number = index.grid.branch**2 * number + 1 + child


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, bfloat16, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def markdown(facts: dict[str, Any]) -> str:
    """The figures as a page."""
    seconds = facts["seconds"]
    slow = seconds["published loop, greedy"]
    rows = [f"| {n} | {1 / s:.2f} | {1000 * s:.1f} | {slow / s:.2f} |" for n, s in seconds.items()]
    lines = [
        "# Photos a second",
        "",
        f"`python -m benchmarks.latency --encoder {facts['encoder']} --batch {facts['batch']}` on {facts['device']}; "
        f"DINOv2-{facts['encoder']} with random weights, photos 2 x 224 px of {PHOTO_WH[0]} x {PHOTO_WH[1]} JPEG, a "
        f"region of 100 km² ({facts['cells']:,} inner cells) indexed. The planted posteriors give their best leaf "
        f"{facts['best_leaf']:.0%}.",
        "",
        "| | photos/s | ms a photo | ratio to the published loop |",
        "|---|---|---|---|",
        *rows,
        "",
        f"The index takes {facts['index_bytes_a_cell']:,.0f} bytes a cell, "
        f"{facts['index_bytes_a_cell'] * 437e3 / 1e9:.2f} GB for the 437,000 cells of 10,000 km².",
    ]
    if "large_cells" in facts:
        ratio = seconds["ours, posterior, 25,600 km²"] / seconds["ours, posterior"]
        lines += [
            f"That of 25,600 km² ({facts['large_cells']:,} cells) has {facts['large_bytes'] / 1e9:.2f} GB; a photo "
            f"there takes {ratio:.2f} times as long as in 100 km².",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(main)
