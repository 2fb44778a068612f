"""The rows of the table: which trainings there are, and how their models are asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.accuracy.settings import Setting
from zoomloc.baselines import RetrievalConfig, RetrievalTrainConfig
from zoomloc.config import ModelConfig, PointerConfig, TrainConfig
from zoomloc.localizer import Search

Answer = Literal["leaf centre", "best point"]

NEARNESS = 0.3  # of the row that has it
JUST_ZOOM_IN, RETRIEVAL, OURS = "just_zoom_in", "retrieval", "ours"


@dataclass(frozen=True)
class Row:
    """name: as the table has it. training: whose checkpoint answers; None is guessing blindly. search, answer: how.
    told_once: not among fewer leaves, where the answer is a leaf's centre anyway and another row says the same."""

    name: str
    training: str | None
    search: Search = "posterior"
    answer: Answer = "best point"
    told_once: bool = False


CHANCE = Row("chance", None)
ROWS = (
    CHANCE,
    Row("just_zoom_in, greedy", JUST_ZOOM_IN, "greedy", "leaf centre"),
    Row("just_zoom_in, posterior", JUST_ZOOM_IN),
    Row("retrieval, best leaf", RETRIEVAL, "greedy", "leaf centre"),
    Row("retrieval, posterior", RETRIEVAL),
    Row("ours, beam", OURS, "beam", "leaf centre"),
    Row("ours", OURS),
    Row("ours, greedy", OURS, "greedy", "leaf centre"),
    Row("ours, leaf centre", OURS, answer="leaf centre", told_once=True),
    Row("ours without rim", "no rim"),
    Row("ours without pointers", "slots"),
    Row("ours without not-here", "no not-here"),
    Row("ours without own mistakes", "no mistakes"),
    Row("ours with nearness", "nearness"),
    Row("ours without soft labels", "hard labels"),
    Row("ours without moved grids", "fixed grid"),
)
# What ours is compared with, photo by photo.
RIVALS = (
    "just_zoom_in, greedy",
    "just_zoom_in, posterior",
    "retrieval, best leaf",
    "retrieval, posterior",
    "ours, beam",
)
OURS_ROW = "ours"


def trainings(setting: Setting, data: tuple[Path, ...], runs: Path, *, seed: int) -> dict[str, TrainConfig]:
    """Every training by its name: the same encoder, pixels, optimizer and photos, in the same order of batches where
    the method does not choose them itself."""
    common = {"data": data, "seed": seed, "cache_photos": True, **setting.training}
    ours = {**common, **setting.moved, "label_sigma_m": setting.sigma_m}
    fixed = {key: value for key, value in ours.items() if key not in setting.moved}
    pointer = PointerConfig(kind="pointer", **setting.image, **setting.pointer)
    published = ModelConfig(**setting.image, **setting.decoder, depth=setting.towns.depth)
    cell_px = pointer.view_px * pointer.branch // pointer.cells_across  # what ours sees of a cell itself
    tiles = RetrievalConfig(**setting.image, reach=setting.reach)

    def out(name: str) -> dict[str, Any]:
        return {"out": runs / name.replace(" ", "-")}

    return {
        JUST_ZOOM_IN: TrainConfig(model=published, **common, **out(JUST_ZOOM_IN)),
        RETRIEVAL: RetrievalTrainConfig(model=tiles, **common, **setting.moved, **out(RETRIEVAL)),
        OURS: TrainConfig(model=pointer, **ours, **out(OURS)),
        "no rim": TrainConfig(model=_changed(pointer, rim=False, view_px=cell_px), **ours, **out("no rim")),
        "no not-here": TrainConfig(
            model=_changed(pointer, not_here=False),
            **ours,
            off_path=0.0,
            own_mistakes=0.0,
            **out("no not-here"),
        ),
        "no mistakes": TrainConfig(model=pointer, **ours, own_mistakes=0.0, **out("no mistakes")),
        "nearness": TrainConfig(model=pointer, **ours, nearness=NEARNESS, **out("nearness")),
        "slots": TrainConfig(model=_changed(pointer, slots=True), **ours, **out("slots")),
        "hard labels": TrainConfig(model=pointer, **{**ours, "label_sigma_m": 0.0}, **out("hard labels")),
        "fixed grid": TrainConfig(model=pointer, **fixed, **out("fixed grid")),
    }


def _changed(config: PointerConfig, **changes: Any) -> PointerConfig:
    """The configuration with changes, checked again."""
    return PointerConfig.model_validate(config.model_dump() | changes)
