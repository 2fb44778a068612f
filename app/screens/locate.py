"""The first page: a photo in, the way to its place out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from app import choosing, coordinates, locating, map, resources, scene, settings
from app.locating import Clues, Given
from app.settings import DEMO
from app.words import area, length, percent
from tiles.errors import TilesError
from zoomloc import outputs
from zoomloc.errors import OutsideRegion, PriorError, ZoomlocError
from zoomloc.prediction import Prediction
from zoomloc.priors import GPS_SIGMA_M
from zoomloc.region import Region

EXAMPLES = ("000021", "000130", "000238", "000390")
MAX_PHOTOS = 20
STATE = st.session_state


def page() -> None:
    left, right = st.columns([0.3, 0.7], gap="medium")
    with left:
        file = choosing.region_file()
        region = resources.region(file)
        checkpoint = settings.current().checkpoint
        try:
            server, shared = resources.served(file), resources.ready(checkpoint, file)
        except (ZoomlocError, TilesError) as error:
            st.error(str(error), icon=":material/error:")
            st.stop()
        found = given_photos(examples=file.parent == DEMO)
        shown = chosen(found)
    drawn = scene.of_region(region, resources.pyramid(file), server)
    if shown:
        with left:
            clues = asked_clues(shown, shared.localizer.states_headings)
        prediction = predicted(shared, file, region, shown, clues, left)
        if prediction:
            with left:
                say(shown, prediction, region, clues)
            drawn |= scene.of_answer(
                shown,
                prediction,
                stepped(shown, prediction),
                region=region,
                server=server,
                reach=shared.localizer.model.reach,
                clues=clues,
            )
            drawn["others"] = others(file, found, shown)
    with right:
        map.show(drawn, key="map", on=lambda event, said: acted(event, said, region))
        if shown:
            locate_others(shared, file, region, found, left)
        if not shown:
            st.caption(
                f"**{region.name}**: {length(region.size_m)} a side, "
                f"searched down to {length(region.grid.leaf_m)}."
            )


# --- which photo


def given_photos(*, examples: bool) -> list[Given]:
    """All photos that are there, the latest last; for those that cannot be read a line says why."""
    st.markdown("#### Where was this photo taken?")
    st.caption("Drop a street photo: the map zooms in, level by level, to where it was taken.")
    STATE.setdefault("photos", {})
    uploads = st.file_uploader("Photos", accept_multiple_files=True, label_visibility="collapsed") or []
    with st.expander("Take a photo", icon=":material/photo_camera:"):
        if st.toggle("Use the camera"):
            taken = st.camera_input("Camera", label_visibility="collapsed")
            uploads = [*uploads, taken] if taken else uploads
    if len(uploads) > MAX_PHOTOS:
        st.info(f"The first {MAX_PHOTOS} photos are looked at here; the Batch page takes any number.")
        uploads = uploads[:MAX_PHOTOS]
    found = [given for each in uploads if (given := read(each.file_id, each.name, each.getvalue))]
    if examples:
        with st.expander(
            "Or try an example", expanded=not found and "example" not in STATE, icon=":material/image:"
        ):
            example_buttons()
        if "example" in STATE:
            path = DEMO / "photos" / f"{STATE.example}.jpg"
            given = read(path.name, path.name, path.read_bytes)
            found = [*([given] if given else []), *found]
    here = {each.file_id for each in uploads} | {f"{STATE.get('example')}.jpg"}
    STATE.photos = {identity: kept for identity, kept in STATE.photos.items() if identity in here}
    by_key = {given.key: given for given in found}
    fresh = [key for key in by_key if key not in STATE.get("seen", ())]
    if fresh:  # what came last is looked at first
        STATE.shown = fresh[-1] if "seen" in STATE else fresh[0]
    STATE.seen = set(by_key)
    return list(by_key.values())


def example_buttons() -> None:
    for pair in (EXAMPLES[:2], EXAMPLES[2:]):
        for column, name in zip(st.columns(2), pair, strict=True):
            with column:
                st.image(DEMO / "photos" / f"{name}.jpg", width="stretch")
                st.button(
                    f"Photo {EXAMPLES.index(name) + 1}",
                    key=f"example-{name}",
                    on_click=choose_example,
                    args=(name,),
                    width="stretch",
                )


def choose_example(name: str) -> None:
    STATE.example = name
    STATE.pop("seen", None)


def read(identity: str, name: str, content: Callable[[], bytes]) -> Given | None:
    """The photo, read once a session; where it cannot be, a line says why."""
    kept = STATE.photos
    if identity not in kept:
        try:
            kept[identity] = locating.read(name, content())
        except ZoomlocError as error:
            kept[identity] = str(error)
    given: Given | str = kept[identity]
    if isinstance(given, str):
        st.error(given, icon=":material/broken_image:")
        return None
    if given.note:
        st.info(given.note, icon=":material/photo_size_select_large:")
    return given


def chosen(found: list[Given]) -> Given | None:
    """The photo to be shown; where there are several, chosen here."""
    by_key = {given.key: given for given in found}
    if not by_key:
        return None
    if STATE.get("shown") not in by_key:
        STATE.shown = found[-1].key
    if len(by_key) > 1:
        st.selectbox(
            f"{len(by_key)} photos", list(by_key), key="shown", format_func=lambda key: by_key[key].name
        )
    return by_key[STATE.shown]


# --- what is known of it, and what is found


def asked_clues(given: Given, headings: bool) -> Clues:
    """What the user says is known besides the photo; the map may have said it for them."""
    active = any(STATE.get(key) for key in ("area", "circle", "use_heading", "use_exif"))
    with st.expander("What else is known?", expanded=active, icon=":material/explore:"):
        exif = False
        if given.photo.lat is not None:
            accuracy = length(given.photo.accuracy_m or GPS_SIGMA_M)
            exif = st.checkbox(f"Use its EXIF position (± {accuracy})", key="use_exif")
        st.text_input("Area", key="area", placeholder="west, south, east, north, or draw it on the map")
        st.text_input("Circle", key="circle", placeholder="latitude, longitude, radius in metres, or draw it")
        heading_deg, sigma_deg = None, 15
        if headings and st.checkbox("The camera looked to", key="use_heading"):
            heading_deg = st.slider("Heading, degrees from north", 0, 359, 0, key="heading")
            sigma_deg = st.slider("Give or take, degrees", 5, 60, 15, key="heading_sigma")
        if active:
            st.button("Forget all this", on_click=forget, icon=":material/backspace:")
    clean = {key: STATE.get(key, "").replace(" ", "") for key in ("area", "circle")}
    return Clues(**clean, heading_deg=heading_deg, heading_sigma_deg=sigma_deg, exif=exif)


def forget() -> None:
    STATE.area = STATE.circle = ""
    STATE.use_heading = STATE.use_exif = False


def predicted(
    shared: resources.Shared, file: Path, region: Region, given: Given, clues: Clues, left: Any
) -> Prediction | None:
    """The prediction under the clues, made once; without them where they cannot be used, which a line says."""
    kept = STATE.setdefault("answers", {})
    key = (file, given.key)
    if key not in kept or kept[key][0] != clues:
        try:
            with left, st.spinner("Zooming in …"), shared.alone():
                kept[key] = clues, locating.answer(shared.localizer, region, given, clues)
        except PriorError as error:
            left.error(str(error), icon=":material/error:")
            return predicted(shared, file, region, given, Clues(), left)
        except (ZoomlocError, TilesError) as error:
            kept[key] = clues, str(error)
    found: Prediction | str = kept[key][1]
    if isinstance(found, str):
        left.error(found, icon=":material/error:")
        return None
    return found


def locate_others(
    shared: resources.Shared, file: Path, region: Region, found: list[Given], left: Any
) -> None:
    """Once the photo shown is answered, the rest are, one after the other, so that the map has them all."""
    rest = [given for given in found if (file, given.key) not in STATE.answers]
    if rest:
        with left:
            st.progress(1 - len(rest) / len(found), f"{len(rest)} more to locate …")
        predicted(shared, file, region, rest[0], Clues(), left)
        st.rerun()


def others(file: Path, found: list[Given], shown: Given) -> list[dict[str, Any]]:
    """The answers of the other photos, as far as they were found."""
    rest = [(given, STATE.answers.get((file, given.key))) for given in found if given.key != shown.key]
    return [
        {"key": given.key, "name": given.name, "at": [answer[1].lat, answer[1].lon]}
        for given, answer in rest
        if answer and not isinstance(answer[1], str)
    ]


def stepped(given: Given, prediction: Prediction) -> tuple[int, ...]:
    """The path that is looked at: the user's own, until the answer is another."""
    about = (given.key, prediction.path)
    if STATE.get("path_about") != about:
        STATE.path_about, STATE.path = about, prediction.path
    return tuple(STATE.path)


