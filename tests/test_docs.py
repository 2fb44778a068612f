"""The pages build without a warning, their tutorial runs, and so do the commands of the pages on training."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parent.parent
matplotlib.use("Agg")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)


def test_the_tutorial_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("tutorial.md", "python"):
        exec(compile(block, "tutorial.md", "exec"), names)
    assert "<Prediction " in capsys.readouterr().out
    assert (tmp_path / "where.png").stat().st_size > 5000 and (tmp_path / "where.geojson").exists()
    assert len(names["predictions"]) == 4


def test_the_commands_of_the_page_on_training_are_the_readmes_which_run():
    readme = (ROOT / "README.md").read_text()
    for block in blocks("train.md", "sh"):
        for line in block.splitlines():
            assert line in readme or line.replace("data/village", "data/divided") in readme, line


def test_every_page_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the docs extra is not installed: pip install -e '.[docs]'")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--config-file",
            tmp_path / "mkdocs.yml",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "from_pretrained" in (tmp_path / "site" / "api" / "index.html").read_text()
