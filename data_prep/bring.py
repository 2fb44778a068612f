"""Photos brought into the folder of a dataset."""

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_prep.journal import stamp_of
from zoomloc.files import atomic

QUALITY = 95


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it across file systems; one that is there already is left. Raises OutputError."""
    if target.exists() and stamp_of(target) == stamp_of(source):
        return
    with atomic(target) as draft:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copy2(source, draft)


def save(pixels: NDArray[np.uint8], target: Path) -> None:
    """Write (h, w, 3) uint8 sRGB as JPEG, without any EXIF. Raises OutputError."""
    with atomic(target) as draft:
        Image.fromarray(pixels).save(draft, "JPEG", quality=QUALITY)
