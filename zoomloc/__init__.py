"""ZoomLoc: where a street photo was taken, on your own overhead imagery, by zooming in."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoomloc.localizer import Localizer
    from zoomloc.prediction import Prediction
    from zoomloc.region import Region

__all__ = ["Localizer", "Prediction", "Region"]


def __getattr__(name: str) -> Any:
    """Import the public classes when first used: torch takes seconds, and `zoomloc --help` does not need it."""
    from importlib import import_module

    if name in __all__:
        return getattr(import_module(f"zoomloc.{name.lower()}"), name)
    raise AttributeError(f"module 'zoomloc' has no attribute '{name}'")
