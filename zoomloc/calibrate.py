"""Fitting a calibration to photos that the model was not trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoomloc import manifest
from zoomloc.calibration import Calibration, Elsewhere, Look, averaged, tempered
from zoomloc.dataset import PhotoDataset, seeded
from zoomloc.grid import Grid
from zoomloc.index import Index
from zoomloc.labels import label_paths
from zoomloc.localizer import Localizer
from zoomloc.markov import ask, not_here_log_odds
from zoomloc.pointer import PointerModel, at_all
from zoomloc.progress import progress
from zoomloc.region import Region

FALSE_REJECTION = 0.05
# Of the photos that people ask about, so many are from elsewhere.
FROM_ELSEWHERE = 0.1
# How much the logarithms of temperatures, and the weights of what tells of elsewhere, are drawn to 0.
STIFFNESS = 1e-3
PHOTOS, BATCH = 1000, 32  # of every dataset, at most; and looked at together
MAX_DECISIONS = 100_000_000  # kept of a dataset, for each photo, cell and child
DIRECTIONS = 32


@dataclass(frozen=True)
class Sheet:
    """What a model decides for B photos of a dataset, uncalibrated: log-probabilities at every level.

    on_path: (B, choices) each, at the cell that holds the photo. chosen: (B, depth), which of the choices leads on.
    everywhere: (B, cells, choices) each, at all cells, if "not here" is a choice, the last; else None. side_m: of the
    cells.
    """

    on_path: list[Tensor]
    chosen: Tensor
    everywhere: list[Tensor] | None
    side_m: list[float]

    def nll(self, temperature: Tensor) -> Tensor:
        """The mean of -log of the probability of the true leaf, given that the photo is here, with temperatures
        (depth,)."""
        total = torch.zeros(len(self.chosen), dtype=torch.float64)
        for level, (log_p, t) in enumerate(zip(self.on_path, temperature, strict=True)):
            total = total - tempered(log_p, t).gather(1, self.chosen[:, level, None])[:, 0]
        return (total + self._log_reached(temperature)).mean()

    def _log_reached(self, temperature: Tensor) -> Tensor | float:
        """The log of what all leaves have together, where branches may be called wrong: (B,)."""
        if self.everywhere is None:
            return 0.0
        below: Tensor | None = None  # what the leaves of each cell have together, given the cell: (B, cells)
        for log_p, t in zip(reversed(self.everywhere), reversed(temperature), strict=True):
            children = tempered(log_p, t)[..., :-1]
            below = (
                children if below is None else children + below.unflatten(1, children.shape[1:])
            ).logsumexp(-1)
        assert below is not None
        return below[:, 0]


@dataclass(frozen=True)
class Reading:
    """What tells of B photos whether they are from elsewhere.

    average: (B, C), their features averaged. own: (B,), the log-odds that the model gives of it on a map; None from a
    model that never says so.
    """

    average: Tensor
    own: Tensor | None


def calibrate(
    localizer: Localizer, data: Sequence[Path], *, others: Sequence[Path] = (), split: str = "val"
) -> Calibration:
    """Fit a calibration to photos of a split of datasets that the model was not trained on.

    How street photos look is learned from the training photos where there are any. Photos from elsewhere are those of
    the other datasets, of `others` (of the split, or of their training where they lack it), and pictures that are no
    street photos, made from the split's. Without other places, what the model says of the whole map is untested and
    does not count.

    Raises ManifestError, RegionError, CheckpointError or tiles.TilesError.
    """
    homes = [_photos(localizer, folder, split) for folder in data]
    for home in homes:
        localizer.index(home.region).fill()
    sheets = [_sheet(localizer, home) for home in homes]
    side_m, temperature = fit_temperatures(sheets)
    look = fit_look(
        torch.cat([_averages(localizer, _photos(localizer, folder, "train", split)) for folder in data])
    )
    strangers = [_photos(localizer, folder, split, "train") for folder in others]
    here, foreign, fake = [], [], []
    for home in homes:
        here.append(_read(localizer, home, home.region))
        foreign += [_read(localizer, far, home.region) for far in [*homes, *strangers] if far is not home]
        fake.append(_read(localizer, home, home.region, decoys))
    elsewhere = fit_elsewhere(joined(here), joined(foreign) if foreign else None, joined(fake), look)
    fitted = Calibration(
        side_m=side_m,
        temperature=temperature,
        look=look,
        elsewhere=elsewhere,
        threshold=1.0,
        false_rejection=FALSE_REJECTION,
        data=tuple(home.region.name for home in homes),
        others=tuple(far.region.name for far in strangers),
        n_photos=sum(len(home.chosen) for home in homes),
    )
    own = joined(here)
    said = fitted.log_odds(own.average, own.own).double().sigmoid().numpy()
    threshold = float(np.quantile(said, 1 - FALSE_REJECTION, method="higher"))
    return fitted.model_copy(update={"threshold": threshold})


@dataclass(frozen=True)
class _Photos:
    """Photos of a dataset: those chosen, and the region that the dataset is of."""

    photos: PhotoDataset
    chosen: list[int]
    region: Region


def _photos(localizer: Localizer, folder: Path, *splits: str) -> _Photos:
    """Photos of the first of these splits that a dataset has, spread evenly over it."""
    region = Region.load(folder / "region.json")
    there = set(manifest.read(folder / "manifest.parquet").split)
    split = next((name for name in splits if name in there), splits[0])  # none: the dataset says so
    photos = PhotoDataset(folder, split, region.grid, px=localizer.model.config.photo_px)
    n = min(len(photos), PHOTOS, max(1, MAX_DECISIONS // _n_decisions(region.grid)))
    return _Photos(photos, [i * len(photos) // n for i in range(n)], region)


def _n_decisions(grid: Grid) -> int:
    return sum(grid.branch ** (2 * level) for level in range(grid.depth)) * (grid.branch**2 + 1)


def _features(
    localizer: Localizer, these: _Photos, changed: Callable[[Tensor], Tensor] | None = None
) -> Iterator[Tensor]:
    """The features of photos (B, …), batch after batch. changed: what is done to their pixels."""
    parts = [these.chosen[i : i + BATCH] for i in range(0, len(these.chosen), BATCH)]
    for part in progress(parts, f"looking at photos of {these.region.name}", len(parts)):
        batch = these.photos.__getitems__(part)
        pixels = batch.photos if changed is None else changed(batch.photos)
        yield localizer.encode(pixels, batch.fov_deg)


@torch.no_grad()
def _sheet(localizer: Localizer, home: _Photos) -> Sheet:
    model, grid, index = localizer.model, home.region.grid, localizer.index(home.region)
    paths = torch.from_numpy(label_paths(grid, home.photos.xy[home.chosen].numpy(), "grid"))
    side_m = [grid.side_m(level) for level in range(grid.depth)]
    if isinstance(model, PointerModel):
        parts = [_everywhere(model, index, features) for features in _features(localizer, home)]
        everywhere = [torch.cat(level) for level in zip(*parts, strict=True)]
        cells = [_within_level(index, paths[:, :level]) for level in range(grid.depth)]
        rows = torch.arange(len(paths))
        return Sheet(
            [p[rows, c] for p, c in zip(everywhere, cells, strict=True)],
            paths,
            everywhere,
            side_m,
        )
    on_path = []
    for own, features in zip(paths.split(BATCH), _features(localizer, home), strict=True):
        views = torch.stack([index.features(own[:, :level]) for level in range(grid.depth)], dim=1)
        on_path.append(model.decoder(features, views, own.to(features.device)).float().log_softmax(-1).cpu())
    return Sheet(list(torch.cat(on_path).unbind(1)), paths, None, side_m)


def _everywhere(model: PointerModel, index: Index, photos: Tensor) -> list[Tensor]:
    """The decisions of photos at all cells of a map: (B, cells, children + 1) for every level."""
    asked, numbers = ask(model, index, photos), np.arange(index.n_cells)
    levels = index.levels(numbers)
    return [
        at_all(asked.at(level), index.at(numbers[levels == level])).cpu() for level in range(index.grid.depth)
    ]


def _within_level(index: Index, paths: Tensor) -> Tensor:
    """Which of the cells of their level paths (B, level) lead to."""
    return torch.from_numpy(index.numbers(paths) - index.numbers(torch.zeros_like(paths)))


def _averages(localizer: Localizer, these: _Photos) -> Tensor:
    return torch.cat([averaged(features).cpu() for features in _features(localizer, these)])


@torch.no_grad()
def _read(
    localizer: Localizer, these: _Photos, region: Region, changed: Callable[[Tensor], Tensor] | None = None
) -> Reading:
    """What tells whether photos are from a region."""
    model, index, averages, own = localizer.model, localizer.index(region), [], []
    for features in _features(localizer, these, changed):
        averages.append(averaged(features).cpu())
        if isinstance(model, PointerModel) and model.config.not_here:
            own.append(not_here_log_odds(model, index, features).cpu())
    return Reading(torch.cat(averages), torch.cat(own) if own else None)


def joined(readings: Sequence[Reading]) -> Reading:
    own = [r.own for r in readings if r.own is not None]
    return Reading(torch.cat([r.average for r in readings]), torch.cat(own) if own else None)


def decoys(photos: Tensor) -> Tensor:
    """Pictures that are no street photos, in their colours: photos (B, h, w, 3) uint8 in negative, as one colour, as a
    gradient from top to bottom, and as noise, in turns."""
    out = photos.float()
    mean, deviation = out.mean((1, 2), keepdim=True), out.std((1, 2), keepdim=True)
    down = torch.linspace(-1.5, 1.5, photos.shape[1])[None, :, None, None]
    noise = torch.randn(out.shape, generator=seeded(0))
    made = [
        255 - out,
        mean.expand_as(out),
        (mean + down * deviation).expand_as(out),
        mean + noise * deviation,
    ]
    kind = torch.arange(len(photos)) % len(made)
    return torch.stack(made)[kind, torch.arange(len(photos))].clamp(0, 255).to(torch.uint8)


def fit_temperatures(sheets: Sequence[Sheet]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sides of cells, rising, and the temperatures at which the photos' leaves are the most probable."""
    side_m = sorted({_rounded(side) for sheet in sheets for side in sheet.side_m})
    places = [torch.tensor([side_m.index(_rounded(side)) for side in sheet.side_m]) for sheet in sheets]
    share = [len(sheet.chosen) / sum(len(s.chosen) for s in sheets) for sheet in sheets]

    def loss(logs: Tensor) -> Tensor:
        nll = sum(w * s.nll(logs[at].exp()) for w, s, at in zip(share, sheets, places, strict=True))
        return nll + STIFFNESS * logs.square().sum()

    found = _minimum(loss, torch.zeros(len(side_m), dtype=torch.float64))
    return tuple(side_m), tuple(_rounded(t) for t in found.exp().tolist())


