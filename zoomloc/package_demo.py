"""Puts the demonstration into the package: the simulated city, 24 held-out photos, the trained model and its card.

`python -m zoomloc.package_demo --help` says what it wants; the README has the whole command.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from zoomloc import calibration, checkpoint, manifest
from zoomloc.calibration import Calibration
from zoomloc.config import TrainConfig, load_train_config
from zoomloc.demo import FOLDER
from zoomloc.evaluate import markdown
from zoomloc.model import n_parameters

PHOTOS = 24
DESCRIBED = {"just_zoom_in": "arXiv 2603.25686", "pointer": "`zoomloc/pointer.py`"}

CARD = """# The demonstration model

Trained on one simulated city and nothing else: it knows that city, and no place in the real world.

- Architecture: `{kind}` ({described}) at a small size, {parameters:.1f} M parameters, random initial weights; stored in
  half precision.
- Data: `{prep}`; {n_train} photos to train on, none within 30 m of a test photo.
- Recipe: `zoomloc train {config}`: {steps} steps of {batch} photos, cosine schedule, positions blurred by {sigma:g} m
  into soft labels.
- Calibration: {calibration}.
- Measured by `zoomloc evaluate` on {n_photos} photos of the split `{split}` (simulated):

{table}
"""


def main(
    data: Annotated[Path, typer.Option(help="The simulated city's dataset.")],
    config: Annotated[Path, typer.Option(help="The training configuration whose run is shipped.")],
    report: Annotated[Path, typer.Option(help="What `zoomloc evaluate --out` wrote for this run.")],
    prep: Annotated[str, typer.Option(help="The command that made the dataset, for the model card.")],
    plots: Annotated[Path, typer.Option(help="What `zoomloc evaluate --plots` drew.")],
    out: Annotated[Path, typer.Option(help="Where the package keeps its demonstration.")] = FOLDER,
) -> None:
    """Fill `out` with the demonstration, replacing what was there."""
    settings = load_train_config(config)
    rows = manifest.read(data / "manifest.parquet")
    test = rows[rows.split == "test"]
    chosen = test.iloc[[i * len(test) // PHOTOS for i in range(PHOTOS)]]
    shutil.rmtree(out, ignore_errors=True)
    (out / "photos").mkdir(parents=True)
    for name in chosen.photo:
        shutil.copy2(data / name, out / name)
    for name in ("city.tif", "region.json"):
        shutil.copy2(data / name, out / name)
    manifest.write(chosen, out / "manifest.parquet")
    model = checkpoint.load(settings.out / "checkpoint")
    checkpoint.save(model, out / "checkpoint", dtype=torch.float16)
    fitted = calibration.load(settings.out / "checkpoint")
    if fitted:
        calibration.save(fitted, out / "checkpoint")
    facts = json.loads(report.read_text())
    n_train = int((rows.split == "train").sum())
    shutil.copy2(plots, out / "checkpoint" / "reliability.png")
    parameters = n_parameters(model) / 1e6
    card = _card(settings, facts, fitted, config=config, prep=prep, n_train=n_train, parameters=parameters)
    (out / "checkpoint" / "README.md").write_text(card)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")


def _card(
    settings: TrainConfig,
    facts: dict[str, Any],
    fitted: Calibration | None,
    *,
    config: Path,
    prep: str,
    n_train: int,
    parameters: float,
) -> str:
    return CARD.format(
        kind=settings.model.kind,
        described=DESCRIBED[settings.model.kind],
        calibration=_fitted(fitted) if fitted else "none",
        parameters=parameters,
        prep=prep,
        n_train=n_train,
        config=config,
        steps=settings.steps,
        batch=settings.batch_size,
        sigma=settings.label_sigma_m,
        n_photos=facts["n_photos"],
        split=facts["split"],
        table=markdown(facts),
    )


def _fitted(fitted: Calibration) -> str:
    return (
        f"`zoomloc calibrate`, on {fitted.n_photos} photos of {', '.join(fitted.data)}"
        f"{', and of elsewhere ' + ', '.join(fitted.others) if fitted.others else ''}; a photo is called not from the "
        f"map above {fitted.threshold:.1%}, as {fitted.false_rejection:.0%} of its own photos are"
    )


if __name__ == "__main__":
    typer.run(main)
