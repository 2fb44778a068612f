"""A model without training: what a batch does with its answers does not depend on how good they are."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from zoomloc import checkpoint
from zoomloc.cli import main
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.model import ZoomModel
from zoomloc.pointer import PointerModel
from zoomloc.region import Region

SMALL = {"width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 48, "photo_px": 32}
POINTER = {"view_px": 48, "decoder_layers": 1, "decoder_heads": 2, "queries": 2, "key_width": 8}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """A checkpoint of a pointer model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("untrained") / "checkpoint"
    checkpoint.save(PointerModel(PointerConfig(kind="pointer", **SMALL, **POINTER)), folder)
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> Path:
    """Likewise, of the published kind."""
    folder = tmp_path_factory.mktemp("published") / "checkpoint"
    config = ModelConfig(**SMALL, view_px=32, decoder_layers=1, decoder_heads=2, depth=2)
    checkpoint.save(ZoomModel(config), folder)
    return folder


@pytest.fixture
def town(tiny_data, tmp_path) -> Path:
    """A copy of the tiny data's region, whose index and results belong to one test; photos/ has three."""
    folder = tmp_path / "town"
    (folder / "photos").mkdir(parents=True)
    for name in ("region.json", "city.tif"):
        shutil.copy(tiny_data / name, folder)
    for path in sorted((tiny_data / "photos").glob("test-*.jpg"))[:3]:
        shutil.copy(path, folder / "photos")
    return folder


@pytest.fixture
def elsewhere(town) -> Path:
    """The region file of another region, over the same imagery: the south-eastern quarter of the town."""
    region = json.loads((town / "region.json").read_text())
    side_m = region["size_m"] / 2
    west, north = region["north_west"]
    changed = region | {"name": "quarter", "size_m": side_m, "north_west": [west + side_m, north - side_m]}
    (town / "quarter.json").write_text(json.dumps(changed))
    Region.load(town / "quarter.json")
    return town / "quarter.json"


@pytest.fixture
def zoomloc():
    """Runs the command in this process; returns (stdout, stderr)."""

    def run(*words, code=0, stdin=""):
        out, err = io.StringIO(), io.StringIO()
        kept = sys.argv, sys.stdin
        sys.argv, sys.stdin = ["zoomloc", *map(str, words)], io.StringIO(stdin)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as exit_,
            ):
                main()
        finally:
            sys.argv, sys.stdin = kept
        assert (exit_.value.code or 0) == code, out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()

    return run
