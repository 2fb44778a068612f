"""Convolutions with fewer multiplications give what torch's own do."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from generation.packed import can_pack, pack
from generation.tokenizer import Double, VARTokenizer
from generation.winograd import PackedDouble, WinogradConv, suits

sides = st.integers(1, 23)


def difference(fast, plain, x):
    with torch.no_grad():
        got, wanted = fast(x), plain(x)
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max() / wanted.abs().max())


@settings(max_examples=30, deadline=None)
@given(
    height=sides,
    width=sides,
    batch=st.integers(1, 3),
    strip=st.sampled_from([1, 5_000, 1 << 20]),
    bias=st.booleans(),
)
def test_a_convolution_of_any_size_in_any_strips(height, width, batch, strip, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(7, 5, 3, padding=1, bias=bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generation.winograd.STRIP", strip)
        assert difference(WinogradConv(conv), conv, torch.randn(batch, 7, height, width)) < 1e-4


@settings(max_examples=20, deadline=None)
@given(height=sides, width=sides, batch=st.integers(1, 3))
def test_doubling_and_its_convolution_at_once(height, width, batch):
    torch.manual_seed(0)
    double = Double(6)
    assert difference(PackedDouble(double), double, torch.randn(batch, 6, height, width)) < 1e-5


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(128, 3, 3, padding=1),
        nn.Conv2d(640, 640, 3, padding=1),
    ],
)
def test_other_convolutions_are_left_alone(conv):
    assert not suits(conv)


@pytest.mark.skipif(not can_pack(), reason="THIS TORCH HAS NO oneDNN: packing not tried")
def test_a_packed_tokenizer_draws_the_same_image():
    torch.manual_seed(0)
    tokenizer = VARTokenizer(128, n_codes=50, sides=(1, 2, 4)).eval()
    packed = pack(copy.deepcopy(tokenizer))
    assert sum(isinstance(module, WinogradConv) for module in packed.modules()) > 10
    codes = [torch.randint(50, (2, side**2)) for side in (1, 2, 4)]
    with torch.no_grad():
        torch.testing.assert_close(packed.decode(codes), tokenizer.decode(codes), rtol=0, atol=1e-4)
