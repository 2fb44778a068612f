"""The KL autoencoder: published names, the divergence, and learning."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from generation import weights
from generation.tokenizer import CNNConfig, Gaussian, KLTokenizer

TINY = CNNConfig(channels=32, multipliers=(1, 1, 1, 1, 2), blocks=1)


def test_the_divergence_is_that_from_standard_normal_distributions():
    torch.manual_seed(0)
    gaussian = Gaussian(torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4))
    normal = Normal(gaussian.mean, (gaussian.log_variance / 2).exp())
    expected = kl_divergence(normal, Normal(0, 1)).sum((1, 2, 3))
    torch.testing.assert_close(gaussian.kl(), expected)


def test_draws_have_the_mean_and_the_variance_and_pass_gradients():
    mean = torch.full((1, 1, 100, 100), 2.0, requires_grad=True)
    gaussian = Gaussian(mean, torch.full_like(mean, -1.0).detach())
    latent = gaussian.draw(torch.Generator().manual_seed(0))
    assert latent.mean().item() == pytest.approx(2, abs=0.03)
    assert latent.var().log().item() == pytest.approx(-1, abs=0.05)
    latent.sum().backward()
    assert (mean.grad == 1).all()


def test_names_are_the_published_ones_and_come_back_unchanged():
    torch.manual_seed(0)
    tokenizer = KLTokenizer(4, TINY)
    state = weights.save(tokenizer, weights.KL_TOKENIZER)
    for name, shape in {
        "encoder.down.3.downsample.conv.weight": [32, 32, 3, 3],
        "encoder.down.4.attn.0.q.weight": [64, 64, 1, 1],
        "encoder.mid.attn_1.proj_out.bias": [64],
        "encoder.conv_out.weight": [8, 64, 3, 3],
        "decoder.up.4.block.1.conv1.weight": [64, 64, 3, 3],
        "decoder.up.0.block.0.norm1.weight": [32],
        "quant_conv.weight": [8, 8, 1, 1],
        "post_quant_conv.weight": [4, 4, 1, 1],
    }.items():
        assert list(state[name].shape) == shape
    other = KLTokenizer(4, TINY)
    assert weights.load(other, state, weights.KL_TOKENIZER) == {}
    images = torch.rand(1, 3, 32, 48) * 2 - 1
    assert (other.encode(images) == tokenizer.encode(images)).all()
    assert tokenizer.encode(images).shape == (1, 4, 2, 3)
    assert tokenizer.decode(tokenizer.encode(images)).shape == images.shape


def test_it_learns_to_reconstruct():
    torch.manual_seed(0)
    tokenizer = KLTokenizer(8, CNNConfig(channels=32, multipliers=(1, 1), blocks=1))
    images = (torch.rand(4, 3, 1, 1) * 2 - 1).expand(-1, -1, 16, 16)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        posterior = tokenizer.posterior(images)
        error = (tokenizer.decode(posterior.draw()) - images).square().mean()
        optimizer.zero_grad()
        (error + 1e-6 * posterior.kl().mean()).backward()
        optimizer.step()
        losses.append(error.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
