"""The photos of many requests through one model: what arrives while a batch is computed makes the next one."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from zoomloc import panorama
from zoomloc.localizer import Localizer, Search, predict
from zoomloc.prediction import Prediction
from zoomloc.priors import Evidence, Facing, Prior
from zoomloc.region import Region

log = logging.getLogger("zoomloc.serve")


@dataclass(frozen=True)
class Question:
    """One photo to be located: its images as the model sees them, (n, px, 2 px, 3) uint8, one of a photo, the views
    all around of a panorama; fov_deg of each image, nan where unknown; the rest as `Localizer.locate` takes it."""

    name: str
    images: NDArray[np.uint8]
    fov_deg: float
    region: Region
    priors: Sequence[Prior | Facing]
    how: Search
    top_k: int
    radius_m: float
    answer: Future[Prediction] = field(default_factory=Future, compare=False)


class Full(Exception):
    """As many photos wait as may. retry_after_s: when there will be room, by the speed so far."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class Worker:
    """One thread that answers questions, `batch_size` images at a time at most.

    max_waiting: photos that may wait. told: of every batch, its photos and seconds.
    """

    def __init__(
        self,
        localizer: Localizer,
        regions: Sequence[Region],
        *,
        batch_size: int,
        max_waiting: int,
        told: Callable[[int, float], None] = lambda photos, seconds: None,
    ) -> None:
        self.localizer, self.regions = localizer, regions
        self.error: Exception | None = None
        self._batch_size, self._max_waiting, self._told = batch_size, max_waiting, told
        self._waiting: deque[Question] = deque()
        self._changed = threading.Condition()
        self._prepared = self._closing = False
        self._photo_s = 1.0  # so long a photo takes, of late
        self._thread = threading.Thread(target=self._work, name="zoomloc-worker", daemon=True)

    def start(self, failed: Callable[[], None] = lambda: None) -> None:
        """Encode the regions, then answer. failed: called where imagery cannot be read; `error` says why."""
        self._failed = failed
        self._thread.start()

    def close(self) -> None:
        """Answer all that waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._prepared:  # else nothing was taken on
            self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether questions are answered: the regions are encoded, and the end has not begun."""
        return self._prepared and not self._closing

    @property
    def waiting(self) -> int:
        """Photos not yet begun."""
        return len(self._waiting)

    def ask(self, questions: Sequence[Question]) -> None:
        """Take the questions of one request, all or none; each `answer` will be set. Raises Full."""
        with self._changed:
            if len(self._waiting) + len(questions) > self._max_waiting:
                raise Full(max(1, round(len(self._waiting) * self._photo_s)))
            self._waiting.extend(questions)
            self._changed.notify()

    def _work(self) -> None:
        try:
            for region in self.regions:
                self.localizer.index(region).fill()
        except Exception as error:
            self.error = error
            self._failed()
            return
        self._prepared = True
        while batch := self._next():
            began = time.perf_counter()
            self._answer(batch)
            seconds = time.perf_counter() - began
            self._photo_s += (seconds / len(batch) - self._photo_s) / 4
            self._told(len(batch), seconds)

    def _next(self) -> list[Question]:
        """What waits, as much as makes a batch, but for what nobody waits for any more; none at the end."""
        batch: list[Question] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return []
                n_images = 0
                while self._waiting and n_images < self._batch_size:
                    question = self._waiting.popleft()
                    if question.answer.set_running_or_notify_cancel():
                        batch.append(question)
                        n_images += len(question.images)
        return batch

    def _answer(self, batch: Sequence[Question]) -> None:
        try:
            for question, found in zip(batch, self._located(batch), strict=True):
                question.answer.set_result(found)
        except Exception as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            log.warning("batch failed; its photos are tried one by one", exc_info=True)
            for question in batch:  # one photo's trouble is not the others'
                self._answer([question])

    def _located(self, batch: Sequence[Question]) -> list[Prediction]:
        """In the order of the batch. All are encoded together, and searched together by region and search."""
        images = np.concatenate([question.images for question in batch])
        fovs = [question.fov_deg for question in batch for _ in question.images]
        each = self.localizer.encode(torch.from_numpy(images), torch.tensor(fovs)).split(
            [len(question.images) for question in batch]
        )
        found: dict[int, Prediction] = {}
        order = sorted(range(len(batch)), key=lambda i: _search_of(batch[i]))
        for _, group in groupby(order, key=lambda i: _search_of(batch[i])):
            found |= self._searched({i: batch[i] for i in group}, each)
        return [found[i] for i in range(len(batch))]

    def _searched(
        self, questions: dict[int, Question], features: Sequence[torch.Tensor]
    ) -> dict[int, Prediction]:
        """The answers to questions of one region and search, by their numbers."""
        first = next(iter(questions.values()))
        region, how = first.region, first.how
        leaves = panorama.zoom(
            self.localizer,
            torch.cat([features[i] for i in questions]),
            region,
            [len(question.images) for question in questions.values()],
            [Evidence(q.priors, region.grid) if q.priors else None for q in questions.values()],
            how=how,
        )
        threshold = self.localizer.threshold
        return {
            i: predict(found, region, q.name, how, q.top_k, q.radius_m, threshold)
            for (i, q), found in zip(questions.items(), leaves, strict=True)
        }


def _search_of(question: Question) -> tuple[str, str]:
    return question.region.name, question.how
