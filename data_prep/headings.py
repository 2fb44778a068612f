"""Do headings mean what the schema says: degrees, clockwise, from true north?

Within a sequence a camera keeps its direction to that of travel. Where it looks ahead, heading minus travel is near
0; near 90, 180 or 270 the camera looks aside or back, or the heading is counted from elsewhere. Where heading *plus*
travel is constant while heading minus travel is not, headings grow counter-clockwise.
"""

from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_prep.finding import Finding, unchecked
from data_prep.positions import ELLIPSOID

Degrees = NDArray[np.float64]

MOVED_M = (2.0, 100.0)  # shorter steps have no direction, longer ones are no steps
ENOUGH_STEPS = 20  # of a dataset
ENOUGH_OF_SEQUENCE = 8
CLEAR = 0.8  # mean resultant length from which headings count as following the travel
CLEARER = 0.3  # by how much another reading must follow it better than the one the schema asks for
OFF_DEG = 45.0
POINTS = {0: "north", 90: "east", 180: "south", 270: "west"}
MOST_OF_A_TURN = 5.0  # radians; headings on one street to the north may all be few degrees
ALL_THE_SAME = 0.9  # of the photos with one and the same heading: no compass does that


class Steps(NamedTuple):
    """Photos from which their sequence went on: row in the frame, heading, and direction of travel; (n,) each."""

    rows: NDArray[np.intp]
    heading: Degrees
    travel: Degrees


def check_headings(frame: gpd.GeoDataFrame) -> Finding:
    """The first of the faults above that the headings show."""
    known = frame["heading"].notna().to_numpy()
    if known.sum() < ENOUGH_STEPS:
        return unchecked("heading", f"only {known.sum()} photos have one")
    steps = find_steps(frame)
    return _check_values(frame, known) or _check_reading(frame, known, steps) or _check_offset(frame, steps)


def find_steps(frame: gpd.GeoDataFrame) -> Steps:
    """The steps of sequences in order of time; in the manifest's order where times are not known."""
    order = (
        frame.reset_index(drop=True).sort_values(["sequence", "captured_at"], kind="stable").index.to_numpy()
    )
    here, there = order[:-1], order[1:]
    lon, lat = frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy()
    azimuth, _, moved_m = ELLIPSOID.inv(lon[here], lat[here], lon[there], lat[there])
    sequence, heading = frame["sequence"].to_numpy(), frame["heading"].to_numpy(np.float64)
    usable = (
        frame["sequence"].notna().to_numpy()[here]
        & (sequence[here] == sequence[there])
        & np.isfinite(heading[here])
        & (moved_m >= MOVED_M[0])
        & (moved_m <= MOVED_M[1])
    )
    return Steps(here[usable], heading[here[usable]], np.asarray(azimuth)[usable])


def circular_mean(degrees: Degrees) -> tuple[float, float]:
    """(mean in 0..360, mean resultant length in 0..1: how much the angles agree) of one angle or more."""
    mean = np.exp(1j * np.radians(degrees)).mean()
    return float(np.degrees(np.angle(mean)) % 360), float(abs(mean))


def _check_values(frame: gpd.GeoDataFrame, known: NDArray[np.bool_]) -> Finding | None:
    """What the numbers give away without any travel."""
    headings = frame["heading"].to_numpy(np.float64)[known]
    names = list(frame["photo"][known])
    values, counts = np.unique(headings, return_counts=True)
    if counts.max() >= ALL_THE_SAME * len(headings):
        text = (
            f"{counts.max():,} of {len(headings):,} are exactly {values[counts.argmax()]:g}: hardly measured"
        )
        return Finding("heading", text, list(frame["photo"][frame["heading"] == values[counts.argmax()]]),
                       "set unknown headings to null")  # fmt: skip
    if headings.max() <= 2 * np.pi + 1e-3 and np.ptp(headings) > MOST_OF_A_TURN:
        return Finding("heading", f"none is over {headings.max():.2f}: these are radians", names,
                       "turn them into degrees")  # fmt: skip
    return None


def _check_reading(frame: gpd.GeoDataFrame, known: NDArray[np.bool_], steps: Steps) -> Finding | None:
    """Whether headings follow the travel when read counter-clockwise, and do not as they are."""
    if len(steps.rows) < ENOUGH_STEPS:
        return None
    _, as_they_are = circular_mean(steps.heading - steps.travel)
    zero, mirrored = circular_mean(steps.heading + steps.travel)
    if mirrored < CLEAR or mirrored - as_they_are < CLEARER:
        return None
    start = round(zero / 90) % 4 * 90
    text = (
        f"counter-clockwise from {POINTS[start]}: heading plus direction of travel is about {zero:.0f} degrees "
        f"(agreement {mirrored:.2f}; {as_they_are:.2f} clockwise; {len(steps.rows):,} steps)"
    )
    return Finding(
        "heading", text, list(frame["photo"][known]), f"replace them by ({start} - heading) mod 360"
    )


def _check_offset(frame: gpd.GeoDataFrame, steps: Steps) -> Finding:
    """Sequences whose headings keep a large angle to their travel."""
    turns = pd.Series(steps.heading - steps.travel).groupby(frame["sequence"].to_numpy()[steps.rows])
    off: dict[int, list[str]] = {}  # about how many degrees: names of sequences
    following = 0
    for sequence, of_sequence in turns:
        mean, agreement = circular_mean(of_sequence.to_numpy())
        if len(of_sequence) < ENOUGH_OF_SEQUENCE or agreement < CLEAR:
            continue
        following += 1
        if OFF_DEG < mean < 360 - OFF_DEG:
            off.setdefault(round(mean / 90) * 90, []).append(sequence)
    if not following:
        return unchecked(
            "heading", f"no sequence has {ENOUGH_OF_SEQUENCE} steps along which headings agree with travel"
        )
    if not off:
        return Finding("heading", f"along the direction of travel in {following:,} sequences")
    photos = {turn: frame["photo"][frame["sequence"].isin(names)] for turn, names in sorted(off.items())}
    turned = ", ".join(f"about {turn} in {len(names):,} photos" for turn, names in photos.items())
    return Finding("heading", f"degrees from the direction of travel: {turned}",
                   [name for names in photos.values() for name in names],
                   "if the camera looked ahead, turn them; if it looked aside or back, --accept heading")  # fmt: skip
