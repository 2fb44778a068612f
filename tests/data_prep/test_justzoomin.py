"""The published benchmark's importer, on a small directory in its layout: made-up imagery and photos, real square."""

import csv
import itertools
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pyproj
import pytest
import typer
from PIL import Image

from data_prep import justzoomin, maps
from zoomloc import checkpoint, manifest
from zoomloc.cli import app, main
from zoomloc.config import load_train_config
from zoomloc.grid import Cell, published_path
from zoomloc.region import Region

ROOT = Path(__file__).parents[2]
SQUARE = {"centre": justzoomin.CENTRE, "size_m": 10_000.0, "branch": 4, "depth": 4}
GEOD = pyproj.Geod(ellps="WGS84")
TILE_M, ZOOMS = 20.0, (-8, -9)  # level 0 of the real one; tiles of 5 and 10 km here
PARTS = {"train": 40, "val": 12}

CONFIG = """
data = "{data}"
out = "{out}"
steps = 3
batch_size = 8
warmup_steps = 1
workers = 0
labels = "{labels}"
[model]
width = 32
encoder_layers = 1
encoder_heads = 2
patch_px = 16
table_px = 32
photo_px = 32
view_px = 32
decoder_layers = 1
decoder_heads = 2
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The published layout. Two photos lie on the edges between cells."""
    monkeypatch.setattr(maps, "draw", lambda *_, **__: None)
    root = tmp_path / "justzoomin"
    write_imagery(root / "satellite")
    (root / "metadata").mkdir()
    (root / "streetview" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, n in PARTS.items():
        rows = []
        for i in range(n):
            lat = justzoomin.CENTRE[0] + rng.uniform(-0.044, 0.044)
            lon = justzoomin.CENTRE[1] + rng.uniform(-0.055, 0.055)
            image_id = f"{split}{i:03d}"
            rows.append([image_id, lat, lon, json.dumps(list(published_path(lat, lon, **SQUARE)))])
            shot = rng.integers(0, 255, (40, 80, 3), dtype=np.uint8)
            Image.fromarray(shot).save(root / "streetview" / "images" / f"{image_id}_undistorted.jpg")
        write_table(root, split, rows)
    return root


def write_imagery(folder):
    """Tiles in the CRS of the real imagery, counted as the real ones are; the one in the south-west is missing."""
    folder.mkdir(parents=True)
    (folder / "layout.yaml").write_text(
        "crs: epsg:26985\nmax_zoom: 0\nmin_zoom: -9\norigin_crs: [600.0, 200.0]\n"
        "path: '{zoom}/{x}/{y}.jpg'\ntile_axes: [east, north]\ntile_shape_crs: [20.0, 20.0]\n"
        "tile_shape_px: [250, 250]\n"
    )
    x, y = pyproj.Transformer.from_crs(4326, 26985, always_xy=True).transform(*justzoomin.CENTRE[::-1])
    rng = np.random.default_rng(1)
    for zoom in ZOOMS:
        side = TILE_M * 2.0**-zoom
        cols = range(int((x - 5020 - 600) // side), int((x + 5020 - 600) // side) + 1)
        rows = range(int((y - 5020 - 200) // side), int((y + 5020 - 200) // side) + 1)
        for i, (col, row) in enumerate(itertools.product(cols, rows)):
            if zoom == ZOOMS[0] and i == 0:
                continue
            path = folder / str(zoom) / str(col) / f"{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = rng.integers(30, 220, 3, dtype=np.uint8)
            Image.fromarray(np.broadcast_to(colour, (250, 250, 3)).copy()).save(path)


def write_table(root, split, rows):
    with (root / "metadata" / f"large_area_{split}_map.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image_id", "latitude", "longitude", "sequence"], *rows])


def read_table(root, split):
    with (root / "metadata" / f"large_area_{split}_map.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture
def run(monkeypatch, capfd):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["zoomloc", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capfd.readouterr()
        return exit_.value.code or 0, said.out, said.err

    return run


def test_the_published_layout_becomes_a_dataset(root, run):
    code, out, _ = run("prep", "justzoomin", root)
    assert code == 0
    assert "labels: 52 of 52 are reproduced from the positions\n" in out
    assert "tiles: 1 of the" in out and "1 of level -8" in out
    rows = manifest.read(root / "manifest.parquet")
    assert dict(rows.split.value_counts()) == PARTS
    assert rows.sequence.isna().all() and set(rows.projection) == {"perspective"}
    assert set(rows.licence) == {"CC BY-SA 4.0"} and set(rows.attribution) == {"Mapillary contributors"}
    region = Region.load(root / "region.json")
    assert (region.branch, region.depth, region.size_m) == (4, 4, 10_000)
    assert region.open().source.attribution == "Open Data DC, CC BY 4.0"


def test_cells_of_the_region_are_the_published_ones_to_a_metre(root, run):
    run("prep", "justzoomin", root)
    grid = Region.load(root / "region.json").grid
    rng = np.random.default_rng(2)
    for path in rng.integers(0, 16, (200, 4)).tolist():
        lat, lon = grid.unproject(*grid.centre(grid.cell(tuple(path))))
        assert published_path(lat, lon, **SQUARE) == tuple(path)  # its centre, at the least
    for east, north in itertools.product((-4940, 4940), repeat=2):  # in leaves near the corners
        row, col = grid.cell_at(east, north)[1:]
        edge = grid.bounds(Cell(4, row, col)).west
        for nudge, at in ((1.5, col), (-1.5, col - 1)):  # the edges of both grids are nearer than that
            lat, lon = grid.unproject(edge + nudge, north)
            assert grid.cell(published_path(lat, lon, **SQUARE)) == (4, row, at)


def test_the_imagery_lies_where_it_lay(root, run):
    """What the region's CRS shows at a place is the tile that holds it in the CRS of the imagery."""
    run("prep", "justzoomin", root)
    region = Region.load(root / "region.json")
    view = region.open().view(0, 0, 0, 500)  # 20 m a pixel, as fine as level -8
    to_tiles = pyproj.Transformer.from_crs(4326, 26985, always_xy=True)
    for row, col in np.random.default_rng(3).integers(0, 500, (50, 2)):
        lat, lon = region.grid.unproject(-5000 + 20 * (col + 0.5), 5000 - 20 * (row + 0.5))
        x, y = to_tiles.transform(lon, lat)
        places = [(x - 600) / 5120, (y - 200) / 5120]
        path = root / "satellite" / "-8" / f"{int(places[0])}" / f"{int(places[1])}.jpg"
        if min(abs(place - round(place)) for place in places) > 0.05 and path.exists():
            with Image.open(path) as tile:
                assert np.abs(np.asarray(tile)[0, 0].astype(int) - view.pixels[row, col]).max() < 6


@pytest.mark.parametrize("labels", ["grid", "published"])
def test_training_and_evaluation_need_no_other_step(root, run, tmp_path, labels):
    assert run("prep", "justzoomin", root)[0] == 0
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(data=root, out=tmp_path / "run", labels=labels))
    assert load_train_config(config).labels == labels
    assert run("train", config, "--device", "cpu")[0] == 0
    code, out, _ = run(
        "evaluate", root, "--checkpoint", tmp_path / "run" / "checkpoint", "--split", "val",
        "--search", "greedy", "--labels", labels, "--out", tmp_path / "report.json", "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and "12 photos" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["n_photos"] == 12 and set(report["metrics"]) == {"chance", "greedy"}


def test_rows_that_cannot_be_used_are_listed_with_reasons(root, run):
    (root / "streetview" / "images" / "train000_undistorted.jpg").unlink()
    rows = read_table(root, "train")
    rows[1][1] = "north"
    rows[2][2] = "-77.9"
    write_table(root, "train", rows)
    write_table(root, "val", [*read_table(root, "val"), rows[3]])
    code, out, _ = run("prep", "justzoomin", root)
    assert code == 0 and "37 train, 12 val" in out and "labels: 49 of 49" in out
    assert sorted((root / "rejected.csv").read_text().splitlines()[1:]) == [
        "train000,no such photo in streetview/images",
        "train001,no position in the square of the benchmark",
        "train002,no position in the square of the benchmark",
        'train003,"listed before, in this split or the other"',
    ]


def test_labels_that_are_not_reproduced_are_counted_and_too_many_are_refused(root, run, monkeypatch):
    rows = read_table(root, "train")
    rows[5][3] = "[0, 0, 0, 0]"
    rows[6][3] = "nonsense"
    write_table(root, "train", rows)
    code, _, err = run("prep", "justzoomin", root)
    assert (
        code == 2 and "labels: 50 of 52 are reproduced" in err and "train005 is the first that is not" in err
    )
    assert not (root / "manifest.parquet").exists() and not (root / "region.json").exists()
    monkeypatch.setattr(justzoomin, "MOST_WRONG", 0.1)
    code, out, _ = run("prep", "justzoomin", root)
    assert code == 0 and "labels: 50 of 52 are reproduced" in out.replace("\n", " ")
    assert len(manifest.read(root / "manifest.parquet")) == 52


def test_folders_of_something_else_are_one_line(root, run, tmp_path):
    def refused(says):
        code, _, err = run("prep", "justzoomin", root)
        assert code == 2 and says in err and "Traceback" not in err

    table = root / "metadata" / "large_area_val_map.csv"
    text = table.read_text()
    table.write_text(text.replace("sequence", "path", 1))
    refused("no column sequence; download it again")
    table.write_bytes(b"\xff\xfe\x00")
    refused("cannot be read")
    table.write_text("")
    refused("cannot be read")
    table.unlink()
    refused("no such file; name the folder with metadata/, streetview/ and satellite/")
    table.write_text(text)
    (root / "satellite" / "layout.yaml").unlink()
    refused("satellite")
    (root / "streetview").rename(tmp_path / "elsewhere")
    refused("none of its 52 photos can be used (no such photo in streetview/images)")


def test_the_thirteen_published_rows_are_reproduced(shared_parity, root, run):
    """Real labels, of real positions; pictures made up."""
    with (shared_parity / "just_zoom_in_rows.csv").open(newline="") as file:
        published = list(csv.reader(file))[1:]
    write_table(root, "train", [[f"train{i:03d}", *row] for i, row in enumerate(published)])
    code, out, _ = run("prep", "justzoomin", root)
    assert code == 0 and "labels: 25 of 25 are reproduced" in out


def test_the_documentation_names_commands_and_settings_that_are_there():
    """Nobody runs docs/reproduce.md in a test; its commands are parsed, and its configuration is read."""
    text = (ROOT / "docs" / "reproduce.md").read_text()
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("zoomloc ")]
    assert [words[1] for words in lines] == ["prep", "train", "evaluate"]
    for words in lines:
        command, rest = typer.main.get_command(app), words[1:]
        while hasattr(command, "get_command"):
            command, rest = command.get_command(None, rest[0]), rest[1:]
        command.make_context("zoomloc", rest)
    config = load_train_config(ROOT / "configs" / "just_zoom_in.toml")
    (data,) = config.data
    assert data.resolve() == ROOT / "data" / "justzoomin" and config.labels == "published"
    assert config.encoder_weights.resolve() == ROOT / "data" / "dinov2-base"
    assert config.out.resolve() / "checkpoint" == ROOT / "runs" / "just_zoom_in" / "checkpoint"
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        compile(block, "reproduce.md", "exec")
        for name in re.findall(r"checkpoint\.(\w+)\(", block):
            assert hasattr(checkpoint, name)
