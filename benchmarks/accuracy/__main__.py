"""How exactly photos are located, by us and by others:

    python -m benchmarks.accuracy --setting small

makes simulated cities, trains every method on them with the same encoder and as many photos seen, and writes
accuracy-small.json, .md and plots. Killed and called again, it goes on. docs/benchmark.md says what is measured.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from data_prep.command import run

Size = StrEnum("Size", ["tiny", "small", "full"])


def main(
    setting: Annotated[Size, typer.Option(help="How large it is.")] = Size.small,
    seed: Annotated[int, typer.Option(help="Of the cities and the trainings.")] = 0,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings at a time; if several, of one thread each.")
    ] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    osm: Annotated[
        list[Path] | None,
        typer.Option(help="OpenStreetMap file of a town to be a city too; may be repeated."),
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option(help="Folder of DINOv2 weights that every method begins with.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where cities are kept.")] = Path("data/accuracy"),
    runs: Annotated[Path, typer.Option(help="Where trainings and answers are kept.")] = Path("runs/accuracy"),
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("docs/results"),
) -> None:
    """Measure how exactly photos are located, by us and by others, on simulated cities."""
    from benchmarks.accuracy import cities, leaks, settings

    size = settings.SETTINGS[setting]
    made = cities.make_cities(size.towns, data / setting, seed=seed, osm=osm or ())
    leaks.check(made)

    from benchmarks.accuracy import answers, report, rows, training

    configs = rows.trainings(size, made.trained, runs / setting, seed=seed)
    if encoder_weights:
        configs = {
            name: config.model_copy(update={"encoder_weights": encoder_weights})
            for name, config in configs.items()
        }
    trained = training.train_all(configs, jobs=jobs, device=device)
    store = answers.Store(runs / setting / "rows", device, seed)
    results = answers.score_all(trained, made.queries, store)
    speeds = answers.photos_per_second(trained, made.trained[0], store, n=size.timed)
    told = report.facts(size, seed, made, trained, results, speeds)
    typer.echo(f"results: {report.write(told, results, out)}")


if __name__ == "__main__":
    run(main)
