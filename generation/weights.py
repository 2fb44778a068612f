"""Checkpoints of the published models: read into ours and written back as they were.

A layout says what a tensor of ours is called there. Where one of ours is several of theirs, joined along the first
axis, they are named in braces: `attn.{q,k,v}.weight`. What is theirs alone (masks and tables that follow from the
schedule) is computed for what is written, and handed back by `load` so that a file can be written back unchanged.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from generation.mask import block_causal
from generation.schedule import step_numbers

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """rules: regular expressions of our names and what they become, applied in turn. constants: tensors of theirs that
    have no place in our module, computed from it."""

    rules: tuple[Rule, ...]
    constants: Callable[[Any], State] = lambda module: {}

    def names(self, ours: str) -> list[str]:
        """What a tensor of ours is called: several names where it is joined of several."""
        for pattern, replacement in self.rules:
            ours = re.sub(pattern, replacement, ours)
        braces = re.search(r"\{(.*)\}", ours)
        return [ours.replace(braces[0], one) for one in braces[1].split(",")] if braces else [ours]


def read(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, without the dictionaries that trainers put around them.

    Raises ValueError for a file of something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception:  # whatever unpickling a file of another kind comes upon
        raise ValueError(f"{path}: no checkpoint; give a .safetensors, .pt, .pth or .ckpt file") from None
    for name in ("model", "state_dict"):
        if isinstance(state, dict) and name in state:
            state = state[name]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: no checkpoint of a model")
    return state


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file of these tensors, of our own names or of published ones."""
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)  # no two may share memory


def load(module: nn.Module, state: Mapping[str, Tensor], layout: Layout) -> State:
    """Fill a module; returns the tensors that have no place in it.

    Raises ValueError for a checkpoint of something else.
    """
    rest, filled = dict(state), {}
    for name, own in module.state_dict().items():
        theirs = layout.names(name)
        missing = [key for key in theirs if key not in rest]
        if missing:
            raise ValueError(f"the checkpoint has no {missing[0]!r}; is it of this model?")
        filled[name] = torch.cat([rest.pop(key) for key in theirs]) if theirs[1:] else rest.pop(theirs[0])
        if filled[name].shape != own.shape:
            raise ValueError(
                f"{theirs[0]!r} is {list(filled[name].shape)}, not {list(own.shape)}; is it of this size?"
            )
    unknown = sorted(set(rest) - set(layout.constants(module)))
    if unknown:
        raise ValueError(f"the checkpoint has {unknown[0]!r}, which this model has no place for")
    module.load_state_dict(filled)
    return rest


def save(module: nn.Module, layout: Layout, constants: Mapping[str, Tensor] | None = None) -> State:
    """The module's tensors under their published names. constants: those that `load` returned, else computed."""
    state: State = dict(layout.constants(module) if constants is None else constants)
    for name, own in module.state_dict().items():
        theirs = layout.names(name)
        state |= zip(theirs, own.chunk(len(theirs)), strict=True)
    return state


def _var_constants(module: Any) -> State:
    """The level of every token, the mask as a bias, the bias that keys do not have; the sides, in blocks of M-VAR."""
    steps = step_numbers(module.schedule)
    bias = torch.zeros(len(steps), len(steps)).masked_fill(~block_causal(module.schedule), -torch.inf)
    state = {"attn_bias_for_masking": bias[None, None]}
    if hasattr(module, "level"):
        state["lvl_1L"] = steps[None]
    for i, block in enumerate(module.blocks):
        state[f"blocks.{i}.attn.zero_k_bias"] = torch.zeros_like(block.attn.q_bias)
        if hasattr(block, "mamba"):
            state[f"blocks.{i}.attn.patch_nums"] = torch.tensor(module.config.sides)
    return state


_VAR_RULES: tuple[Rule, ...] = (
    (r"^class_embedding\.", "class_emb."),
    (r"^start$", "pos_start"),
    (r"^table$", "pos_1LC"),
    (r"^level\.", "lvl_embed."),
    (r"^code\.", "word_embed."),
    (r"\.qkv\.", ".mat_qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.log_scale$", ".scale_mul_1H11"),
    (r"^shared_modulation\.linear\.", "shared_ada_lin.1."),
    (r"^head\.modulation\.linear\.", "head_nm.ada_lin.1."),
    (r"^head\.linear\.", "head."),
    (r"\.modulation\.linear\.", ".ada_lin.1."),
    (r"\.modulation\.offset$", ".ada_gss"),
)
VAR = Layout(_VAR_RULES, _var_constants)  # MVAR, FlexVAR and M-VAR too

LLAMAGEN = Layout(  # and NAR
    (
        (r"^class_embedding\.", "cls_embedding.embedding_table."),
        (r"^code\.", "tok_embeddings."),
        (r"^blocks\.", "layers."),
        (r"\.qkv\.", ".wqkv."),
        (r"\.out_proj\.", ".wo."),
        (r"\.norm1\.", ".attention_norm."),
        (r"\.norm2\.", ".ffn_norm."),
        (r"^norm_below\.", "medusa_norm."),
        (r"^head_below\.", "medusa_output."),
        (r"^head\.", "output."),
    )
)

_TOKENIZER_RULES: tuple[Rule, ...] = (
    (r"^(encoder.*)\.resample\.", r"\1.downsample."),
    (r"^(decoder.*)\.resample\.", r"\1.upsample."),
    (r"\.shortcut\.", ".nin_shortcut."),
)

VAR_TOKENIZER = Layout(
    (
        (r"^encoder\.levels\.(\d)\.", r"encoder.down.\1."),
        (r"^decoder\.levels\.(\d)\.", lambda found: f"decoder.up.{4 - int(found[1])}."),
        (r"\.blocks\.", ".block."),
        (r"\.attentions\.", ".attn."),
        (r"\.middle\.0\.", ".mid.block_1."),
        (r"\.middle\.1\.", ".mid.attn_1."),
        (r"\.middle\.2\.", ".mid.block_2."),
        *_TOKENIZER_RULES,
        (r"^quantizer\.used$", "quantize.ema_vocab_hit_SV"),
        (r"^quantizer\.smoothers\.", "quantize.quant_resi.qresi_ls."),
        (r"^quantizer\.", "quantize."),
    )
)

KL_TOKENIZER = Layout((*VAR_TOKENIZER.rules, (r"\.qkv\.", ".{q,k,v}.")))

LLAMAGEN_TOKENIZER = Layout(
    (
        (r"\.levels\.(\d)\.", r".conv_blocks.\1."),
        (r"\.blocks\.", ".res."),
        (r"\.attentions\.", ".attn."),
        (r"\.middle\.", ".mid."),
        (r"\.qkv\.", ".{q,k,v}."),
        *_TOKENIZER_RULES,
        (r"^quantizer\.", "quantize."),
    ),
    lambda module: {"quantize.codebook_used": torch.zeros(65_536)},
)
