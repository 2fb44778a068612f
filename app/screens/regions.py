"""The maps: what each shows, adding one, and encoding its cells ahead of the first photo."""

from pathlib import Path
from typing import Any

import streamlit as st

from app import choosing, map, places, resources, scene, settings
from app.words import length
from tiles.errors import TilesError
from tiles.inspect import Info
from zoomloc.errors import ZoomlocError
from zoomloc.index import place_on_disk

POLL_S = 1.5
STATE = st.session_state


def page() -> None:
    st.markdown("#### Regions")
    st.caption("The maps that photos are searched on. Only what is on them can be found.")
    left, right = st.columns([0.3, 0.7], gap="medium")
    with left:
        with st.expander("Add a region", icon=":material/add:"):
            add(settings.current().home)
        file = choosing.region_file()
    try:
        with left:
            coverage = facts(file)
            index(file)
        with right:
            drawn = scene.of_region(resources.region(file), resources.pyramid(file), resources.served(file))
            map.show(drawn | {"coverage": coverage}, key="region-map", on=lambda event, said: None)
    except (ZoomlocError, TilesError) as error:
        st.error(str(error), icon=":material/error:")


def facts(file: Path) -> dict[str, Any] | None:
    """What a region is; and its coverage, to be drawn, if that is asked for."""
    region, pyramid = resources.region(file), resources.pyramid(file)
    found, mask = resources.covered(file)
    covered = float(mask.mean())
    with st.container(border=True):
        st.markdown(
            f"**{region.name}**  \n{length(region.size_m)} a side ({region.crs})  \n"
            f"searched in {region.depth} levels, down to cells of {length(region.grid.leaf_m)}  \n"
            f"{found.levels_m[0]:.2g} m a pixel at the finest  \n"
            f"imagery on {covered:.0%} of the square".replace("%", " %")
        )
        st.caption(pyramid.source.attribution or region.attribution or "attribution not stated")
        if covered < 1:
            st.warning("Where there is no imagery, nothing can be found.", icon=":material/grid_off:")
        asked = st.toggle("Show coverage", value=covered < 1, key=f"coverage-{file}")
        if asked:
            st.caption("Tinted blue: there is imagery. Hatched: there is none.")
    return scene.coverage(mask, region) if asked else None


def index(file: Path) -> None:
    """How much of the region is encoded for the model; the rest, where that is asked for."""
    checkpoint, region = settings.current().checkpoint, resources.region(file)
    localizer = resources.shared(checkpoint).localizer
    localizer.check_fits(region)
    running = STATE.get("indexing", {}).get(file)
    live = running is not None and running.poll() is None

    def state() -> None:
        done = places.indexed(localizer.model, region)
        st.progress(done, f"{done:.0%} of its cells encoded on disk".replace("%", " %"))
        if live and running.poll() is not None:
            st.rerun(scope="app")

    st.fragment(state, run_every=POLL_S if live else None)()
    if running and running.poll():
        said = running.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        st.error(said[0] if said else "stopped", icon=":material/error:")
    if not live and places.indexed(localizer.model, region) < 1:
        st.caption(
            f"Kept in {place_on_disk(localizer.model, region).parent.name}; the first photo then need not wait."
        )
        if st.button("Build the index", icon=":material/database:", width="stretch"):
            STATE.setdefault("indexing", {})[file] = places.index(checkpoint, file)
            st.rerun()


def add(home: Path) -> None:
    """Imagery, then its square, then its name: each is looked at before the next is asked for."""
    imagery = st.text_input(
        "Imagery", placeholder="/data/city.tif, city.mbtiles or https://…/{z}/{x}/{y}.jpg"
    ).strip()
    if not imagery:
        return
    try:
        found = resources.looked(imagery)
        square = asked_square(found)
        if square is None:
            return
        show(imagery, *square)
    except (ZoomlocError, TilesError) as error:
        st.error(str(error), icon=":material/error:")
        return
    lat, lon, side_m = square
    name = st.text_input("Name", value=places.named(imagery))
    attribution = st.text_input("Attribution", value=found.attribution, placeholder="whose imagery it is")
    if st.button("Add it", type="primary", width="stretch"):
        try:
            STATE.region_kept = places.add(
                home, name=name, imagery=imagery, lat=lat, lon=lon, side_m=side_m, attribution=attribution
            )
        except (ZoomlocError, TilesError) as error:
            st.error(str(error), icon=":material/error:")
            return
        st.rerun()


def asked_square(found: Info) -> tuple[float, float, float] | None:
    """(lat, lon) of the middle and the side in metres; None until the user says where, if the imagery does not."""
    endless = places.endless(found)
    finest = f"{found.levels_m[0]:.2g} m a pixel"
    if endless:
        st.info(f"Tiles of the whole world, to {finest}: say which square.", icon=":material/public:")
        lat, lon, side_m = None, None, places.USUAL_SIDE_M
    else:
        covered = f"{found.coverage:.0%} of its bounds covered".replace("%", " %")
        st.success(f"{finest}, {covered}", icon=":material/check_circle:")
        lat, lon, side_m = places.proposed(found)
    lat = st.number_input("Latitude of the middle", -84.0, 84.0, lat, format="%.6f", placeholder="51.458600")
    lon = st.number_input(
        "Longitude of the middle", -180.0, 180.0, lon, format="%.6f", placeholder="9.525900"
    )
    most_km = places.MAX_SIDE_M / 1000
    side_km = st.number_input("Side in km", 0.1, most_km, max(side_m / 1000, 0.1), format="%.3f")
    return None if lat is None or lon is None else (lat, lon, 1000 * side_km)


def show(imagery: str, lat: float, lon: float, side_m: float) -> None:
    """The square as it is from afar, and what is wrong with it. Raises RegionError where there is nothing in it."""
    seen = resources.seen(imagery, lat, lon, side_m)
    told = f"{length(side_m)} a side, {seen.covered:.0%} covered".replace("%", " %")
    st.image(seen.pixels, caption=told, width="stretch")
    if not seen.middle_covered and "://" in imagery:
        st.warning(
            "From near, its middle is blank: the server may have no tiles that fine. Say which it has at the end of "
            "the address, as in #zooms=0-17.",
            icon=":material/grid_off:",
        )
    elif seen.covered < 1:
        st.warning("Where there is no imagery, nothing can be found.", icon=":material/grid_off:")


page()
