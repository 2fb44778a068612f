"""The `zoomloc` command. The one place that knows every room of the house, and opens each only when asked to."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from app.command import main as open_app
from tiles.errors import TilesError
from zoomloc.batch.command import MIN_CONFIDENCE, batch, tag
from zoomloc.errors import ConfigError, PhotoError, PriorError, ZoomlocError
from zoomloc.options import (
    Address,
    Device,
    Engine,
    EngineName,
    GpsPrior,
    Gpx,
    HeadingPrior,
    Near,
    SearchName,
    TimeOffset,
    Within,
)
from zoomloc.serve.command import serve
from zoomloc.track_command import track

if TYPE_CHECKING:
    from zoomloc.grid import Grid
    from zoomloc.prediction import Prediction
    from zoomloc.rows import Row


EXIT_SOME_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


class Interruptible(TyperGroup):
    """Ends with the exit code of an interruption, where typer would end as for any failure."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(_fail("interrupted", EXIT_INTERRUPTED))


app = typer.Typer(
    cls=Interruptible,
    help="Says where a street photo was taken, on your own overhead imagery, by zooming in.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ROOMS = {
    "prep": {
        "check": "data_prep.check:main",
        "city": "data_prep.cities.city:main",
        "justzoomin": "data_prep.justzoomin:main",
        "kartaview": "data_prep.kartaview:main",
        "mapillary": "data_prep.mapillary:main",
        "photos": "data_prep.photos:main",
        "retrieval": "data_prep.retrieval:main",
        "show": "data_prep.show:main",
        "split": "data_prep.split:main",
        "streetscapes": "data_prep.streetscapes:main",
    },
    "tiles": {
        name: f"zoomloc.tiles_commands:{name}" for name in ("build", "check", "info", "provenance", "serve")
    },
}


def _lazily(commands: dict[str, str]) -> typer.Typer:
    """A group of commands that live in another room, which is entered only when one of them is asked for."""

    class LazyCommands(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return sorted(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in commands:
                return None
            module, function = commands[cmd_name].split(":")
            room = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            room.command(cmd_name)(getattr(import_module(module), function))
            return typer.main.get_command(room)

    return typer.Typer(cls=LazyCommands, no_args_is_help=True)


app.add_typer(_lazily(ROOMS["prep"]), name="prep", help="Prepare datasets.")
app.add_typer(_lazily(ROOMS["tiles"]), name="tiles", help="Look at imagery, build pyramids, serve maps.")


class LabelName(StrEnum):
    """How a position becomes a path."""

    grid = "grid"
    published = "published"


app.command()(batch)
app.command()(track)
app.command()(tag)
app.command()(serve)
app.command("app")(open_app)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="Training configuration (TOML).")], device: Device = "auto"
) -> None:
    """Train a model; run the same command again to continue a run that was stopped."""
    from zoomloc.config import load_train_config

    settings = load_train_config(config)  # before the slow imports, so that a mistake in it is told at once
    from zoomloc.train import train as run

    typer.echo(f"checkpoint: {run(settings, device=device)}")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder with manifest.parquet and region.json.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    search: Annotated[list[SearchName], typer.Option(help="Repeat for several.")] = list(SearchName),  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many photos.")] = None,
    labels: Annotated[LabelName, typer.Option(help="Which paths count as right.")] = LabelName.grid,
    others: Annotated[
        list[Path] | None, typer.Option(help="Dataset of another place, to be told from; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw reliability and coverage here (.png).")] = None,
    device: Device = "auto",
) -> None:
    """Measure a checkpoint on the photos of a dataset, beside chance."""
    from rich.console import Console

    from zoomloc.evaluate import evaluate as run
    from zoomloc.evaluate import table
    from zoomloc.files import atomic
    from zoomloc.localizer import Localizer
    from zoomloc.reliability import plot

    localizer = Localizer.from_pretrained(checkpoint, device=device)
    report = run(
        localizer,
        data,
        split=split,
        searches=[name.value for name in search],
        limit=limit,
        labels=labels.value,
        others=others or (),
    )
    Console(width=None if sys.stdout.isatty() else 140).print(table(report))
    if out:
        with atomic(out) as draft:
            draft.write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    claims = {name: each.claims for name, each in report.outcomes.items() if each.claims}
    if plots and claims:
        plot(claims, plots)


@app.command()
def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder; the calibration is kept there.")],
    data: Annotated[list[Path], typer.Argument(help="Folders with manifest.parquet and region.json.")],
    others: Annotated[
        list[Path] | None, typer.Option(help="Dataset of another place; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Photos that the model was not trained on.")] = "val",
    device: Device = "auto",
) -> None:
    """Fit a checkpoint's probabilities, and when it says "not in this region", to photos it was not trained on."""
    from zoomloc.calibrate import calibrate as fit
    from zoomloc.calibration import save
    from zoomloc.localizer import Localizer

    found = fit(Localizer.from_pretrained(checkpoint, device=device), data, others=others or (), split=split)
    for side_m, temperature in zip(found.side_m, found.temperature, strict=True):
        typer.echo(f"temperature {temperature:.3g} in cells of {side_m:g} m")
    threshold = f"not in this region above {found.threshold:.1%}"
    typer.echo(f"{threshold}, which {found.false_rejection:.0%} of the photos from there exceed")
    if found.elsewhere.place is None:
        typer.echo(
            "what the model itself says of photos from elsewhere does not count; name --others to fit it"
        )
    typer.echo(f"calibration: {save(found, checkpoint)}")


