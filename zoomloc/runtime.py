"""The models as `zoomloc export` writes them, run by ONNX Runtime: they take and give what those they came from do."""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generation.cache import Cache
from zoomloc.checkpoint import config_of
from zoomloc.config import ModelConfig, PointerConfig
from zoomloc.decoder import ZoomDecoder
from zoomloc.errors import CheckpointError
from zoomloc.model import AnyModel, ZoomModel
from zoomloc.pointer import PointerModel, Questions

GRAPHS = {"pointer": ("photos", "views", "ask"), "just_zoom_in": ("photos", "views", "choice", "step")}


def is_exported(folder: Path) -> bool:
    """Whether a folder holds graphs in the place of weights."""
    return (folder / "photos.onnx").exists() and not (folder / "model.safetensors").exists()


def load(folder: Path) -> AnyModel:
    """A model whose graphs lie in a folder, on the CPU. Raises CheckpointError or ConfigError."""
    config = config_of(folder)
    graphs = _Graphs(folder, GRAPHS[config.kind])
    return OnnxPointer(config, graphs) if isinstance(config, PointerConfig) else OnnxZoom(config, graphs)


class OnnxPointer(PointerModel):
    """The pointer model, but for training."""

    def __init__(self, config: PointerConfig, graphs: "_Graphs") -> None:
        nn.Module.__init__(self)  # the weights are in the graphs
        self.config, self._graphs, self.digest = config, graphs, graphs.digest

    def encode_photos(self, photos: Tensor, fov_deg: Tensor | None = None) -> Tensor:
        if fov_deg is None:
            fov_deg = torch.full((len(photos),), math.nan)
        return self._graphs.run("photos", photos=photos, fov_deg=fov_deg.float())[0]

    def encode_views(self, views: Tensor, side_m: Tensor) -> Tensor:
        return self._graphs.run("views", views=views, side_m=side_m.float())[0]

    def ask(self, photos: Tensor, side_m: Tensor) -> Questions:
        return Questions(*self._graphs.run("ask", features=photos, side_m=side_m.float()))


class OnnxZoom(ZoomModel):
    """The published model, but for training."""

    def __init__(self, config: ModelConfig, graphs: "_Graphs") -> None:
        nn.Module.__init__(self)
        self.config, self._graphs, self.digest = config, graphs, graphs.digest
        self.feature_shape = (config.width,)
        self.decoder = _Decoder(config, graphs)

    def encode_photos(self, photos: Tensor, fov_deg: Tensor | None = None) -> Tensor:
        return self._graphs.run("photos", photos=photos)[0]

    def encode_views(self, views: Tensor, side_m: Tensor | None = None) -> Tensor:
        return self._graphs.run("views", views=views)[0]


class _Decoder(ZoomDecoder):
    def __init__(self, config: ModelConfig, graphs: "_Graphs") -> None:
        nn.Module.__init__(self)
        self._config, self._graphs = config, graphs

    def action_embed(self, child: Tensor) -> Tensor:  # type: ignore[override]
        return self._graphs.run("choice", child=child)[0]

    def forward(self, photo: Tensor, views: Tensor, actions: Tensor) -> Tensor:
        context, cache, logits = photo, self.start(), []
        for view, child in zip(views.unbind(1), actions.unbind(1), strict=True):
            logits.append(self.step(context, view, cache))
            context = self.action_embed(child)
        return torch.stack(logits, dim=1)

    def start(self) -> Cache:
        return Cache(0)

    def step(self, context: Tensor, view: Tensor, cache: Cache) -> Tensor:
        c = self._config
        nothing = context.new_zeros(
            len(context), c.decoder_layers, 2, c.decoder_heads, 0, c.width // c.decoder_heads
        )
        past = cache.kept.get("past", nothing)
        logits, cache.kept["past"] = self._graphs.run("step", context=context, cell=view, past=past)
        return logits


class _Graphs:
    """The graphs of a folder, ready to run with as many threads as torch has.

    digest: of their files, in the place of the weights: where a model is, and whether two are the same, is asked of
    parameters.
    """

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise CheckpointError(
                f"checkpoint {folder} is an exported one, which needs onnxruntime: pip install 'zoomloc[onnx]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        digest, self._sessions = hashlib.sha256(), dict[str, Any]()
        for name in names:
            try:
                graph = (folder / f"{name}.onnx").read_bytes()
                self._sessions[name] = onnxruntime.InferenceSession(
                    graph, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # the runtime's own are of many kinds
                raise CheckpointError(
                    f"checkpoint {folder}: {name}.onnx cannot be used ({type(error).__name__}); export it again"
                ) from None
            digest.update(graph)
        self.digest = nn.Parameter(
            torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8), requires_grad=False
        )

    def run(self, name: str, **inputs: Tensor) -> list[Tensor]:
        arrays = {key: value.contiguous().numpy() for key, value in inputs.items()}
        return [torch.from_numpy(each) for each in self._sessions[name].run(None, arrays)]
