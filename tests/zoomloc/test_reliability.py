"""Measures of what probabilities promise, against answers whose truth was drawn from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomloc.reliability import (
    Claims,
    all_of,
    auroc,
    bins,
    calibration_error,
    covered,
    error_by_chance,
    trust,
)

RNG = np.random.default_rng(0)


def test_a_calibration_error_is_the_mean_gap_of_bins_of_equal_size():
    claimed = np.repeat([0.1, 0.9], 50)
    true = np.concatenate([np.arange(50) < 15, np.arange(50) < 45])  # 0.3 and 0.9
    assert calibration_error(claimed, true) >= 0.1 - 1e-9
    assert [b.n for b in bins(claimed, true)] == [10] * 10
    assert calibration_error(np.full(40, 0.25), np.arange(40) % 4 == 0) == pytest.approx(0.05, abs=0.05)


def test_answers_drawn_from_their_probabilities_show_the_error_of_chance_and_others_more():
    claimed = RNG.random(2000)
    right = RNG.random(2000) < claimed
    by_chance = error_by_chance(claimed)
    assert calibration_error(claimed, right) < 2 * by_chance < 0.08
    assert calibration_error(claimed**3, right) > 5 * by_chance


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_auroc_counts_the_pairs_in_order(here, elsewhere):
    pairs = [(e > h) + (e == h) / 2 for h in here for e in elsewhere]
    assert auroc(np.array(here, float), np.array(elsewhere, float)) == pytest.approx(np.mean(pairs))


def posteriors(n, leaves, sharpness):
    """True leaves drawn from posteriors: what lies before them and on them."""
    p = -np.sort(-RNG.dirichlet(np.full(leaves, sharpness), n), axis=1)
    true = (p.cumsum(axis=1) < RNG.random(n)[:, None]).sum(axis=1).clip(0, leaves - 1)
    own = p[np.arange(n), true]
    return p.cumsum(axis=1)[np.arange(n), true] - own, own


@pytest.mark.parametrize("sharpness", [0.05, 1.0])
def test_ground_covers_what_it_holds_however_few_leaves_that_is(sharpness):
    before, own = posteriors(4000, 30, sharpness)
    for share in (0.1, 0.5, 0.9):
        assert covered(before, own, share) == pytest.approx(share, abs=0.03)


def test_ground_of_too_sure_a_posterior_covers_less():
    before, own = posteriors(4000, 30, 1.0)
    assert covered(np.sqrt(before), own, 0.5) < 0.4


def test_figures_of_several_sets_are_those_of_all_their_photos():
    def claims(n):
        before, own = posteriors(n, 20, 1.0)
        within = RNG.random(n)
        return Claims(
            within, RNG.random(n) < within, before, own, RNG.random((n, 2)) < [0.5, 0.9], np.arange(n) % 4 > 0
        )

    parts = [claims(40), claims(60)]
    found = trust(all_of(parts))
    assert sum(b.n for b in found.bins) == 100
    assert found.located == pytest.approx(0.75)
    assert found.circle[0.5] == pytest.approx(np.concatenate([p.is_around for p in parts])[:, 0].mean())
