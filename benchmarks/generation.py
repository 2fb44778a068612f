"""How fast the image models are, each beside the plain way of running it: same weights, same machine, one run.

    python benchmarks/generation.py            # the published sizes; minutes on a CPU
    python benchmarks/generation.py --small    # the same on models of a few blocks

Prints one line a figure. Weights are random, which changes nothing about time. Times are processor time of one thread,
the least of a few runs that take turns, so that what else the machine does counts little and falls on both alike.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path = [
    folder for folder in sys.path if Path(folder) != Path(__file__).parent
]  # generation.py there is no package

from generation.cache import Cache  # noqa: E402
from generation.core import Block, Context  # noqa: E402
from generation.models.llamagen import LlamaGen, LlamaGenConfig  # noqa: E402
from generation.models.m_var import MambaVAR  # noqa: E402
from generation.models.mvar import MVAR  # noqa: E402
from generation.models.nar import NAR  # noqa: E402
from generation.models.var import VAR, VARConfig  # noqa: E402
from generation.packed import can_pack, pack  # noqa: E402
from generation.sample import Codes  # noqa: E402
from generation.schedule import Step, scales  # noqa: E402
from generation.state import Mamba2  # noqa: E402
from generation.tokenizer import VARTokenizer  # noqa: E402

GUIDANCE, K, P = 1.5, 900, 0.96


class Published:
    """VAR's loop as its paper and repository describe it, on the weights of one of our models.

    Both halves of guidance are batched, as there. In every step each block makes its modulation anew, keys and values
    are joined to those before, all codes are sorted, and the canvas is carried along. `halves`: run the two halves one
    after the other instead, and project queries, keys and values apart.
    """

    def __init__(self, model: VAR, tokenizer: VARTokenizer, *, halves: bool = False) -> None:
        self.model, self.tokenizer, self.halves = model, tokenizer, halves

    def sample(self, labels: Tensor, generator: torch.Generator) -> Codes:
        model, quantizer = self.model, self.tokenizer.quantizer
        none = torch.full_like(labels, model.config.n_classes)
        groups = [labels, none] if self.halves else [torch.cat([labels, none])]
        conditions = [model.class_embedding(group) for group in groups]
        caches: list[list[tuple[Tensor, Tensor] | None]] = [[None] * len(model.blocks) for _ in groups]
        schedule = model.schedule
        side = schedule[-1].shape[0]
        canvas = torch.zeros(len(labels), model.config.code_width, side, side)
        following, all_codes = None, []
        for step in schedule:
            logits = []
            for condition, cache in zip(conditions, caches, strict=True):
                x = condition[:, None] + model.start
                if following is not None:
                    x = model.code(following.repeat(len(condition) // len(labels), 1, 1))
                x = x + model.place(step)
                for i, block in enumerate(model.blocks):
                    x, cache[i] = self._block(block, x, condition[:, None], cache[i])
                logits.append(model.head(x, model.head.modulation(condition[:, None])))
            t = GUIDANCE * step.index / (len(schedule) - 1)
            conditional, unconditional = torch.cat(logits).chunk(2)
            codes = _picked((1 + t) * conditional - t * unconditional, generator)
            all_codes.append(codes)
            canvas = canvas + quantizer._added(codes, step, schedule)
            if step is not schedule[-1]:
                after = schedule[step.index + 1].shape
                following = F.interpolate(canvas, size=after, mode="area").flatten(2).transpose(1, 2)
        return all_codes

    def _block(
        self, block: Block, x: Tensor, condition: Tensor, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        gate1, gate2, scale1, scale2, shift1, shift2 = block.modulate(condition).unbind(2)
        attention, width = block.attn, x.shape[-1]
        y = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale1) + shift1
        bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
        weight = attention.qkv.weight
        if self.halves:
            parts = [F.linear(y, w, b) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)]
        else:
            parts = F.linear(y, weight, bias).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for part in parts)
        query = F.normalize(query, dim=-1) * attention.log_scale.clamp(max=4.605170186).exp()
        key = F.normalize(key, dim=-1)
        if before is not None:
            key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        y = F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)
        x = x + attention.out_proj(y) * gate1
        y = F.layer_norm(x, (width,), eps=1e-6) * (1 + scale2) + shift2
        return x + block.ffn(y) * gate2, (key, value)

    def image(self, codes: Codes) -> Tensor:
        decoder, quantizer = self.tokenizer.decoder, self.tokenizer.quantizer
        x = self.tokenizer.post_quant_conv(quantizer.canvas(codes, self.model.schedule))
        x = decoder.levels(decoder.middle(decoder.conv_in(x)))
        return decoder.conv_out(F.silu(decoder.norm_out(x))).clamp(-1, 1)


def _picked(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Top-k, then nucleus by a sort of all codes, then a draw."""
    logits = logits.masked_fill(logits < logits.topk(K, dim=-1).values[..., -1:], -torch.inf)
    rising, order = logits.sort(dim=-1)
    drop = rising.softmax(-1).cumsum(-1) <= 1 - P
    drop[..., -1] = False
    logits = logits.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
    return torch.multinomial(logits.softmax(-1).flatten(0, 1), 1, generator=generator).view(logits.shape[:2])


