"""What all sessions of the app share: models, regions, and the servers of their imagery. Loaded once, kept."""

from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import streamlit as st

from tiles import Pyramid
from zoomloc.region import Region

if TYPE_CHECKING:
    from zoomloc.localizer import Localizer

# A region with more inner cells than this is encoded as photos ask for it, or once and for all on the page of regions.
FILL_CELLS = 600


@dataclass(frozen=True)
class Shared:
    """A localizer, and the lock that lets one session at a time use it."""

    localizer: "Localizer"
    lock: Lock = field(default_factory=Lock)


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
    with both.lock:
        index = both.localizer.index(region(path))
        if index.n_cells <= FILL_CELLS:
            index.fill()
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


SOURCE = "region"  # its name on the server
