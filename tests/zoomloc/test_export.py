"""Exported models say what those they came from say, to 1e-4, whatever the size of a batch."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from zoomloc import checkpoint, runtime
from zoomloc.calibration import Calibration, Elsewhere, Look
from zoomloc.calibration import save as save_calibration
from zoomloc.checkpoint import fingerprint
from zoomloc.cli import app
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.errors import CheckpointError, OutputError
from zoomloc.export import OPSET, export, graphs
from zoomloc.index import Index
from zoomloc.localizer import Localizer
from zoomloc.model import make_model

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX RUNTIME ABSENT: no exported model was run")

SMALL = {
    "width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 8, "table_px": 64, "photo_px": 32,
    "decoder_layers": 1, "decoder_heads": 2,
}  # fmt: skip
CONFIGS = {
    "pointer": PointerConfig(kind="pointer", **SMALL, view_px=48, queries=3, key_width=8, heading_waves=2),
    "just_zoom_in": ModelConfig(**SMALL, view_px=32, depth=3),
}
PARITY = 1e-4


@pytest.fixture(scope="module", params=CONFIGS)
def both(request, tmp_path_factory):
    """A checkpoint's folder, that of its export, and the model."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    model = make_model(CONFIGS[request.param]).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and scales at their first values would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    checkpoint.save(model, folder / "trained")
    save_calibration(_fitted(model.config.width), folder / "trained")
    command = ["export", str(folder / "trained"), "--out", str(folder / "exported")]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0 and f"photos.onnx: opset {OPSET}, " in result.output.replace("\n", "")
    return folder / "trained", folder / "exported", model


def _fitted(width):
    """A calibration of whatever model."""
    return Calibration(
        side_m=(40.0,), temperature=(2.0,), threshold=0.7, false_rejection=0.05, data=("a",), others=(), n_photos=9,
        look=Look(mean=(0.0,) * width, directions=((1.0,) + (0.0,) * (width - 1),), variances=(1.0,), rest=1.0),
        elsewhere=Elsewhere(place=None, picture=(0.0, 1.0)),
    )  # fmt: skip


def test_the_calibration_goes_with_the_export(both):
    trained, exported, _ = both
    assert Localizer.from_pretrained(exported).calibration == Localizer.from_pretrained(trained).calibration


def test_every_graph_says_what_the_model_says_for_batches_of_any_size(both):
    import onnx

    _, exported, model = both
    for name, graph in graphs(model).items():
        assert onnx.load(exported / f"{name}.onnx").opset_import[0].version == OPSET
        session = onnxruntime.InferenceSession(exported / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for batch, others in ((1, 0), (3, 6)):
            inputs = {key: _like(key, value, batch, others, graph) for key, value in graph.inputs.items()}
            with torch.inference_mode():
                expected = graph.call(*inputs.values())
            found = session.run(None, {key: value.numpy() for key, value in inputs.items()})
            expected = expected if isinstance(expected, tuple) else (expected,)
            assert len(found) == len(expected) == len(graph.outputs)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other.numpy(), atol=PARITY, rtol=PARITY)


def _like(name, example, batch, others, graph):
    """Another input like the example; `others`, plus one where a number of sizes is meant, for its other free axes."""
    shape = [batch, *example.shape[1:]]
    for axis, meaning in graph.dynamic.get(name, {}).items():
        shape[axis] = others + (meaning == "sizes")
    if example.dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=torch.uint8)
    if example.dtype == torch.int64:
        return torch.randint(0, 16, shape)
    if name == "fov_deg":
        return torch.tensor([math.nan, 55.0, 120.0])[:batch]
    return torch.rand(shape) * 1000 + 5 if name == "side_m" else torch.randn(shape)


