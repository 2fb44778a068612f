"""Any imagery in, any window out."""

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.opening import open
from tiles.pyramid import Pyramid
from tiles.source import Source
from tiles.stack import Stack
from tiles.view import View
from tiles.window import Window

__all__ = ["Bounds", "Pyramid", "Source", "Stack", "TilesError", "View", "Window", "open"]
