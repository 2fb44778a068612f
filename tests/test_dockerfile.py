"""The steps of the Dockerfile, as far as they can be run without an engine: what it copies is enough to install from,
and what it starts is there. Not run here: the base image, apt, the user, the read-only file system."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
STEPS = [tuple(line.split(" ", 1)) for line in TEXT.splitlines() if line and not line.startswith("#")]


def arguments(instruction):
    return [rest for name, rest in STEPS if name == instruction]


def test_it_does_not_run_as_root():
    names = [name for name, _ in STEPS]
    assert arguments("USER") == ["10001"] and "--uid 10001" in next(
        r for r in arguments("RUN") if "useradd" in r
    )
    assert "RUN" not in names[names.index("USER") :]


@pytest.mark.parametrize(("device", "installs"), [("cpu", True), ("cuda", False)])
def test_torch_without_cuda_is_installed_first_only_for_a_cpu(device, installs):
    [step] = [rest for rest in arguments("RUN") if "torch" in rest]
    shown = subprocess.run(
        ["sh", "-c", step.replace("pip install", "echo")],
        env=os.environ | {"DEVICE": device},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    torch = next(each for each in needed if each.startswith("torch"))
    assert (torch in shown.split()) is installs


def test_what_is_copied_installs_and_the_command_starts(tmp_path):
    (tmp_path / "src").mkdir()
    for rest in arguments("COPY"):
        *sources, target = rest.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, tmp_path / "src" / target, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / source, tmp_path / "src" / target)
    [step] = [rest for rest in arguments("RUN") if rest.endswith(" .")]
    words = [sys.executable, "-m", *shlex.split(step)]  # what it depends on is installed here already
    subprocess.run(
        [*words, "--no-deps", "--quiet", "--target", tmp_path / "site"], cwd=tmp_path / "src", check=True
    )
    [command] = map(json.loads, arguments("ENTRYPOINT"))
    started = subprocess.run(
        [sys.executable, tmp_path / "site" / "bin" / command[0], *command[1:], "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0 and "--checkpoint" in started.stdout, started.stderr
    assert (tmp_path / "site" / "zoomloc" / "assets" / "demo" / "region.json").exists()
    assert (tmp_path / "site" / "zoomloc" / "py.typed").exists()
