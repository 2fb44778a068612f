"""The filter over leaves, beside a hidden Markov model written out in full."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from zoomloc.grid import Cell, Grid
from zoomloc.posterior import Leaves
from zoomloc.priors import Evidence, near
from zoomloc.sequence import CLOCK_S, REACH_SIGMAS, Motion, sighting, smooth

SMALL = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 480.0, 3, 2)  # 9 x 9 leaves of 53 m
CITY = Grid("EPSG:32632", (500_000.0, 5_000_000.0), 2560.0, 4, 3)  # 64 x 64 leaves of 40 m
# Of photos that err independently of each other.
TRUSTING = Motion(speed_m_s=1.5, exponent=0.6, mute=0.02, lost=0.005, cut=1e-3)


def all_paths(grid):
    n = grid.branch**2
    return np.arange(n**grid.depth)[:, None] // n ** np.arange(grid.depth - 1, -1, -1) % n


def number(grid, path):
    _, row, col = grid.cell(tuple(path))
    return row * grid.n_cells(grid.depth) + col


def axis(side, sigma):
    """Steps along an axis, by adding up over a fine grid of starts what a Gaussian gives each leaf."""
    reach = min(side - 1, math.ceil(REACH_SIGMAS * sigma) + 1)
    starts = (np.arange(40_000) + 0.5) / 40_000
    row = [
        np.mean(ndtr((k + 1 - starts) / sigma) - ndtr((k - starts) / sigma)) for k in range(-reach, reach + 1)
    ]
    row = dict(zip(range(-reach, reach + 1), row / np.sum(row), strict=True))
    return np.array([[row.get(j - i, 0.0) for j in range(side)] for i in range(side)])


def brute_force(likelihoods, gaps_s, grid, motion, known=1.0):
    """Forward-backward over all states, the last of which is "not here"; likelihoods (T, n + 1). known: factors of the
    states at the start."""
    side = grid.n_cells(grid.depth)
    n = side**2
    start = np.append(np.full(n, (1 - motion.elsewhere) / n), motion.elsewhere)

    def transition(gap_s):
        along = axis(side, motion.speed_m_s * (gap_s + CLOCK_S) / math.sqrt(2) / grid.leaf_m)
        moves = np.kron(along, along)
        out = np.zeros((n + 1, n + 1))
        out[:n, :n] = (1 - motion.lost) * moves
        out[:n, n] = (1 - motion.lost) * (1 - moves.sum(1))
        out[:n] += motion.lost * start
        out[n] = np.append(np.full(n, motion.returns / n), 1 - motion.returns)
        return out

    forward, ts = [start * known * likelihoods[0]], [transition(gap) for gap in gaps_s]
    for t, likelihood in zip(ts, likelihoods[1:], strict=True):
        forward.append(forward[-1] @ t * likelihood)
    backward = [np.ones(n + 1)]
    for t, likelihood in zip(ts[::-1], likelihoods[:0:-1], strict=True):
        backward.append(t @ (likelihood * backward[-1]))
    both = [f * b for f, b in zip(forward, backward[::-1], strict=True)]
    return [[p / p.sum() for p in each] for each in (forward, both)]


def full(belief, grid):
    """A belief as (n + 1,) probabilities."""
    n = grid.n_cells(grid.depth) ** 2
    out = np.zeros(n + 1)
    out[belief.numbers] = belief.probabilities
    unlisted = np.ones(n, bool)
    unlisted[belief.numbers] = False
    out[:n][unlisted] = belief.others / max(unlisted.sum(), 1)
    out[n] = belief.not_here
    return out


motions = st.builds(
    Motion,
    speed_m_s=st.floats(0.3, 15),
    exponent=st.floats(0.2, 1),
    mute=st.floats(0, 0.2),
    lost=st.floats(0, 0.2),
    returns=st.floats(0, 0.3),
    elsewhere=st.floats(0.05, 0.9),
    cut=st.just(0.0),
)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), motions, st.lists(st.floats(0, 30), min_size=1, max_size=3))
def test_with_nothing_cut_off_it_is_forward_backward_over_all_states(seed, motion, gaps_s):
    rng, paths = np.random.default_rng(seed), all_paths(SMALL)
    numbers = np.array([number(SMALL, path) for path in paths])
    sightings, likelihoods = [], []
    for _ in range(len(gaps_s) + 1):
        p = rng.dirichlet(np.full(len(paths) + 1, 0.3))
        sightings.append(sighting(Leaves(paths, p[:-1], not_here=p[-1]), SMALL, motion))
        ratio = np.append(np.zeros(len(paths)), p[-1] / motion.elsewhere)
        ratio[numbers] = p[:-1] * len(paths) / (1 - motion.elsewhere)
        likelihoods.append((1 - motion.mute) * ratio**motion.exponent + motion.mute)
    found = smooth(sightings, np.cumsum([0, *gaps_s]), SMALL, motion)
    for ours, theirs in zip(found, brute_force(likelihoods, gaps_s, SMALL, motion), strict=True):
        for belief, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(full(belief, SMALL), expected, atol=1e-6)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), motions, st.floats(-400, 400), st.floats(30, 600))
def test_what_is_known_of_a_walk_counts_once_at_its_start(seed, motion, east_m, radius_m):
    rng, paths = np.random.default_rng(seed), all_paths(SMALL)
    numbers = np.array([number(SMALL, path) for path in paths])
    lat, lon = SMALL.unproject(SMALL.north_west[0] + 240 + east_m, SMALL.north_west[1] - 200)
    known = Evidence([near(lat, lon, radius_m)], SMALL)
    factors = np.append(np.zeros(len(paths)), known.not_here)
    factors[numbers] = known.of(paths)
    sightings, likelihoods = [], []
    for _ in range(3):
        p = rng.dirichlet(np.full(len(paths) + 1, 0.3))
        sightings.append(sighting(Leaves(paths, p[:-1], not_here=p[-1]), SMALL, motion))
        ratio = np.append(np.zeros(len(paths)), p[-1] / motion.elsewhere)
        ratio[numbers] = p[:-1] * len(paths) / (1 - motion.elsewhere)
        likelihoods.append((1 - motion.mute) * ratio**motion.exponent + motion.mute)
    found = smooth(sightings, [0.0, 5.0, 20.0], SMALL, motion, known)
    wanted = brute_force(likelihoods, [5.0, 15.0], SMALL, motion, factors)
    for ours, theirs in zip(found, wanted, strict=True):
        for belief, expected in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(full(belief, SMALL), expected, atol=1e-6)


def walk(rng, n, *, step_m=8.0):
    """Positions (n, 2) in metres east and south of a city's corner, on one gently turning way."""
    turn = np.cumsum(rng.normal(0, 0.15, n)) + rng.uniform(0, 2 * np.pi)
    steps = step_m * np.column_stack([np.cos(turn), np.sin(turn)])
    return np.clip(rng.uniform(500, 2000, 2) + np.cumsum(steps, axis=0), 5, 2555)


