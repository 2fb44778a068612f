"""The index of a large region, encoded on a Ray cluster: blocks of cells go to its machines, features come back.

They are put into the very file that `zoomloc.index.build` would make, cell by cell the same.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoomloc import cluster
from zoomloc.errors import ClusterError, OutputError
from zoomloc.index import FILLING, Index, on_disk, place_on_disk
from zoomloc.localizer import Localizer
from zoomloc.model import AnyModel
from zoomloc.progress import progress
from zoomloc.region import Region

MOST, LEAST_BLOCKS = 16, 64  # batches of cells in a block; blocks to share a small region out by

Batches = Sequence[NDArray[np.intp]]


def build(model: AnyModel, region: Region, checkpoint: Path, *, device: str) -> Path:
    """Encode every inner cell that is not yet on the Ray that is connected, and keep the features on this disk.

    model: that of the checkpoint. Killed and called again, it goes on. Returns the folder written, as
    `zoomloc.index.build` does, and raises what that raises, and ClusterError.
    """
    index, folder = on_disk(model, region), place_on_disk(model, region)
    missing = index.missing()
    size = max(1, min(MOST, len(missing) // LEAST_BLOCKS))
    blocks = [missing[i : i + size] for i in range(0, len(missing), size)]
    found = cluster.over(blocks, prepare, (checkpoint, region), device=device)
    try:
        for number, features in progress(found, FILLING, len(blocks)):
            index.put(np.concatenate(blocks[number]), features)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); free or unlock it") from None
    if left := index.missing():
        raise ClusterError(
            f"{len(left)} batches of cells: their workers died; the same command goes on, Ray's logs may say why"
        )
    return folder


def prepare(device: str, checkpoint: Path, region: Region) -> cluster.Work:
    """What an actor does: encode blocks of cells, batch by batch as one machine would."""
    index = Index(Localizer.from_pretrained(checkpoint, device=device).model, region.open(), region.grid)

    def encoded(batches: Batches) -> NDArray[np.float16]:
        return np.concatenate([index.encoded(numbers) for numbers in batches])

    return encoded
