"""`zoomloc app`: the map in a browser."""

import atexit
import gc
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from app.settings import HOME, Settings
from zoomloc.errors import OutputError

# Blues on which white is read, and which are read on the page; nothing is ever sent anywhere.
OPTIONS = {
    "browser.gatherUsageStats": "false",
    "server.fileWatcherType": "none",
    "server.maxUploadSize": "400",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#2A82BC",
}


def main(
    region: Annotated[
        list[Path] | None, typer.Argument(help="Region files (JSON); the demo city if left out.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint folder; the demo's if left out.")
    ] = None,
    home: Annotated[Path, typer.Option(help="Folder for batches and for regions added in the app.")] = HOME,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open a page that says where photos were taken, on a map; works offline."""
    if not find_spec("streamlit"):
        raise OutputError("the app needs Streamlit; run: pip install 'zoomloc[app]'")
    from streamlit.web.cli import main as streamlit

    from zoomloc.region import Region

    for path in region or []:
        Region.load(path)  # a mistake is told here, not on a page
    settings = Settings(home=home)
    if region:
        settings = replace(settings, regions=tuple(region))
    if checkpoint:
        settings = replace(settings, checkpoint=checkpoint)
    os.environ.update(settings.pack())
    options = OPTIONS | {
        "server.address": "127.0.0.1",
        "server.port": str(port or _free_port()),
        "server.headless": str(not browser).lower(),
    }
    # An ending interpreter looks for garbage several times, among half a million objects: seconds for nothing.
    atexit.register(gc.freeze)
    script = Path(__file__).with_name("main.py")
    streamlit(["run", str(script), *(f"--{key}={value}" for key, value in options.items())])


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
