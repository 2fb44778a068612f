"""Simulated towns: one geometry, cast to an overhead picture and to street photos. `make_city` makes one.

The way: a plan, drawn from a seed (`plan`) or taken from a map (`osm`); a building site on it (`blocks`, `mapped`)
that fills a mesh; a world of mesh, ground and traffic (`world`); cameras (`camera`, `ortho`) at places along the
streets (`placement`, `drives`) under some light (`look`).
"""

from data_prep.cities.make import make_city

__all__ = ["make_city"]
