"""Searches by selection, on walks small enough to know everything about."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generation import selection
from generation.selection import search
from generation.verify import ensemble, likelihood, lookahead
from generation.walk import NoMemory, PathWalk

BATCH, DEPTH, CHOICES = 2, 4, 3


def logits_of(prompt, path):
    generator = torch.Generator().manual_seed(hash((prompt, *path)) % 2**31)
    return torch.randn(CHOICES, generator=generator) * 2


class Rows:
    """A model's memory: the very paths of its rows, to prove that they stay aligned."""

    def __init__(self):
        self.rows = [()] * BATCH

    def take(self, rows):
        self.rows = [self.rows[r] for r in rows.tolist()]

    def mark(self):
        return len(self.rows[0])

    def undo(self, mark):
        self.rows = [row[:mark] for row in self.rows]


class Tree:
    """A model that knows its prompts by their place, and remembers its rows."""

    def __init__(self, seed=0):
        self.memory = Rows()
        self.walk = PathWalk(
            self.ask,
            self.memory,
            batch=BATCH,
            n_steps=DEPTH,
            generator=torch.Generator().manual_seed(seed),
        )

    def ask(self, paths):
        batch, n, _ = paths.shape
        flat = [tuple(path) for path in paths.flatten(0, 1).tolist()]
        assert [path[:-1] for path in flat] == self.memory.rows or not paths.shape[2]
        self.memory.rows = flat
        each = torch.stack([logits_of(i // n, path).log_softmax(0) for i, path in enumerate(flat)])
        return each.unflatten(0, (batch, n))


def log_p(prompt, path):
    return sum(float(logits_of(prompt, path[:i]).log_softmax(0)[path[i]]) for i in range(len(path)))


def best_path(prompt, value):
    return max(itertools.product(range(CHOICES), repeat=DEPTH), key=lambda path: value(prompt, path))


def ones(walk):
    """A verifier: how many choices were 1."""
    return (walk.paths == 1).sum(1).float()


def check(walk, rows_each):
    """The walk is done and says of its rows what is true."""
    assert walk.paths.shape == (BATCH * rows_each, DEPTH)
    for i, path in enumerate(walk.paths.tolist()):
        assert float(walk.log_p[i]) == pytest.approx(log_p(i // rows_each, path), abs=1e-5)


def test_without_a_plan_every_prompt_draws_one_sequence():
    check(search(Tree().walk, {}), 1)


def test_the_best_of_n_is_the_best_of_what_was_drawn():
    drawn = search(Tree().walk, {0: selection.copies(30)})
    check(drawn, 30)
    best = search(Tree().walk, selection.best_of_n(30, ones, n_steps=DEPTH))
    check(best, 1)
    assert ones(best).tolist() == ones(drawn).view(BATCH, 30).amax(1).tolist()


def test_draws_follow_the_model():
    walk = Tree().walk
    walk.take(torch.arange(BATCH).repeat_interleave(4000))
    walk.step()
    share = torch.stack([(walk.paths[:4000, 0] == k).float().mean() for k in range(CHOICES)])
    torch.testing.assert_close(share, logits_of(0, ()).softmax(0), atol=0.03, rtol=0)


def test_a_beam_with_enough_candidates_finds_the_best_there_is():
    plan = selection.beam(3, 60, likelihood, n_steps=DEPTH, after=range(1, DEPTH))
    walk = search(Tree().walk, plan)
    check(walk, 1)
    greedy = Tree().walk
    while greedy.at < DEPTH:
        greedy.step(greedy=True)
    assert (walk.log_p >= greedy.log_p - 1e-6).all()
    assert tuple(walk.paths[0].tolist()) == best_path(0, log_p)


def test_a_beam_asks_after_one_two_and_four_steps_unless_told_otherwise():
    assert sorted(selection.beam(2, 3, ones, n_steps=9)) == [0, 1, 2, 4, 8, 9]
    assert sorted(selection.beam(2, 3, ones, n_steps=9, after=[3])) == [0, 3, 9]


def test_lookahead_judges_by_the_greedy_ending_and_leaves_no_trace():
    tree = Tree()
    walk, memory = tree.walk, tree.memory
    walk.take(torch.arange(BATCH).repeat_interleave(4))
    walk.step()
    before, rows = walk.paths.clone(), list(memory.rows)
    scores = lookahead(likelihood)(walk)
    assert walk.at == 1 and (walk.paths == before).all() and memory.rows == rows
    for i, path in enumerate(walk.paths.tolist()):
        while len(path) < DEPTH:
            path.append(int(logits_of(i // 4, path).argmax()))
        assert float(scores[i]) == pytest.approx(log_p(i // 4, path), abs=1e-5)
    walk.step()  # and the walk goes on


def test_an_ensemble_ranks_and_needs_no_common_unit():
    walk = Tree().walk
    walk.take(torch.arange(BATCH).repeat_interleave(3))
    scores = ensemble(lambda _: torch.tensor([1.0, 2, 2, 5, 4, 3]), lambda _: 1e6 * torch.arange(6.0))(walk)
    assert scores.tolist() == [0, (1.5 + 1) / 2, (1.5 + 2) / 2, 1, 1, 1]


def test_particles_grow_fewer_by_the_schedule_and_keep_their_prompts():
    seen, generator = [], torch.Generator().manual_seed(0)

    def counted(walk):
        seen.append((walk.at, len(walk.log_p) // BATCH))
        return ones(walk)

    def thin(step, n):
        if step == 1:
            return selection.diverse(lambda walk: walk.paths.float(), n)
        return selection.resampled(counted, n, strength=10, generator=generator)

    walk = search(Tree().walk, selection.particles([8, 6, 4, 2], thin, counted))
    check(walk, 1)
    assert seen == [(2, 6), (3, 4), (4, 2)]


def test_resampling_is_by_the_exponential_of_the_potential():
    walk = Tree().walk
    walk.take(torch.arange(BATCH).repeat_interleave(2))
    value = torch.tensor([0.0, 0.1, 3.0, 3.0])
    draw = selection.resampled(
        lambda _: value, 20_000, strength=10, generator=torch.Generator().manual_seed(0)
    )
    rows = draw(walk, []).view(BATCH, -1)
    assert set(rows[0].tolist()) == {0, 1} and set(rows[1].tolist()) == {2, 3}
    assert float((rows[0] == 1).float().mean()) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)
    assert float((rows[1] == 3).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_potential_sees_what_rows_were_worth_before_wherever_they_are_now():
    weights = []

    def gain(scores):
        weights.append(selection.gained(scores))
        return weights[-1]

    generator = torch.Generator().manual_seed(0)
    select = selection.resampled(ones, 3, strength=1, generator=generator, potential=gain)
    search(Tree().walk, {0: selection.copies(3)} | dict.fromkeys(range(1, DEPTH + 1), select))
    for gained in weights:  # a choice either is 1 or is not, so that no row gains more than one in a step
        assert set(gained.tolist()) <= {0.0, 1.0}
    assert len(weights) == DEPTH and any(gained.any() for gained in weights[1:])


def test_the_potentials_of_a_row_that_rose_and_fell():
    scores = [torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([3.0])]
    potentials = (selection.latest, selection.gained, selection.highest, selection.total)
    assert [float(potential(scores)) for potential in potentials] == [3, -2, 5, 9]


def test_pieces_replace_the_impossible_by_copies_of_the_possible():
    def no_zero(walk):
        return (walk.paths != 0).all(1).float()

    n_possible = []

    def counted(walk):
        n_possible.append(int(no_zero(walk).sum()))
        return ones(walk)

    plan = selection.pieces(12, range(1, DEPTH), no_zero, counted, n_steps=DEPTH)
    walk = search(Tree().walk, plan)
    check(walk, 1)
    assert (walk.paths[:, :-1] != 0).all(), "no row that could be known impossible is left"
    unpruned = search(Tree().walk, {0: selection.copies(12)})
    assert n_possible[0] > int(no_zero(unpruned).sum())


def test_where_nothing_is_possible_all_go_on():
    walk = Tree().walk
    walk.take(torch.arange(BATCH).repeat_interleave(3))
    rows = selection.viable(lambda _: torch.tensor([0.0, 0, 0, 0, 1, 0]), 4)(walk, [])
    assert rows.tolist() == [0, 1, 2, 0, 4, 4, 4, 4]


@given(seed=st.integers(0, 2**16), m=st.integers(1, 12), data=st.data())
def test_diverse_rows_are_different_ones_and_one_of_every_clear_cluster(seed, m, data):
    n = data.draw(st.integers(1, m))
    generator = torch.Generator().manual_seed(seed)
    cluster = torch.cat([torch.arange(n), torch.randint(0, n, (m - n,), generator=generator)])
    cluster = cluster[torch.randperm(m, generator=generator)]
    features = torch.eye(n)[cluster] * 100 + torch.randn(m, n, generator=generator)
    walk = PathWalk(None, NoMemory(), batch=1, n_steps=1, generator=generator)
    walk.take(torch.zeros(m, dtype=torch.long))
    rows = selection.diverse(lambda _: features, n)(walk, [])
    assert len(set(rows.tolist())) == n
    assert set(cluster[rows].tolist()) == set(range(n))


def test_the_first_component_is_the_direction_in_which_patches_differ_most():
    torch.manual_seed(0)
    along = torch.randn(6, 5)
    features = along[..., None] * torch.tensor([3.0, 4.0, 0.0]) + 0.01 * torch.randn(6, 5, 3) + 7
    found = selection.first_component(features)
    expected = 5 * (along - along.mean())
    torch.testing.assert_close(found * (found * expected).sum().sign(), expected, atol=0.1, rtol=0)
