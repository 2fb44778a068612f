"""Every command of the README runs, in the order given, and what its words promise to write is there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from zoomloc.cli import main
from zoomloc.evaluate import markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(first_word):
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    return [line for line in lines if line.startswith(first_word)]


def test_no_command_is_left_out():
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(lines) == sum(
        len(commands(word)) for word in ("make ", "zoomloc ", "python -m zoomloc.package_demo ")
    )


@pytest.mark.parametrize("line", commands("make "))
def test_make_targets(line):
    shown = subprocess.run(
        [*shlex.split(line), "-n"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {"make demo": "zoomloc demo --out demo-output", "make test": "pytest"}[line] in shown


SMALLER = {  # the shipped model's own recipe takes more than an hour; its commands run here on next to nothing
    "--photos 24000 --test 520 --val 260": "--photos 60 --test 30 --val 4 --size-m 640 --gsd-m 1",
    "--photos 500 --size-m 1280 --test 150 --val 150": "--photos 40 --test 8 --val 8 --size-m 640 --gsd-m 1",
    "configs/demo.toml": "small.toml",
}


def smaller(line):
    for long, short in SMALLER.items():
        line = line.replace(long, short)
    return line


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "configs").mkdir()
    (folder / "configs" / "village.toml").write_text((ROOT / "configs" / "village.toml").read_text())
    small = (ROOT / "configs" / "demo.toml").read_text().replace('"../', '"')
    small = re.sub(r"^steps = .*$", "steps = 2", small, flags=re.MULTILINE)
    (folder / "small.toml").write_text(
        re.sub(r"^batch_size = .*$", "batch_size = 4", small, flags=re.MULTILINE)
    )
    return folder


def serve(line):
    """A command that runs until it is interrupted: it says where it serves, answers, and ends."""
    command = [sys.executable, "-m", *shlex.split(line.replace("--port 8000", "--port 0"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        try:
            url = served.stdout.readline().split(" at ")[1].strip()
            with urlopen(f"{url}healthz", timeout=60) as answer:
                assert answer.status == 200
        finally:
            served.terminate()


def test_the_commands_in_order(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    for line in commands("zoomloc ") + commands("python -m "):
        words = shlex.split(smaller(line))
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:], "--out", "shipped"], check=True)
            continue
        if "serve" in words:
            serve(line)
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exit_:
            main()
        assert not exit_.value.code, f"{line}: {capsys.readouterr().err}"
    assert Path("demo-output/map.html").stat().st_size > 100_000
    assert len(list(Path("demo-output/panels").glob("*.png"))) == 24
    assert json.loads(Path("place.geojson").read_text())["features"][0]["geometry"]
    assert Path("place.png").exists()
    assert list(Path("data/village/simulated-3.index").glob("*/features.npy"))
    assert Path("data/village/cells.mbtiles").stat().st_size > 100_000
    assert Path("data/divided/sheet.png").exists()
    assert Path("shipped/checkpoint/model.safetensors").exists()
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


def test_the_region_file_is_one(tmp_path):
    from zoomloc.region import Region

    (block,) = blocks("json")
    (tmp_path / "region.json").write_text(block)
    assert Region.load(tmp_path / "region.json").grid.leaf_m == pytest.approx(39.0625)


def test_pictures_and_files_named_are_there():
    named = re.findall(r"\]\(([^)]+)\)", README) + re.findall(
        r"`((?:configs|docs|benchmarks)/[^`\s]+)`", README
    )
    for name in named:
        assert name.startswith("http") or (ROOT / name).exists(), name


@pytest.mark.parametrize("name", ["demo", "washington"])
def test_the_figures_are_those_of_the_commands(name):
    facts = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    assert markdown(facts) in README
