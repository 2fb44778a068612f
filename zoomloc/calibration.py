"""What the probabilities of a trained model are worth, learned from photos that it was not trained on.

Temperatures, by the size of a cell, soften or sharpen its decisions (arXiv 1706.04599); a photo is held to be from
elsewhere by what the model says of the whole map and by how unlike street photos it looks. `zoomloc.calibrate` fits
all this, a checkpoint's folder keeps it, and every search applies it.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from zoomloc.errors import CheckpointError
from zoomloc.files import atomic
from zoomloc.grid import Grid

FILE = "calibration.json"
# Odds beyond e to this power are certain enough.
MAX_LOG_ODDS = 15.0
MIN_DISTANCE = 1e-6


class _Fitted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Look(_Fitted):
    """How street photos look: a normal distribution of their features, of C numbers each.

    mean: (C,). directions: (k, C) at right angles, those in which photos differ most. variances: (k,) along them.
    rest: the variance along every other direction.
    """

    mean: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    rest: float

    def strangeness(self, features: Tensor) -> Tensor:
        """Photo features (B, …, C), averaged over what is between -> (B,): the log of the squared distance from the
        mean, in variances and for each number; about 0 for a street photo."""
        away = averaged(features) - torch.tensor(self.mean).to(features)
        along = (away @ torch.tensor(self.directions).to(features).T).square()
        across = (away.square().sum(1) - along.sum(1)).clamp_min(0)
        distance = (along / torch.tensor(self.variances).to(features)).sum(1) + across / self.rest
        return (distance / len(self.mean)).clamp_min(MIN_DISTANCE).log()


class Elsewhere(_Fitted):
    """A photo that is not from the map is of another place, or no street photo at all.

    place: bias and weight of the log-odds of the first, by what the model says of the map; None if it was never tried.
    picture: of the second, by how strange the photo looks.
    """

    place: tuple[float, float] | None
    picture: tuple[float, float]

    def log_odds(self, own: Tensor | None, strangeness: Tensor) -> Tensor:
        """Of either, (B,). own: (B,) the log-odds of "not here" that the model gives; None where it never does."""
        bias, weight = self.picture
        picture = bias + weight * strangeness
        if self.place is None or own is None:
            return picture
        bias, weight = self.place
        return torch.logaddexp(bias + weight * own, picture)


class Calibration(_Fitted):
    """Of one checkpoint.

    side_m, temperature: of cells of these sides, rising; between them the logarithm of the temperature is linear in
    that of the side, and beyond them it stays. look, elsewhere: when a photo is not from the map. threshold: it is
    called so from this probability on, which false_rejection of the photos that were from the map reached. data:
    names of the datasets fitted on; others: of those whose photos were from elsewhere. n_photos: from the map.
    """

    side_m: tuple[float, ...]
    temperature: tuple[float, ...]
    look: Look
    elsewhere: Elsewhere
    threshold: float
    false_rejection: float
    data: tuple[str, ...]
    others: tuple[str, ...]
    n_photos: int

    def temperatures(self, grid: Grid) -> Tensor:
        """(depth,) of the cells of every level."""
        side_m = [grid.side_m(level) for level in range(grid.depth)]
        logs = np.interp(np.log(side_m), np.log(self.side_m), np.log(self.temperature))
        return torch.from_numpy(logs).exp().float()

    def log_odds(self, features: Tensor, own: Tensor | None = None) -> Tensor:
        """That photos, features (B, …, C), are not from the map: (B,). own: (B,) what the model says of that."""
        total = self.elsewhere.log_odds(own, self.look.strangeness(features))
        return total.clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)

    def correction(self, features: Tensor, grid: Grid, own: Tensor) -> "Correction":
        """Of what a model decides for photos, features (B, …, C), on a grid. own: (B,) log-odds of "not here"."""
        odds = torch.full((grid.depth, len(features)), torch.nan, device=features.device)
        odds[0] = self.log_odds(features, own)
        return Correction(self.temperatures(grid).to(features)[:, None].expand(-1, len(features)), odds)


class Correction(NamedTuple):
    """Of what is decided for B photos at L levels: temperatures (L, B), and the log-odds of "not here" (L, B) where
    they are known better, else nan. Without the axes that an index selects from."""

    temperature: Tensor
    log_odds: Tensor

    def at(self, which: Any) -> "Correction":
        """Those that an index selects."""
        return Correction(*(part[which] for part in self))

    def of(self, log_p: Tensor) -> Tensor:
        """Log-probabilities (…, children + 1), the last of "not here", corrected by numbers (…)."""
        soft = tempered(log_p, self.temperature)
        children = soft[..., :-1].log_softmax(-1) + F.logsigmoid(-self.log_odds)[..., None]
        known = torch.cat([children, F.logsigmoid(self.log_odds)[..., None]], dim=-1)
        return torch.where(self.log_odds.isnan()[..., None], soft, known)


def averaged(features: Tensor) -> Tensor:
    """(B, …, C) -> (B, C)."""
    return features if features.ndim == 2 else features.flatten(1, -2).mean(1)


def tempered(log_p: Tensor, temperature: Tensor) -> Tensor:
    """Log-probabilities (…, n) at temperatures (…): those above 1 make them more alike."""
    return (log_p / temperature[..., None]).log_softmax(-1)


def save(calibration: Calibration, folder: Path) -> Path:
    """Keep it with the checkpoint in a folder; returns the file. Raises OutputError."""
    with atomic(folder / FILE) as draft:
        draft.write_text(calibration.model_dump_json() + "\n")
    return folder / FILE


def load(folder: Path) -> Calibration | None:
    """That of the checkpoint in a folder, or None where it has none. Raises CheckpointError."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise CheckpointError(f"{path} is damaged; delete it, or run `zoomloc calibrate` again") from None