def look(rng, xy, *, n_false=30, sharp=2.0):
    """A photo's posterior that gives its own leaf some probability, as it does to many false ones."""
    true = CITY.path(CITY.cell_at(CITY.north_west[0] + xy[0], CITY.north_west[1] - xy[1]))
    false = {tuple(path) for path in rng.integers(0, 16, (n_false, 3)).tolist()} - {true}
    paths = np.array([true, *sorted(false)])
    p = np.exp(rng.normal(0, 1, len(paths)))
    p[0] *= sharp
    p *= 0.8 / p.sum()
    order = np.argsort(-p)
    return Leaves(paths[order], p[order], not_here=0.15, unexpanded=0.05)


def errors_m(beliefs, way):
    out = []
    for belief, xy in zip(beliefs, way, strict=True):
        row, col = divmod(int(belief.numbers[belief.probabilities.argmax()]), 64)
        out.append(np.hypot((col + 0.5) * 40 - xy[0], (row + 0.5) * 40 - xy[1]))
    return np.array(out)


def at(xy):
    """(lat, lon) of metres east and south of a city's corner."""
    return CITY.unproject(CITY.north_west[0] + xy[0], CITY.north_west[1] - xy[1])


def share_found(n_photos, known_of):
    """Of the photos of 20 walks that see their place among 200 others. known_of: what is known of a walk, by where it
    begins."""
    rng, motion, errors = np.random.default_rng(3), TRUSTING, []
    for _ in range(20):
        way = walk(rng, n_photos)
        seen = [sighting(look(rng, xy, n_false=200, sharp=1.0), CITY, motion) for xy in way]
        known = known_of(way[0])
        errors.append(errors_m(smooth(seen, np.arange(n_photos) * 5.0, CITY, motion, known)[1], way))
    return np.mean(np.concatenate(errors) < 40)


def circle(xy):
    """Of 300 m, around metres east and south of a city's corner."""
    lat, lon = CITY.unproject(CITY.north_west[0] + xy[0], CITY.north_west[1] - xy[1])
    return Evidence([near(lat, lon, 300)], CITY)


def test_a_known_area_helps_a_walk():
    assert share_found(3, circle) > share_found(3, lambda begins: None) + 0.3


def test_a_wrong_area_does_not_silence_a_walk():
    other_side = share_found(20, lambda begins: circle((begins + 1280) % 2560))
    assert other_side > share_found(20, lambda begins: None) - 0.1 > 0.8


