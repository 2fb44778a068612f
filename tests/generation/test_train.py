"""Training on a tile pyramid at tiny sizes: by the commands, stopped and gone on with, by two processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rasterio.transform import from_origin
from typer.testing import CliRunner

import tiles
from generation import make
from generation.tile_checkpoint import load as load_checkpoint
from generation.tile_config import SourceConfig, load
from generation.tile_model import TileModel
from generation.train import draw_known, main, train
from generation.windows import Windows, open_places, pixel_m, zoom_of

ROOT = Path(__file__).parent.parent.parent

TOKENIZER = """
[tokenizer]
kind = "{kind}"
px = 16
patch = 2
channels = 32
n_codes = 32
code_width = 8
sides = [1, 2, 4]
"""
MODEL = """
[model]
kind = "{kind}"
width = 32
depth = 2
"""


@pytest.fixture(scope="module")
def imagery(tmp_path_factory) -> Path:
    """200 x 200 m at 0.5 m a pixel, without imagery in one corner and padded with white in another."""
    import rasterio

    path = tmp_path_factory.mktemp("imagery") / "town.tif"
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(20, 230, (3, 50, 50)), np.ones((8, 8))).astype(np.uint8)
    pixels[:, 350:, 350:] = 255
    with rasterio.open(
        path, "w", driver="GTiff", width=400, height=400, count=3, dtype="uint8", crs="EPSG:32632",
        transform=from_origin(500_000, 5_700_000, 0.5, 0.5),
    ) as raster:  # fmt: skip
        raster.write(pixels)
        mask = np.full((400, 400), 255, np.uint8)
        mask[:50, :50] = 0
        raster.write_mask(mask)
    return path


@pytest.fixture
def config(imagery, tmp_path):
    """Writes a configuration; returns the file's path."""

    def write(name, tables="", zooms=(17, 18), **settings):
        values = {
            "out": name,
            "steps": 4,
            "batch_size": 4,
            "block_m": 40,
            "held_out": 0.3,
            "show_every": 2,
            "settle": 1,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in (values | settings).items()]
        source = f'\n[[sources]]\nuri = "{imagery}"\nzooms = {list(zooms)}\n'
        path = tmp_path / f"{name}.toml"
        path.write_text("\n".join(lines) + source + tables)
        return path

    return write