def fit_elsewhere(here: Reading, foreign: Reading | None, fake: Reading, look: Look) -> Elsewhere:
    """By logistic regression between three kinds of photos. foreign: of other places; fake: no street photos."""
    kinds = [(here, 1 - FROM_ELSEWHERE)]
    if foreign is None or foreign.own is None:
        kinds.append((fake, FROM_ELSEWHERE))
    else:
        kinds += [(fake, FROM_ELSEWHERE / 2), (foreign, FROM_ELSEWHERE / 2)]
    told = []  # of every kind: strangeness, and what the model says where that counts; (n, kinds - 1)
    for reading, _ in kinds:
        numbers = (look.strangeness(reading.average), reading.own)[: len(kinds) - 1]
        told.append(torch.stack([n.double() for n in numbers if n is not None], dim=1))

    def loss(x: Tensor) -> Tensor:
        biases, weights = x.unflatten(0, (2, -1))
        total = STIFFNESS * x.square().sum()
        for kind, (numbers, (_, share)) in enumerate(zip(told, kinds, strict=True)):
            odds = F.pad(biases + F.softplus(weights) * numbers, (1, 0))  # here: 0
            total = total - share * odds.log_softmax(1)[:, kind].mean()
        return total

    found = _minimum(loss, torch.zeros(2 * (len(kinds) - 1), dtype=torch.float64)).unflatten(0, (2, -1))
    lines = [
        (_rounded(bias), _rounded(weight))
        for bias, weight in zip(found[0].tolist(), F.softplus(found[1]).tolist(), strict=True)
    ]
    return Elsewhere(picture=lines[0], place=lines[1] if len(lines) > 1 else None)


def fit_look(averages: Tensor) -> Look:
    """How photos look whose features, averaged, are these (N, C)."""
    n, width = averages.shape
    mean = averages.double().mean(0)
    _, spread, directions = torch.linalg.svd(averages.double() - mean, full_matrices=False)
    variances = spread.square() / max(n - 1, 1)
    k = max(1, min(DIRECTIONS, n // 4, width // 2))
    rest = float(variances[k:].sum()) / (width - k)
    least = max(rest, 1e-9 * float(variances[0]), 1e-12)  # photos all alike leave none
    return Look(
        mean=_all_rounded(mean),
        directions=tuple(_all_rounded(row) for row in directions[:k]),
        variances=tuple(max(v, least) for v in _all_rounded(variances[:k])),
        rest=least,
    )


def _minimum(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where a smooth function of a few numbers is least."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        return value

    optimizer.step(closure)
    return x.detach()


def _all_rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(_rounded(value) for value in values.tolist())


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
