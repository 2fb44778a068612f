"""Tiles that are searched for: several are begun, those go on that look like their parent, and the best is kept.

The shared search of this package (`selection.particles`, `walk.CodeWalk`) on the token maps of a tile: the number of
rows falls from map to map, and a verifier says which go on, here the likeness of the unfinished tile, halved, to the
tile it was made of, before it is brought into line with that by force.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from generation.sample import drawn, nucleus
from generation.selection import best, particles, search
from generation.tile_model import Made, TileModel, enlarged, halved
from generation.verify import Verifier
from generation.walk import CodeWalk

ROWS = (8, 4, 2)  # of every tile, in the first maps that are drawn, the next, and the last


def likeness(model: TileModel, parents: Tensor) -> Verifier[CodeWalk]:
    """Minus the mean squared difference between tiles under way, halved, and their parents (B, 3, px / 2, px / 2)."""

    def score(walk: CodeWalk) -> Tensor:
        of_rows = parents.repeat_interleave(len(walk.log_p) // walk.batch, dim=0)
        tiles = model.tokenizer.decode(_completed(model, walk.codes), enlarged(of_rows))
        return -(halved(tiles) - of_rows).square().mean((1, 2, 3)).cpu()

    return score


def _completed(model: TileModel, codes: list[Tensor]) -> list[Tensor]:
    """Codes of all maps; those that are not drawn yet are what the ones there are look like once encoded."""
    if len(codes) == len(model.schedule):
        return codes
    canvas = model.tokenizer.quantizer.canvas(codes, model.schedule)
    side = model.schedule[-1].shape
    latent = torch.nn.functional.interpolate(canvas, size=side, mode="bicubic")
    return model.tokenizer.quantizer.encode(latent, model.schedule, codes)


@torch.no_grad()
def enlarge(
    model: TileModel,
    parents: Tensor,
    zoom: Tensor,
    *,
    generator: torch.Generator,
    rows: Sequence[int] = ROWS,
    k: int = 100,
    p: float = 0.9,
) -> Made:
    """`TileModel.enlarge` by particles: as many `rows` of every tile as each step that is drawn is to have."""
    big = enlarged(parents)
    n_given = model.n_given
    given = model.tokenizer.encode(big)[:n_given]
    control = model.control(big, torch.ones_like(big[:, 0], dtype=torch.bool))
    under_way = model.model.begin(
        model.labels(zoom), model.tokenizer.quantizer, model.schedule, control=control, is_guided=False
    )
    for step in model.schedule[:n_given]:
        under_way.core(under_way.feed(step, given[: step.index]), step)
    rest = model.schedule[n_given:]
    walk = CodeWalk(under_way, rest, batch=len(parents), pick=drawn(generator), processors=[nucleus(k, p)])
    walk.codes = list(given)
    verifier = likeness(model, parents)
    numbers = [rows[min(i, len(rows) - 1)] for i in range(len(rest))]
    found = search(walk, particles(numbers, lambda _, n: best(verifier, n), verifier))
    return Made(found.codes, model.decode(found.codes, parents))
