"""Walks: batches of sequences that grow together, step by step, which a search keeps, drops, copies and takes back."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from generation.sample import Codes, Pick, Processor, Sampling, likeliest, run, taken
from generation.schedule import Schedule, Step


class Walk(Protocol):
    """Unfinished sequences: token maps of images, paths of a zoom.

    batch: of how many prompts (labels, photos); rows b · n to b · n + n - 1 are those of prompt b, equally many for
    each. at: steps done, of n_steps. log_p: (rows,) log-probability of what the rows drew so far.
    """

    batch: int
    n_steps: int
    at: int
    log_p: Tensor

    def step(self, *, greedy: bool = False) -> None:
        """Every row draws its next step; or takes the likeliest, without drawing."""

    def take(self, rows: Tensor) -> None:
        """Go on with these rows, (m,) indices in the order of the prompts, which may repeat."""

    def mark(self) -> Any:
        """A point to come back to with `undo`, as long as no rows were taken since."""

    def undo(self, mark: Any) -> None:
        """Forget the steps since `mark`."""


class Memory(Protocol):
    """What a model keeps of the rows: `cache.Cache` is one."""

    def take(self, rows: Tensor) -> None: ...
    def mark(self) -> Any: ...
    def undo(self, mark: Any) -> None: ...


class NoMemory:
    """Of a Markov model, which looks at nothing but the newest step."""

    def take(self, rows: Tensor) -> None:
        pass

    def mark(self) -> None:
        pass

    def undo(self, mark: None) -> None:
        pass


class PathWalk:
    """A walk of one choice a step.

    ask: paths (batch, n, l) -> log-probabilities (batch, n, choices) of the next choice, as in `search.tree_search`.
    The first choice is asked for once for each prompt. generator: draws on the CPU. paths: (rows, l) choices so far.
    """

    def __init__(
        self,
        ask: Callable[[Tensor], Tensor],
        memory: Memory,
        *,
        batch: int,
        n_steps: int,
        generator: torch.Generator,
    ) -> None:
        self.batch, self.n_steps, self.at = batch, n_steps, 0
        self.paths, self.log_p = torch.empty(batch, 0, dtype=torch.long), torch.zeros(batch)
        self._ask, self._memory, self._generator = ask, memory, generator

    def step(self, *, greedy: bool = False) -> None:
        log_p = self._ask_rows()
        choice = log_p.argmax(-1) if greedy else log_p.exp().multinomial(1, generator=self._generator)[:, 0]
        self.log_p = self.log_p + log_p.gather(1, choice[:, None])[:, 0]
        self.paths = torch.cat([self.paths, choice[:, None]], dim=1)
        self.at += 1

    def _ask_rows(self) -> Tensor:
        """(rows, choices) of the next step."""
        if self.at:
            return self._ask(self.paths.unflatten(0, (self.batch, -1))).flatten(0, 1).float().cpu()
        prompt = torch.arange(self.batch).repeat_interleave(len(self.paths) // self.batch)
        first = self._ask(self.paths.new_empty(self.batch, 1, 0)).flatten(0, 1).float().cpu()
        self._memory.take(prompt)
        return first[prompt]

    def take(self, rows: Tensor) -> None:
        self.paths, self.log_p = self.paths[rows], self.log_p[rows]
        if self.at:  # before that the model was not asked yet
            self._memory.take(rows)

    def mark(self) -> tuple[int, Tensor, Any]:
        assert self.at, "the first step asks for prompts, not for rows, and cannot be taken back"
        return self.at, self.log_p, self._memory.mark()

    def undo(self, mark: tuple[int, Tensor, Any]) -> None:
        self.at, self.log_p, memory = mark
        self.paths = self.paths[:, : self.at]
        self._memory.undo(memory)


class CodeWalk:
    """A walk of token maps: images under way, of any model here.

    under_way: of `batch` images. pick: of the codes, unless greedily. codes: of every step so far, (rows, t) each.
    """

    def __init__(
        self,
        under_way: Sampling,
        schedule: Schedule,
        *,
        batch: int,
        pick: Pick,
        processors: Sequence[Processor] = (),
    ) -> None:
        self.batch, self.n_steps, self.at = batch, len(schedule), 0
        self.codes: Codes = []
        self.log_p = torch.zeros(batch)
        self._under_way, self._schedule = under_way, schedule
        self._pick, self._processors = pick, processors

    def step(self, *, greedy: bool = False) -> None:
        pick = likeliest if greedy else self._pick

        def noted(logits: Tensor, step: Step) -> Tensor:
            codes = pick(logits, step)
            each = logits.log_softmax(-1).gather(-1, codes[..., None])
            self.log_p = self.log_p + each.sum((1, 2)).cpu()
            return codes

        this = self._schedule[self.at : self.at + 1]
        self.codes = run(this, self._under_way, pick=noted, processors=self._processors, codes=self.codes)
        self.at += 1

    def take(self, rows: Tensor) -> None:
        self.log_p = self.log_p[rows]
        self.codes = taken(self.codes, self._under_way.cache, rows)

    def mark(self) -> tuple[int, Tensor, Any]:
        return self.at, self.log_p, self._under_way.cache.mark()

    def undo(self, mark: tuple[int, Tensor, Any]) -> None:
        self.at, self.log_p, of_cache = mark
        self.codes = self.codes[: self.at]
        self._under_way.cache.undo(of_cache)
