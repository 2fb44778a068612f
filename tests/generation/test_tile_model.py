"""Models of tiles: what they keep of what was given, and that a seed decides the rest."""

import pytest
import torch

from generation import tile_checkpoint
from generation.schedule import scales
from generation.tile_checkpoint import CheckpointConfig
from generation.tile_config import ModelConfig, TokenizerConfig
from generation.tile_model import TileModel, consistent, enlarged, halved, spread
from generation.tile_tokenizer import PATIENCE, TileTokenizer, components

SIZES = {"px": 16, "patch": 2, "channels": 32, "n_codes": 32, "code_width": 8, "sides": (1, 2, 4)}
KINDS = {"var": "residual", "flexvar": "direct"}


def made(kind):
    torch.manual_seed(0)
    tokenizer = TileTokenizer(TokenizerConfig(kind=KINDS[kind], **SIZES))
    torch.nn.init.normal_(tokenizer.codes.embedding.weight)
    return TileModel(ModelConfig(kind=kind, width=32, depth=2), tokenizer).eval()


def smooth(n, px=16):
    noise = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.6
    return torch.nn.functional.interpolate(noise, size=(px, px), mode="bilinear")


@pytest.fixture(params=KINDS)
def model(request):
    return made(request.param)


def test_a_parent_gives_the_coarse_maps_and_a_seed_decides_the_rest(model):
    parents, zoom = smooth(3, 8), torch.tensor([17, 18, 30])
    first = model.enlarge(parents, zoom, seeds=[5, 6, 7])
    assert first.images.shape == (3, 3, 16, 16) and [c.shape[1] for c in first.codes] == [1, 4, 16]
    given = model.encode(enlarged(parents))[: model.n_given]
    assert model.n_given == 2 and all(map(torch.equal, first.codes, given))
    alone = model.enlarge(parents[1:2], zoom[1:2], seeds=[6])
    torch.testing.assert_close(alone.images, first.images[1:2])
    other = model.enlarge(parents, zoom, seeds=[5, 6, 8])
    assert torch.equal(other.codes[-1][:2], first.codes[-1][:2])
    assert not torch.equal(other.codes[-1][2], first.codes[-1][2])


def test_tiles_made_look_like_their_parents_when_halved(model):
    parents = smooth(2, 8)
    images = model.enlarge(parents, torch.tensor([18, 18]), seeds=[1, 2]).images
    assert (halved(images) - parents).abs().mean() < 0.02


def test_control_and_zoom_level_matter(model):
    parents, zoom = smooth(1, 8), torch.tensor([18])
    images = enlarged(parents)
    with torch.no_grad():
        for parameter in model.model.parameters():  # else a new model hardly minds its zoom level
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.05)
        losses = {
            float(model(images, z, known))
            for z in (zoom, zoom - 2)
            for known in (torch.ones(1, 16, 16, dtype=torch.bool), torch.zeros(1, 16, 16, dtype=torch.bool))
        }
    assert len(losses) == 4


def test_processors_see_the_logits_of_every_step_made(model):
    seen = []

    def only_even(logits, step):
        seen.append(step.index)
        return logits.masked_fill(torch.arange(32) % 2 == 1, -torch.inf)

    codes = model.enlarge(smooth(1, 8), torch.tensor([18]), seeds=[1], processors=[only_even]).codes
    assert seen == [2] and not (codes[-1] % 2).any()


def test_a_gap_is_filled_and_what_is_known_stays(model):
    tiles, known = smooth(2), torch.ones(2, 16, 16, dtype=torch.bool)
    known[:, 4:12, 6:] = False
    filled = model.fill(tiles, known, torch.tensor([18, 18]), seeds=[1, 2])
    shown = known[:, None].expand_as(tiles)
    assert torch.equal(filled.images[shown], tiles[shown])
    assert not torch.equal(filled.images, tiles)
    of_known = model.encode(spread(tiles, known))[0]
    unknown = torch.zeros_like(known)
    assert torch.equal(model.fill(tiles, ~unknown, torch.tensor([18, 18]), seeds=[3, 4]).images, tiles)
    blind = model.fill(tiles, unknown, torch.tensor([18, 18]), seeds=[1, 2], parents=halved(tiles))
    assert (halved(blind.images) - halved(tiles)).abs().mean() < 0.02 and len(of_known) == 2


def test_codes_of_known_places_are_the_tiles_own(model):
    tiles, known = smooth(1), torch.ones(1, 16, 16, dtype=torch.bool)
    known[:, :, 8:] = False
    codes = model.fill(tiles, known, torch.tensor([18]), seeds=[1]).codes
    latent = model.tokenizer.latent(spread(tiles, known))
    true = model.tokenizer.quantizer.encode(latent, model.schedule, codes[:2])[2]
    left = torch.arange(16) % 4 < 2
    assert torch.equal(codes[2][:, left], true[:, left])


