import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.headings import check_headings, circular_mean, find_steps

READINGS = {
    "along the direction of travel in 6": lambda h: h,
    "counter-clockwise from north: heading plus direction of travel is about 1 degree": lambda h: -h % 360,
    "counter-clockwise from east: heading plus direction of travel is about 91 degrees": lambda h: (
        (90 - h) % 360
    ),
    "about 180 in 72 photos": lambda h: (h + 180) % 360,
    "about 90 in 72 photos": lambda h: (h + 90) % 360,
    "about 270 in 72 photos": lambda h: (h - 90) % 360,
    "none is over 5.36: these are radians": np.radians,
    "72 of 72 are exactly 0: hardly measured": lambda h: h * 0,
}


@pytest.mark.parametrize("words", READINGS)
def test_what_headings_mean_is_told_from_the_way_a_camera_moves(drives, words):
    frame = drives.frame()
    rng = np.random.default_rng(0)
    noise = 0 if words.startswith(("none", "72")) else rng.permutation(np.linspace(-20, 20, len(frame)))
    frame["heading"] = READINGS[words](frame["heading"] + noise) % 360
    found = check_headings(frame)
    assert words in found.text and found.checked, found.text
    if words.startswith("counter"):
        assert found.way_out.startswith(f"replace them by ({90 * ('east' in words)} - heading)")
    assert bool(found.photos) == (not words.startswith("along"))


def test_one_camera_that_looks_back_is_found_by_name(drives):
    frame = drives.frame()
    back = frame["sequence"] == "drive-2"
    frame.loc[back, "heading"] = (frame["heading"] + 178) % 360
    assert list(check_headings(frame).photos) == list(frame["photo"][back])


def test_headings_that_follow_nothing_are_not_judged(drives):
    frame = drives.frame()
    frame["heading"] = np.random.default_rng(0).uniform(0, 360, len(frame))
    assert not check_headings(frame).checked
    assert not check_headings(frame.assign(sequence=None)).checked
    assert not check_headings(frame.assign(heading=np.nan)).checked


def test_on_one_straight_street_mirrored_headings_are_not_suspected(drives):
    frame = drives.frame(drives=1, photos=40)
    frame["heading"] += np.linspace(-5, 5, 40)
    assert not check_headings(frame).photos


def test_small_headings_on_a_street_to_the_north_are_no_radians(drives):
    frame = drives.frame(drives=1, photos=40)
    frame["heading"] = np.linspace(2, 6, 40)
    assert not check_headings(frame).photos


def test_steps_follow_time_and_never_join_sequences(drives):
    frame = drives.frame().sample(frac=1, random_state=1)
    frame.loc[frame["sequence"] == "drive-3", "sequence"] = None
    steps = find_steps(frame)
    assert len(steps.rows) == 5 * 11
    assert np.abs(steps.heading - steps.travel % 360).max() < 0.5
    assert len(find_steps(drives.frame().assign(sequence=None)).rows) == 0
    untimed = drives.frame().assign(captured_at=None)
    assert len(find_steps(untimed).rows) == 6 * 11, "the manifest's order, where times are not known"


@given(st.floats(0, 359.99), st.lists(st.floats(-60, 60), min_size=1, max_size=20))
def test_a_circular_mean_turns_with_its_angles(turn, angles):
    mean, agreement = circular_mean(np.array(angles))
    turned, same = circular_mean(np.array(angles) + turn)
    assert abs((turned - mean - turn + 180) % 360 - 180) < 1e-6
    assert same == pytest.approx(agreement) and 0 < agreement <= 1 + 1e-9
