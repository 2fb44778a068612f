"""The pointer model: its probabilities, its training losses, its search, and what it may depend on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from zoomloc import checkpoint, markov
from zoomloc.config import PointerConfig
from zoomloc.evaluate import evaluate
from zoomloc.index import Index
from zoomloc.labels import make_labels
from zoomloc.lesson import make_lesson, merged
from zoomloc.localizer import Localizer
from zoomloc.losses import contrast, expected_error, pointer_loss
from zoomloc.placement import Placement
from zoomloc.pointer import PointerModel, at_all, at_own
from zoomloc.region import Region
from zoomloc.views import ViewBank

SMALL = PointerConfig(
    kind="pointer", width=32, encoder_layers=1, encoder_heads=2, patch_px=8, table_px=48, photo_px=32, view_px=48,
    decoder_layers=1, decoder_heads=2, queries=3, key_width=16,
)  # fmt: skip


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = PointerModel(SMALL).eval()
    for p in made.parameters():  # so that nothing is at its silent start
        torch.nn.init.normal_(p, std=0.1) if p.ndim < 2 else None
    return made


@pytest.fixture
def region(tiny_data):
    return Region.load(tiny_data / "region.json")


def test_probabilities_are_the_mixture_they_claim_to_be(model):
    tokens = model.encode_photos(pixels(2, 32, 64, 3))
    keys = model.encode_views(pixels(5, 48, 48, 3), torch.full((5,), 160.0))
    asked = model.ask(tokens, torch.tensor([[160.0, 320.0], [640.0, 40.0]])).at(0)
    log_p = at_all(asked, keys)
    assert log_p.shape == (2, 5, 17)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 5))
    for b in range(2):
        for n in range(5):
            scores = (asked.weight[b].exp()[:, None] * (asked.query[b] @ keys[n].T).exp()).sum(0)
            whole = torch.cat([scores, asked.not_here[b : b + 1].exp()])
            torch.testing.assert_close(log_p[b, n].exp(), whole / whole.sum())
    torch.testing.assert_close(at_own(asked, keys[:2]), log_p[[0, 1], [0, 1]])


def test_asking_at_several_sizes_is_asking_at_each(model):
    tokens = model.encode_photos(pixels(2, 32, 64, 3))
    sizes = torch.tensor([[640.0, 160.0, 40.0], [600.0, 150.0, 37.5]])
    together = model.ask(tokens, sizes)
    for level in range(3):
        alone = model.ask(tokens, sizes[:, level : level + 1]).at(0)
        for part, expected in zip(together.at(level), alone, strict=True):
            torch.testing.assert_close(part, expected)


def test_without_not_here_the_children_share_everything(model):
    model.config = SMALL.model_copy(update={"not_here": False})
    asked = model.ask(model.encode_photos(pixels(2, 32, 64, 3)), torch.full((2, 1), 160.0)).at(0)
    log_p = at_all(asked, model.encode_views(pixels(1, 48, 48, 3), torch.tensor([160.0])))
    torch.testing.assert_close(log_p[..., :-1].exp().sum(-1), torch.ones(2, 1))


def test_the_field_of_view_and_the_size_of_cells_are_seen(model):
    photos, sizes = pixels(2, 32, 64, 3), torch.tensor([160.0, 160.0])
    narrow, wide = (model.encode_photos(photos, torch.tensor([fov, 60.0])) for fov in (30.0, 120.0))
    assert not torch.allclose(narrow[0], wide[0]) and torch.allclose(narrow[1], wide[1])
    usual = model.encode_photos(photos, torch.tensor([math.nan, 60.0]))
    torch.testing.assert_close(usual[0], model.encode_photos(photos, torch.tensor([70.0, 60.0]))[0])
    views = pixels(2, 48, 48, 3)
    assert not torch.allclose(*(model.encode_views(views, size) for size in (sizes, 4 * sizes)))
    assert not torch.allclose(*(model.ask(narrow, size[:, None]).query for size in (sizes, 4 * sizes)))


def test_a_childs_key_follows_it_through_the_view(model):
    """Content, not place: where a child's patches are moved to another child, its key goes with them."""
    with torch.no_grad():
        model.encoder.backbone.embeddings.position_embeddings.zero_()
    view = pixels(1, 48, 48, 3)
    turned = torch.rot90(view, 2, dims=(1, 2))
    side = torch.tensor([160.0])
    patches = [v.unflatten(1, (6, 8)).unflatten(3, (6, 8)) for v in (view, turned)]
    moved = (
        patches[0].flip(1, 3).flatten(3, 4).flatten(1, 2)
    )  # whole patches change places, unturned in themselves
    keys, after = model.encode_views(view, side)[0], model.encode_views(moved, side)[0]
    torch.testing.assert_close(after, keys.flip(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model.encode_views(turned, side)[0], keys.flip(0), atol=1e-3)


def brute_force(model, index, tokens):
    """Leaf probabilities (B, leaves) level by level, and the root's "not here" (B,)."""
    n, mass = 16, torch.ones(len(tokens), 1, dtype=torch.float64)
    absent = torch.empty(0)
    for level in range(index.grid.depth):
        first = (n**level - 1) // (n - 1)
        side = torch.full((len(tokens), 1), index.grid.side_m(level))
        p = at_all(model.ask(tokens, side).at(0), index.at(np.arange(first, first + n**level))).double().exp()
        absent = p[:, 0, -1] if level == 0 else absent
        mass = (mass[:, :, None] * p[:, :, :-1]).flatten(1)
    return mass / mass.sum(1, keepdim=True) * (1 - absent)[:, None], absent


def as_table(leaves, grid):
    table = np.zeros(16**grid.depth)
    table[leaves.paths @ 16 ** np.arange(grid.depth - 1, -1, -1)] = leaves.probabilities
    return table


def test_the_posterior_is_that_of_brute_force_and_certified(model, region):
    index = Index.of(model, region)
    with torch.inference_mode():
        tokens = model.encode_photos(pixels(3, 32, 64, 3))
        expected, absent = brute_force(model, index, tokens)
    for exact, not_here, leaves in zip(
        expected.numpy(), absent.tolist(), markov.posterior(model, index, tokens, epsilon=0.0), strict=True
    ):
        np.testing.assert_allclose(as_table(leaves, index.grid), exact, atol=1e-5)
        assert leaves.not_here == pytest.approx(not_here, abs=1e-5) and leaves.unexpanded == 0
        assert leaves.probabilities.sum() + leaves.not_here == pytest.approx(1, abs=1e-5)
    for exact, leaves in zip(
        expected.numpy(), markov.posterior(model, index, tokens, epsilon=0.5), strict=True
    ):
        assert leaves.probabilities.sum() + leaves.not_here + leaves.unexpanded == pytest.approx(1, abs=1e-5)
        assert (as_table(leaves, index.grid) <= exact + 1e-6).all()


def test_a_beam_finds_what_the_posterior_finds_best(model, region):
    index = Index.of(model, region)
    with torch.inference_mode():
        tokens = model.encode_photos(pixels(4, 32, 64, 3))
    whole = markov.posterior(model, index, tokens, epsilon=0.0)
    for beam, posterior in zip(markov.beam(model, index, tokens, width=256), whole, strict=True):
        assert len(beam.paths) == 256
        assert beam.paths[0].tolist() == posterior.paths[0].tolist()
    for greedy in markov.beam(model, index, tokens, width=1):
        assert greedy.paths.shape == (1, 2)


def test_a_model_serves_regions_of_any_depth(model, region):
    localizer = Localizer(model)
    photo = pixels(40, 80, 3).numpy()
    for depth in (1, 2, 3):
        found = localizer.locate([photo], replace(region, depth=depth), names=["a"], fovs_deg=[None])[0]
        assert len(found.path) == depth and found.posterior.sum() + found.not_here > 0.99


def lesson_of(region, xy, *, bank=None, placement=None):
    bank = bank or ViewBank(region.open(), region.grid, px=48, reach=1.5)
    placement = placement or Placement.of(region.grid)
    labels = make_labels(placement, xy, branch=4, depth=2, sigma_m=5.0)
    city = torch.zeros(len(xy), dtype=torch.long)
    return make_lesson(labels, xy, torch.zeros(len(xy)), city, [bank], [placement])


def test_a_lesson_shows_every_cell_once_and_knows_whose_it_is(region):
    x, y = region.grid.north_west
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310], [x + 15, y - 12]], dtype=torch.float64)
    lesson = lesson_of(region, xy)
    assert lesson.n_views == [1, 2] and lesson.view_index.tolist() == [[0, 1], [0, 2], [0, 1]]
    side_m = region.grid.size_m
    assert lesson.side_m.tolist() == [side_m, side_m / 4, side_m / 4]
    assert lesson.sides_m.tolist() == [[side_m, side_m / 4]] * 3