class Rescanning(Mamba2):
    """A recurrent layer as published: it keeps its inputs, and reads all of them again in every step."""

    def forward(self, x: Tensor, context: Context) -> Tensor:
        name, kept = f"inputs {context.layer}", context.cache.kept
        kept[name] = torch.cat([kept[name], x], dim=1) if name in kept else x
        return super().forward(kept[name], Context())[:, -x.shape[1] :]


def least(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds each way takes, the least of some runs that take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(time.process_time() - start)
    return {name: min(each) for name, each in times.items()}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def same(some: Codes, others: Codes) -> str:
    equal = float((torch.cat(some, 1) == torch.cat(others, 1)).double().mean())
    return "identical tokens" if equal == 1 else f"{equal:.2%} of tokens identical"


def loops(model: VAR, tokenizer: VARTokenizer, labels: Tensor, runs: int) -> Iterator[str]:
    """The published loop, two ways, and ours, as it is and packed."""
    plain = {
        "published": Published(model, tokenizer),
        "halves and projections apart": Published(model, tokenizer, halves=True),
    }
    own = {"ours": (model, tokenizer)}
    if can_pack():
        own["ours, packed"] = pack(copy.deepcopy(model)), pack(copy.deepcopy(tokenizer))
    made: dict[str, Codes] = {}

    def ours(name: str) -> None:
        made[name] = own[name][0].sample(
            labels, tokenizer.quantizer, guidance=GUIDANCE, k=K, p=P, generator=seeded()
        )

    def theirs(name: str) -> None:
        made[name] = plain[name].sample(labels, seeded())

    tokens = least({name: partial(ours if name in own else theirs, name) for name in [*own, *plain]}, runs)
    codes, first = made["published"], plain["published"]
    draw = {name: partial(each.decode, codes) for name, (_, each) in own.items()}
    images = least({"published": partial(first.image, codes), **draw}, runs)
    for name in plain:
        for our_name in own:
            whole = tokens[name] + images["published"], tokens[our_name] + images[our_name]
            yield (
                f"{model_name(model)}, {name}: {len(labels) / whole[0]:.3f} images/s, {our_name} "
                f"{len(labels) / whole[1]:.3f}, {whole[0] / whole[1]:.2f}×; tokens alone "
                f"{tokens[name]:.2f} s and {tokens[our_name]:.2f} s, {tokens[name] / tokens[our_name]:.2f}×; "
                f"{same(made[name], made[our_name])}"
            )
    for our_name in own:
        apart = float((draw[our_name]() - first.image(codes)).abs().max()) * 127.5
        yield (
            f"image of the codes: published {images['published']:.2f} s, {our_name} {images[our_name]:.2f} s, "
            f"{images['published'] / images[our_name]:.2f}×; at most {apart:.4f} of 255 grey values apart"
        )


def caches(models: list[VAR], tokenizer: VARTokenizer, labels: Tensor, runs: int) -> Iterator[str]:
    """What each model remembers while it samples, and how long it takes."""
    largest: dict[str, int] = {}

    def sample(model: VAR) -> None:
        def note(step: Step, codes: Codes, cache: Cache) -> Codes:
            largest[model_name(model)] = max(cache.nbytes, largest.get(model_name(model), 0))
            return codes

        model.sample(labels, tokenizer.quantizer, generator=seeded(), hook=note)

    seconds = least({model_name(model): lambda m=model: sample(m) for model in models}, runs)
    for name in seconds:
        yield f"{name}: {seconds[name]:.2f} s, remembers at most {largest[name] / 2**20:.1f} MiB while sampling"


def training_memory(var: VAR, mvar: MVAR, tokenizer: VARTokenizer, labels: Tensor) -> Iterator[str]:
    """What a backward pass needs of a forward pass: all maps at once, or one map after the other."""
    codes = [torch.zeros(len(labels), len(step), dtype=torch.long) for step in var.schedule]
    inputs = tokenizer.quantizer.inputs(codes, var.schedule)
    at_once = saved_bytes(var, lambda: var(labels, inputs))
    each = [
        saved_bytes(mvar, lambda s=step, x=x: mvar.map_logits(s, labels, x))
        for step, x in zip(mvar.schedule, [None, *inputs], strict=True)
    ]
    yield (
        f"kept for the backward pass: {model_name(var)} {at_once / 2**20:.0f} MiB, {model_name(mvar)} map by map "
        f"{max(each) / 2**20:.0f} MiB, {at_once / max(each):.1f}× less"
    )


def saved_bytes(module: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that autograd keeps of a forward pass, the module's weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result  # kept until here, so that no memory is used, and counted, twice
    return sum(kept.values())


def states(width: int, sides: tuple[int, ...], runs: int) -> Iterator[str]:
    """A recurrent layer that carries its state on, beside one that reads the past again, by the number of maps."""
    carrying, rescanning = Mamba2(width), Rescanning(width)
    rescanning.load_state_dict(carrying.state_dict())
    schedule = scales(sides)
    maps = [torch.randn(2, len(step), width) for step in schedule]

    def read(layer: Mamba2, n: int) -> Tensor:
        cache = Cache(1)
        return torch.cat([layer(x, Context(cache=cache)) for x in maps[:n]], dim=1)

    for n in (len(sides) // 2, len(sides) * 3 // 4, len(sides)):
        apart = float((read(carrying, n) - read(rescanning, n)).abs().max())
        seconds = least(
            {"carried": lambda n=n: read(carrying, n), "again": lambda n=n: read(rescanning, n)}, runs
        )
        yield (
            f"Mamba-2 of width {width}, {n} maps: state carried {1000 * seconds['carried']:.0f} ms, past read again "
            f"{1000 * seconds['again']:.0f} ms, {seconds['again'] / seconds['carried']:.2f}×; {apart:.0e} apart at most"
        )


def orders(config: LlamaGenConfig, labels: Tensor, runs: int) -> Iterator[str]:
    """All tokens one by one, or diagonal by diagonal."""
    raster, diagonal = LlamaGen(config).eval(), NAR(config).eval()
    seconds = least(
        {
            "raster": lambda: raster.sample(labels, generator=seeded()),
            "diagonal": lambda: diagonal.sample(labels, generator=seeded()),
        },
        runs,
    )
    yield (
        f"{config.side**2} tokens, {config.depth} blocks of width {config.width}: LlamaGen in "
        f"{len(raster.schedule)} steps {seconds['raster']:.2f} s, NAR in {len(diagonal.schedule)} steps "
        f"{seconds['diagonal']:.2f} s, {seconds['raster'] / seconds['diagonal']:.2f}×"
    )


def model_name(model: VAR) -> str:
    names = {VAR: "VAR", MVAR: "MVAR", MambaVAR: "M-VAR"}
    return f"{names[type(model)]}-d{model.config.depth}"


@torch.no_grad()
def figures(*, small: bool, batch: int = 1, runs: int = 2) -> Iterator[str]:
    torch.manual_seed(0)
    config = VARConfig(2 if small else 16)
    labels = torch.arange(batch)
    tokenizer = VARTokenizer(32 if small else 160).eval()
    var, mvar = VAR(config).eval(), MVAR(config).eval()
    mvar.load_state_dict(var.state_dict())
    yield from loops(var, tokenizer, labels, runs)
    yield from caches([var, mvar, MambaVAR(config).eval()], tokenizer, labels, runs)
    yield from training_memory(var, mvar, tokenizer, labels)
    yield from states(config.width, config.sides, runs)
    yield from orders(
        LlamaGenConfig(width=128, depth=2, heads=2) if small else LlamaGenConfig(), labels, runs
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="models of a few blocks")
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--runs", type=int, default=2, help="runs of everything, of which the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"one thread, {options.batch} image(s) at once, float32, random weights")
    for figure in figures(small=options.small, batch=options.batch, runs=options.runs):
        print(figure, flush=True)


if __name__ == "__main__":
    main()
