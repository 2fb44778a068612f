"""Perspective views out of spherical photos, and where a spherical photo was taken by all of its views."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from zoomloc.photo import Photo
from zoomloc.sequence import Motion

if TYPE_CHECKING:
    from torch import Tensor

    from zoomloc.localizer import Localizer, Search
    from zoomloc.posterior import Leaves
    from zoomloc.prediction import Prediction
    from zoomloc.priors import Evidence, Prior
    from zoomloc.region import Region

HEIGHT_TO_WIDTH = 3 / 4  # of the views, as most cameras have it
FOV_DEG, HEIGHT_TO_WIDTH_SEEN = 75.0, 9 / 16  # of those that are localized: what models are trained on
YAWS_DEG = (0.0, 60.0, 120.0, 180.0, 240.0, 300.0)
# Views of one place are of one camera, day and model, and overlap.
VIEWS = Motion(exponent=0.25, mute=0.02, cut=0.0)


def is_whole(pixels: NDArray[np.uint8]) -> bool:
    """Whether an equirectangular photo, (h, w, 3), shows the whole sphere: twice as wide as high, but for rounding."""
    height, width = pixels.shape[:2]
    return abs(width - 2 * height) <= max(2, 0.01 * width)


def views(photo: Photo) -> list[NDArray[np.uint8]]:
    """Views all around out of a photo of the whole sphere, each of FOV_DEG; none out of any other photo.

    A photo of the sphere says so in its XMP. Its proportions do not count: many a photo is cropped to 2:1, and the
    sides and the top of one in eight join well enough to pass for a sphere's.
    """
    if photo.projection != "spherical" or not is_whole(photo.pixels):
        return []
    return [
        view(photo.pixels, yaw_deg=yaw_deg, fov_deg=FOV_DEG, height_to_width=HEIGHT_TO_WIDTH_SEEN)
        for yaw_deg in YAWS_DEG
    ]


def view(
    pixels: NDArray[np.uint8],
    *,
    yaw_deg: float,
    fov_deg: float,
    height_to_width: float = HEIGHT_TO_WIDTH,
) -> NDArray[np.uint8]:
    """What a level perspective camera in the middle of the sphere sees.

    pixels: (h, w, 3), equirectangular, the whole sphere, the horizon in the middle row. yaw_deg: where the camera
    looks, to the right of the panorama's middle column. fov_deg: horizontal, below 180. The view is as fine
    in its middle as the panorama is there; bilinear.
    """
    height, width = pixels.shape[:2]
    px_per_rad = width / (2 * math.pi)
    view_width = round(2 * px_per_rad * math.tan(math.radians(fov_deg) / 2))
    view_height = round(view_width * height_to_width)
    focal_px = view_width / 2 / math.tan(math.radians(fov_deg) / 2)
    right = (np.arange(view_width) + 0.5 - view_width / 2) / focal_px  # of a ray one unit ahead
    down = (np.arange(view_height) + 0.5 - view_height / 2)[:, None] / focal_px
    lon = np.arctan(right)[None, :] + math.radians(yaw_deg)
    lat = np.arctan2(-down, np.hypot(right, 1)[None, :])
    cols = (lon / (2 * math.pi) + 0.5) % 1 * width - 0.5  # pixel centres lie on whole numbers
    rows = (0.5 - lat / math.pi) * height - 0.5
    around = np.concatenate([pixels[:, -1:], pixels, pixels[:, :1]], axis=1)  # the seam has neighbours too
    return np.asarray(
        cv2.remap(
            around,
            np.broadcast_to(cols + 1, lat.shape).astype(np.float32),
            rows.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,  # above the first row lies the pole
        )
    )


def locate(
    localizer: "Localizer",
    views_around: Sequence[NDArray[np.uint8]],
    region: "Region",
    *,
    name: str,
    priors: Sequence["Prior"] = (),
    top_k: int = 5,
    radius_m: float | None = None,
) -> "Prediction":
    """Where a photo of the whole sphere was taken, by its `views` together.

    The priors are weighed once, among the leaves that views by themselves find possible.
    """
    import torch

    from zoomloc.encoder import shrink
    from zoomloc.localizer import ANSWER_RADIUS_M, predict
    from zoomloc.priors import Evidence

    small = np.stack([shrink(pixels, localizer.model.config.photo_px) for pixels in views_around])
    features = localizer.encode(torch.from_numpy(small), torch.full((len(small),), FOV_DEG))
    known = Evidence(priors, region.grid) if priors else None
    [found] = zoom(localizer, features, region, [len(small)], [known])
    return predict(found, region, name, "posterior", top_k, radius_m or ANSWER_RADIUS_M, localizer.threshold)


def zoom(
    localizer: "Localizer",
    features: "Tensor",
    region: "Region",
    n_views: Sequence[int],
    known: Sequence["Evidence | None"],
    *,
    how: "Search" = "posterior",
) -> "list[Leaves]":
    """The leaves of photos and panoramas side by side: features (B, …) of the views of each, `n_views` long, one for
    a photo; what else is `known` of each. Errors are `Localizer.zoom`'s."""
    from zoomloc.posterior import weighed
    from zoomloc.sequence import together

    alone = [its if n == 1 else None for n, its in zip(n_views, known, strict=True) for _ in range(n)]
    found = iter(localizer.zoom(features, region, how=how, evidence=alone))
    told = []
    for n, its in zip(n_views, known, strict=True):
        leaves = list(islice(found, n))
        if n == 1:
            told += leaves
            continue
        if leaves[0].no_imagery:
            told.append(leaves[0])
            continue
        joint = replace(together(leaves, region.grid, VIEWS), closed=leaves[0].closed)
        told.append(joint if its is None else weighed(joint, its, worth_left=joint.unexpanded))
    return told
