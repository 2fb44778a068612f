"""The map on the page: a component of our own, with Leaflet from the tile server. Its program is static/map.js."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

STATIC = Path(__file__).with_name("static")
HTML = '<div class="stage"><div class="map"></div><ul class="legend"></ul><div class="ladder"></div></div>'

_mount = st.components.v2.component(
    "zoomloc_map",
    html=HTML,
    css=(STATIC / "map.css").read_text(encoding="utf-8"),
    js=(STATIC / "map.js").read_text(encoding="utf-8"),
)


def show(scene: dict[str, Any], *, key: str, on: Callable[[str, Any], None]) -> None:
    """Draw a scene (see `app.scene`). on: told what the user did: ("path", the child numbers of a cell),
    ("point", {lat, lon, level}), ("area", [west, south, east, north]), ("circle", [lat, lon, radius_m]) or
    ("photo", its key)."""

    def told(event: str) -> Callable[[], None]:
        return lambda: on(event, st.session_state[key][event])

    _mount(
        key=key,
        data=scene,
        on_path_change=told("path"),
        on_point_change=told("point"),
        on_area_change=told("area"),
        on_circle_change=told("circle"),
        on_photo_change=told("photo"),
    )
