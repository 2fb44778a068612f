"""Photos brought into the folder of a dataset."""

import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoomloc.files import atomic

QUALITY = 95


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it across file systems; one that is there already is left. Raises OutputError."""
    if target.exists() and _unchanged(source, target):
        return
    with atomic(target) as draft:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copy2(source, draft)


def _unchanged(source: Path, target: Path) -> bool:
    old, new = target.stat(), source.stat()
    return (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)


def save(pixels: NDArray[np.uint8], target: Path) -> None:
    """Write (h, w, 3) uint8 sRGB as JPEG, without any EXIF. Raises OutputError."""
    with atomic(target) as draft:
        Image.fromarray(pixels).save(draft, "JPEG", quality=QUALITY)
