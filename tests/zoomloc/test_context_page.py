"""The commands of docs/context.md, run as they stand there, with an untrained model on a square of noise."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import piexif
import pytest
import rasterio
import shapely
import torch
from PIL import Image
from typer.testing import CliRunner

from zoomloc import checkpoint
from zoomloc.cli import app
from zoomloc.config import PointerConfig
from zoomloc.model import make_model
from zoomloc.region import Region

PAGE = (Path(__file__).parents[2] / "docs" / "context.md").read_text()
COMMANDS = re.findall(r"^zoomloc (.+)$", PAGE, re.MULTILINE)
SIZES = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32,
         "view_px": 48, "decoder_layers": 1, "decoder_heads": 2}  # fmt: skip
NORTH_WEST, SIZE_M = (536_000.0, 5_702_560.0), 640.0  # of data/village, as the README makes it


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that the page speaks of."""
    place = tmp_path_factory.mktemp("context")
    village = place / "data" / "village"
    village.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (3, 320, 320), np.uint8)
    with rasterio.open(
        village / "city.tif", "w", driver="GTiff", width=320, height=320, count=3, dtype="uint8",
        crs="EPSG:32632", transform=rasterio.transform.from_origin(*NORTH_WEST, 2, 2),
    ) as raster:  # fmt: skip
        raster.write(noise)
    region = Region("village", "EPSG:32632", NORTH_WEST, SIZE_M, 4, 2, ("city.tif",), "made up", village)
    region.save(village / "region.json")
    torch.manual_seed(0)
    model = make_model(PointerConfig(kind="pointer", **SIZES))
    torch.nn.init.constant_(model.to_not_here.bias, -5)
    checkpoint.save(model, place / "runs" / "village" / "checkpoint")
    (place / "area.geojson").write_text(shapely.to_geojson(shapely.box(9.521, 51.469, 9.524, 51.472)))
    gps = {1: b"N", 2: ((51, 1), (28, 1), (1272, 100)), 3: b"E", 4: ((9, 1), (31, 1), (2208, 100))}
    picture = Image.effect_mandelbrot((128, 64), (-2, -1, 1, 1), 50).convert("RGB")
    picture.save(place / "photo.jpg", exif=piexif.dump({"GPS": gps}))
    (place / "walk").mkdir()
    for i in range(3):
        taken = {piexif.ExifIFD.DateTimeOriginal: f"2024:05:01 12:00:{10 * i:02d}"}
        picture.rotate(90 * i).save(place / "walk" / f"{i}.jpg", exif=piexif.dump({"Exif": taken}))
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_does_what_the_page_says(command, place, monkeypatch):
    monkeypatch.chdir(place)
    made = ["--out", "walk.gpx"] if command.startswith("track") else ["--out", "found.json"]
    done = CliRunner().invoke(app, [*shlex.split(command), *made])
    assert done.exit_code == 0, done.output
    if command.startswith("track"):
        assert "<trkpt" in Path("walk.gpx").read_text() and Image.open("walk.png").width > 600
        return
    (found,) = json.loads(Path("found.json").read_text())["predictions"]
    if "--explain" in command:
        assert Image.open("why.png").width > 600
    if "--near" in command or "--within" in command:
        assert 51.4685 < found["lat"] < 51.4725 and 9.5205 < found["lon"] < 9.5245


def test_several_photos_are_explained_in_a_folder_and_a_panorama_is_not(place, monkeypatch):
    monkeypatch.chdir(place)
    gpano = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    gpano += '<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" '
    gpano += 'GPano:ProjectionType="equirectangular"/></rdf:RDF></x:xmpmeta>'
    Image.open("photo.jpg").save("round.jpg", xmp=gpano.encode())
    (command,) = (each for each in COMMANDS if "--explain" in each)
    command = command.replace("photo.jpg", "photo.jpg round.jpg").replace("why.png", "why")
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    assert [path.name for path in Path("why").iterdir()] == ["photo.png"]
    assert "round.jpg: a panorama" in done.output


def test_the_figures_of_the_page_are_those_of_the_code():
    from zoomloc.panorama import FOV_DEG, VIEWS, YAWS_DEG
    from zoomloc.priors import GPS_SIGMA_M, WRONG
    from zoomloc.sequence import SPEEDS_M_S, Motion

    assert (WRONG, GPS_SIGMA_M) == (0.02, 100) and list(SPEEDS_M_S.values()) == [1.5, 5, 10]
    assert (Motion.exponent, Motion.mute, Motion.lost) == (0.25, 0.05, 0.001)
    assert (len(YAWS_DEG), FOV_DEG, VIEWS.exponent) == (6, 75, 0.25)