def test_cities_keep_their_photos_apart(region):
    x, y = region.grid.north_west
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310], [x + 15, y - 12]], dtype=torch.float64)
    city = torch.tensor([1, 0, 1])
    bank = ViewBank(region.open(), region.grid, px=48, reach=1.5)
    here, there = Placement.of(region.grid), Placement(region.grid.north_west, region.grid.size_m / 2)
    parts = [make_labels(p, xy[city == i], branch=4, depth=2) for i, p in enumerate((here, there))]
    lesson = make_lesson(merged(parts, city), xy, torch.zeros(3), city, [bank, bank], [here, there])
    assert lesson.n_views == [2, 2] and lesson.view_index.tolist() == [[1, 3], [0, 2], [1, 3]]
    assert lesson.labels.actions[1].tolist() == parts[0].actions[0].tolist()
    assert lesson.side_m.tolist() == [s * region.grid.size_m for s in (1, 0.5, 0.25, 0.125)]
    assert (lesson.views[1] != lesson.views[0]).any()


def test_a_lesson_knows_whose_child_a_cell_is(region):
    x, y = region.grid.north_west
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310]], dtype=torch.float64)
    assert [each.tolist() for each in lesson_of(region, xy).child_of] == [[0, 15]]


def test_the_loss_is_that_of_own_children_and_of_others_not_here(region):
    x, y = region.grid.north_west
    outside = [x - 50, y + 50]
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310], outside], dtype=torch.float64)
    lesson = lesson_of(region, xy)
    log_p = [torch.randn(3, n, 17).log_softmax(-1) for n in lesson.n_views]
    targets = lesson.labels.targets
    root = [-(targets[i, 0] * log_p[0][i, 0, :-1]).sum() for i in (0, 1)] + [-log_p[0][2, 0, -1]]
    own = lesson.view_index[:, 1] - 1
    deeper = [-(targets[i, 1] * log_p[1][i, own[i], :-1]).sum() for i in (0, 1)] + [torch.tensor(0.0)]
    pairs = [(i, j) for i in range(3) for j in range(2) if j != own[i]]
    others = [-log_p[1][i, j, -1] for i, j in pairs]
    mistakes = [log_p[0][i, 0, (0, 15)[j]].exp() * other for (i, j), other in zip(pairs, others, strict=True)]
    expected = (sum(root) / 3 + sum(deeper) / 3 + 0.5 * sum(others) / len(others) + 2 * sum(mistakes) / 3) / 2
    found = pointer_loss(log_p, lesson, smoothing=0.0, off_path=0.5, own_mistakes=2.0)
    torch.testing.assert_close(found, expected)
    found = pointer_loss(log_p, lesson, smoothing=0.0, off_path=0.0, own_mistakes=0.0)
    torch.testing.assert_close(found, (sum(root[:2]) / 3 + sum(deeper) / 3) / 2)


