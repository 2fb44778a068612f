"""Models made ready for a CPU that only sample, or draw images, from now on.

The weights of linear layers are laid out once as the CPU's matrix products want them, instead of in every product,
which counts where few tokens meet large weights, as in the coarse maps; GELU is done within the product before it; and
convolutions become those of `winograd`.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn

from generation.core import MLP, NOTHING, Context
from generation.tokenizer import Double
from generation.winograd import PackedDouble, WinogradConv, suits

Model = TypeVar("Model", bound=nn.Module)


def can_pack() -> bool:
    """Whether this build of torch has the matrix products that take packed weights."""
    return torch.backends.mkldnn.is_available()


def pack(model: Model) -> Model:
    """Packs the layers of a model or tokenizer, in place, and returns it; it can be neither trained nor saved after.

    Outputs differ by rounding alone, and images by a hundredth of a grey value. Raises ValueError for weights that are
    not float32 on the CPU, and where `can_pack` says no.
    """
    if not can_pack():
        raise ValueError("this build of torch has no oneDNN, which packs weights; leave the model as it is")
    for parameter in model.parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise ValueError(
                f"only float32 weights on the CPU can be packed, these are {parameter.dtype} on {parameter.device}"
            )
    _pack_children(model)
    return model.eval()


def _pack_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, MLP):
            setattr(module, name, PackedMLP(child))
        elif isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child))
        elif isinstance(child, Double):
            setattr(module, name, PackedDouble(child))
        elif isinstance(child, nn.Conv2d) and suits(child):
            setattr(module, name, WinogradConv(child))
        else:
            _pack_children(child)


class PackedLinear(nn.Module):
    """What a linear layer was, and a tanh GELU after it where asked for; see `core.Linear`."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.after: tuple[str, list[float], str] = ("gelu", [], "tanh") if gelu else ("none", [], "")

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        bias = self.bias if bias is None else bias
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, *self.after)
        return out


class PackedMLP(nn.Module):
    """What an `MLP` was."""

    def __init__(self, mlp: MLP) -> None:
        super().__init__()
        self.fc1, self.fc2 = PackedLinear(mlp.fc1, gelu=True), PackedLinear(mlp.fc2)

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        return self.fc2(self.fc1(x))
