"""Models as ONNX: encoder and zoom step as graphs, in a folder that every command takes for a checkpoint.

Photos and views are uint8 sRGB, as the models themselves take them, so that nothing is left to do outside but to
resize. Batches are of any size. `zoomloc.runtime` runs what is written here.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generation.cache import Cache
from zoomloc import calibration, checkpoint, runtime
from zoomloc.errors import CheckpointError, OutputError
from zoomloc.files import atomic
from zoomloc.model import AnyModel, ZoomModel
from zoomloc.pointer import PointerModel, Questions, at_own
from zoomloc.progress import progress

OPSET = 20


@dataclass(frozen=True)
class Graph:
    """A part of a model. call: of tensors. inputs: examples of them, by name; the axes named in `dynamic` may be of any
    length, the first of every one besides. outputs: names."""

    call: Callable[..., Any]
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)


def export(folder: Path, out: Path) -> list[Path]:
    """Write the checkpoint in a folder as ONNX graphs into the folder `out`, its configuration and calibration beside
    them; returns the graphs' files. Raises CheckpointError, ConfigError or OutputError.
    """
    _check_tools()
    if runtime.is_exported(folder):
        raise CheckpointError(f"checkpoint {folder} is an exported one; name the one that it came from")
    if (out / "model.safetensors").exists():
        raise OutputError(f"{out}: holds a trained checkpoint; choose another folder with --out")
    model = checkpoint.load(folder)
    fitted = checkpoint.load_calibration(folder, model)
    (out / "config.json").unlink(missing_ok=True)  # until all is there, the folder is none to load
    written = []
    parts = graphs(model)
    for name, graph in progress(parts.items(), "exporting", len(parts)):
        written.append(out / f"{name}.onnx")
        with atomic(written[-1]) as draft:
            _write(model, graph, draft)
    (out / calibration.FILE).unlink(missing_ok=True)
    if fitted:
        calibration.save(fitted, out)
    with atomic(out / "config.json") as draft:
        draft.write_text(model.config.model_dump_json(indent=1) + "\n")
    return written


def quantise(graph: Path) -> None:
    """Make the weights of a graph's matrix products 8-bit whole numbers, and, while it runs, what they are multiplied
    with too. A calibration stays that of the model before. Raises OutputError."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with atomic(graph) as draft, _quietly():
        quantize_dynamic(graph, draft, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8)


def graphs(model: AnyModel) -> dict[str, Graph]:
    """The parts of a model, by name. `photos` and `views` are the encoder; the rest is the zoom step."""
    return _of_pointer(model) if isinstance(model, PointerModel) else _of_published(model)


def _of_pointer(model: PointerModel) -> dict[str, Graph]:
    config = model.config
    photos, views = _pixels(config.photo_px, 2 * config.photo_px), _pixels(config.view_px, config.view_px)
    fov_deg, side_m = torch.tensor([70.0, torch.nan]), torch.tensor([40.0, 160.0])
    sides_m = torch.tensor([[640.0, 160.0, 40.0]]).expand(2, -1)
    with torch.inference_mode():
        features, keys = model.encode_photos(photos, fov_deg), model.encode_views(views, side_m)
        asked = model.ask(features, sides_m)
    names = [name for name in Questions._fields if getattr(asked, name) is not None]
    own = asked.at(0)
    return {
        "photos": Graph(model.encode_photos, {"photos": photos, "fov_deg": fov_deg}, ("features",)),
        "views": Graph(model.encode_views, {"views": views, "side_m": side_m}, ("keys",)),
        "ask": Graph(
            lambda *inputs: tuple(part for part in model.ask(*inputs) if part is not None),
            {"features": features, "side_m": sides_m},
            tuple(names),
            {"side_m": {1: "sizes"}},
        ),
        "decide": Graph(
            lambda keys, *asked: at_own(Questions(*asked), keys),
            {"keys": keys, "query": own.query, "weight": own.weight, "not_here": own.not_here},
            ("log_probabilities",),
        ),
    }


def _of_published(model: ZoomModel) -> dict[str, Graph]:
    config = model.config
    head_dim = config.width // config.decoder_heads
    past = torch.zeros(2, config.decoder_layers, 2, config.decoder_heads, 4, head_dim)
    tokens = {"context": torch.zeros(2, config.width), "cell": torch.zeros(2, config.width)}
    return {
        "photos": Graph(
            model.encode_photos, {"photos": _pixels(config.photo_px, 2 * config.photo_px)}, ("features",)
        ),
        "views": Graph(model.encode_views, {"views": _pixels(config.view_px, config.view_px)}, ("features",)),
        "choice": Graph(model.decoder.action_embed, {"child": torch.tensor([0, 1])}, ("context",)),
        "step": Graph(
            lambda *inputs: _step(model, *inputs),
            {**tokens, "past": past},
            ("logits", "grown"),
            {"past": {4: "tokens"}},
        ),
    }


def _step(model: ZoomModel, context: Tensor, cell: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """A decision, and the past that two tokens more make, as `runtime` keeps it."""
    cache = _Handed(past)
    logits = model.decoder.step(context, cell, cache)
    return logits, torch.stack(cache.grown, dim=1)


class _Handed(Cache):
    """A cache that is handed in and out as one tensor: (N, layers, 2, heads, tokens, head_dim)."""

    def __init__(self, past: Tensor) -> None:
        super().__init__(past.shape[1])
        self.past, self.grown = past, list[Tensor]()

    def length(self, layer: int = -1) -> int:
        return self.past.shape[4]

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.cat([self.past[:, layer], torch.stack([key, value], dim=1)], dim=3)
        self.grown.append(pair)
        return pair[:, 0], pair[:, 1]


class _Module(nn.Module):
    """A graph's call, with the model whose weights it uses."""

    def __init__(self, model: AnyModel, graph: Graph) -> None:
        super().__init__()
        self.model, self._call = model, graph.call

    def forward(self, *inputs: Tensor) -> Any:
        return self._call(*inputs)


def _write(model: AnyModel, graph: Graph, path: Path) -> None:
    free = {name: {0: "batch"} | graph.dynamic.get(name, {}) for name in graph.inputs}
    sizes = {name: torch.export.Dim(name) for axes in free.values() for name in axes.values()}
    shapes = tuple({axis: sizes[name] for axis, name in axes.items()} for axes in free.values())
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Module(model, graph).eval(),
            tuple(graph.inputs.values()),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=(shapes,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' words on what they leave as it is, which nobody can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _pixels(height: int, width: int) -> Tensor:
    return torch.zeros(2, height, width, 3, dtype=torch.uint8)


def _check_tools() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CheckpointError(f"exporting needs {error.name}: pip install 'zoomloc[onnx]'") from None