def test_what_is_spread_is_smooth_and_leaves_the_known_alone():
    values, known = torch.arange(64.0).view(1, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    known[0, 0, 0] = known[0, 7, 7] = True
    out = spread(values, known)
    assert out[0, 0, 0, 0] == 0 and out[0, 0, 7, 7] == 63 and 0 < out[0, 0, 4, 4] < 63


def test_back_projection_keeps_fine_detail():
    detail = torch.rand(1, 3, 8, 8)
    checked = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 0.2 - 0.1
    out = consistent(detail * 0 + checked, torch.zeros(1, 3, 4, 4))
    torch.testing.assert_close(out[0, 0], checked)


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_tokenizer_finds_codes_then_learns_to_draw_them(kind):
    torch.manual_seed(0)
    tokenizer, generator = (
        TileTokenizer(TokenizerConfig(kind=kind, **SIZES)),
        torch.Generator().manual_seed(0),
    )
    optimizer, images, losses = torch.optim.Adam(tokenizer.parameters(), lr=2e-3), smooth(6), []
    tokenizer.begin(images, generator)
    known = torch.zeros(6, 16, 16, dtype=torch.bool)
    for step in range(24):
        attempt = tokenizer(images) if step < 12 else tokenizer(images, images * 0, known)
        loss = attempt.quantized.loss if step < 12 else (attempt.image - images).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tokenizer.revive(attempt.quantized, generator)
        losses.append(float(loss.detach()))
    assert losses[11] < losses[0] and losses[23] < losses[12]
    assert tokenizer.decode(tokenizer.encode(images)).shape == images.shape
    tokenizer.idle[3] = PATIENCE
    attempt.quantized.codes[:] = [torch.zeros_like(c) for c in attempt.quantized.codes]
    tokenizer.revive(attempt.quantized, generator)
    assert (
        tokenizer.idle[3] == 0
        and (tokenizer.codes.embedding.weight[3] == attempt.quantized.vectors).all(1).any()
    )


def test_components_are_told_apart_and_draw_what_they_say():
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    analysis, synthesis = components(images, 8, 4)
    torch.testing.assert_close(analysis.flatten(1) @ synthesis.flatten(1).T, torch.eye(8), atol=1e-4, rtol=0)
    all_of_them = components(images, 48, 4)
    latent = torch.nn.functional.conv2d(images, all_of_them[0], stride=4)
    drawn = torch.nn.functional.conv_transpose2d(latent, all_of_them[1], stride=4)
    torch.testing.assert_close(drawn, images, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_trains_on_what_it_will_be_given(kind):
    model, images, zoom = made(kind), smooth(4), torch.full((4,), 18)
    known = torch.ones(4, 16, 16, dtype=torch.bool)
    known[2:, 5:] = False
    codes = model._wanted(images, enlarged(halved(images)), known, model.schedule)
    of_parents = model.encode(enlarged(halved(images)))
    assert torch.equal(codes[1][:2], of_parents[1][:2])
    assert torch.equal(codes[1][2:], model.encode(images)[1][2:])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(15):
        loss = model(images, zoom, known, own_context=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_a_flexvar_trains_on_fewer_maps():
    model = made("flexvar")
    loss = model(
        smooth(2), torch.tensor([18, 18]), torch.ones(2, 16, 16, dtype=torch.bool), schedule=scales([1, 4])
    )
    assert loss.isfinite()


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_a_folder(kind, tmp_path):
    model = made(kind)
    config = CheckpointConfig(tokenizer=model.tokenizer.config, model=model.config)
    tile_checkpoint.save(model, config, tmp_path, card="# A model\n", dtype=torch.float16)
    again = TileModel.load(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    parents = smooth(1, 8)
    of_both = [
        m.enlarge(parents, torch.tensor([18]), seeds=[1]).images for m in (again, TileModel.load(tmp_path))
    ]
    assert torch.equal(*of_both) and again.schedule == model.schedule
    assert torch.equal(tile_checkpoint.load_tokenizer(tmp_path).idle, model.tokenizer.idle)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        TileModel.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"tokenizer": {"kind": "residual", "chanels": 3}}')
    with pytest.raises(ValueError, match="damaged"):
        TileModel.load(tmp_path)
    model = made("var")
    config = CheckpointConfig(tokenizer=model.tokenizer.config)
    tile_checkpoint.save(model.tokenizer, config, tmp_path, card="", dtype=torch.float32)
    with pytest.raises(ValueError, match="holds no model"):
        TileModel.load(tmp_path)
    (tmp_path / "config.json").write_text('{"tokenizer": {"kind": "residual", "chanels": 3}}')
    with pytest.raises(ValueError, match=r"unknown key 'tokenizer\.chanels'; did you mean channels"):
        TileModel.load(tmp_path)
    with pytest.raises(ValueError, match='needs a "direct" tokenizer'):
        tile_checkpoint.make(
            CheckpointConfig(tokenizer=model.tokenizer.config, model=ModelConfig(kind="flexvar"))
        )