def test_the_contrast_is_with_every_place_of_the_batch(region):
    x, y = region.grid.north_west
    outside = [x - 50, y + 50]
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310], outside], dtype=torch.float64)
    lesson = lesson_of(region, xy)
    scores = [torch.randn(3, n, 17) for n in lesson.n_views]
    for each in scores:
        each[..., -1] = each[:, :1, -1]  # of "not here": the photo's alone
    expected = []
    for i in (0, 1):
        for level, each in enumerate(scores):
            odds = each[i, :, :-1].exp()
            own = int(lesson.view_index[i, level]) - sum(lesson.n_views[:level])
            expected.append(-(lesson.labels.targets[i, level] * (odds[own] / odds.sum()).log()).sum())
    found = contrast([each.log_softmax(-1) for each in scores], lesson, smoothing=0.0)
    torch.testing.assert_close(found, sum(expected) / 4)


def test_the_expected_error_is_that_of_the_posterior_of_the_cells_looked_at(region):
    x, y = region.grid.north_west
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310], [x + 160, y - 90]], dtype=torch.float64)
    lesson = lesson_of(region, xy)
    log_p = [torch.randn(3, n, 17).log_softmax(-1) for n in lesson.n_views]
    expected = []
    for i in range(3):
        masses, errors = [], []
        for j, parent in enumerate(lesson.child_of[0].tolist()):
            cell = region.grid.cell((parent % 16,))
            for k, leaf in enumerate(region.grid.children(cell)):
                masses.append(float(log_p[0][i, 0, parent % 16] + log_p[1][i, j, k]))
                errors.append(math.log1p(math.dist(region.grid.centre(leaf), xy[i].tolist())))
        share = np.exp(masses) / np.exp(masses).sum()
        expected.append(share @ np.array(errors))
    assert float(expected_error(log_p, lesson)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_nobody_is_expected_in_another_city(region):
    x, y = region.grid.north_west
    xy = torch.tensor([[x + 10, y - 10], [x + 300, y - 310]], dtype=torch.float64)
    city, here = torch.tensor([0, 1]), Placement.of(region.grid)
    bank = ViewBank(region.open(), region.grid, px=48, reach=1.5)
    parts = [make_labels(here, xy[city == i], branch=4, depth=2) for i in range(2)]
    lesson = make_lesson(merged(parts, city), xy, torch.zeros(2), city, [bank, bank], [here, here])
    assert lesson.distance_m.isinf().sum(1).tolist() == [16, 16] and lesson.distance_m.shape == (2, 32)
    log_p = [torch.randn(2, n, 17).log_softmax(-1).requires_grad_() for n in lesson.n_views]
    expected_error(log_p, lesson).backward()
    assert log_p[1].grad[0, 1].abs().sum() == 0 and log_p[1].grad[0, 0].abs().sum() > 0


def test_slots_describe_children_by_their_place(model):
    torch.manual_seed(0)
    slots = PointerModel(SMALL.model_copy(update={"slots": True})).eval()
    keys = slots.encode_views(pixels(2, 48, 48, 3), torch.full((2,), 160.0))
    assert keys.shape == (2, 16, 16)
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(2, 16))


def test_it_learns_and_a_checkpoint_brings_it_back(tiny_data, tiny_pointer):
    localizer = Localizer.from_pretrained(tiny_pointer, device="cpu")
    report = evaluate(localizer, tiny_data, searches=["greedy", "posterior"])
    assert report.metrics["posterior"].recall[40] > 4 * report.metrics["chance"].recall[40]
    assert report.metrics["greedy"].level_accuracy[0] > 4 / 16
    assert isinstance(checkpoint.load(tiny_pointer), PointerModel)
