"""The one loop by which every model makes its tokens, and what it is put together from.

    feed → core → head → processors → pick → hook

Models differ in `feed` (what a step's tokens are made of) and `core`; searches, refinements and previews are hooks.
`python -m generation.sample` is the command of `make`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from generation.cache import Cache
from generation.schedule import Schedule, Step

Codes = list[Tensor]
Feed = Callable[[Step, Codes], Tensor]
Core = Callable[[Tensor, Step], Tensor]
Head = Callable[[Tensor, Step], Tensor]
Processor = Callable[[Tensor, Step], Tensor]
Pick = Callable[[Tensor, Step], Tensor]
Hook = Callable[[Step, Codes, Cache], Codes]


class Sampling(NamedTuple):
    """One sampling under way.

    feed: the codes of all steps so far -> the inputs of the step (rows, t, …), where rows may be several for a sample.
    core: inputs -> hidden (rows, t, width). head: hidden -> logits (rows, t, codes). cache: all that they remember.
    """

    feed: Feed
    core: Core
    head: Head
    cache: Cache


def run(
    schedule: Schedule,
    sampling: Sampling,
    *,
    pick: Pick,
    processors: Sequence[Processor] = (),
    hook: Hook | None = None,
    codes: Codes | None = None,
) -> Codes:
    """Makes the tokens of every step, (B, tokens of the step) each.

    processors: logits -> logits, in turn; `guided` is the one that makes one row of several. pick: logits -> codes
    (B, t). hook: what to go on with, the codes of all steps, changed or taken (see `taken`).
    codes: of earlier steps, to go on from.
    """
    codes = list(codes or [])
    for step in schedule:
        logits = sampling.head(sampling.core(sampling.feed(step, codes), step), step)
        for process in processors:
            logits = process(logits, step)
        codes.append(pick(logits, step))
        if hook is not None:
            codes = hook(step, codes, sampling.cache)
    return codes


def taken(codes: Codes, cache: Cache, samples: Tensor) -> Codes:
    """Go on with these samples, (n,) indices which may repeat; for a hook that prunes or copies."""
    cache.take(samples)
    return [code[samples] for code in codes]


def guided(strength: Callable[[Step], float]) -> Processor:
    """Classifier-free guidance (arXiv 2207.12598): (1 + t) conditional − t unconditional, t being the step's strength.

    Rows come in pairs, a sample's conditional row before its unconditional one: (2 B, t, V) -> (B, t, V).
    """

    def process(logits: Tensor, step: Step) -> Tensor:
        conditional, unconditional = logits.unflatten(0, (-1, 2)).unbind(1)
        t = strength(step)
        return (1 + t) * conditional - t * unconditional

    return process


def nucleus(k: int, p: float) -> Processor:
    """Keeps the k most probable codes, and of these the most probable ones that hold p (arXiv 1904.09751).

    The rule of VAR: dropped are the least probable codes that together hold no more than 1 - p.
    """

    def process(logits: Tensor, step: Step) -> Tensor:
        top, index = logits.topk(min(k, logits.shape[-1]), dim=-1)
        rising = top.flip(-1)
        drop = rising.softmax(-1).cumsum(-1) <= 1 - p
        drop[..., -1] = False
        kept = rising.masked_fill(drop, -torch.inf)
        return torch.full_like(logits, -torch.inf).scatter(-1, index.flip(-1), kept)

    return process


def drawn(generator: torch.Generator | None = None) -> Pick:
    """A code drawn from the logits: one draw for all tokens of a step, in their order."""

    def pick(logits: Tensor, step: Step) -> Tensor:
        probabilities = logits.softmax(-1).flatten(0, 1)
        return torch.multinomial(probabilities, 1, generator=generator).view(logits.shape[:2])

    return pick


def drawn_apart(generators: Sequence[torch.Generator]) -> Pick:
    """Likewise, each sample by a generator of its own on the CPU, whatever it is drawn beside."""

    def pick(logits: Tensor, step: Step) -> Tensor:
        waits = torch.stack([torch.empty(logits.shape[1:]).exponential_(generator=g) for g in generators])
        return (logits.softmax(-1) / waits.to(logits)).argmax(-1)

    return pick


def likeliest(logits: Tensor, step: Step) -> Tensor:
    """The most probable code."""
    return logits.argmax(-1)


if __name__ == "__main__":
    import typer

    from generation.make import main

    typer.run(main)