def ran(*args, **more):
    return subprocess.run(
        [sys.executable, "-m", *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=300, **more
    )


def test_the_commands_train_make_and_report(config, imagery, tmp_path):
    tokenizer = config("tokenizer", TOKENIZER.format(kind="residual"))
    var = config("var", MODEL.format(kind="var"), tokenizer="tokenizer/checkpoint")
    done = ran("generation.train", tokenizer, var)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tokenizer" / "samples" / "0000004.png").exists()
    grid = np.asarray(Image.open(tmp_path / "var" / "samples" / "0000004.png"))
    assert grid.shape == (48, 128, 3)  # the parent, what is made, the truth
    assert list((tmp_path / "var" / "log").glob("events*"))
    assert "never be matched" in (tmp_path / "var" / "checkpoint" / "README.md").read_text()

    pixels = np.random.default_rng(0).integers(90, 130, (24, 20, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels[..., :3]).save(tmp_path / "tile.png")
    pixels[6:15, 4:9] = 0
    Image.fromarray(pixels).save(tmp_path / "gap.png")
    to = ["--out", tmp_path / "made"]
    made = ran("generation.sample", tmp_path / "var" / "checkpoint", tmp_path / "tile.png", "--zoom", 18, *to)
    assert made.returncode == 0, made.stderr
    with Image.open(tmp_path / "made" / "tile.png") as image:
        assert image.size == (40, 48) and "no evidence" in image.info["Description"]

    app = typer.Typer()
    app.command()(make.main)

    def sampled(*args):
        return CliRunner().invoke(app, [str(arg) for arg in (tmp_path / "var" / "checkpoint", *args)])

    made = sampled(tmp_path / "gap.png", "--fill", *to)
    assert made.exit_code == 0, made.output
    filled = np.asarray(Image.open(tmp_path / "made" / "gap.png"))
    known = pixels[..., 3] > 0
    assert (filled[known] == pixels[known][:, :3]).all() and (filled[~known] > 0).mean() > 0.9
    made = sampled("--source", imagery, "--at", "51.4506,9.0015", "--px", 32, "--zoom", 18, *to)
    assert made.exit_code == 0, made.output
    assert Image.open(tmp_path / "made" / "window.png").size == (64, 64)
    refused = sampled(tmp_path / "gap.png", *to)
    assert refused.exit_code == 1 and "give --fill" in refused.output
    assert sampled("--source", imagery, "--at", "here", *to).exit_code == 1
    assert "no imagery at 50,9" in sampled("--source", imagery, "--at", "50,9", *to).output


@pytest.mark.parametrize("kind", ["direct", "regression"])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(config, kind, monkeypatch):
    table = MODEL.format(kind=kind) if kind == "regression" else TOKENIZER.format(kind=kind)
    larger = {"zooms": (18,), "block_m": 60} if kind == "regression" else {}  # its tiles have 64 px
    whole = train(load(config("whole", table, **larger)))
    stopped = load(config("stopped", table, **larger))

    from generation.train import _Trainer

    step = _Trainer.step

    def interrupted(self, batch, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(_Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    assert torch.load(stopped.out / "state.pt", weights_only=True)["step"] == 2
    again = train(stopped)
    one, other = (load_checkpoint(folder)[0].state_dict() for folder in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)
    with pytest.raises(ValueError, match="another configuration"):
        train(stopped.model_copy(update={"learning_rate": 1e-4}))


def test_a_flexvar_goes_on_where_it_was(config):
    tokenizer = train(load(config("tokenizer", TOKENIZER.format(kind="direct"))))
    settings = {"tokenizer": str(tokenizer), "own_context": 0.1, "drop_sides": 0.5, "partly": 0.5}
    whole = train(load(config("whole", MODEL.format(kind="flexvar"), **settings)))
    first = load(config("parts", MODEL.format(kind="flexvar"), **settings))
    from generation.train import _Monitor

    with pytest.MonkeyPatch.context() as patched:
        log = _Monitor.log

        def interrupted(self, step, loss):
            log(self, step, loss)
            if step == 2:
                os.kill(os.getpid(), signal.SIGINT)

        patched.setattr(_Monitor, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(first)
    one, other = (TileModel.load(folder).state_dict() for folder in (whole, train(first)))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_two_processes_agree(config, tmp_path):
    path = config("both", TOKENIZER.format(kind="residual"), steps=2)
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "generation.train", path]
    done = ran(*command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_checkpoint(tmp_path / "both" / "checkpoint")[1].tokenizer.px == 16


def test_the_two_parts_of_the_ground_share_nothing(imagery):
    places = open_places([SourceConfig(uri=str(imagery), zooms=(17, 18))])
    seen = {}
    for split in ("train", "held_out"):
        windows = Windows(places, px=16, block_m=40, held_out=0.3, split=split)
        shown = np.zeros((400, 400), bool)
        read = type(places[0].source).read

        def noted(self, bounds, crs, shape, shown=shown, read=read, **more):
            view = read(self, bounds, crs, shape, **more)
            rows = slice(int(2 * (5_700_000 - bounds.north)) + 1, int(2 * (5_700_000 - bounds.south)))
            columns = slice(int(2 * (bounds.west - 500_000)) + 1, int(2 * (bounds.east - 500_000)))
            shown[rows, columns] |= view.mask.all() & (view.pixels < 255).all()
            return view

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(places[0].source), "read", noted)
            drawn, zoom = windows.batch(60, np.random.default_rng(0))
        assert drawn.shape == (60, 3, 16, 16) and set(zoom.tolist()) == {17, 18}
        assert not (drawn == 255).all(1).any() and not (drawn == 0).all(1).any()
        seen[split] = shown
    assert seen["train"].any() and seen["held_out"].any() and not (seen["train"] & seen["held_out"]).any()


def test_pixels_of_zoom_levels_are_those_on_the_ground(imagery, shared_data):
    assert zoom_of(pixel_m(18)) == 18
    town, brig = open_places(
        [SourceConfig(uri=str(path), zooms=(17,)) for path in (imagery, shared_data / "brig")]
    )
    assert town.unit_m == pytest.approx(1, abs=1e-3)
    assert brig.unit_m == pytest.approx(
        np.cos(np.radians(46.3)), abs=0.01
    )  # metres of Web Mercator are long there


def test_what_cannot_be_trained_is_named(config, imagery, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"zoom 21 is 0\.07 m, but one of the imagery 0\.50 m"):
        open_places([SourceConfig(uri=str(imagery), zooms=(21,))])
    with pytest.raises(ValueError, match="no file matches"):
        open_places([SourceConfig(uri=str(tmp_path / "*.tif"), zooms=(17,))])
    with pytest.raises(tiles.TilesError):
        open_places([SourceConfig(uri=str(tmp_path / "none.tif"), zooms=(17,))])
    places = open_places([SourceConfig(uri=str(imagery), zooms=(17,))])
    with pytest.raises(ValueError, match="give block_m as much"):
        Windows(places, px=64, block_m=40, held_out=0.3, split="train")
    windows = Windows(places, px=160, block_m=200, held_out=1e-9, split="held_out")
    with pytest.raises(ValueError, match="no window without gaps"):
        windows.draw(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"unknown key 'tokenizer\.chanels'; did you mean channels"):
        load(config("typo", "[tokenizer]\nchanels = 32\n"))
    with pytest.raises(ValueError, match="unknown key 'step'; did you mean steps"):
        load(config("typo", step=3))
    with pytest.raises(ValueError, match="a trained tokenizer"):
        load(config("bare", MODEL.format(kind="var")))
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "absent.toml")
    with pytest.raises(typer.Exit):
        main([config("bad", "[tokenizer]\npx = 60\n")])
    assert "must grow up to" in capsys.readouterr().err


def test_parents_are_hidden_in_part_and_wholly():
    known = draw_known(200, 16, torch.Generator().manual_seed(0), partly=0.3, blind=0.2)
    shares = known.flatten(1).float().mean(1)
    assert 0.35 < (shares == 1).float().mean() < 0.7 and 0.1 < (shares == 0).float().mean() < 0.35


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_flexvar", "var", "flexvar", "regression"])
def test_the_configurations_that_come_with_it_are_read(name):
    assert load(ROOT / "configs" / f"tiles_{name}.toml").steps > 100
