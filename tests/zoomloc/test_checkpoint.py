"""Checkpoints: what is saved is what loads, under the published names; what is broken is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file

from zoomloc import checkpoint
from zoomloc.config import ModelConfig
from zoomloc.errors import CheckpointError, ConfigError
from zoomloc.model import ZoomModel

CONFIG = ModelConfig(
    width=32, encoder_layers=1, encoder_heads=2, patch_px=8, table_px=16, photo_px=16, view_px=16,
    decoder_layers=1, decoder_heads=2, depth=2,
)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    model = ZoomModel(CONFIG).eval()
    checkpoint.save(model, tmp_path / "c")
    return model, tmp_path / "c"


def test_round_trip(saved):
    model, folder = saved
    loaded = checkpoint.load(folder)
    assert loaded.config == CONFIG
    assert not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])
    assert "encoder.backbone.encoder.layer.0.attention.attention.query.weight" in load_file(
        folder / "model.safetensors"
    )


def test_half_precision_halves_the_file_and_loads_as_float32(saved, tmp_path):
    model, folder = saved
    checkpoint.save(model, tmp_path / "half", dtype=torch.float16)
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * (
        folder / "model.safetensors"
    ).stat().st_size
    assert next(checkpoint.load(tmp_path / "half").parameters()).dtype == torch.float32


def breakages():
    return {
        "no folder": lambda f: [p.unlink() for p in f.iterdir()],
        "no weights": lambda f: (f / "model.safetensors").unlink(),
        "cut off": lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:1000]
        ),
        "empty": lambda f: (f / "model.safetensors").write_bytes(b""),
        "not JSON": lambda f: (f / "config.json").write_text("{"),
        "unknown key": lambda f: (f / "config.json").write_text('{"widht": 3}'),
        "another size": lambda f: (f / "config.json").write_text(
            json.dumps(json.loads((f / "config.json").read_text()) | {"width": 64})
        ),
    }


@pytest.mark.parametrize("name", breakages())
def test_broken_checkpoints(saved, name):
    breakages()[name](saved[1])
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        checkpoint.load(saved[1])
    assert str(saved[1]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_published_files_that_are_none(tmp_path):
    with pytest.raises(CheckpointError, match="not there"):
        checkpoint.load_published(tmp_path / "none.pth", CONFIG)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_published(tmp_path / "text.pth", CONFIG)
    torch.save({"weights": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="model_state_dict"):
        checkpoint.load_published(tmp_path / "other.pth", CONFIG)
    torch.save({"model_state_dict": {"decoder.final_norm.weight": torch.ones(32)}}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.load_published(tmp_path / "part.pth", CONFIG)
