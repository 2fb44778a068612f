"""The calibration benchmark, as a whole on tiny data."""

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks.calibration import __main__ as command
from benchmarks.calibration.strangers import KINDS, make
from data_prep.command import run


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_come_from_their_seed(kind):
    first = make(kind, 0, seed=1)
    assert first.shape == (288, 512, 3) and first.dtype == np.uint8
    assert (first == make(kind, 0, seed=1)).all()
    assert (first != make(kind, 1, seed=1)).any() and (first != make(kind, 0, seed=2)).any()


def test_the_command_writes_a_page_its_numbers_and_plots(
    tiny_pointer, tiny_data, tmp_path, monkeypatch, capsys
):
    before = sorted(tiny_pointer.iterdir())
    words = [
        tiny_pointer,
        "--data",
        tiny_data,
        "--unseen",
        tiny_data,
        "--others",
        tiny_data,
        "--name",
        "tiny",
    ]
    (tmp_path / "real").mkdir()
    for number in range(3):
        shutil.copy(tiny_data / "photos" / f"train-{number}.jpg", tmp_path / "real")
    words += ["--real", tmp_path / "real", "--pictures", 2, "--device", "cpu", "--out", tmp_path]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        run(command.main)
    assert not exit_.value.code
    assert "calibration-tiny.md" in capsys.readouterr().out
    told = json.loads((tmp_path / "calibration-tiny.json").read_text())
    assert set(told["pictures"]) == set(KINDS) and told["all_pictures"]["photos"] == 2 * len(KINDS)
    assert told["trust"][tiny_data.name]["after"]["photos"] == told["photos"] > 0
    page = (tmp_path / "calibration-tiny.md").read_text()
    assert "real street photos" in page and f"seed {told['seed']}" in page and str(tiny_pointer) in page
    for name in ("calibration-tiny.png", "calibration-tiny-not-here.png"):
        assert name in page and (tmp_path / name).stat().st_size > 5000
    assert sorted(tiny_pointer.iterdir()) == before, "the checkpoint stays as it is"
