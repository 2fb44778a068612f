"""What the scale-wise models promise beside the published numbers."""

import pytest
import torch

from generation import weights
from generation.core import NOTHING
from generation.mask import block_causal, neighbourhood
from generation.models.flexvar import FlexVAR
from generation.models.hmar import HMAR
from generation.models.m_var import MambaVAR
from generation.models.mvar import MVAR
from generation.models.var import VAR, VARConfig
from generation.quantize import MultiScaleDirect, MultiScaleResidual, VectorQuantizer
from generation.sample import guided, likeliest, nucleus, taken
from generation.schedule import Step, diagonals, raster, scales
from generation.state import Mamba2, scan

TINY = VARConfig(2, sides=(1, 2, 3, 8), n_codes=50, code_width=8, n_classes=5)
LABELS = torch.tensor([0, 3])


def made(kind):
    torch.manual_seed(0)
    return kind(TINY).eval()


def quantizer_of(kind):
    torch.manual_seed(1)
    if kind is FlexVAR:
        return MultiScaleDirect(VectorQuantizer(50, 8, cosine=True))
    return MultiScaleResidual(50, 8, n_scales=4)


def sampled(model, quantizer, **options):
    return model.sample(LABELS, quantizer, generator=torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("kind", [VAR, MVAR, MambaVAR, FlexVAR, HMAR])
def test_a_sampling_step_sees_what_training_sees(kind):
    model, quantizer = made(kind), quantizer_of(kind)
    codes = sampled(model, quantizer)
    with torch.no_grad():
        at_once = model(LABELS, quantizer.inputs(codes, model.schedule)).split(
            [len(step) for step in model.schedule], dim=1
        )
        under_way = model.begin(LABELS, quantizer)
        for step in model.schedule:
            x = under_way.core(under_way.feed(step, codes[: step.index]), step)
            conditional = under_way.head(x, step)[::2]
            torch.testing.assert_close(conditional, at_once[step.index], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [VAR, MambaVAR])
def test_samples_taken_on_the_way_go_on_as_if_they_had_been_alone(kind):
    model, quantizer = made(kind), quantizer_of(kind)

    def second_twice(step, codes, cache):
        return taken(codes, cache, torch.tensor([1, 1])) if step.index == 2 else codes

    codes = sampled(model, quantizer, k=1, hook=second_twice)
    alone = model.sample(LABELS[1:], quantizer, k=1)
    for some, other in zip(codes, alone, strict=True):
        assert (some == other).all() and len(some) == 2


def test_a_step_taken_back_leaves_no_trace():
    model, quantizer = made(MambaVAR), quantizer_of(MambaVAR)
    codes = sampled(model, quantizer)
    with torch.no_grad():
        under_way = model.begin(LABELS, quantizer)
        first, second = model.schedule[:2]
        under_way.core(under_way.feed(first, []), first)
        mark = under_way.cache.mark()
        once = under_way.core(under_way.feed(second, codes[:1]), second)
        under_way.cache.undo(mark)
        again = under_way.core(under_way.feed(second, codes[:1]), second)
    assert torch.equal(once, again)


def test_only_models_that_need_the_past_keep_it():
    def keys_kept(kind):
        lengths = []

        def note(step, codes, cache):
            lengths.append(cache.length())
            return codes

        sampled(made(kind), quantizer_of(kind), hook=note)
        return lengths

    assert keys_kept(VAR) == [1, 5, 14, 78]
    assert keys_kept(MVAR) == keys_kept(MambaVAR) == keys_kept(HMAR) == [0, 0, 0, 0]


def test_a_recurrent_state_does_not_grow():
    sizes = []

    def note(step, codes, cache):
        sizes.append(cache.nbytes)
        return codes

    sampled(made(MambaVAR), quantizer_of(MambaVAR), hook=note)
    assert len(set(sizes)) == 1


def test_flexvar_makes_and_trains_on_maps_of_sides_it_was_not_made_for():
    model, quantizer, schedule = made(FlexVAR), quantizer_of(FlexVAR), scales((1, 3, 5, 7, 20))
    codes = sampled(model, quantizer, schedule=schedule)
    assert [c.shape[1] for c in codes] == [1, 9, 25, 49, 400]
    logits = model(LABELS, quantizer.inputs(codes, schedule), schedule)
    assert logits.shape == (2, 484, 50)


def test_flexvar_takes_the_likeliest_codes_at_sides_it_does_not_know():
    torch.manual_seed(0)
    model, logits = made(FlexVAR), torch.randn(1, 400, 50)

    def picked(side, seed):
        return model.pick(torch.Generator().manual_seed(seed))(logits, Step(0, (side, side), range(400)))

    for unknown in (7, 20, 32):
        assert torch.equal(picked(unknown, seed=0), logits.argmax(-1))
    assert not torch.equal(picked(8, seed=0), picked(8, seed=1))


def test_hmar_keeps_the_codes_it_was_surest_of_and_draws_the_others_again():
    model, quantizer = made(HMAR), quantizer_of(HMAR)
    known = []
    refill = model.refill

    def noted(step, condition, given, shown, stays):
        known.append((step.shape[0], int(stays[0].sum())))
        return refill(step, condition, given, shown, stays)

    model.refill = noted
    codes = sampled(model, quantizer)
    assert known == [(2, 1), (3, 1), (3, 2), (3, 4)]
    known.clear()
    other = sampled(model, quantizer, goes={8: (32, 32)})
    assert known == [(8, 32)]
    assert [c.shape for c in codes] == [c.shape for c in other]


def test_masked_codes_do_not_shine_through():
    quantizer, schedule = quantizer_of(HMAR), scales(TINY.sides)
    codes = torch.randint(0, 50, (1, 9))
    stays = torch.arange(9)[None] < 4
    changed = torch.where(stays, codes, (codes + 1) % 50)
    shown = quantizer.shown(codes, stays, schedule[2], schedule)
    assert torch.equal(shown, quantizer.shown(changed, stays, schedule[2], schedule))
    assert not torch.equal(shown, quantizer.shown(changed, ~stays, schedule[2], schedule))


def test_a_token_of_mvar_sees_its_neighbours_alone():
    near = neighbourhood(9, 7)
    assert (near.sum(1) == 49).all(), "as many everywhere"
    corner, centre = near[0].view(9, 9), near[40].view(9, 9)
    assert corner[:7, :7].all() and centre[1:8, 1:8].all()


def test_masks_follow_the_schedule():
    mask = block_causal(scales((1, 2)))
    assert mask.tolist() == [[True, False, False, False, False], *[[True] * 5] * 4]
    assert [step.positions for step in diagonals(2)] == [(0,), (1, 2), (3,)]
    assert block_causal(diagonals(3))[4].view(3, 3).tolist() == [
        [True, True, True],
        [True, True, False],
        [True, False, False],
    ]
    assert torch.equal(block_causal(raster(3)), torch.ones(9, 9).tril().bool())


def test_the_scan_is_the_recurrence_token_by_token():
    torch.manual_seed(0)
    value, decay = torch.randn(2, 7, 3, 4), -torch.rand(2, 7, 3)
    write, read, state = torch.randn(2, 7, 5), torch.randn(2, 7, 5), torch.randn(2, 3, 4, 5)
    y, last = scan(value, decay, write, read, state)
    for t in range(7):
        state = decay[:, t, :, None, None].exp() * state + torch.einsum(
            "bhd,bn->bhdn", value[:, t], write[:, t]
        )
        torch.testing.assert_close(y[:, t], torch.einsum("bhdn,bn->bhd", state, read[:, t]))
    torch.testing.assert_close(last, state)


def test_long_sequences_are_scanned_in_chunks(monkeypatch):
    torch.manual_seed(0)
    layer, x = Mamba2(32), torch.randn(2, 10, 32)
    with torch.no_grad():
        whole = layer(x, NOTHING)
        monkeypatch.setattr("generation.state.CHUNK", 3)
        torch.testing.assert_close(layer(x, NOTHING), whole, rtol=1e-4, atol=1e-5)


def test_residual_codes_draw_nearer_to_the_latent_with_every_scale():
    torch.manual_seed(0)
    quantizer, schedule = MultiScaleResidual(4000, 4, n_scales=4), scales((1, 2, 4, 8))
    for smoother in quantizer.smoothers:
        torch.nn.init.dirac_(smoother.weight)
        torch.nn.init.zeros_(smoother.bias)
    latent = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        codes = quantizer.encode(latent, schedule)
        errors = [
            float((quantizer.canvas(codes[:n], schedule) - latent).square().mean()) for n in range(1, 5)
        ]
        inputs = quantizer.inputs(codes, schedule)
        for n in (1, 2, 3):
            torch.testing.assert_close(quantizer.following(codes[:n], schedule), inputs[n - 1])
    assert errors == sorted(errors, reverse=True)


def test_the_nucleus_keeps_the_fewest_codes_that_hold_the_share_asked_for():
    step = Step(0, (1, 1), range(1))
    logits = torch.tensor([[[0.5, 0.1, 0.3, 0.1]]]).log()
    assert nucleus(4, 0.75)(logits, step).isfinite().tolist() == [[[True, False, True, False]]]
    assert nucleus(1, 1.0)(logits, step).isfinite().tolist() == [[[True, False, False, False]]]
    assert torch.equal(likeliest(nucleus(4, 0.01)(logits, step), step), torch.tensor([[0]]))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_checkpoint_goes_through_a_file_unchanged(tmp_path, suffix):
    model, path = made(VAR), tmp_path / f"var.{suffix}"
    state = weights.save(model, weights.VAR)
    weights.write(state, path) if suffix == "safetensors" else torch.save(state, path)
    again = made(VAR)
    torch.nn.init.zeros_(again.start)
    weights.load(again, weights.read(path), weights.VAR)
    assert torch.equal(again.start, model.start)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("pos_start"), "has no 'pos_start'"),
        (lambda state: state.update(pos_start=torch.zeros(3)), r"'pos_start' is \[3\], not \[1, 1, 128\]"),
        (lambda state: state.update(adapter=torch.zeros(3)), "'adapter', which this model has no place for"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(change, said):
    state = weights.save(made(VAR), weights.VAR)
    change(state)
    with pytest.raises(ValueError, match=said):
        weights.load(made(VAR), state, weights.VAR)


def test_guidance_goes_from_the_unconditional_through_the_conditional():
    step = Step(0, (1, 1), range(1))
    rows = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])  # one sample, conditional before unconditional
    assert guided(lambda _: 0.5)(rows, step).tolist() == [[[1.5, -1.0]]]
