"""What all sessions of the app share: models, regions, and the servers of their imagery. Loaded once, kept."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from tiles import Pyramid
from tiles.inspect import Info, info
from zoomloc.region import Region

if TYPE_CHECKING:
    from app.places import Seen
    from zoomloc.localizer import Localizer

# A region with more inner cells than this is encoded as photos ask for it, or once and for all on the page of regions.
FILL_CELLS = 600
# A model of fewer weights thinks in one thread: two, beside a browser that draws, mostly wait for each other.
SMALL_PARAMETERS = 10_000_000
COVERAGE_PX = 512


@dataclass(frozen=True)
class Shared:
    """A localizer, which one session at a time uses."""

    localizer: "Localizer"
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def alone(self) -> Iterator["Localizer"]:
        """The localizer, with as many threads as it makes use of."""
        import torch

        from zoomloc.model import n_parameters

        with self._lock:
            is_small = n_parameters(self.localizer.model) < SMALL_PARAMETERS
            torch.set_num_threads(1 if is_small else os.cpu_count() or 1)
            yield self.localizer


@st.cache_resource(show_spinner="Loading the model …")
def shared(checkpoint: Path) -> Shared:
    """Raises CheckpointError or ConfigError."""
    from zoomloc.localizer import Localizer

    return Shared(Localizer.from_pretrained(checkpoint))


@st.cache_resource(show_spinner=False)
def region(path: Path) -> Region:
    """Raises RegionError."""
    return Region.load(path)


@st.cache_resource(show_spinner=False)
def pyramid(path: Path) -> Pyramid:
    """The imagery of a region. Raises RegionError."""
    return region(path).open()


@st.cache_resource(show_spinner="Looking at the map for the first time …")
def ready(checkpoint: Path, path: Path) -> Shared:
    """The localizer with the region's cells encoded, if they are not too many. Raises ZoomlocError."""
    both = shared(checkpoint)
    with both.alone() as localizer:
        index = localizer.index(region(path))
        if index.n_cells <= FILL_CELLS:
            index.fill()
    # Streamlit looks for garbage after every run of a page; among all that is loaded here to stay, that took 0.3 s.
    gc.collect()
    gc.freeze()
    return both


@st.cache_resource(show_spinner="Opening the imagery …")
def served(path: Path) -> str:
    """The address of a server of a region's imagery, on a free port of this machine; it ends with the app.

    Raises RegionError.
    """
    from tiles.server import create_app, serve

    app = create_app({}, {SOURCE: pyramid(path)})
    address: Queue[str] = Queue()
    Thread(target=serve, args=(app,), kwargs={"port": 0, "ready": address.put}, daemon=True).start()
    return address.get(timeout=30).rstrip("/")


@st.cache_resource(show_spinner="Looking at the imagery …")
def covered(path: Path) -> tuple[Info, NDArray[np.bool_]]:
    """What a region's imagery is, and where in its square there is any, (COVERAGE_PX, COVERAGE_PX).

    Raises RegionError or tiles.TilesError."""
    both = pyramid(path)
    return info(both.source), both.real.view(*region(path).grid.root, COVERAGE_PX).real


@st.cache_resource(show_spinner="Looking at the imagery …", max_entries=16)
def looked(imagery: str) -> Info:
    """What imagery is. Raises RegionError."""
    from app import places  # whose imports take seconds

    return places.look(imagery)


@st.cache_resource(show_spinner="Looking at the square …", max_entries=16)
def seen(imagery: str, lat: float, lon: float, side_m: float) -> "Seen":
    """A first look at a square of imagery. Raises RegionError or tiles.TilesError."""
    from app import places

    return places.see(imagery, lat=lat, lon=lon, side_m=side_m)


SOURCE = "region"  # its name on the server
