"""The published model's numbers, from weights made by a rule (no weights are shipped)."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from generation.search import tree_search
from zoomloc.checkpoint import load_published
from zoomloc.config import ModelConfig

CONFIG = ModelConfig(
    width=64, encoder_layers=2, encoder_heads=4, patch_px=14, table_px=112, photo_px=126, view_px=126,
    decoder_layers=3, decoder_heads=4, branch=4, depth=4,
)  # fmt: skip


def rule_made(key, shape, *, seed, std):
    number = int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:15], 16)
    value = torch.randn(shape, generator=torch.Generator().manual_seed(number)) * std
    return value + 1 if len(shape) == 1 and key.endswith("weight") else value


@pytest.fixture(scope="module", params=["", "_orig_mod."])
def published(request, shared_parity: Path, tmp_path_factory):
    fixture = json.loads((shared_parity / "just_zoom_in.json").read_text())
    state = {
        request.param + key: rule_made(key, shape, **fixture["init"])
        for key, shape in fixture["keys"].items()
        if isinstance(shape, list)
    }
    state[request.param + "decoder.freqs"] = torch.zeros(8)
    path = tmp_path_factory.mktemp("published") / "model.pth"
    torch.save({"model_state_dict": state}, path)
    return load_published(path, CONFIG), np.load(shared_parity / "just_zoom_in.npz")


def inputs():
    g = torch.Generator().manual_seed(11)
    ground = torch.randn(3, 2, 3, 126, 126, generator=g)
    sat = torch.randn(3, 4, 3, 126, 126, generator=g)
    return ground, sat, torch.randint(0, 16, (3, 4), generator=g)


@torch.no_grad()
def features(model, ground, sat):
    photo = model.encoder(ground.flatten(0, 1)).unflatten(0, (3, 2)).mean(1)
    return photo, model.encoder(sat.flatten(0, 1)).unflatten(0, (3, 4))


def close(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_and_teacher_forced_logits(published):
    model, expected = published
    ground, sat, actions = inputs()
    photo, views = features(model, ground, sat)
    close(photo, expected["ground_feature"])
    close(views, expected["satellite_feature"])
    assert (actions.numpy() == expected["actions"]).all()
    close(model.decoder(photo, views, actions), expected["logits"])


@torch.no_grad()
def test_cached_steps_equal_teacher_forcing(published):
    model, expected = published
    ground, sat, actions = inputs()
    photo, views = features(model, ground, sat)
    cache, context = model.decoder.start(), photo
    for level in range(4):
        close(model.decoder.step(context, views[:, level], cache), expected["logits"][:, level])
        context = model.decoder.action_embed(actions[:, level])


@torch.no_grad()
def test_greedy_paths_and_their_probability(published):
    model, expected = published
    ground, sat, _ = inputs()
    photo, _ = features(model, ground, sat)
    for b in range(3):
        cache = model.decoder.start()

        def step(paths, photo=photo[b : b + 1], cache=cache):
            number = 1000 + sum((int(a) + 1) * 17**i for i, a in enumerate(paths[0, 0]))
            tile = torch.randn(3, 126, 126, generator=torch.Generator().manual_seed(number))
            context = model.decoder.action_embed(paths[0, :, -1]) if paths.shape[2] else photo
            return model.decoder.step(context, model.encoder(tile[None]), cache).log_softmax(-1)[None]

        paths, log_probability = tree_search(step, cache.take, batch=1, depth=4, width=1)
        assert paths[0, 0].tolist() == expected["greedy"][b].tolist()
        assert float(log_probability[0, 0]) == pytest.approx(float(expected["greedy_logprob"][b]), abs=1e-4)


def test_parameter_count(published):
    from zoomloc.model import n_parameters

    assert n_parameters(published[0]) == 341_440