@app.command()
def locate(
    photos: Annotated[list[Path], typer.Argument(help="Street photos.")],
    region: Annotated[Path, typer.Option(help="Region file (JSON).")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    search: Annotated[SearchName, typer.Option(help="How to search the tree.")] = SearchName.posterior,
    top: Annotated[int, typer.Option(min=1, help="Places to list.")] = 5,
    radius: Annotated[
        float, typer.Option(min=1, help="Metres around the answer that shall hold the most probability.")
    ] = 40,
    near: Near = None,
    within: Within = None,
    gps_prior: GpsPrior = None,
    gpx: Gpx = None,
    time_offset: TimeOffset = None,
    heading_prior: HeadingPrior = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Results: .geojson (with the ground that holds 50 and 90 %), .json (all there is), or as `batch` "
            "has them: .csv .jsonl .parquet .fgb .gpkg .kml .gpx."
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw a panel here (.png), or into this folder.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Draw here (.png), or into this folder, what spoke for the answer.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Say where photos were taken."""
    from zoomloc import explain_figure, outputs, panorama, priors
    from zoomloc import figure as figures
    from zoomloc.checkpoint import fingerprint
    from zoomloc.localizer import Localizer
    from zoomloc.photo import load
    from zoomloc.region import Region
    from zoomloc.rows import Row, of_prediction

    if out:
        _check_suffix(out)
    place = Region.load(region)
    if search != SearchName.posterior and {near, within, gps_prior, heading_prior} != {None}:
        raise PriorError(f"--search {search}: cannot use what else is known; use --search posterior")
    common = priors.asked(place, near_text=near, within_text=within)
    clock = priors.tracks(gpx or (), time_offset, gps_prior)
    localizer = Localizer.from_pretrained(checkpoint, device=device)
    index = localizer.index(place)  # refuses a region that does not fit before any photo is read
    found: list[Prediction] = []
    rows: list[Row] = []
    drawings, model = _drawing_names(photos), fingerprint(localizer.model)
    try:
        for path in photos:
            began = perf_counter()
            try:
                photo = load(path)
                own = [] if gps_prior is None else priors.of_photo(photo, gps_prior or None, clock=clock)
                if gps_prior is not None and not own:
                    typer.echo(f"zoomloc: {path}: has no position to use; located without", err=True)
                facing = [] if heading_prior is None else priors.facing_of_photo(photo, heading_prior or None)
                if heading_prior is not None and not facing:
                    typer.echo(f"zoomloc: {path}: has no EXIF heading to use; located without", err=True)
                around = panorama.views(photo) if search == SearchName.posterior else []
                if around:
                    found.append(
                        panorama.locate(
                            localizer,
                            around,
                            place,
                            name=str(path),
                            priors=[*common, *own],
                            top_k=top,
                            radius_m=radius,
                        )
                    )
                else:
                    found += localizer.locate(
                        [photo.pixels],
                        place,
                        names=[str(path)],
                        fovs_deg=[photo.fov_deg],
                        priors=[[*common, *own, *facing]],
                        how=search.value,
                        top_k=top,
                        radius_m=radius,
                    )
            except (PhotoError, TilesError) as error:
                typer.echo(f"zoomloc: {error}", err=True)
                rows.append(Row(str(path), reason=str(error), model=model))
                continue
            took_ms = 1000 * (perf_counter() - began)
            rows.append(
                of_prediction(
                    found[-1], photo, min_confidence=MIN_CONFIDENCE, model=model, milliseconds=took_ms
                )
            )
            typer.echo(_describe(found[-1], outputs.error_m(photo, found[-1])))
            if found[-1].no_imagery:
                continue  # nothing to draw
            if figure:
                target = _drawing(figure, drawings, path)
                figures.panel(photo, found[-1], region=place, pyramid=index.pyramid, path=target)
            if explain and around:
                typer.echo(f"zoomloc: {path}: a panorama, whose views cannot be explained together", err=True)
            elif explain:
                target = _drawing(explain, drawings, path)
                explain_figure.panel(localizer, photo, found[-1], place, target)
    finally:  # whatever stops the run, what was found is kept
        if out:
            _write(found, rows, out, place.grid)
    if len(found) < len(photos):
        raise typer.Exit(EXIT_SOME_FAILED if found else EXIT_BAD_INPUT)


@app.command()
def index(
    region: Annotated[Path, typer.Option(help="Region file (JSON).")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    device: Device = "auto",
    engine: Engine = EngineName.local,
    address: Address = None,
) -> None:
    """Encode a region's cells for a checkpoint once and keep them beside the region file, for `locate` to find."""
    on_ray = engine is EngineName.ray
    if address and not on_ray:
        raise ConfigError("--address: is that of a Ray cluster; add --engine ray")
    from zoomloc import cluster, index_blocks
    from zoomloc.index import build
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region

    localizer = Localizer.from_pretrained(checkpoint, device="cpu" if on_ray else device)
    place = Region.load(region)
    localizer.check_fits(place)
    if on_ray:
        with cluster.connected(address) as said:
            typer.echo(f"zoomloc: {said}", err=True)
            folder = index_blocks.build(localizer.model, place, checkpoint, device=device)
    else:
        folder = build(localizer.model, place)
    typer.echo(f"index: {folder}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the graphs; --checkpoint of other commands takes it.")
    ],
    int8: Annotated[bool, typer.Option("--int8", help="Matrix products in 8-bit whole numbers.")] = False,
) -> None:
    """Write a checkpoint as ONNX: the encoder and the zoom step, for batches of any size."""
    from zoomloc.export import OPSET, quantise
    from zoomloc.export import export as write

    for path in write(checkpoint, out):
        if int8:
            quantise(path)
        typer.echo(f"{path}: opset {OPSET}, {path.stat().st_size / 1e6:.1f} MB")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the map and the panels.")] = Path("demo-output"),
    device: Device = "auto",
) -> None:
    """Locate 24 photos of the simulated city that comes with the package; works offline."""
    from zoomloc.demo import run

    run(out, device=device)


