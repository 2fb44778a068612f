"""Plain vector quantisation: the nearest code, its gradients, its losses."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from generation.quantize import VectorQuantizer, vector_quantize


@given(seed=st.integers(0, 2**16), n_codes=st.integers(1, 40), cosine=st.booleans())
def test_the_nearest_code_is_that_of_a_search_through_all(seed, n_codes, cosine):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    codebook = torch.randn(n_codes, 4, generator=generator, dtype=torch.float64)
    codes = vector_quantize(x, codebook, cosine=cosine)
    assert codes.shape == (2, 5)
    unit = (lambda v: v / v.norm(dim=-1, keepdim=True)) if cosine else (lambda v: v)
    apart = (unit(x)[:, :, None] - unit(codebook)).norm(dim=-1)
    torch.testing.assert_close(apart.gather(-1, codes[..., None])[..., 0], apart.amin(-1))


@pytest.mark.parametrize("cosine", [False, True])
def test_codes_come_back_as_themselves(cosine):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 6, cosine=cosine)
    codes = torch.randint(0, 32, (2, 3, 5))
    latent = quantizer.decode(codes)
    assert latent.shape == (2, 6, 3, 5)
    assert (quantizer.encode(latent) == codes).all()
    if cosine:
        torch.testing.assert_close(latent.norm(dim=1), torch.ones(2, 3, 5))


def test_gradients_pass_to_the_latent_as_if_it_were_not_quantised():
    torch.manual_seed(0)
    quantizer, weight = VectorQuantizer(16, 4, cosine=False), torch.randn(1, 4, 3, 3)
    latent = torch.randn(1, 4, 3, 3, requires_grad=True)
    quantized = quantizer(latent)
    torch.testing.assert_close(quantized.latent, quantizer.decode(quantized.codes))
    (quantized.latent * weight).sum().backward()
    torch.testing.assert_close(latent.grad, weight)


def test_the_losses_draw_codes_and_latents_together_and_spread_the_codes():
    torch.manual_seed(0)
    latent = F.normalize(torch.randn(64, 8, 1, 1), dim=1)

    def trained(entropy):
        torch.manual_seed(1)
        quantizer = VectorQuantizer(16, 8, cosine=True, entropy=entropy)
        with torch.no_grad():  # all codes on one side: a codebook about to collapse
            quantizer.embedding.weight.copy_(F.normalize(torch.randn(16, 8) * 0.05 + torch.eye(8)[0], dim=1))
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
        before = float(quantizer(latent).loss.detach())
        for _ in range(60):
            optimizer.zero_grad()
            quantizer(latent).loss.backward()
            optimizer.step()
        return before, float(quantizer(latent).loss.detach()), len(quantizer.encode(latent).unique())

    before, after, n_used = trained(0.0)
    assert after < before
    assert trained(1.0)[2] > n_used
