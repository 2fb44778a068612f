"""The speed benchmark still runs: what it measures, measured on next to nothing. What it finds is not looked at."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

from zoomloc.config import load_train_config
from zoomloc.train import train

ROOT = Path(__file__).parent.parent


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_importing_is_measured(speed, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert math.isfinite(speed.importing("tiles"))


def test_locating_is_measured_with_every_search(speed, tiny_data, tiny_config, tmp_path):
    settings = load_train_config(tiny_config(tmp_path / "run", steps=2, warmup_steps=1, batch_size=2))
    milliseconds = speed.locating(tiny_data, train(settings, device="cpu"), limit=2)
    assert set(milliseconds) == {"greedy", "beam", "posterior"}
    assert all(map(math.isfinite, milliseconds.values()))


def test_simulating_is_measured(speed):
    assert math.isfinite(speed.simulating(10, 320))