def acted(event: str, said: Any, region: Region) -> None:
    """What the user did on the map."""
    grid = region.grid
    if said is None:
        return
    if event == "path":
        STATE.path = tuple(said)
    elif event == "point":
        try:
            STATE.path = grid.path(grid.cell_at(*grid.project(said["lat"], said["lon"]), said["level"]))
        except OutsideRegion:
            return
    elif event == "photo":
        STATE.shown = said
    elif event == "area":
        STATE.area = ", ".join(f"{value:.6f}" for value in said)
    elif event == "circle":
        STATE.circle = f"{said[0]:.6f}, {said[1]:.6f}, {max(said[2], 1):.0f}"


def say(given: Given, prediction: Prediction, region: Region, clues: Clues) -> None:
    """The answer in words, and as files."""
    with st.container(border=True):
        if prediction.no_imagery:
            st.warning(
                "**No imagery** but what was made up, which is never matched.",
                icon=":material/wrong_location:",
            )
            return
        if not prediction.located:
            st.warning(
                f"**Probably not on this map** ({percent(prediction.not_here)} sure). The best place there would be:",
                icon=":material/wrong_location:",
            )
        coordinates.show(prediction.lat, prediction.lon, key="coordinates")
        if prediction.places:
            best = prediction.places[0].probability
            st.markdown(f"**{percent(best)}** within {length(prediction.radius_m)} of this point")
            st.progress(min(best, 1.0))
        st.markdown("  \n".join(facts(given, prediction, clues)))
        st.download_button(
            "GeoJSON",
            lambda: json.dumps(outputs.geojson([prediction], region.grid), indent=1),
            f"{Path(given.name).stem}.geojson",
            "application/geo+json",
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )


def facts(given: Given, prediction: Prediction, clues: Clues) -> list[str]:
    lines = [
        f"50 % within {length(prediction.radius_50_m)}, 90 % within {length(prediction.radius_90_m)}",
        f"50 % on {area(prediction.area_50_m2)}, 90 % on {area(prediction.area_90_m2)}",
    ]
    if prediction.located and prediction.not_here >= 0.001:
        lines.append(f"not on this map: {percent(prediction.not_here)}")
    if prediction.heading_deg is not None:
        lines.append(f"looking to {prediction.heading_deg:.0f}° ± {prediction.heading_50_deg:.0f}°")
    away_m = outputs.error_m(given.photo, prediction)
    if away_m is not None:
        used = "used, as you ticked" if clues.exif else "not used"
        lines.append(f"{length(away_m)} from its EXIF position ({used})")
    return lines


page()
