"""Models whose weights were laid out for the CPU say what they said before."""

import copy

import pytest
import torch

from generation.models.flexvar import FlexVAR
from generation.models.hmar import HMAR
from generation.models.llamagen import LlamaGen, LlamaGenConfig
from generation.models.m_var import MambaVAR
from generation.models.mvar import MVAR
from generation.models.var import VAR, VARConfig
from generation.packed import can_pack, pack
from generation.quantize import MultiScaleDirect, MultiScaleResidual, VectorQuantizer

TINY = VARConfig(2, sides=(1, 2, 3, 8), n_codes=50, code_width=8, n_classes=5)
LABELS = torch.tensor([0, 3])

needs_packing = pytest.mark.skipif(not can_pack(), reason="THIS TORCH HAS NO oneDNN: packing not tried")


def quantizer_of(kind):
    if kind is FlexVAR:
        return MultiScaleDirect(VectorQuantizer(50, 8, cosine=True))
    return MultiScaleResidual(50, 8, n_scales=4)


@needs_packing
@pytest.mark.parametrize("kind", [VAR, MVAR, MambaVAR, FlexVAR, HMAR])
def test_packed_models_make_the_same_tokens(kind):
    torch.manual_seed(0)
    model, quantizer = kind(TINY).eval(), quantizer_of(kind)
    packed = pack(copy.deepcopy(model))
    before, after = (
        m.sample(LABELS, quantizer, generator=torch.Generator().manual_seed(0)) for m in (model, packed)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    starts = quantizer.inputs(before, model.schedule)
    with torch.no_grad():
        torch.testing.assert_close(packed(LABELS, starts), model(LABELS, starts), rtol=1e-4, atol=1e-4)


@needs_packing
def test_nothing_of_the_layers_is_left_to_train():
    packed = pack(VAR(TINY))
    assert not any(isinstance(module, torch.nn.Linear) for module in packed.modules())
    assert not packed.training


@needs_packing
def test_a_raster_model_too():
    torch.manual_seed(0)
    model = LlamaGen(LlamaGenConfig(width=128, depth=2, heads=2, side=4)).eval()
    packed = pack(copy.deepcopy(model))
    before, after = (m.sample(LABELS, generator=torch.Generator().manual_seed(0)) for m in (model, packed))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_other_weights_than_float32_are_refused():
    with pytest.raises(ValueError, match=r"float32 weights on the CPU .* torch.bfloat16 on cpu"):
        pack(VAR(TINY).bfloat16())
