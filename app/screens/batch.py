"""Many photos at once: start a run, watch it, look through what it found, take it home."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app import choosing, coordinates, map, resources, runs, scene, settings
from app.words import length, percent
from tiles.errors import TilesError
from zoomloc import tables
from zoomloc.batch.tally import without_file
from zoomloc.errors import PhotoError, ZoomlocError
from zoomloc.photo import load
from zoomloc.rows import STATUSES, Row

POLL_S = 1.5
SHOWN_ON_MAP = 5000
COLUMNS = ("file", "status", "confidence", "lat", "lon", "radius_90_m", "exif_distance_m", "reason")
STATE = st.session_state


def page() -> None:
    st.markdown("#### Many photos at once")
    st.caption("Located in the background, even with this page closed; what was found is kept here.")
    home = settings.current().home
    known = runs.all_runs(home)
    left, right = st.columns([0.3, 0.7], gap="medium")
    with left:
        with st.expander("New batch", expanded=not known, icon=":material/add:"):
            new(home, file := choosing.region_file())
        if not known:
            with right:
                awaited(file)
            return
        names = [run.name for run in known]
        if STATE.get("run") not in names:
            STATE.run = names[0]
        st.selectbox("Batch", names, key="run")
    run = known[names.index(STATE.run)]
    live = run.state == "running"
    with left:
        st.fragment(progress, run_every=POLL_S if live else None)(run, live)
    try:
        rows = run.rows()
        with left:
            rows = filtered(rows)
            downloads(run, rows)
        with right:
            results(run, rows)
    except (ZoomlocError, TilesError) as error:
        st.error(str(error), icon=":material/error:")


def awaited(file: Path) -> None:
    """The map, before there is anything on it."""
    try:
        region, server = resources.region(file), resources.served(file)
        map.show(scene.of_region(region, resources.pyramid(file), server), key="batch-map", on=acted)
    except (ZoomlocError, TilesError) as error:
        st.error(str(error), icon=":material/error:")
        return
    st.caption("What is found will be on this map, and in a table below it.")


def new(home: Path, file: Path) -> None:
    uploads = st.file_uploader("Photos and videos", accept_multiple_files=True)
    folder = st.text_input("or a folder of this machine", placeholder="/home/me/photos")
    if st.button("Start", type="primary", disabled=not (uploads or folder), width="stretch"):
        contents = {each.name: each.getvalue() for each in uploads}
        checkpoint = settings.current().checkpoint
        try:
            run = runs.begin(home, folder=folder, uploads=contents, region=file, checkpoint=checkpoint)
        except ZoomlocError as error:
            st.error(str(error), icon=":material/error:")
            return
        STATE.pop("run", None)
        st.toast(f"{run.asked.total} photos to locate")
        st.rerun()


def progress(run: runs.Run, was_live: bool) -> None:
    """How far a run is; polled while it works, in this part of the page alone."""
    state, asked = run.state, run.asked
    if was_live and state != "running":
        st.rerun(scope="app")
    rows = run.rows()
    done = len(rows)
    if state == "done":
        counts = Counter(row.status for row in rows)
        each = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        st.success(f"{done} photos looked at: {each}", icon=":material/check_circle:")
        return
    st.progress(min(done / max(asked.total, 1), 1.0), f"{done} of {asked.total} photos")
    if state == "running":
        first, second = st.columns(2)
        first.button("Stop", on_click=run.stop, icon=":material/stop:", width="stretch")
        if second.button("Refresh", icon=":material/refresh:", width="stretch"):
            st.rerun(scope="app")
    else:
        st.warning(f"Stopped. {run.last_line()}", icon=":material/pause_circle:")
        if st.button("Go on", type="primary", icon=":material/play_arrow:", width="stretch"):
            run.go()
            st.rerun(scope="app")


def filtered(rows: Sequence[Row]) -> list[Row]:
    sure = st.slider("At least so sure", 0, 100, 0, format="%d %%", key="sure") / 100
    chosen = st.pills("Status", STATUSES, selection_mode="multi", default=STATUSES, key="statuses")
    return [row for row in rows if row.status in chosen and (row.confidence or 0) >= sure]


def downloads(run: runs.Run, rows: Sequence[Row]) -> None:
    """The rows that are shown, in any format of the batch command; and its report."""
    if rows:
        suffix = st.selectbox(
            "Format", list(tables.WRITERS), format_func=lambda suffix: suffix.removeprefix(".")
        )
        st.download_button(
            f"Download {len(rows)} rows",
            lambda: runs.export(rows, suffix),
            f"results{suffix}",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )
    report = run.folder / runs.REPORT
    if run.state == "done" and report.exists():
        st.download_button(
            "Download the report",
            report.read_bytes,
            "report.html",
            "text/html",
            icon=":material/description:",
            on_click="ignore",
            width="stretch",
        )


def results(run: runs.Run, rows: Sequence[Row]) -> None:
    """The map and the table, each showing what is chosen in the other."""
    file = Path(run.asked.region)
    region, server = resources.region(file), resources.served(file)
    drawn = scene.of_region(region, resources.pyramid(file), server)
    drawn["others"] = [dot(row) for row in rows if row.lat is not None][:SHOWN_ON_MAP]
    drawn["focus"] = focus = STATE.get("focus")
    map.show(drawn, key="batch-map", on=acted)
    shown = [{column: row.as_dict()[column] for column in COLUMNS} for row in rows]
    for row, cells in zip(rows, shown, strict=True):
        cells |= {"file": Path(row.name).name, "reason": without_file(row)}
    st.dataframe(
        shown,
        key="table",
        on_select=lambda: picked([row.name for row in rows]),
        selection_mode="single-row",
        hide_index=True,
        height=280,
        placeholder="",
        column_config={
            "confidence": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
            "lat": st.column_config.NumberColumn(format="%.6f"),
            "lon": st.column_config.NumberColumn(format="%.6f"),
            "radius_90_m": st.column_config.NumberColumn("90 % within", format="%.0f m"),
            "exif_distance_m": st.column_config.NumberColumn("from EXIF", format="%.0f m"),
        },
    )
    chosen = next((row for row in rows if row.name == focus), None)
    if chosen:
        detail(chosen)


def dot(row: Row) -> dict[str, Any]:
    sure = percent(row.confidence or 0)
    return {
        "key": row.name,
        "name": f"{Path(row.file).name}: {row.status}, {sure}",
        "at": [row.lat, row.lon],
        "sure": row.confidence or 0,
        "located": row.status == "located",
    }


def detail(row: Row) -> None:
    """The photo that is chosen, and what was found."""
    picture, words = st.columns([0.4, 0.6])
    if row.frame_s is None and row.status != "failed":
        try:
            picture.image(load(row.file).pixels)
        except PhotoError as error:  # it may be gone by now
            picture.caption(str(error))
    words.markdown(f"**{Path(row.file).name}**")
    if row.lat is not None and row.lon is not None:
        with words:
            coordinates.show(row.lat, row.lon, key="coordinates")
        words.markdown(f"{percent(row.confidence or 0)} sure, 90 % within {length(row.radius_90_m or 0)}")


def picked(names: Sequence[str]) -> None:
    """In the table."""
    chosen = STATE.table.selection.rows
    STATE.focus = names[chosen[0]] if chosen else None


def acted(event: str, said: Any) -> None:
    """On the map."""
    if event == "photo" and said:
        STATE.focus = said


page()
