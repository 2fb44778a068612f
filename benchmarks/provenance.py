"""How surely the mark of synthetic imagery is found after what happens to images, and how seldom where there is none.

    python -m benchmarks.provenance zoomloc/assets/demo/city.tif --images 6 --out docs/results/provenance.json

Detail is made up for windows of the imagery, with the mark, with parts of it alone, and without. Squares of several
sizes are cut out where no grid begins, attacked, and looked at in all alignments. Unmarked are the imagery itself, what
is made up without a mark, and marked images looked at with a wrong key.
"""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure
from PIL import Image

import tiles
from generation.fidelity import psnr
from generation.mark import Detector, Mark, Pixels
from generation.synthetic import SyntheticSource
from tiles import Bounds
from zoomloc.files import atomic
from zoomloc.progress import progress

WANTED = 1e-3  # false alarms
MARKS = {"codes and pixels": {}, "codes alone": {"strength": 0.0}, "pixels alone": {"delta": 0.0}}


def jpeg(image: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def resized(image: Pixels) -> Pixels:
    size = tuple(round(0.75 * side) for side in image.shape[1::-1])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def cropped(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    return image[height // 8 + 3 : -(height // 8), width // 8 + 1 : -(width // 8)]


ATTACKS: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda image: image,
    "JPEG 75": jpeg,
    "resize x0.75": resized,
    "crop": cropped,
    "all": lambda image: jpeg(resized(cropped(image))),
}


FEW = ("none", "all")  # of the attacks, on what is not marked


def windows(source: tiles.Source, n: int, px: int, gsd: float, rng: np.random.Generator) -> Iterator[Bounds]:
    """n squares of px pixels, so many units of the CRS each, without gaps, at random places."""
    west, south, east, north = source.bounds
    side, found = px * gsd, 0
    for _ in range(100 * n):
        x, y = rng.uniform(west, east - side), rng.uniform(south + side, north)
        bounds = Bounds(x, y - side, x + side, y)
        if found < n and source.read(bounds, source.crs, (32, 32)).mask.all():
            found += 1
            yield bounds


def read(source: tiles.Source, bounds: Bounds, px: int) -> Pixels:
    return source.read(bounds, source.crs, (px, px)).pixels


def measure(
    uris: list[str], model: str | None, *, n_images: int, sizes: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """z and bounds on the chance of every look; see the head of this module."""
    rng, px = np.random.default_rng(seed), max(sizes)
    looks: list[dict[str, Any]] = []
    costs: list[float] = []
    few = {name: ATTACKS[name] for name in FEW}
    for uri in uris:
        real = tiles.open(uri)
        made = SyntheticSource(real, model, levels=1, seed=seed)
        own, unit = made._mark, made._grid.side(1)
        finder, stranger = Detector(own), Detector(Mark("a wrong key", own.token_px))
        for bounds in progress(windows(real, n_images, px, unit, rng), f"marking {Path(uri).name}", n_images):
            plain = _made(made, replace(own, delta=0.0, strength=0.0), bounds, px)
            looks += _looks(finder, plain, "without a mark", sizes[-1:], uri, few)
            looks += _looks(
                finder, read(real, bounds, px // 2), "the imagery itself", (px // 2,), uri, ATTACKS
            )
            for name, changes in MARKS.items():
                image = _made(made, replace(own, **changes), bounds, px)
                whole = name == "codes and pixels"
                looks += _looks(finder, image, name, sizes if whole else sizes[-1:], uri, ATTACKS)
                if whole:
                    looks += _looks(stranger, image, "a wrong key", sizes[-1:], uri, few)
                if name == "pixels alone":
                    costs.append(psnr(plain.astype(np.float32) / 255, image.astype(np.float32) / 255))
    return {
        "imagery": [Path(uri).name for uri in uris],
        "images": n_images,
        "sizes_px": list(sizes),
        "psnr_db_of_moving": float(np.median(costs)),
        "found": _found(looks),
        "pixels_needed": {attack: _needed(looks, attack, sizes) for attack in ATTACKS},
        "false_alarms": _alarms(looks),
        "looks": looks,
    }


def _made(source: SyntheticSource, mark: Mark, bounds: Bounds, px: int) -> Pixels:
    source._mark = mark
    source._kept.clear()
    return read(source, bounds, px)


def _looks(
    finder: Detector, image: Pixels, kind: str, sizes: tuple[int, ...], uri: str,
    attacks: dict[str, Callable[[Pixels], Pixels]],
) -> list[dict[str, Any]]:  # fmt: skip
    told = []
    for size in sizes:
        for attack, change in attacks.items():
            found = finder.find(change(image[:size, :size]))
            assert found is not None
            told.append(
                {"kind": kind, "imagery": Path(uri).name, "size_px": size, "attack": attack, "z": round(found.z, 3),
                 "p": found.p_value, "green": round(found.share, 3)}
            )  # fmt: skip
    return told


def _found(looks: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By kind, size and attack: the share that is found at the wanted rate of false alarms."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for kind in MARKS:
        for size in sorted({look["size_px"] for look in looks if look["kind"] == kind}):
            table.setdefault(kind, {})[str(size)] = {
                attack: _share(looks, kind=kind, size_px=size, attack=attack) for attack in ATTACKS
            }
    return table


def _share(looks: list[dict[str, Any]], **what: Any) -> float:
    own = [look["p"] <= WANTED for look in looks if all(look[key] == value for key, value in what.items())]
    return float(np.mean(own))


def _needed(looks: list[dict[str, Any]], attack: str, sizes: tuple[int, ...]) -> int | None:
    """The smallest square, before the attack, from which on nineteen of twenty are found; in pixels."""
    good = None
    for size in sorted(sizes, reverse=True):
        if _share(looks, kind="codes and pixels", size_px=size, attack=attack) < 0.95:
            break
        good = size * size
    return good


def _alarms(looks: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    table = {}
    for kind in ("the imagery itself", "without a mark", "a wrong key"):
        own = [look for look in looks if look["kind"] == kind]
        table[kind] = {
            "looks": len(own),
            "alarms": sum(look["p"] <= WANTED for look in own),
            "largest_z": max(look["z"] for look in own),
        }
    return table


def draw(report: dict[str, Any], path: Path) -> None:
    """The ROC of every attack, by z, and how much is found by size."""
    size = max(report["sizes_px"])
    looks, unmarked = (
        report["looks"],
        np.array([look["z"] for look in report["looks"] if look["kind"] in report["false_alarms"]]),
    )
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    roc, by_size = figure.subplots(1, 2)
    for attack in ATTACKS:
        z = np.array(
            [
                k["z"]
                for k in looks
                if (k["kind"], k["size_px"], k["attack"]) == ("codes and pixels", size, attack)
            ]
        )
        steps = np.sort(np.concatenate([z, unmarked, [-1, 99]]))[::-1]
        roc.step(
            [(unmarked >= s).mean() for s in steps],
            [(z >= s).mean() for s in steps],
            where="post",
            label=attack,
        )
        sizes = report["sizes_px"]
        by_size.plot(
            sizes, [report["found"]["codes and pixels"][str(s)][attack] for s in sizes], "o-", label=attack
        )
    roc.set(xlabel="false alarms", ylabel="found", title=f"squares of {size} px; {len(unmarked)} unmarked looks",
            xlim=(-0.02, 1), ylim=(0, 1.02))  # fmt: skip
    by_size.set(
        xlabel="side of the square before the attack, px",
        ylabel=f"found at a bound of {WANTED:g}",
        ylim=(0, 1.02),
    )
    roc.legend(), by_size.legend()
    figure.savefig(path, format="png", dpi=100)


def page(report: dict[str, Any], command: str) -> str:
    """The figures as Markdown."""
    lines = [
        "# The mark of synthetic imagery", "",
        f"`{command}`. Imagery: {', '.join(report['imagery'])}; {report['images']} windows "
        "of each. `provenance.json` has every look.", "",
        f"Found where the bound on the chance of a false alarm, over all alignments, is at most {WANTED:g}:", "",
        "| mark | side, px | " + " | ".join(ATTACKS) + " |", "|---|---|" + "---|" * len(ATTACKS),
    ]  # fmt: skip
    for kind, rows in report["found"].items():
        for size, row in rows.items():
            lines.append(
                f"| {kind} | {size} | " + " | ".join(f"{row[attack]:.0%}" for attack in ATTACKS) + " |"
            )
    needed = "; ".join(
        f"{attack}: {'more' if n is None else f'{n:,}'}" for attack, n in report["pixels_needed"].items()
    )
    lines += [
        "", f"Pixels from which on 95 % are found: {needed}. Moving pixels costs {report['psnr_db_of_moving']:.1f} dB "
        "(PSNR between what is made up with and without it, median).", "",
        "| no mark | looks | alarms | largest z |", "|---|---|---|---|",
    ]  # fmt: skip
    for kind, row in report["false_alarms"].items():
        lines.append(f"| {kind} | {row['looks']} | {row['alarms']} | {row['largest_z']:.2f} |")
    return "\n".join([*lines, "", "![ROC](provenance.png)", ""])


def main(
    imagery: Annotated[list[str], typer.Argument(help="Imagery, as `zoomloc tiles` takes it.")],
    model: Annotated[str | None, typer.Option(help="Folder of a tile model's checkpoint.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Windows of each imagery.")] = 6,
    sizes: Annotated[str, typer.Option(help="Sides of the squares, px.")] = "96,144,192,288",
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="Write here (.json; .md and .png beside it).")] = Path(
        "provenance.json"
    ),
) -> None:
    """Measure the mark: found after attacks, false alarms, and what it costs."""
    sides = tuple(sorted(int(side) for side in sizes.split(",")))
    report = measure(imagery, model, n_images=images, sizes=sides, seed=seed)
    with atomic(out) as draft:
        draft.write_text(json.dumps(report, indent=1) + "\n")
    draw(report, out.with_suffix(".png"))
    command = f"python -m benchmarks.provenance {' '.join(imagery)} --images {images} --sizes {sizes}"
    out.with_suffix(".md").write_text(page(report, command), encoding="utf-8")
    typer.echo(out.with_suffix(".md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
