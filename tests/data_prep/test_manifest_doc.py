"""Every command and example of docs/manifest.md runs; its table is the schema."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_prep.check import CHECKS
from zoomloc import cli, manifest

DOC = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOC, flags=re.DOTALL)


def test_the_commands_in_order(drives, tmp_path, monkeypatch, capsys):
    folder = drives.write(drives.frame())
    (tmp_path / "work" / "data").mkdir(parents=True)
    folder.rename(tmp_path / "work" / "data" / "village")
    monkeypatch.chdir(tmp_path / "work")
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert not exit_.value.code, f"{line}: {capsys.readouterr()}"
    assert sorted(path.name for path in Path("data/village-blocks").glob("[!.]*")) == [
        "manifest.parquet", "map.html", "map.png", "region.json", "rejected.csv", "sheet.png",
    ]  # fmt: skip
    assert Path("problems.csv").read_text().strip() == "check,photo"


def test_the_example_writes_a_manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine/photos").mkdir(parents=True)
    for name in ("one", "two"):
        Image.new("RGB", (64, 48)).save(f"mine/photos/{name}.jpg")
    (code,) = blocks("python")
    exec(compile(code, "manifest.md", "exec"), {})
    assert list(manifest.read("mine/manifest.parquet")["photo"]) == ["photos/one.jpg", "photos/two.jpg"]


def test_every_column_and_every_check_is_described():
    columns = re.findall(r"^\| `(\w+)` \| (?:text|point|float|timestamp) \|", DOC, flags=re.MULTILINE)
    assert tuple(columns) == (*manifest.COLUMNS, *manifest.CREDITS)
    described = re.findall(r"^\| `(\w+)` \|", DOC.partition("## Check it")[2], flags=re.MULTILINE)
    assert tuple(described) == CHECKS
