"""What is told of requests: Prometheus metrics, and one line of JSON each. Neither has a photo's content, name or
position unless asked for."""

import json
import logging
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("zoomloc.serve")
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128)
FACTS = "zoomloc.facts"  # in a request's scope: what its route adds to its line


class Metrics:
    """Of one application, in a registry of its own."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        its: dict[str, Any] = {"namespace": "zoomloc", "registry": self.registry}
        self.requests = Counter("requests", "Requests answered.", ["path", "status"], **its)
        self.seconds = Histogram(
            "request_seconds", "From request to answer.", ["path"], buckets=SECONDS, **its
        )
        self.photos = Counter("photos", "Photos by outcome.", ["outcome"], **its)
        self.batch = Histogram("batch_photos", "Photos the model worked on at once.", buckets=PHOTOS, **its)
        self.batch_seconds = Histogram("batch_seconds", "Of the model, for a batch.", buckets=SECONDS, **its)
        Gauge("waiting_photos", "Photos in the queue.", **its).set_function(waiting)

    def batched(self, photos: int, seconds: float) -> None:
        self.batch.observe(photos)
        self.batch_seconds.observe(seconds)


@dataclass
class Record:
    """Counts every request, logs it, and numbers it in `X-Request-Id`."""

    app: ASGIApp
    metrics: Metrics
    paths: frozenset[str]  # all others are counted as one
    _quiet: frozenset[str] = field(
        default=frozenset({"/healthz", "/readyz", "/metrics"})
    )  # asked all the time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, status, began = uuid.uuid4().hex, 0, time.perf_counter()
        scope[FACTS] = {}

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", number.encode())]
            await send(message)

        path = scope["path"] if scope["path"] in self.paths else "other"
        try:
            await self.app(scope, receive, numbered)
        finally:
            seconds = time.perf_counter() - began
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            if path not in self._quiet:
                facts = {"id": number, "method": scope["method"], "path": path, "status": status}
                facts |= {"seconds": round(seconds, 4)} | scope[FACTS]
                log.info("request", extra={"facts": facts})


class JsonLines(logging.Formatter):
    """Every record one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json() -> None:
    """Send what this process logs to its standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for loud in ("PIL", "httpx"):
        logging.getLogger(loud).setLevel(logging.WARNING)
