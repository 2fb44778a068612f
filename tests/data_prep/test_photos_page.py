"""The commands of docs/photos.md, run as they stand there."""

import re
import shlex
import stat
import sys
from datetime import datetime
from pathlib import Path

import pandas as pd
import piexif
import pytest
from PIL import Image
from typer.testing import CliRunner

from zoomloc.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "photos.md"
WEB = ("prep mapillary", "prep kartaview")  # run beside the servers that stand in for theirs
COMMANDS = [
    command
    for command in re.findall(r"^zoomloc (.+)$", PAGE.read_text(), re.MULTILINE)
    if not command.startswith(WEB)
]
SHOT = {piexif.ExifIFD.DateTimeOriginal: f"{datetime(2024, 5, 1, 12, 0, 5):%Y:%m:%d %H:%M:%S}"}
GPS = {1: b"N", 2: ((46, 1), (0, 1), (0, 1)), 3: b"E", 4: ((8, 1), (0, 1), (0, 1))}


def my_function(pixels):
    return pixels


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the page speaks of."""
    place = tmp_path_factory.mktemp("docs")
    for folder in (
        "my-photos",
        "streetscapes",
        "VIGOR/Seattle/panorama",
        "VIGOR/Seattle/satellite",
        "VIGOR/splits/Seattle",
    ):
        (place / folder).mkdir(parents=True)
    picture = Image.effect_mandelbrot((128, 64), (-2, -1, 1, 1), 50)
    picture.save(place / "my-photos" / "a.jpg", exif=piexif.dump({"GPS": GPS}))
    picture.rotate(90).save(place / "my-photos" / "b.jpg", exif=piexif.dump({"Exif": SHOT}))
    points = "".join(
        f'<trkpt lat="46.00{n}" lon="8"><time>2024-05-01T10:00:0{n}Z</time></trkpt>' for n in range(10)
    )
    (place / "walk.gpx").write_text(
        f'<gpx version="1.1" creator="t"><trk><trkseg>{points}</trkseg></trk></gpx>'
    )
    picture.save(place / "streetscapes" / "ball.jpg")
    row = {
        "uuid": "ball",
        "source": "Mapillary",
        "lat": 46,
        "lon": 8,
        "heading": 90,
        "projection_type": "spherical",
    }
    pd.DataFrame([row]).to_csv(place / "streetscapes" / "table.csv")
    city = place / "VIGOR" / "Seattle"
    picture.save(city / "panorama" / "id,47.6,-122.3,.jpg")
    for n in range(4):
        (city / "satellite" / f"{n}.png").touch()
    line = f"id,47.6,-122.3,.jpg {' '.join(f'{n}.png 0.0 0.0' for n in range(4))}\n"
    (place / "VIGOR" / "splits" / "Seattle" / "same_area_balanced_train.txt").write_text(line)
    (place / "VIGOR" / "splits" / "Seattle" / "same_area_balanced_test.txt").write_text("")
    program = place / "my-blur"
    program.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_makes_a_dataset(place, monkeypatch, command):
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    monkeypatch.setitem(sys.modules, "my_module", sys.modules[__name__])
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    words = shlex.split(command)
    out = words[words.index("--out") + 1] if "--out" in words else words[-1]
    assert (place / out / "manifest.parquet").exists() and (place / out / "map.png").exists()
