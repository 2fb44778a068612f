"""The example of docs/tile_models.md runs as printed; its commands name what is there, and run in test_train."""

import re
import shlex
from pathlib import Path

import torch
import typer
from typer.testing import CliRunner

from generation import make, tokenizer_report, train
from generation.tile_config import load
from generation.tile_model import SHIPPED, TileModel

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "tile_models.md").read_text()


def test_the_example_makes_tiles(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    exec(compile(example, "docs/tile_models.md", "exec"), {})
    assert "(2, 3, 64, 64) [(2, 1), (2, 4)," in capsys.readouterr().out


def test_the_commands_have_the_options_they_are_given():
    lines = re.findall(r"^python -m generation\.(\w+) (.*)$", DOC, re.MULTILINE)
    assert {module for module, _ in lines} == {"train", "sample", "tokenizer_report"}
    commands = {"train": train.main, "sample": make.main, "tokenizer_report": tokenizer_report.main}
    for module, rest in lines:
        app = typer.Typer()
        app.command()(commands[module])
        shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
        for word in shlex.split(rest):
            assert not word.startswith("--") or word in shown, (module, word)
            assert not word.endswith(".toml") or load(ROOT / word).steps > 100


def test_the_model_that_comes_with_the_package_is_small_and_says_what_it_saw():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 10e6
    card = (SHIPPED / "README.md").read_text()
    for said in ("swisstopo", "CC BY 4.0", "simulated", "never be matched"):
        assert said in card


def test_a_gap_in_even_ground_leaves_no_frame():
    model = TileModel.load(SHIPPED)
    grey = torch.tensor([-0.5, 0.0, 0.5])[:, None, None, None].expand(3, 3, 64, 64)
    known = torch.ones(3, 64, 64, dtype=torch.bool)
    known[:, 20:48, 16:44] = False
    filled = model.fill(grey, known, torch.tensor([16, 17, 18]), seeds=[0, 1, 2]).images
    off = (filled - grey).abs().mean(1)[~known].view(3, -1).mean(1) * 127.5
    assert float(off.max()) < 3, f"{off} grey levels"