def test_a_walk_is_found_where_single_photos_are_not():
    rng, motion = np.random.default_rng(1), TRUSTING
    alone, online, whole = [], [], []
    for _ in range(20):
        way = walk(rng, 15)
        photos = [look(rng, xy) for xy in way]
        seen = [sighting(photo, CITY, motion) for photo in photos]
        filtered, smoothed = smooth(seen, np.arange(15) * 5.0, CITY, motion)
        singly = [smooth([each], [0.0], CITY, motion)[0][0] for each in seen]
        alone.append(errors_m(singly, way))
        online.append(errors_m(filtered[-1:], way[-1:]))
        whole.append(errors_m(smoothed, way))
    alone, online, whole = (np.mean(np.concatenate(part) < 40) for part in (alone, online, whole))
    assert alone < 0.3 and online > 0.8 and whole > 0.8


def test_little_is_lost_by_keeping_few_leaves():
    rng, motion = np.random.default_rng(2), TRUSTING
    photos = [look(rng, xy) for xy in walk(rng, 12)]
    few, all_ = (
        smooth([sighting(p, CITY, m) for p in photos], np.arange(12) * 5.0, CITY, m)
        for m in (motion, replace(TRUSTING, cut=0.0))
    )
    for kind in range(2):
        for ours, exact in zip(few[kind], all_[kind], strict=True):
            assert np.abs(full(ours, CITY) - full(exact, CITY)).sum() < 0.03
    assert max(len(b.numbers) for b in few[0]) < 0.3 * max(len(b.numbers) for b in all_[0])


def test_photos_off_the_map_are_told_and_the_way_is_found_again():
    rng, motion = np.random.default_rng(3), TRUSTING
    way = walk(rng, 26)
    away = Leaves(np.empty((0, 3), np.int64), np.empty(0), not_here=0.99, unexpanded=0.01)
    photos = [away if 7 <= i < 18 else look(rng, xy, sharp=20) for i, xy in enumerate(way)]
    _, smoothed = smooth([sighting(p, CITY, motion) for p in photos], np.arange(26) * 5.0, CITY, motion)
    not_here = np.array([belief.not_here for belief in smoothed])
    assert (not_here[8:17] > 0.9).all() and (not_here[:6] < 0.1).all() and (not_here[19:] < 0.1).all()
    assert (errors_m(smoothed[20:], way[20:]) < 60).all()


def test_one_photo_sure_of_a_wrong_place_does_not_carry_the_walk_away():
    rng, motion = np.random.default_rng(4), TRUSTING
    way = walk(rng, 11)
    photos = [look(rng, xy, sharp=20) for xy in way]
    photos[5] = Leaves(np.array([[15, 15, 15]]), np.array([0.999]), not_here=0.0005, unexpanded=0.0005)
    _, smoothed = smooth([sighting(p, CITY, motion) for p in photos], np.arange(11) * 5.0, CITY, motion)
    assert (errors_m(smoothed, way) < 60).all()


@pytest.mark.parametrize("gap_s, spread_m", [(0, 0.75), (10, 15.75), (200, 300.75)])
def test_steps_grow_with_time(gap_s, spread_m):
    motion = Motion(speed_m_s=1.5, lost=0, mute=1, elsewhere=0.5, cut=0)
    place = Leaves(np.array([[0, 0, 0]]), np.array([1.0]))  # mute photos: only the motion counts
    start = Leaves(np.array([CITY.path(Cell(3, 32, 32))]), np.array([1.0]))
    sure = sighting(start, CITY, Motion(exponent=1, mute=0))
    filtered, _ = smooth([sure, sighting(place, CITY, motion)], [0, gap_s], CITY, motion)
    rows, cols = np.divmod(filtered[1].numbers, 64)
    p = filtered[1].probabilities / filtered[1].probabilities.sum()
    variance = (p * ((rows - 32) ** 2 + (cols - 32) ** 2)).sum() * 40**2
    # In leaves, the step is blurred by where in a leaf it began.
    expected = spread_m**2 if spread_m > 100 else 2 * 40 * spread_m / math.sqrt(2) * math.sqrt(2 / math.pi)
    assert variance == pytest.approx(expected, rel=0.1)


def test_a_belief_is_what_a_search_finds():
    motion = Motion(exponent=1, mute=0)
    found = look(np.random.default_rng(5), (700, 700))
    (belief,), _ = smooth([sighting(found, CITY, motion)], [0.0], CITY, Motion(exponent=1, mute=0, cut=0))
    again = belief.leaves(CITY)
    assert again.paths.tolist() == found.paths.tolist()
    np.testing.assert_allclose(again.probabilities, found.probabilities)
    assert (again.not_here, again.unexpanded) == pytest.approx((found.not_here, found.unexpanded))
