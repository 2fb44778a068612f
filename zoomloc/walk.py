"""Zooming as a walk, which the searches of `generation.selection` keep, drop and copy as they do images."""

import torch
from torch import Tensor

from generation.walk import NoMemory, PathWalk
from zoomloc import markov, posterior
from zoomloc.localizer import Localizer
from zoomloc.pointer import PointerModel
from zoomloc.region import Region


def zoom_walk(
    localizer: Localizer, region: Region, photos: Tensor, *, generator: torch.Generator
) -> PathWalk:
    """Paths to leaves of a region, for the features of photos (B, …) as the localizer encodes them.

    The pointer model's children are drawn as if the photo were in the cell; log_p counts that too.
    """
    model, asked = localizer.model, (localizer.index(region), photos, localizer.calibration)
    shape = {"batch": len(photos), "n_steps": region.depth}
    if isinstance(model, PointerModel):
        return PathWalk(markov.stepper(model, *asked), NoMemory(), **shape, generator=generator)
    step, cache = posterior.stepper(model, *asked)
    return PathWalk(step, cache, **shape, generator=generator)
