"""Long runs: one process among several, and a wish to stop that waits for a step's end."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among those that `torchrun` started; (0, 1) where it did not."""

    rank: int
    world: int

    @property
    def leads(self) -> bool:
        return self.rank == 0


def join() -> Processes:
    """Meet the other processes if `torchrun` started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Processes(int(os.environ.get("RANK", "0")), world)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turns SIGINT and SIGTERM into a question, so that a run stops between two steps and loses neither."""
    asked: list[int] = []
    before = {
        s: signal.signal(s, lambda number, _: asked.append(number)) for s in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
