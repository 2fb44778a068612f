"""Checkpoints of tile tokenizers and tile models: a folder of config.json, model.safetensors and a README.md."""

import json
from pathlib import Path

import torch
from pydantic import model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from generation.models.regression import Regression
from generation.tile_config import ModelConfig, Strict, TokenizerConfig, parse
from generation.tile_model import TileModel
from generation.tile_tokenizer import TileTokenizer

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


class CheckpointConfig(Strict):
    """What a folder holds: a tokenizer, or a model with its tokenizer, or a regression, which has none."""

    tokenizer: TokenizerConfig | None = None
    model: ModelConfig | None = None

    @model_validator(mode="after")
    def _is_something(self) -> "CheckpointConfig":
        if self.tokenizer is None and (self.model is None or self.model.kind != "regression"):
            raise ValueError("describes neither a tokenizer nor a model")
        return self


def make(config: CheckpointConfig) -> nn.Module:
    """With random weights. Raises ValueError for a model whose tokenizer is of another kind."""
    if config.model is not None and config.model.kind == "regression":
        return Regression(config.model.width, config.model.depth)
    assert config.tokenizer is not None
    if config.model is None:
        return TileTokenizer(config.tokenizer)
    if config.tokenizer.kind != config.model.tokenizer_kind:
        raise ValueError(
            f'a model of kind "{config.model.kind}" needs a "{config.model.tokenizer_kind}" tokenizer, and this one '
            f'is "{config.tokenizer.kind}"'
        )
    return TileModel(config.model, TileTokenizer(config.tokenizer))


def save(made: nn.Module, config: CheckpointConfig, folder: Path, *, card: str, dtype: torch.dtype) -> None:
    """Write a folder; `card` is its README.md."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in made.state_dict().items()}
    temporary = folder / f"{WEIGHTS}.part"
    temporary.write_bytes(to_bytes(state))
    (folder / CONFIG).write_text(config.model_dump_json(indent=1, exclude_none=True) + "\n")
    (folder / CARD).write_text(card)
    temporary.replace(folder / WEIGHTS)


def load(folder: Path) -> tuple[nn.Module, CheckpointConfig]:
    """What `save` wrote, float32, in evaluation mode. Raises ValueError, one line, for what is none."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; `python -m generation.train` writes such a folder")
    try:
        values = json.loads((folder / CONFIG).read_text())
        state = load_file(folder / WEIGHTS)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} is damaged ({error}); copy or train it again") from None
    config = parse(CheckpointConfig, values, where=str(folder / CONFIG))
    made = make(config)
    try:
        made.load_state_dict({key: value.float() for key, value in state.items()})
    except RuntimeError:
        raise ValueError(
            f"{folder}: {WEIGHTS} does not hold what {CONFIG} describes; copy it again"
        ) from None
    return made.eval(), config


def load_tokenizer(folder: Path) -> TileTokenizer:
    """The tokenizer of a folder, be it alone there or a model's. Raises ValueError."""
    made, _ = load(folder)
    if isinstance(made, TileModel):
        return made.tokenizer
    if not isinstance(made, TileTokenizer):
        raise ValueError(f"{folder} holds no tokenizer")
    return made


def load_model(folder: Path) -> TileModel:
    """Raises ValueError for a folder of something else."""
    made, _ = load(folder)
    if not isinstance(made, TileModel):
        raise ValueError(f"{folder} holds no model of tiles; train one with a [model] of kind var or flexvar")
    return made
