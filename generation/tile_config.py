"""What tokenizers and models of tiles are, and how they are trained: TOML on disk, strict objects in memory."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

# On the ground, of a pixel of zoom level 0: a tile pyramid in Web Mercator has this at the equator.
LEVEL_0_M = 156_543.033928


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenizerConfig(Strict):
    """A tokenizer of tiles.

    kind: "residual" as VAR has it, a map codes what the coarser ones left over; "direct" as FlexVAR has it, a map shows
    the tile at its side. px: side of a tile. patch, channels, multipliers, blocks: of its encoder and decoder, see
    `tokenizer.CNNConfig`. sides: of the maps, the last of which has a token for patch · 2^(levels - 1) pixels.
    """

    kind: Literal["residual", "direct"] = "residual"
    px: PositiveInt = 64
    patch: PositiveInt = 4
    channels: PositiveInt = 64
    multipliers: tuple[PositiveInt, ...] = (1, 1)
    blocks: PositiveInt = 1
    n_codes: PositiveInt = 512
    code_width: PositiveInt = 16
    sides: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 8)

    @property
    def token_px(self) -> int:
        """Side of what a token of the finest map stands for."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def n_given(self) -> int:
        """How many maps a parent tile, which has half the pixels, can give."""
        return sum(2 * side <= self.sides[-1] for side in self.sides)

    @model_validator(mode="after")
    def _fits(self) -> "TokenizerConfig":
        if self.channels % 32:
            raise ValueError(f"channels {self.channels} must be a multiple of 32")
        if self.sides[-1] * self.token_px != self.px or list(self.sides) != sorted(set(self.sides)):
            raise ValueError(
                f"sides {list(self.sides)} must grow up to {self.px / self.token_px:g}: px {self.px} in tokens of "
                f"{self.token_px} px"
            )
        if len(self.sides) < 3 or self.n_given < 1:
            raise ValueError(f"sides {list(self.sides)}: at least three, the first of half the last or less")
        return self


class ModelConfig(Strict):
    """A model of tiles.

    kind: "regression" is no generator but a convolutional net that says the mean, to compare with. width, depth: of
    the transformer (or the net). zooms: the first and the last zoom level it may be told of.
    """

    kind: Literal["var", "flexvar", "regression"]
    width: PositiveInt = 128
    depth: PositiveInt = 4
    zooms: tuple[int, int] = (14, 20)

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        if self.kind != "regression" and self.width % (2 * self.depth):
            raise ValueError(
                f"width {self.width} must be an even multiple of depth {self.depth}: a head for each block"
            )
        if self.kind == "regression" and self.width % 32:
            raise ValueError(f"width {self.width} must be a multiple of 32")
        if self.zooms[0] > self.zooms[1]:
            raise ValueError(f"zooms {list(self.zooms)}: the first must not be above the last")
        return self

    @property
    def tokenizer_kind(self) -> str:
        """That of the tokenizer it needs."""
        return "direct" if self.kind == "flexvar" else "residual"


class SourceConfig(Strict):
    """Imagery to learn from.

    uri: as for `tiles.open`, relative to the configuration file; of a glob every file is a source of its own. zooms:
    at which it is shown; a pixel of zoom z has 156,543 m / 2^z on the ground. share: how often it is shown, beside the
    others. attribution: whom to name in the model's card, and the licence.
    """

    uri: str
    zooms: tuple[int, ...] = Field(min_length=1)
    share: PositiveFloat = 1.0
    attribution: str = ""


class TrainConfig(Strict):
    """A training run: of a tokenizer, or of a model where there is a [model].

    sources: what is shown. block_m: the ground is divided into blocks so wide, a share of which, held_out, is never
    shown in training. out: folder of the run. tokenizer: a folder with a trained one (of a model), or what it is to be
    (of a tokenizer). settle: steps in which a tokenizer's codes are found, before its decoder learns. edges, texture:
    how much the differences between neighbouring pixels and the local contrast count beside the pixels themselves, for
    a tokenizer. partly, blind: the share of tiles whose parent is shown in part, and not at all. own_context: that
    codes are right after the model's own choices too (SAR). drop_sides: the share of maps left out ("flexvar" only).
    ema: how much of the averaged weights stays from step to step.
    """

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    out: Path
    seed: int = 0
    steps: PositiveInt
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1.5e-3
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    clip_norm: PositiveFloat = 1.0
    ema: float = Field(default=0.99, ge=0, lt=1)
    block_m: PositiveFloat = 320.0
    held_out: float = Field(default=0.15, gt=0, lt=1)
    settle: int = Field(default=200, ge=0)
    edges: float = Field(default=2.0, ge=0)
    texture: float = Field(default=0.5, ge=0)
    partly: float = Field(default=0.2, ge=0, le=1)
    blind: float = Field(default=0.1, ge=0, le=1)
    own_context: float = Field(default=0.0, ge=0)
    drop_sides: float = Field(default=0.1, ge=0, lt=1)
    checkpoint_minutes: PositiveFloat = 5.0
    show_every: PositiveInt = 200
    workers: PositiveInt = 2
    tokenizer: TokenizerConfig | Path = TokenizerConfig()
    model: ModelConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> "TrainConfig":
        needs_one = self.model is not None and self.model.kind != "regression"
        if needs_one and isinstance(self.tokenizer, TokenizerConfig):
            raise ValueError('a [model] needs a trained tokenizer: tokenizer = "folder of its checkpoint"')
        if self.model is None and isinstance(self.tokenizer, Path):
            raise ValueError(
                "to train a tokenizer, describe it in [tokenizer]; to train a model, add a [model]"
            )
        return self


Config = TypeVar("Config", bound=Strict)


def load(path: Path) -> TrainConfig:
    """Read a training configuration. Folders and URIs in it are resolved from the file's own folder.

    Raises ValueError, one line, for a missing or malformed file, an unknown key (naming the nearest) or a bad value.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ValueError(
            f"configuration {path} cannot be read ({error.strerror}); configs/ holds examples"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"configuration {path} is not valid TOML: {error}") from None
    config, here = parse(TrainConfig, values, where=str(path)), path.parent
    sources = tuple(s.model_copy(update={"uri": _beside(here, s.uri)}) for s in config.sources)
    places: dict[str, Any] = {"sources": sources, "out": here / config.out}
    if isinstance(config.tokenizer, Path):
        places["tokenizer"] = here / config.tokenizer
    return config.model_copy(update=places)


def _beside(here: Path, uri: str) -> str:
    return uri if ":" in uri.split("/")[0] else str(here / uri)


def parse(kind: type[Config], values: Any, *, where: str) -> Config:
    """Build a configuration from plain values. Raises ValueError, one line, naming `where` they came from."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [
        str(part) for part in first["loc"] if "[" not in str(part)
    ]  # "function-after[…]" is none of the user's
    key = ".".join(part for part in parts if part not in ("TokenizerConfig", "path")) or "configuration"
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    kinds: list[type[Strict]] = [TrainConfig, SourceConfig, TokenizerConfig, ModelConfig]
    known = [name for kind in kinds for name in kind.model_fields]
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=3)
    return f"unknown key '{key}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
