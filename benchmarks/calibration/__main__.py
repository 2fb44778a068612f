"""Whether a checkpoint's probabilities hold, and what it takes for a photo of the map, before and after calibration:

    python -m benchmarks.calibration CHECKPOINT --data data/demo-city --unseen data/accuracy/small/unseen-0

fits a calibration to the validation photos of --data, measures it on their test photos, on those of cities never seen
(on their own maps, and held against the maps of --data) and on pictures that are no street photos, and writes
calibration-NAME.json, .md and plots. The checkpoint stays as it is; `zoomloc calibrate` is what changes it.
"""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.command import run


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    data: Annotated[list[Path], typer.Option(help="Dataset with splits val and test; may be repeated.")],
    name: Annotated[str, typer.Option(help="Of the results.")],
    unseen: Annotated[
        list[Path] | None, typer.Option(help="Dataset of a city never seen, with test; may be repeated.")
    ] = None,
    others: Annotated[
        list[Path] | None, typer.Option(help="Dataset of another place to fit with; may be repeated.")
    ] = None,
    real: Annotated[Path | None, typer.Option(help="Folder of real street photos to reject.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Of every kind that is no street photo.")] = 100,
    seed: Annotated[int, typer.Option(help="Of these pictures.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("docs/results"),
) -> None:
    """Measure whether a checkpoint's probabilities hold, before and after calibration."""
    from benchmarks.calibration import measure, report

    found = measure.measure(
        checkpoint, data, unseen=unseen or (), others=others or (), real=real, pictures=pictures, seed=seed,
        device=device,
    )  # fmt: skip
    typer.echo(f"results: {report.write(found, name, out)}")


if __name__ == "__main__":
    run(main)
