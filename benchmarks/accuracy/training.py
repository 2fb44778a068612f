"""The trainings, one process each."""

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from zoomloc.baselines import RetrievalTrainConfig, train_retrieval
from zoomloc.config import TrainConfig
from zoomloc.errors import ConfigError
from zoomloc.files import atomic
from zoomloc.progress import progress
from zoomloc.train import train


@dataclass(frozen=True)
class Trained:
    """checkpoint: its folder. photo_px: as the model sees photos. photos_seen: with repetitions. minutes: of training,
    all parts of the run together."""

    checkpoint: Path
    photo_px: int
    photos_seen: int
    minutes: float


def train_all(configs: dict[str, TrainConfig], *, jobs: int, device: str) -> dict[str, Trained]:
    """Train what is not trained yet, `jobs` at a time; one thread each where there are several.

    Raises ConfigError where a folder holds a run of another configuration.
    """
    left = {name: config for name, config in configs.items() if not _is_done(config)}
    if jobs == 1:
        for config in left.values():
            _train(config, device)
    elif left:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, context, max_tasks_per_child=1) as pool:
            running = [pool.submit(_train_aside, config, device) for config in left.values()]
            for run in progress(running, "trainings", len(running)):
                run.result()
    return {name: _trained(config) for name, config in configs.items()}


def _train_aside(config: TrainConfig, device: str) -> None:
    """In a process of its own, whose progress goes to a file."""
    torch.set_num_threads(1)
    config.out.mkdir(parents=True, exist_ok=True)
    with (config.out / "progress.log").open("a") as sys.stderr:
        _train(config, device)


def _train(config: TrainConfig, device: str) -> None:
    with _timed(config.out / "minutes.json"):
        if isinstance(config, RetrievalTrainConfig):
            train_retrieval(config, device=device)
        else:
            train(config, device=device)
    with atomic(config.out / "done.json") as draft:
        draft.write_text(record(config))


@contextmanager
def _timed(path: Path) -> Iterator[None]:
    """Adds the time of the block, however it ends, to what the file says."""
    before, start = _minutes(path), time.monotonic()
    try:
        yield
    finally:
        with atomic(path) as draft:
            draft.write_text(json.dumps(before + (time.monotonic() - start) / 60))


def _minutes(path: Path) -> float:
    return float(json.loads(path.read_text())) if path.exists() else 0.0


def _is_done(config: TrainConfig) -> bool:
    done = config.out / "done.json"
    if done.exists() and done.read_text() != record(config):
        raise ConfigError(f"{config.out} holds a run of another configuration; delete it to train anew")
    return done.exists()


def record(config: TrainConfig) -> str:
    """What decides a model; defaults are left out, so that new settings can come."""
    return config.model_dump_json(exclude={"data", "out"}, exclude_defaults=True, indent=1)


def _trained(config: TrainConfig) -> Trained:
    minutes = _minutes(config.out / "minutes.json")
    return Trained(
        config.out / "checkpoint", config.model.photo_px, config.steps * config.batch_size, minutes
    )
