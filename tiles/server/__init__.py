"""Any imagery over HTTP: map tiles, windows of any CRS, the cells of a zoom grid, and a page to look at them."""

from tiles.server.app import create_app
from tiles.server.listen import serve

__all__ = ["create_app", "serve"]
