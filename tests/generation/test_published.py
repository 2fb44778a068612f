"""The scale-wise models give the published numbers, from weights made by a rule (none are shipped)."""

import hashlib
import json
from functools import cache

import numpy as np
import pytest
import torch

from generation import weights
from generation.models.flexvar import FlexVAR, flexvar_config
from generation.models.hmar import HMAR
from generation.models.m_var import MambaVAR
from generation.models.mvar import MVAR
from generation.models.var import VAR, VARConfig
from generation.quantize import MultiScaleDirect
from generation.schedule import VAR_SIDES, scales
from generation.tokenizer import VARTokenizer, VQTokenizer

CLASS = torch.tensor([7])


def rule_made(key, shape, *, seed, std):
    number = int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:15], 16)
    value = torch.randn(shape, generator=torch.Generator().manual_seed(number)) * std
    return value + 1 if len(shape) == 1 and key.endswith("weight") else value


def mamba_made(key, n):
    """What the rule does not make: a recurrence has to be stable."""
    return {
        "A_log": lambda: torch.linspace(1, 8, n).log(),
        "dt_bias": lambda: torch.linspace(-5, -2, n),
        "D": lambda: torch.ones(n),
    }[key.split(".")[-1]]()


def filled(module, layout, *, seed, std):
    """The module with the rule's weights, loaded under the published names; all of them come back out unchanged."""
    state = weights.save(module, layout)
    for key in state.keys() - layout.constants(module).keys() - {"quantize.ema_vocab_hit_SV"}:
        shape = state[key].shape
        own = key.endswith(("A_log", "dt_bias", ".D"))
        state[key] = mamba_made(key, *shape) if own else rule_made(key, shape, seed=seed, std=std)
    constants = weights.load(module, state, layout)
    saved = weights.save(module, layout, constants)
    assert saved.keys() == state.keys() and all(torch.equal(saved[key], state[key]) for key in state)
    return module.eval()


MODELS = {
    "var": lambda: VAR(VARConfig(2)),
    "var_saln": lambda: VAR(VARConfig(2, shared=True)),
    "var_nonorm": lambda: VAR(VARConfig(2, cosine=False)),
    "mvar": lambda: MVAR(VARConfig(2)),
    "m_var": lambda: MambaVAR(VARConfig(2)),
    "flexvar": lambda: FlexVAR(flexvar_config(2)),
}
SETTINGS = {
    "mvar": {"guidance": 2.7, "k": 1200, "p": 0.99},
    "flexvar": {"guidance": 2.5, "k": 900, "p": 0.95},
}
SCHEDULES = {
    "tokens": VAR_SIDES,
    "tokens_10": VAR_SIDES,
    "tokens_13": (*range(1, 12), 13, 16),
    "tokens_512": (1, 2, 4, 8, 16, 23, 32),
}


@cache
def model(name):
    return filled(MODELS[name](), weights.VAR, seed=2, std=0.2)


@cache
def _tokenizer(is_flexvar):
    module = VQTokenizer(8912, 32) if is_flexvar else VARTokenizer(32)
    layout = weights.LLAMAGEN_TOKENIZER if is_flexvar else weights.VAR_TOKENIZER
    return filled(module, layout, seed=1, std=0.05), layout


def tokenizer(name):
    return _tokenizer(name == "flexvar")[0]


@cache
def sampled(name, tokens="tokens"):
    quantizer = tokenizer(name).quantizer
    return model(name).sample(
        CLASS,
        MultiScaleDirect(quantizer) if name == "flexvar" else quantizer,
        **SETTINGS.get(name, {}),
        schedule=scales(SCHEDULES[tokens]),
        generator=torch.Generator().manual_seed(0),
    )


@cache
@torch.inference_mode()
def logits(name):
    """Teacher-forced on what was sampled."""
    inputs = tokenizer(name).quantizer.inputs(sampled(name), model(name).schedule)
    return model(name)(CLASS, inputs)[:, ::17, ::61].numpy()


@cache
@torch.inference_mode()
def image(name):
    """In [0, 1], of what was sampled."""
    return ((tokenizer(name).decode(sampled(name)) + 1) / 2)[:, :, ::16, ::16].numpy()


@cache
@torch.inference_mode()
def encoded():
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return torch.cat(tokenizer("var").encode(images), dim=1)


def digest(codes):
    return hashlib.sha256(codes.numpy().astype("<i4").tobytes()).hexdigest()[:16]


