"""Simulated towns: one geometry, cast to an overhead picture and to street photos. `make_city` makes one."""

from data_prep.cities.make import make_city

__all__ = ["make_city"]
