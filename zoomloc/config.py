"""Configurations: what a model is and how it is trained. TOML on disk, strict dataclass-like models in memory."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from zoomloc.errors import ConfigError

# How a position becomes a path: by the exact grid, or as the published benchmark has it, by geodesic moves.
LabelMode = Literal["grid", "published"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageConfig(_Strict):
    """What every model has: one encoder for photos and views, and how it is shown them. The defaults are the paper's.

    width, encoder_layers, encoder_heads, patch_px, table_px: the DINOv2 encoder (table_px: the image side its
    position table was made for). photo_px: side of each of the photo's two square halves. view_px: side of a view.
    branch: children along a side of a cell.
    """

    width: PositiveInt = 768
    encoder_layers: PositiveInt = 12
    encoder_heads: PositiveInt = 12
    patch_px: PositiveInt = 14
    table_px: PositiveInt = 518
    photo_px: PositiveInt = 224
    view_px: PositiveInt = 224
    branch: PositiveInt = 4

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ImageConfig":
        for name in ("encoder_heads", "decoder_heads"):
            heads = getattr(self, name, 1)
            if self.width % heads or (self.width // heads) % 2:
                raise ValueError(f"width {self.width} must be an even multiple of {name} {heads}")
        return self


class ModelConfig(ImageConfig):
    """The published `just_zoom_in` architecture (arXiv 2603.25686) at any size.

    decoder_layers, decoder_heads: the zoom decoder. depth: of the grid it decides over.
    """

    kind: Literal["just_zoom_in"] = "just_zoom_in"
    decoder_layers: PositiveInt = 6
    decoder_heads: PositiveInt = 12
    depth: PositiveInt = 4


class PointerConfig(ImageConfig):
    """Our model, which scores a child by what it shows, in cells of any size: `zoomloc.pointer`.

    decoder_layers, decoder_heads: of the attention by which queries read the photo. queries: what is looked for, as
    so many alternatives (a street seen from above has some direction, and the photo does not say which). key_width:
    numbers that a child is described by in the index. rim: whether a view shows a rim of one child around its cell.
    not_here: whether every cell may answer that the photo is not in it. heading_waves: waves by which the density of
    the camera's heading is described (`zoomloc.heading`); 0 where the model says nothing of it. slots: children are not
    described by their own patches but from the whole view, each by weights of its own, as the published model has it;
    to compare with.
    """

    kind: Literal["pointer"]
    view_px: PositiveInt = 252
    decoder_layers: PositiveInt = 2
    decoder_heads: PositiveInt = 12
    queries: PositiveInt = 8
    key_width: PositiveInt = 48
    rim: bool = True
    not_here: bool = True
    heading_waves: NonNegativeInt = 0
    slots: bool = False

    @property
    def cells_across(self) -> int:
        """Children along a side of a view, the rim's included."""
        return self.branch + 2 * self.rim

    @model_validator(mode="after")
    def _patches_tile_children(self) -> "PointerConfig":
        part = self.patch_px * self.cells_across
        if self.view_px % part:
            raise ValueError(
                f"view_px {self.view_px} must be a multiple of {part}, so that patches tile the children"
            )
        return self


def _kind(values: Any) -> str:
    """What kind of model a configuration is of; those from before there were several do not say."""
    return str(values.get("kind", "just_zoom_in") if isinstance(values, dict) else values.kind)


AnyModelConfig = Annotated[
    Annotated[ModelConfig, Tag("just_zoom_in")] | Annotated[PointerConfig, Tag("pointer")],
    Discriminator(_kind),
]


class TrainConfig(_Strict):
    """A training run.

    data: folder with manifest.parquet and region.json, relative to the configuration file, or several. out: folder of
    the run. encoder_weights: folder of the DINOv2 weights to begin with, such as a copy of facebook/dinov2-base,
    relative to the file too (none: random ones). batch_size: photos a step over all processes. optimizer: "muon" takes
    the matrices of the transformers' blocks and leaves the rest to AdamW. labels: of the exact grid, or the published
    benchmark's own, which are hard and do not move. label_smoothing: mass spread evenly over the children.
    label_sigma_m: standard deviation in metres by which a photo's position is blurred into soft labels (0: hard
    labels). grid_jitter_m, grid_scale, grid_turned: the training grid is moved at random by up to this much, made
    larger or smaller by up to this factor, and turned by any angle, anew every step. off_path, own_mistakes: how much
    it counts that the other photos' cells are told from a photo's own, any of them, and those that the search would
    come to by mistake; contrast: that a photo's place is told from all others of the batch at once; nearness: that the
    answers expected are near, by the logarithm of metres; heading: that the camera's is known at the right place (all
    "pointer" only). own_context: that decisions are right after the model's own choices too (SAR, arXiv 2512.06421;
    "just_zoom_in" only). accumulate: a batch goes through the model in so many parts. compiled: by torch.compile.
    """

    data: tuple[Path, ...]
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
    grid_scale: float = Field(default=1.0, ge=1.0)
    grid_turned: bool = False
    off_path: float = 0.5
    own_mistakes: float = 0.5
    contrast: float = 0.0
    nearness: float = 0.0
    heading: float = 0.0
    own_context: float = 0.0
    accumulate: PositiveInt = 1
    compiled: bool = False
    augment: bool = True
    cache_photos: bool = False
    workers: int = 2
    checkpoint_minutes: PositiveFloat = 5.0
    validate_every: PositiveInt = 1000
    model: AnyModelConfig = ModelConfig()

    @field_validator("data", mode="before")
    @classmethod
    def _one_is_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _published_labels_are_hard(self) -> "TrainConfig":
        moved = self.grid_jitter_m or self.grid_scale > 1 or self.grid_turned
        if self.labels == "published" and (self.label_sigma_m or moved or self.model.kind == "pointer"):
            raise ValueError(
                'labels = "published" go with label_sigma_m = 0, a grid that stays and kind = "just_zoom_in"'
            )
        return self

    @model_validator(mode="after")
    def _what_cannot_be_said_is_not_trained(self) -> "TrainConfig":
        silent = isinstance(self.model, PointerConfig) and not self.model.not_here
        if silent and (self.off_path or self.own_mistakes or self.contrast):
            raise ValueError("not_here = false goes with off_path = 0, own_mistakes = 0 and contrast = 0")
        if self.own_context and self.model.kind != "just_zoom_in":
            raise ValueError(
                'own_context > 0 goes with kind = "just_zoom_in"; own_mistakes is its like for "pointer"'
            )
        if self.heading and not (isinstance(self.model, PointerConfig) and self.model.heading_waves):
            raise ValueError("heading > 0 goes with a model of heading_waves > 0")
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
    here = path.parent
    weights = config.encoder_weights and here / config.encoder_weights
    places = {"data": tuple(here / city for city in config.data), "out": here / config.out}
    return config.model_copy(update=places | {"encoder_weights": weights})


def parse(kind: type[Config], values: dict[str, Any], *, where: str) -> Config:
    """Build a configuration from plain values. Raises ConfigError, one line, naming `where` they came from."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(kind, error)}") from None


def _explain(kind: type[_Strict], error: ValidationError) -> str:
    first = error.errors()[0]
    kinds = ("just_zoom_in", "pointer")  # the library counts them to the place
    key = ".".join(str(part) for part in first["loc"] if part not in kinds) or "configuration"
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    known = [*kind.model_fields, *ModelConfig.model_fields, *PointerConfig.model_fields]
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=3)
    return f"unknown key '{key}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
