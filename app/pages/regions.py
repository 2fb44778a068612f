"""The maps: what each shows, adding one, and encoding its cells ahead of the first photo."""

from pathlib import Path

import streamlit as st

from app import choosing, map, places, resources, scene, settings
from app.words import length
from tiles.errors import TilesError
from tiles.inspect import info
from zoomloc.errors import ZoomlocError
from zoomloc.index import place_on_disk

POLL_S = 1.5
STATE = st.session_state


def page() -> None:
    st.markdown("#### Regions")
    left, right = st.columns([0.3, 0.7], gap="medium")
    with left:
        with st.expander("Add a region", icon=":material/add:"):
            add(settings.current().home)
        file = choosing.region_file()
    try:
        with right:
            map.show(
                scene.of_region(resources.region(file), resources.pyramid(file), resources.served(file)),
                key="region-map",
                on=lambda event, said: None,
            )
        with left:
            facts(file)
            index(file)
    except (ZoomlocError, TilesError) as error:
        st.error(str(error), icon=":material/error:")


def facts(file: Path) -> None:
    region, pyramid = resources.region(file), resources.pyramid(file)
    found = info(pyramid.source)
    covered = float(pyramid.real.view(*region.grid.root, 256).real.mean())
    with st.container(border=True):
        st.markdown(
            f"**{region.name}**  \n{length(region.size_m)} a side ({region.crs})  \n"
            f"{region.depth} levels, leaves of {length(region.grid.leaf_m)}  \n"
            f"{found.levels_m[0]:.2g} m a pixel at the finest  \n"
            f"covers {covered:.0%} of the square".replace("%", " %")
        )
        st.caption(pyramid.source.attribution or region.attribution or "attribution not stated")
        if covered < 1:
            st.warning("Where there is no imagery, nothing can be found.", icon=":material/grid_off:")


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
    imagery = st.text_input(
        "Imagery", placeholder="/data/city.tif, city.mbtiles or https://…/{z}/{x}/{y}.jpg"
    ).strip()
    if not imagery:
        return
    try:
        found = places.look(imagery)
        lat, lon, side_m = places.proposed(found)
    except ZoomlocError as error:
        st.error(str(error), icon=":material/error:")
        return
    st.success(
        f"{found.levels_m[0]:.2g} m a pixel, {found.coverage:.0%} of its bounds covered",
        icon=":material/check_circle:",
    )
    name = st.text_input("Name", value=Path(imagery).stem)
    lat = st.number_input("Latitude of the middle", -85.0, 85.0, lat, format="%.6f")
    lon = st.number_input("Longitude of the middle", -180.0, 180.0, lon, format="%.6f")
    side_km = st.number_input(
        "Side in km", 0.1, places.MAX_SIDE_M / 1000, max(side_m / 1000, 0.1), format="%.3f"
    )
    attribution = st.text_input("Attribution", value=found.attribution)
    if st.button("Add it", type="primary", width="stretch"):
        try:
            STATE.region_kept = places.add(
                home,
                name=name,
                imagery=imagery,
                lat=lat,
                lon=lon,
                side_m=1000 * side_km,
                attribution=attribution,
            )
        except ZoomlocError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.rerun()


page()
