"""Several regions asked about one photo: hypotheses that exclude each other, with one "in none of these" for all."""

from collections.abc import Sequence
from dataclasses import replace

from zoomloc.errors import CheckpointError
from zoomloc.model import AnyModel
from zoomloc.pointer import PointerModel
from zoomloc.posterior import Leaves

SMALLEST = 1e-12  # of "not here", so that odds stay finite


def check(model: AnyModel, n_regions: int) -> None:
    """Raises CheckpointError where a model cannot compare regions."""
    if n_regions > 1 and not (isinstance(model, PointerModel) and model.config.not_here):
        raise CheckpointError(
            'several regions are compared by how sure the model is of "not here", which this checkpoint never '
            "says; give one --region, or a pointer model trained with not_here"
        )


def compete(found: Sequence[Leaves]) -> tuple[list[Leaves], float]:
    """What each region found for one photo, told beside the others; and the probability of none of them.

    Alone with "elsewhere", a region holds the photo with the odds here : not_here. Regions that exclude each other
    keep their odds against the one "elsewhere", and all is made to sum to 1. With one region nothing changes. Regions
    that overlap share what is theirs in common.
    """
    if len(found) == 1:
        return list(found), found[0].not_here
    odds = [leaves.here / max(leaves.not_here, SMALLEST) for leaves in found]
    total = 1 + sum(odds)
    return [_told(leaves, its / total) for leaves, its in zip(found, odds, strict=True)], 1 / total


def _told(leaves: Leaves, here: float) -> Leaves:
    scale = here / leaves.here if leaves.here > 0 else 0.0
    return replace(
        leaves,
        probabilities=leaves.probabilities * scale,
        not_here=1 - here,
        unexpanded=leaves.unexpanded * scale,
    )