@pytest.mark.parametrize("how", ["greedy", "beam", "posterior"])
def test_the_localizer_finds_the_same_places_with_either(both, how, make_world, monkeypatch):
    world = make_world(depth=3)
    monkeypatch.setattr(type(world.region), "open", lambda self: world.pyramid)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 60, 100, 3), dtype=np.uint8)
    answers = [
        Localizer.from_pretrained(folder).locate(
            list(pixels), world.region, names=["a", "b"], fovs_deg=[None, 90.0], how=how
        )
        for folder in both[:2]
    ]
    for one, other in zip(*answers, strict=True):
        assert one.path == other.path and (one.lat, one.lon) == pytest.approx((other.lat, other.lon))
        assert one.probability == pytest.approx(other.probability, rel=1e-2)
        assert one.not_here == pytest.approx(other.not_here, rel=1e-2)
        assert one.heading_deg == pytest.approx(other.heading_deg)
        if how == "posterior":
            np.testing.assert_allclose(one.posterior, other.posterior, atol=1e-3)


def test_indexes_of_the_two_are_not_mixed_up(both):
    _, exported, model = both
    assert fingerprint(runtime.load(exported)) == fingerprint(runtime.load(exported))
    assert fingerprint(runtime.load(exported)) != fingerprint(model)


def test_an_exported_index_holds_the_same_features(both, make_world):
    world = make_world(depth=2)
    _, exported, model = both
    indexes = [Index(each, world.pyramid, world.region.grid) for each in (model, runtime.load(exported))]
    every = np.arange(indexes[0].n_cells)
    # Indexes are kept in half precision: two numbers 1e-4 apart may be rounded to neighbours.
    torch.testing.assert_close(indexes[0].at(every), indexes[1].at(every), atol=2e-3, rtol=2e-3)


def test_eight_bit_graphs_are_smaller_and_nearly_as_good(both, tmp_path, monkeypatch):
    trained, exported, model = both
    small = tmp_path / "small"
    # What the command exports is a copy of what the fixture did, which takes long.
    monkeypatch.setattr(
        "zoomloc.export.export", lambda _, out: [*Path(shutil.copytree(exported, out)).glob("*.onnx")]
    )
    command = ["export", str(trained), "--out", str(small), "--int8"]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert (small / "photos.onnx").stat().st_size < 0.9 * (exported / "photos.onnx").stat().st_size
    photos = torch.randint(0, 256, (3, 32, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.encode_photos(photos).flatten(1)
    found = runtime.load(small).encode_photos(photos).flatten(1)
    assert float((found - expected).abs().max()) > PARITY
    assert float(torch.cosine_similarity(found, expected).min()) > 0.99


def test_an_exported_checkpoint_is_calibrated_as_the_one_it_came_from(both, tiny_data, tmp_path):
    trained, exported, model = both
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    region = json.loads((data / "region.json").read_text())
    (data / "region.json").write_text(json.dumps(region | {"depth": 3}))
    fitted = []
    for folder in (trained, exported):
        own = Path(shutil.copytree(folder, tmp_path / folder.name))
        done = CliRunner().invoke(app, ["calibrate", str(own), str(data)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        fitted.append(checkpoint.load_calibration(own, model))
    assert fitted[0] != _fitted(model.config.width), "in place of the one that went with the export"
    assert fitted[1].side_m == fitted[0].side_m
    assert fitted[1].temperature == pytest.approx(fitted[0].temperature, rel=0.05)
    assert fitted[1].threshold == pytest.approx(fitted[0].threshold, rel=0.05)


def test_mistakes_are_told_in_one_line(both, tmp_path):
    trained, exported, _ = both
    with pytest.raises(OutputError, match="holds a trained checkpoint; choose another folder"):
        export(trained, trained)
    with pytest.raises(CheckpointError, match="exported one; name the one that it came from"):
        export(exported, tmp_path / "again")
    with pytest.raises(CheckpointError, match="exported one, which runs on the CPU alone"):
        Localizer.from_pretrained(exported, device="cuda")
    broken = Path(shutil.copytree(exported, tmp_path / "broken"))
    (broken / "views.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"views\.onnx cannot be used .*export it again"):
        runtime.load(broken)
    (broken / "views.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"views\.onnx cannot be used"):
        runtime.load(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        runtime.load(broken)
