"""Zooming as a walk, which the searches of `generation.selection` keep, drop and copy as they do images."""

import torch
from torch import Tensor

from generation.walk import NoMemory, PathWalk
from zoomloc import markov, posterior
from zoomloc.index import Index
from zoomloc.model import AnyModel
from zoomloc.pointer import PointerModel


def zoom_walk(model: AnyModel, index: Index, photos: Tensor, *, generator: torch.Generator) -> PathWalk:
    """Paths to leaves, for the features of photos (B, …) as the model encodes them.

    The pointer model's children are drawn as if the photo were in the cell; log_p counts that too.
    """
    shape = {"batch": len(photos), "n_steps": index.grid.depth}
    if isinstance(model, PointerModel):
        return PathWalk(markov.stepper(model, index, photos), NoMemory(), **shape, generator=generator)
    step, cache = posterior.stepper(model, index, photos)
    return PathWalk(step, cache, **shape, generator=generator)
