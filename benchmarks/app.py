"""How long after the drop of a photo the app shows where it was taken, in a real browser:

    python -m benchmarks.app

The app runs as `zoomloc app` starts it, with the shipped demonstration; a first photo warms it up. Then every photo is
dropped on a page of its own, in a session of its own, and the time is taken from the drop to the pin on the map.
Needs Chromium and Playwright. Writes app.json.
"""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from data_prep.command import run as run_command
from zoomloc import demo

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu"]
WAIT_MS = 300_000


def main(
    photos: Annotated[int, typer.Option(min=1, help="Photos dropped.")] = 23,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("docs/results"),
) -> None:
    """Measure the app's first result."""
    seconds = measure(photos)
    facts = {
        "device": f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "n_photos": photos,
        "median_s": round(median(seconds), 2),
        "slowest_s": round(max(seconds), 2),
        "seconds": [round(each, 2) for each in seconds],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "app.json").write_text(json.dumps(facts, indent=1) + "\n")
    typer.echo(f"from the drop to the pin: {facts['median_s']} s, slowest {facts['slowest_s']} s of {photos}")


def measure(n_photos: int) -> list[float]:
    """Seconds from the drop to the pin, of each photo."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit("no Chromium found; install it, as with: apt-get install chromium")
    files = sorted((demo.FOLDER / "photos").glob("*.jpg"))[: n_photos + 1]
    with running() as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=FLAGS)
        _, *seconds = [dropped(browser, address, file) for file in files]
        browser.close()
    return seconds


@contextmanager
def running() -> Iterator[str]:
    """The address of an app of its own."""
    with tempfile.TemporaryDirectory() as home:
        words = [sys.executable, "-m", "zoomloc", "app", "--no-browser", "--port", "0", "--home", home]
        app = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert app.stdout is not None
        try:
            lines = iter(app.stdout.readline, "")
            yield next(found[1] for line in lines if (found := re.search(r"URL: (http://127\S+)", line)))
        finally:
            app.send_signal(signal.SIGTERM)
            app.communicate()


def dropped(browser: Any, address: str, photo: Path) -> float:
    """Seconds from the drop of a photo to its pin, on a page that was ready for it."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.wait_for_selector(".leaflet-tile-loaded")
    page.wait_for_selector("[data-test-script-state=notRunning]")
    began = time.perf_counter()
    page.set_input_files("input[type=file]", str(photo))
    page.locator(".pin.first").wait_for()
    took = time.perf_counter() - began
    context.close()
    return took


if __name__ == "__main__":
    run_command(main)
