"""Plans of real places, out of OpenStreetMap: `read` a file, then `survey` a square of it."""

from data_prep.cities.osm.read import Feature, centre, read
from data_prep.cities.osm.survey import survey

__all__ = ["Feature", "centre", "read", "survey"]