PUBLISHED_TOKENS = {  # the first six, and a digest of all
    ("var", "tokens"): ([2771, 3101, 2255, 1580, 2013, 2737], "10e6a4cb9ebd6125"),
    ("var_saln", "tokens"): ([3026, 3068, 1651, 1880, 3319, 1181], "3b24cbd45c64b5b5"),
    ("var_nonorm", "tokens"): ([2771, 3101, 3892, 2771, 3892, 1234], "96c5a9bbfef45a88"),
    ("mvar", "tokens"): ([2771, 1868, 2255, 1580, 2013, 2307], "31222c904be23651"),
    ("m_var", "tokens"): ([2457, 3987, 3419, 2725, 2457, 1547], "f30b0d0880b08236"),
    ("flexvar", "tokens_10"): ([2771, 3505, 3837, 4449, 6813, 7727], "43ddda26f69411fc"),
    ("flexvar", "tokens_13"): ([2771, 3505, 3837, 4449, 6813, 7727], "1ebff18962d35808"),
    ("flexvar", "tokens_512"): ([2771, 3505, 3837, 4449, 6813, 7727], "5c033315bb8cd215"),
}
PUBLISHED_LOGITS = {  # of codes 0, 1830, 4087 at tokens 0, 221, 663
    "var": [[0.03995, -0.90545, -3.18607], [2.13338, 3.74968, -1.78902], [1.05107, 2.93297, -3.18312]],
    "var_saln": [[-1.22407, -1.43589, 0.14872], [0.07575, -3.75237, 0.12307], [0.15439, -3.44238, 0.84435]],
    "var_nonorm": [[0.03995, -0.90545, -3.18607], [2.22991, 5.4707, -0.46987], [0.92789, 4.51577, -1.05268]],
    "mvar": [[0.03995, -0.90545, -3.18607], [2.94143, 2.13887, -3.88737], [3.15155, 1.0728, -3.07747]],
    "m_var": [[2.9346, 0.16576, -1.10785], [3.76565, -0.42927, -0.62351], [4.4846, 1.35968, -0.94634]],
}
PUBLISHED_IMAGE = {  # red at row 16, column 32; green at 80, 48; blue at 112, 112
    "var": [0.63626, 0.69755, 0.45979],
    "var_saln": [0.5812, 0.29572, 0.48594],
    "var_nonorm": [0.40702, 0.51835, 0.90039],
}


@pytest.mark.parametrize(("name", "tokens"), PUBLISHED_TOKENS)
def test_the_published_tokens_come_out(name, tokens):
    codes = torch.cat(sampled(name, tokens), dim=1)
    first, all_of_them = PUBLISHED_TOKENS[name, tokens]
    assert codes[0, :6].tolist() == first
    assert digest(codes) == all_of_them


@pytest.mark.parametrize("name", PUBLISHED_LOGITS)
def test_the_published_logits_come_out(name):
    some = logits(name)[0][[[0], [13], [39]], [0, 30, 67]]
    np.testing.assert_allclose(some, PUBLISHED_LOGITS[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PUBLISHED_IMAGE)
def test_the_published_image_comes_out(name):
    some = image(name)[0, [0, 1, 2], [1, 5, 7], [2, 3, 7]]
    np.testing.assert_allclose(some, PUBLISHED_IMAGE[name], atol=1e-3)


@torch.inference_mode()
def test_the_published_image_of_flexvar_comes_out():
    codes = sampled("flexvar", "tokens_10")[-1].unflatten(1, (16, 16))
    some = tokenizer("flexvar").decode(codes)[0, [0, 1, 2], [32, 160, 224], [64, 96, 224]]
    np.testing.assert_allclose(some, [0.59376, -2.27945, -0.04226], atol=1e-3)


def test_the_published_codes_of_an_image_come_out():
    assert encoded()[0, :6].tolist() == [700, 3494, 700, 700, 1135, 700]
    assert digest(encoded()) == "fc395a4725918398"


@pytest.mark.parametrize("name", MODELS)
def test_all_published_names_and_numbers_where_they_are_at_hand(name, shared_parity):
    fixture = json.loads((shared_parity / f"{name}.json").read_text())
    numbers = np.load(shared_parity / f"{name}.npz")
    for part, layout, key in [
        (model(name), weights.VAR, "keys_model"),
        (*_tokenizer(name == "flexvar"), "keys_vqvae"),
    ]:
        shapes = {n: s["buffer"] if isinstance(s, dict) else s for n, s in fixture.get(key, {}).items()}
        ours = {n: list(tensor.shape) for n, tensor in weights.save(part, layout).items()}
        assert ours == (shapes or ours)
    for tokens in numbers.files:
        if tokens.startswith("tokens"):
            assert (torch.cat(sampled(name, tokens), dim=1).numpy() == numbers[tokens]).all()
    if "logits" in numbers:
        np.testing.assert_allclose(logits(name), numbers["logits"], rtol=1e-4, atol=1e-4)
    if "image" in numbers:
        np.testing.assert_allclose(image(name), numbers["image"], atol=1e-3)
    if "encoded" in numbers:
        assert (encoded().numpy() == numbers["encoded"]).all()


@pytest.mark.parametrize(
    ("make", "n_parameters"),
    [
        (lambda: VAR(VARConfig(16)), 310_283_520),
        (lambda: VAR(VARConfig(20)), 600_917_136),
        (lambda: VAR(VARConfig(24)), 1_033_399_360),
        (lambda: VAR(VARConfig(30)), 2_010_020_356),
        (lambda: MVAR(VARConfig(16)), 310_283_520),
        (lambda: FlexVAR(flexvar_config(16)), 315_561_936),
        (lambda: FlexVAR(flexvar_config(20)), 607_513_952),
        (lambda: FlexVAR(flexvar_config(24)), 1_041_314_576),
        (lambda: MambaVAR(VARConfig(16)), 464_157_440),
        (lambda: HMAR(VARConfig(16)), 467_691_904),
        (lambda: VARTokenizer(), 108_948_355),
        (lambda: VQTokenizer(8912, 32), 72_049_827),
    ],
)
def test_parameters_are_as_many_as_published(make, n_parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == n_parameters
