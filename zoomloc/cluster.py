"""Work on the machines of a Ray cluster: blocks of it go to a pool of actors, each of which holds a model.

An actor that dies is started anew, by Ray, and given its block again, so that nothing is lost and at most the block it
had in hand is done twice. A block that `TRIES` actors died of is left out. Results come back in any order, through this
process, which is the only one that writes them. Every machine needs this package, and the files that the work names
under the names that they have here.
"""

import logging
import os
import pickle
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiles.errors import TilesError
from zoomloc.errors import ClusterError, ZoomlocError

Work = Callable[[Any], Any]  # on a block, with what was made ready for all of them

TRIES = 3  # of a block, before it is held to be what its actors die of
MOST_LEFT_OUT = 8  # blocks; where it is more, something else is wrong
IN_HAND = 2  # blocks that an actor is sent at a time, so that it never waits for the next
OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray started here: jobs and rows are small, what is more goes to disk
REACH_S = 10


@contextmanager
def connected(address: str | None = None, *, n_cpus: int | None = None) -> Iterator[str]:
    """A Ray to work on, and what to say of it; one that this program is connected to already stays so.

    address: HOST:PORT, or "auto" for the cluster that this machine belongs to; None for RAY_ADDRESS. Where that is not
    set either, a Ray of n_cpus (all of them) is started here, which only this machine can talk to, and stopped at the
    end. Raises ClusterError.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if not address:
        # On every network that there is, unless told so before it is imported; what reaches it runs code.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = _ray()
    if ray.is_initialized():
        yield "the Ray that is connected"
        return
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, **_QUIET)
            said = f"Ray at {address}"
        else:
            ray.init(
                address="local",
                num_cpus=n_cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **_QUIET,
            )
            said = "neither --address nor RAY_ADDRESS: a Ray started on this machine"
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Ray {address or 'on this machine'}: cannot be used ({_reason(error)})") from None
    try:
        yield said
    finally:
        ray.shutdown()
        # Ray's own would stay, and children that are forked later would be deaf to it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated or signal.SIG_DFL)


def over(
    blocks: Sequence[Any], prepare: Callable[..., Work], arguments: tuple[Any, ...], *, device: str
) -> Iterator[tuple[int, Any]]:
    """The number of every block that was done and what came of it, in the order in which they are done.

    prepare: given a device ("cpu" or "cuda") and the arguments, what an actor does with blocks; called once in each, of
    which there is one for a GPU or, where device is "cpu" or there are none, for a processor core. What prepare and its
    work raise of our own errors is raised here; ClusterError for what else ends it.
    """
    if not blocks:
        return
    ray = _ray()
    from ray.data import ActorPoolStrategy, DataContext, from_items

    on, n_actors, needs = _pool(device)
    DataContext.get_current().enable_progress_bars = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
    items = [{"number": number, "block": pickle.dumps(block)} for number, block in enumerate(blocks)]
    asked = from_items(items, override_num_blocks=len(items)).map_batches(
        Actor,
        batch_size=1,
        compute=ActorPoolStrategy(size=min(n_actors, len(items)), max_tasks_in_flight_per_actor=IN_HAND),
        fn_constructor_args=(prepare, (on, *arguments), str(Path.cwd()), _Tries.counted(ray)),
        **needs,
    )
    left_out = 0
    try:
        for row in asked.iter_rows():
            result, error = pickle.loads(row["done"])
            if isinstance(error, _Deadly):
                left_out += 1
                if left_out > MOST_LEFT_OUT:
                    raise ClusterError(
                        f"workers died of more than {MOST_LEFT_OUT} blocks; Ray's logs may say why"
                    )
            elif error is not None:
                raise error
            else:
                yield int(row["number"]), result
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"the cluster gave up ({_reason(error)}); every machine needs zoomloc, checkpoint, regions and photos "
            "under the names given"
        ) from None


class Actor:
    """What lives in a process of its own, on some machine. tries: says how often a block has been begun."""

    def __init__(
        self,
        prepare: Callable[..., Work],
        arguments: tuple[Any, ...],
        folder: str,
        tries: Callable[[int], int],
    ) -> None:
        with suppress(
            OSError
        ):  # relative names are of this folder; where there is none, they fail by themselves
            os.chdir(folder)
        self._prepare, self._arguments, self._tries = prepare, arguments, tries
        self._work: Work | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One block, as Ray Data hands it over: columns of one value each."""
        done = self._done(int(batch["number"][0]), batch["block"][0])
        return {"number": batch["number"], "done": [pickle.dumps(done)]}

    def _done(self, number: int, block: bytes) -> tuple[Any, Exception | None]:
        """A result, or an error that a person caused: of what is raised, Ray makes pages."""
        if self._tries(number) > TRIES:
            return None, _Deadly()
        try:
            if self._work is None:
                self._work = self._prepare(*self._arguments)
            return self._work(pickle.loads(block)), None
        except (ZoomlocError, TilesError) as error:
            return None, error


class _Deadly(Exception):
    """Of a block that several actors died of: none does it any more."""


@dataclass(frozen=True)
class _Tries:
    """How often each block was begun, which an actor of Ray's counts that outlives those that work."""

    counter: Any

    @classmethod
    def counted(cls, ray: Any) -> "_Tries":
        return cls(ray.remote(num_cpus=0)(_Counter).remote())

    def __call__(self, number: int) -> int:
        return int(_ray().get(self.counter.begun.remote(number)))


class _Counter:
    def __init__(self) -> None:
        self._counts = Counter[int]()

    def begun(self, number: int) -> int:
        self._counts[number] += 1
        return self._counts[number]


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}


def _ray() -> Any:
    """Ray, which tells nobody that it is used. Raises ClusterError where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ClusterError("--engine ray needs Ray: pip install 'zoomloc[ray]'") from None
    return ray


def _pool(device: str) -> tuple[str, int, dict[str, Any]]:
    """The device of every actor, how many there are, and what Ray is to reserve for each. Raises ClusterError."""
    have = _ray().cluster_resources()
    n_gpus = int(have.get("GPU", 0))
    if n_gpus and device != "cpu":
        return "cuda", n_gpus, {"num_cpus": 1, "num_gpus": 1}
    if device == "cuda":
        raise ClusterError("no machine of the cluster has a GPU; use --device cpu")
    return "cpu", max(1, int(have.get("CPU", 1))), {"num_cpus": 1}


def _check_reachable(address: str) -> None:
    """Raises OSError at once where Ray would try for long, or end this process."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ValueError("not HOST:PORT; give the address that `ray start` told, on a machine of the cluster")
    socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()


def _reason(error: BaseException) -> str:
    """The last line of what Ray says, which is what happened; above it is where."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
