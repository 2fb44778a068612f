"""Configurations: what a model is and how it is trained. TOML on disk, strict dataclass-like models in memory."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError, model_validator

from zoomloc.errors import ConfigError

# How a position becomes a path: by the exact grid, or as the published benchmark has it, by geodesic moves.
LabelMode = Literal["grid", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelConfig(_Strict):
    """The published `just_zoom_in` architecture (arXiv 2603.25686) at any size. The defaults are the paper's.

    width, encoder_layers, encoder_heads, patch_px, table_px: the DINOv2 encoder (table_px: the image side its
    position table was made for). decoder_layers, decoder_heads: the zoom decoder. photo_px: side of each of the
    photo's two square halves. view_px: side of a view. branch, depth: the grid it decides over.
    """

    width: PositiveInt = 768
    encoder_layers: PositiveInt = 12
    encoder_heads: PositiveInt = 12
    patch_px: PositiveInt = 14
    table_px: PositiveInt = 518
    photo_px: PositiveInt = 224
    view_px: PositiveInt = 224
    decoder_layers: PositiveInt = 6
    decoder_heads: PositiveInt = 12
    branch: PositiveInt = 4
    depth: PositiveInt = 4

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelConfig":
        for name in ("encoder_heads", "decoder_heads"):
            heads = getattr(self, name)
            if self.width % heads or (self.width // heads) % 2:
                raise ValueError(f"width {self.width} must be an even multiple of {name} {heads}")
        return self


class TrainConfig(_Strict):
    """A training run.

    data: folder with manifest.parquet and region.json, relative to the configuration file. out: folder of the run.
    encoder_weights: folder of the DINOv2 weights to begin with, such as a copy of facebook/dinov2-base, relative to the
    file too (none: random ones). batch_size: photos a step over all processes. optimizer: "muon" takes the matrices of
    the transformers' blocks and leaves the rest to AdamW. labels: of the exact grid, or the published benchmark's own,
    which are hard and do not move. label_smoothing: mass spread evenly over the children. label_sigma_m: standard
    deviation in metres by which a photo's position is blurred into soft labels (0: hard labels). grid_jitter_m: the
    training grid is moved at random by up to this much, anew every step (0: never).
    """

    data: Path
    out: Path
    encoder_weights: Path | None = None
    seed: int = 0
    steps: PositiveInt
    batch_size: PositiveInt
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: PositiveFloat = 3e-4
    weight_decay: float = 0.05
    warmup_steps: int = 500
    clip_norm: PositiveFloat = 1.0
    labels: LabelMode = "grid"
    label_smoothing: float = 0.1
    label_sigma_m: float = 0.0
    grid_jitter_m: float = 0.0
    augment: bool = True
    cache_photos: bool = False
    workers: int = 2
    checkpoint_minutes: PositiveFloat = 5.0
    validate_every: PositiveInt = 1000
    model: ModelConfig = ModelConfig()

    @model_validator(mode="after")
    def _published_labels_are_hard(self) -> "TrainConfig":
        if self.labels == "published" and (self.label_sigma_m or self.grid_jitter_m):
            raise ValueError('labels = "published" go with label_sigma_m = 0 and grid_jitter_m = 0')
        return self


Config = TypeVar("Config", bound=_Strict)


def load_train_config(path: Path) -> TrainConfig:
    """Read a training configuration (TOML). Folders in it are resolved from the file's own folder.

    Raises ConfigError for a missing or malformed file, an unknown key (naming the nearest) or a bad value.
    """
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"configuration {path} is not there; configs/ holds examples") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} is not valid TOML: {error}") from None
    config = parse(TrainConfig, values, where=str(path))
    places = {"data": config.data, "out": config.out, "encoder_weights": config.encoder_weights}
    return config.model_copy(update={key: place and path.parent / place for key, place in places.items()})


def parse(kind: type[Config], values: dict[str, Any], *, where: str) -> Config:
    """Build a configuration from plain values. Raises ConfigError, one line, naming `where` they came from."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(kind, error)}") from None


def _explain(kind: type[_Strict], error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "configuration"
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    known = [*kind.model_fields, *ModelConfig.model_fields]
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=3)
    return f"unknown key '{key}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
