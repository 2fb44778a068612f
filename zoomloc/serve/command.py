"""`zoomloc serve`."""

from pathlib import Path
from typing import Annotated

import typer

from zoomloc.options import Device


def serve(
    region: Annotated[list[Path], typer.Option(help="Region file (JSON); repeat for several.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    host: Annotated[
        str, typer.Option(help="Who can reach it: 127.0.0.1 this machine only, 0.0.0.0 everybody.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="ZOOMLOC_API_KEY", help="Clients must send it; better given by the environment."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Photos the model sees at once, of all clients.")
    ] = 8,
    waiting: Annotated[int, typer.Option(min=1, help="Photos that may wait; beyond them 429.")] = 256,
    upload_mb: Annotated[int, typer.Option(min=1, help="Megabytes a request may have.")] = 64,
    memory_mb: Annotated[int, typer.Option(min=1, help="Megabytes that all uploads in work may have.")] = 512,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds from an upload to its answer.")] = 120,
    log_answers: Annotated[
        bool, typer.Option("--log-answers", help="Log the photos' names and where they were taken.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Locate photos over HTTP until interrupted; what was accepted by then is answered first."""
    from zoomloc.errors import ConfigError
    from zoomloc.localizer import Localizer
    from zoomloc.region import Region
    from zoomloc.serve.app import create_app
    from zoomloc.serve.gate import Limits
    from zoomloc.serve.listen import Listener
    from zoomloc.serve.record import log_as_json

    if api_key is not None and not api_key.strip():
        raise ConfigError("the API key is empty; give one, or unset ZOOMLOC_API_KEY")
    if memory_mb < upload_mb:
        raise ConfigError(f"--memory-mb {memory_mb}: less than one upload may have (--upload-mb {upload_mb})")
    limits = Limits(
        upload_bytes=upload_mb * 10**6,
        memory_bytes=memory_mb * 10**6,
        waiting=waiting,
        batch_size=batch_size,
        answer_s=timeout,
    )
    places = [Region.load(path) for path in region]
    localizer = Localizer.from_pretrained(checkpoint, device=device)
    for place in places:
        localizer.index(place)  # refuses what does not fit, or has no imagery, before anybody can ask
    listener = Listener(host, port)
    app = create_app(
        localizer, places, limits=limits, api_key=api_key, log_answers=log_answers, failed=listener.stop
    )
    log_as_json()
    listener.serve(app)
    if error := app.state.worker.error:
        raise error
