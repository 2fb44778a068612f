"""Checkpoints: a folder of config.json and model.safetensors, or the published model's .pth files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from zoomloc import calibration
from zoomloc.calibration import Calibration
from zoomloc.config import ModelConfig, PointerConfig, parse
from zoomloc.encoder import from_published, to_published
from zoomloc.errors import CheckpointError
from zoomloc.model import AnyModel, ZoomModel, make_model

# Tensors in published files that are no parameters of ours: they follow from the configuration.
_DERIVED = ("decoder.freqs",)


def save(model: AnyModel, folder: Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write config.json and model.safetensors (parameter names as published) into `folder`.

    A calibration that is there goes, as it was of other weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / calibration.FILE).unlink(missing_ok=True)
    state = {to_published(k): v.detach().to("cpu", dtype).contiguous() for k, v in model.state_dict().items()}
    temporary = folder / "model.safetensors.part"
    temporary.write_bytes(to_bytes(state))
    (folder / "config.json").write_text(model.config.model_dump_json(indent=1) + "\n")
    temporary.replace(folder / "model.safetensors")


def load(folder: Path) -> AnyModel:
    """Read what `save` wrote; float32, in evaluation mode. Raises CheckpointError or ConfigError."""
    config = config_of(folder)
    _must_have(folder, "model.safetensors")
    try:
        state = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint {folder} is damaged ({error}); copy or train it again") from None
    model = make_model(config)
    _fill(model, state, where=folder)
    return model


def config_of(folder: Path) -> ModelConfig | PointerConfig:
    """What the model in a folder is. Raises CheckpointError or ConfigError."""
    _must_have(folder, "config.json")
    try:
        values = json.loads((folder / "config.json").read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"checkpoint {folder} is damaged ({error}); copy or train it again") from None
    return parse(_config_kind(values), values, where=str(folder / "config.json"))


def _must_have(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise CheckpointError(f"checkpoint {folder} has no {name}; `zoomloc train` writes such a folder")


def load_calibration(folder: Path, model: AnyModel) -> Calibration | None:
    """That of the model in a folder, or None where it has none. Raises CheckpointError."""
    found = calibration.load(folder)
    if found and len(found.look.mean) != model.config.width:
        raise CheckpointError(
            f"{folder / calibration.FILE} is of another model; delete it, or run `zoomloc calibrate` again"
        )
    return found


def _config_kind(values: Any) -> type[ModelConfig] | type[PointerConfig]:
    return PointerConfig if isinstance(values, dict) and values.get("kind") == "pointer" else ModelConfig


def load_published(path: Path, config: ModelConfig) -> ZoomModel:
    """Read a checkpoint of the published code, {'model_state_dict': …}, compiled ('_orig_mod.') or not.

    Such a file does not say its configuration; ModelConfig() is the paper's. Raises CheckpointError.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} is not there") from None
    except Exception as error:  # torch.load raises many kinds for a file that is not a checkpoint
        raise CheckpointError(f"checkpoint {path} cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or "model_state_dict" not in state:
        raise CheckpointError(
            f"checkpoint {path} has no 'model_state_dict'; is it one of the published model?"
        )
    model = ZoomModel(config)
    _fill(model, state["model_state_dict"], where=path)
    return model


def fingerprint(model: AnyModel) -> str:
    """A short text that two models share if and only if their weights are the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _fill(model: AnyModel, state: dict[str, Tensor], *, where: Path) -> None:
    renamed = {from_published(key.removeprefix("_orig_mod.")): value.float() for key, value in state.items()}
    renamed = {key: value for key, value in renamed.items() if key not in _DERIVED}
    own = model.state_dict()
    wrong = sorted(set(own) ^ set(renamed)) or [k for k in own if own[k].shape != renamed[k].shape]
    if wrong:
        raise CheckpointError(
            f"checkpoint {where} does not fit its configuration: {wrong[0]} (and {len(wrong) - 1} more)"
        )
    model.load_state_dict(renamed)
    model.eval()
