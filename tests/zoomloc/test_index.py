"""The index on disk: what it keeps is what would be computed, it outlives a kill, and it knows when it is stale."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from zoomloc import checkpoint
from zoomloc.errors import OutputError, RegionError
from zoomloc.index import KNOWN, Index, build, place_on_disk
from zoomloc.localizer import Localizer
from zoomloc.region import Region


@pytest.fixture
def region(tiny_data, tmp_path):
    """A region of its own, so that its index is too."""
    for name in ("city.tif", "region.json"):
        shutil.copy(tiny_data / name, tmp_path / name)
    return Region.load(tmp_path / "region.json")


@pytest.fixture
def model(tiny_checkpoint):
    return checkpoint.load(tiny_checkpoint)


EVERY_CELL = [torch.zeros(1, 0, dtype=torch.long), torch.arange(16)[:, None]]


def test_what_is_kept_is_what_would_be_computed(model, region, monkeypatch):
    fresh = Index.of(model, region)
    computed = [fresh.features(paths) for paths in EVERY_CELL]
    build(model, region)
    kept = Index.of(model, region)
    monkeypatch.setattr(model, "encode_views", lambda _: pytest.fail("encoded again"))
    for paths, expected in zip(EVERY_CELL, computed, strict=True):
        torch.testing.assert_close(kept.features(paths), expected, rtol=0, atol=0)


def test_half_precision_changes_no_answer_by_more_than_a_thousandth(model, region):
    features = Index.of(model, region).features(EVERY_CELL[1])
    views = torch.from_numpy(
        np.stack([region.open().view(*region.grid.cell((i,)), 32).pixels for i in range(16)])
    )
    with torch.inference_mode():
        exact = model.encode_views(views)
    assert (features - exact).abs().max() < 1e-3 * exact.abs().max()


def test_killed_and_called_again_it_goes_on(tiny_checkpoint, model, region):
    command = [sys.executable, "-m", "zoomloc", "index", "--device", "cpu"]
    command += ["--region", str(region.folder / "region.json"), "--checkpoint", str(tiny_checkpoint)]
    known = place_on_disk(model, region) / KNOWN
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not known.exists() and first.poll() is None:
        time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = np.load(known).sum()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(known.parent) in done.stdout
    assert np.load(known).all() and before <= 17
    kept = Index.of(model, region).features(EVERY_CELL[1])
    shutil.rmtree(known.parent.parent)
    torch.testing.assert_close(kept, Index.of(model, region).features(EVERY_CELL[1]), rtol=0, atol=1e-3)


def test_other_weights_imagery_or_squares_have_an_index_of_their_own(model, region):
    here = place_on_disk(model, region)
    assert place_on_disk(model, region) == here
    later = (region.folder / "city.tif").stat().st_mtime_ns + 10**9
    os.utime(region.folder / "city.tif", ns=(later, later))
    assert place_on_disk(model, region) != here
    os.utime(region.folder / "city.tif", ns=(later - 10**9, later - 10**9))
    assert place_on_disk(model, region) == here
    moved = replace(region, size_m=region.size_m / 2)
    assert place_on_disk(model, moved) != here
    with torch.no_grad():
        model.decoder.final_norm.weight[0] += 1e-6
    assert place_on_disk(model, region) != here


def test_imagery_that_is_gone_is_one_line(model, region):
    (region.folder / f"{region.name}.index").mkdir()
    (region.folder / "city.tif").unlink()
    with pytest.raises(RegionError, match=r"city\.tif"):
        Localizer(model).index(region)


def test_a_file_in_the_way_is_one_line(model, region):
    (region.folder / f"{region.name}.index").write_text("in the way")
    with pytest.raises(OutputError, match=r"tiny\.index.*cannot be written"):
        build(model, region)
