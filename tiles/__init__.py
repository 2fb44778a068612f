"""Any imagery in, any window out."""

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.pyramid import Pyramid
from tiles.source import Source, open
from tiles.stack import Stack
from tiles.view import View

__all__ = ["Bounds", "Pyramid", "Source", "Stack", "TilesError", "View", "open"]