def _check_suffix(out: Path) -> None:
    """Raises OutputError if nothing can be written under the path's suffix."""
    from zoomloc import tables

    if out.suffix.lower() != ".json":
        tables.check_suffix(out)


def _write(found: "list[Prediction]", rows: "list[Row]", out: Path, grid: "Grid") -> None:
    """All that is known where a format can hold it, else a row for each photo, as `batch` writes them."""
    from zoomloc import outputs, tables

    if out.suffix.lower() not in outputs.FORMATS:
        tables.write(rows, out)
        return
    failed = [row for row in rows if row.status == "failed"]
    columns = [row.as_nested() for row in [*(row for row in rows if row.status != "failed"), *failed]]
    failures = [(row.file, row.reason or "") for row in failed]
    outputs.write(found, out, grid=grid, failures=failures, columns=columns)


def _drawing(target: Path, names: dict[Path, str], photo: Path) -> Path:
    """Where the drawing of a photo belongs: to the target, where that is a PNG for the only one, else into it."""
    return target if len(names) == 1 and target.suffix.lower() == ".png" else target / f"{names[photo]}.png"


def _drawing_names(photos: Sequence[Path]) -> dict[Path, str]:
    """Photos and what their drawings are called: their stems; of one stem, with folder and suffix; else numbered.
    No two differ in upper and lower case alone."""
    names: dict[Path, str] = {}
    stems = Counter(path.stem.casefold() for path in dict.fromkeys(photos))
    used: set[str] = {stem for stem, count in stems.items() if count == 1}
    for path in dict.fromkeys(photos):
        name = path.stem
        if stems[name.casefold()] > 1:
            name = f"{path.resolve().parent.name}-{path.name}"
            tries = (name, *(f"{name}-{n}" for n in range(2, len(photos) + 2)))
            name = next(each for each in tries if each.casefold() not in used)
            used.add(name.casefold())
        names[path] = name
    return names


def _describe(prediction: "Prediction", error_m: float | None) -> str:
    """A photo's answer for the terminal."""
    if prediction.no_imagery:
        made_up = f"all that region '{prediction.region}' shows was made up, which is never matched"
        return f"{prediction.photo}: no imagery ({made_up}); add imagery of it"
    facts = [f"its cell has probability {prediction.probability:.1%}"]
    if math.isfinite(prediction.radius_50_m):
        facts.append(f"half of all within {prediction.radius_50_m:.0f} m")
    if math.isfinite(prediction.area_90_m2):
        facts.append(f"90 % on {prediction.area_90_m2 / 1e6:.3g} km²")
    if prediction.not_here >= 0.001:
        facts.append(f"{prediction.not_here:.1%} not in this region")
    if prediction.heading_deg is not None:
        facts.append(f"looking to {prediction.heading_deg:.0f}° ± {prediction.heading_50_deg:.0f}°")
    if error_m is not None:
        facts.append(f"{error_m:.0f} m from its EXIF position")
    answer = f"{prediction.lat:.6f}, {prediction.lon:.6f} ({', '.join(facts)})"
    if not prediction.located:
        answer = f"not in this region ({prediction.not_here:.1%} sure); if it were, {answer}"
    lines = [
        f"{prediction.photo}: {answer}",
        "  zoom path " + " > ".join(str(child) for child in prediction.path),
    ]
    lines.append(f"  places, and the probability within {prediction.radius_m:.0f} m")
    lines += [
        f"  {rank}. {place.lat:.6f}, {place.lon:.6f}  {place.probability:6.1%}"
        for rank, place in enumerate(prediction.places, start=1)
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and a non-zero exit."""
    try:
        app()
    except (ZoomlocError, TilesError) as error:
        sys.exit(_fail(str(error), EXIT_BAD_INPUT))


def _fail(message: str, code: int) -> int:
    typer.echo(f"zoomloc: {message}", err=True)
    return code
