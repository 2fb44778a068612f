"""Simulated towns: one geometry, cast to an overhead picture and to street photos. `make_city` makes one."""

from data_prep.cities.city import main, make_city

__all__ = ["main", "make_city"]
