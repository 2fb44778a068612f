"""LlamaGen and NAR: the published numbers from weights made by a rule, and what keeps them apart."""

import hashlib
import json

import numpy as np
import pytest
import torch

from generation import weights
from generation.losses import cross_entropy
from generation.models.llamagen import LlamaGen, LlamaGenConfig
from generation.models.nar import NAR
from generation.sample import taken

SMALL = LlamaGenConfig(width=128, depth=2, heads=2)
TINY = LlamaGenConfig(width=32, depth=2, heads=2, side=4, n_codes=50, n_classes=5)


def rule_made(key, shape, *, seed, std):
    number = int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:15], 16)
    value = torch.randn(shape, generator=torch.Generator().manual_seed(number)) * std
    return value + 1 if len(shape) == 1 and key.endswith("weight") else value


def published_shapes(model):
    return {key: tensor.shape for key, tensor in weights.save(model, weights.LLAMAGEN).items()}


@pytest.fixture(scope="module", params=[LlamaGen, NAR])
def model(request):
    """A model with the rule's weights, loaded under the published names."""
    made = request.param(SMALL).eval()
    state = {key: rule_made(key, shape, seed=2, std=0.2) for key, shape in published_shapes(made).items()}
    assert weights.load(made, state, weights.LLAMAGEN) == {}
    saved = weights.save(made, weights.LLAMAGEN)
    assert saved.keys() == state.keys() and all((saved[key] == state[key]).all() for key in state)
    return made


def sampled(model):
    """As the published numbers were made: class 7, guidance of 2 in their counting."""
    codes = model.sample(torch.tensor([7]), generator=torch.Generator().manual_seed(0))
    return model.token_map(codes)


def digest(codes):
    return hashlib.sha256(codes.numpy().astype("<i4").tobytes()).hexdigest()[:16]


PUBLISHED = {  # the first tokens, and a digest of all 256
    LlamaGen: ([4132, 4122, 1207, 737, 9885, 10334], "4e10d61a3b807dba", 4_847_360),
    NAR: ([12154, 13217, 4763, 14000, 4017, 6795], "a88147009df6232f", 7_207_040),
}


def test_the_published_tokens_come_out(model):
    first, all_of_them, n_parameters = PUBLISHED[type(model)]
    codes = sampled(model)
    assert codes.shape == (1, 16, 16)
    assert codes[0, 0, :6].tolist() == first
    assert digest(codes) == all_of_them
    assert sum(p.numel() for p in model.parameters()) == n_parameters


def test_all_published_names_and_numbers_where_they_are_at_hand(model, shared_parity):
    name = type(model).__name__.lower()
    fixture, numbers = (
        json.loads((shared_parity / f"{name}.json").read_text()),
        np.load(shared_parity / f"{name}.npz"),
    )
    shapes = {key: shape for key, shape in fixture["keys_model"].items() if isinstance(shape, list)}
    assert {key: list(shape) for key, shape in published_shapes(model).items()} == shapes
    assert (sampled(model).flatten(1).numpy() == numbers["tokens"]).all()
    if "logits" in numbers:
        codes = torch.from_numpy(numbers["tokens"]).long()
        with torch.no_grad():
            logits = model(torch.tensor([7]), codes)
        np.testing.assert_allclose(logits[:, ::17, ::251], numbers["logits"], rtol=1e-4, atol=1e-4)
        assert float(cross_entropy(logits, codes, model.schedule)) == pytest.approx(
            float(numbers["loss"]), abs=1e-4
        )


def test_teacher_forced_logits_and_loss_of_llamagen():
    model = LlamaGen(SMALL).eval()
    state = {key: rule_made(key, shape, seed=2, std=0.2) for key, shape in published_shapes(model).items()}
    weights.load(model, state, weights.LLAMAGEN)
    codes = sampled(model).flatten(1)
    with torch.no_grad():
        logits = model(torch.tensor([7]), codes)
    expected = [
        [-4.83363, 2.25724, -2.10042, 1.06595],
        [-2.57471, 2.2743, 2.03697, -0.45752],
        [0.51096, 0.81662, 2.95745, -0.09809],
        [0.55567, -0.03668, 0.19821, 1.14233],
    ]
    torch.testing.assert_close(logits[0, ::85, ::4096], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert float(cross_entropy(logits, codes, model.schedule)) == pytest.approx(6.499341, abs=1e-4)


@pytest.mark.parametrize(("kind", "n_parameters"), [(LlamaGen, 110_888_448), (NAR, 130_551_552)])
def test_the_published_sizes(kind, n_parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in kind(LlamaGenConfig()).parameters()) == n_parameters


@pytest.fixture(params=[LlamaGen, NAR])
def tiny(request):
    torch.manual_seed(0)
    return request.param(TINY).eval()


@torch.no_grad()
def test_making_tokens_step_by_step_equals_teacher_forcing(tiny):
    codes, labels = torch.randint(0, 50, (2, 16)), torch.tensor([1, 3])
    whole = tiny(labels, codes)
    under_way, so_far = tiny.begin(labels), []
    for step in tiny.schedule:
        logits = under_way.head(under_way.core(under_way.feed(step, so_far), step), step)
        torch.testing.assert_close(logits[::2], whole[:, list(step.positions)])
        so_far.append(codes[:, list(step.positions)])
    assert (tiny.token_map(so_far).flatten(1) == codes).all()


@torch.no_grad()
def test_a_token_depends_on_those_decided_in_earlier_steps_and_on_no_others(tiny):
    codes, labels = torch.randint(0, 50, (1, 16)), torch.tensor([1])
    before = tiny(labels, codes)
    step_of = {place: step.index for step in tiny.schedule for place in step.positions}
    for place in (0, 5, 11):
        changed = codes.clone()
        changed[0, place] = (codes[0, place] + 1) % 50
        moved = (tiny(labels, changed) - before).abs().amax(-1)[0] > 1e-6
        assert moved.tolist() == [step_of[other] > step_of[place] for other in range(16)]


def test_diagonals_take_fewer_steps_than_a_raster():
    assert len(NAR(TINY).schedule) == 7 and len(LlamaGen(TINY).schedule) == 16


@torch.no_grad()
def test_guidance_of_none_is_the_class_alone_and_k_of_one_the_likeliest(tiny):
    codes = tiny.sample(torch.tensor([2]), guidance=0, k=1)
    flat = tiny.token_map(codes).flatten(1)
    assert (tiny(torch.tensor([2]), flat).argmax(-1) == flat).all()


def test_rows_taken_on_the_way_go_on_as_if_they_had_been_alone(tiny):
    def third_only(step, codes, cache):
        return taken(codes, cache, torch.tensor([2, 2])) if step.index == 2 else codes

    labels = torch.tensor([0, 1, 4])
    codes = tiny.sample(labels, k=1, hook=third_only)
    alone = tiny.sample(labels[2:], k=1)
    assert (tiny.token_map(codes) == tiny.token_map(alone)).all()
    assert len(codes[-1]) == 2
