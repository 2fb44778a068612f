"""What tokenizers keep of images: a table and a picture (after VTBench, arXiv 2505.13439).

    python -m generation.tokenizer_report street.jpg tile.png --checkpoint vq_ds16_c2i.pt --out report.png
    python -m generation.tokenizer_report tile.png --checkpoint runs/tiles-tokenizer/checkpoint --px 64

Reconstructions are compared with the images (see `fidelity` for what each figure is), and pages of small letters are
put through as well, since signs are what a photo's place is most often told by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from generation import tile_checkpoint, weights
from generation.fidelity import (
    LETTER_PX,
    Pixels,
    edge_f1,
    feature_distance,
    legible,
    letters,
    psnr,
    ssim,
)
from generation.tile_tokenizer import TileTokenizer
from generation.tokenizer import CNNConfig, KLTokenizer, VARTokenizer, VQTokenizer

# Images (H, W, 3) -> what a tokenizer makes of them.
Reconstruct = Callable[[Pixels], Pixels]

MEASURES: Mapping[str, Callable[[Pixels, Pixels], float]] = {
    "PSNR dB": psnr,
    "SSIM": ssim,
    "feature distance": feature_distance,
    "edge F1": edge_f1,
}
SHOWN = 5  # images in the picture
SHOWN_LETTER_PX = 16


@dataclass(frozen=True)
class Report:
    """names: of the images. images, copies: (px, px, 3) each. figures: by image, those of MEASURES. legibility: the
    share of letters told apart, by their height in pixels. page: letters, and what became of them."""

    names: Sequence[str]
    images: Sequence[Pixels]
    copies: Sequence[Pixels]
    figures: Sequence[Mapping[str, float]]
    legibility: Mapping[int, float]
    page: tuple[Pixels, Pixels]


def report(images: Mapping[str, Pixels], reconstruct: Reconstruct) -> Report:
    """Put images, all of one square size, and pages of letters as large through a tokenizer."""
    px = len(next(iter(images.values())))
    copies = [reconstruct(image) for image in track(list(images.values()), "reconstructing", transient=True)]
    figures = [
        {name: measure(image, copy) for name, measure in MEASURES.items()}
        for image, copy in zip(images.values(), copies, strict=True)
    ]
    pages = {height: letters(px, height) for height in LETTER_PX if height <= px}
    read = {height: reconstruct(page) for height, (_, page) in pages.items()}
    legibility = {height: legible(pages[height][0], copy, height) for height, copy in read.items()}
    page = pages[SHOWN_LETTER_PX][1], read[SHOWN_LETTER_PX]
    return Report(list(images), list(images.values()), copies, figures, legibility, page)


def load_tokenizer(path: Path) -> nn.Module:
    """The tokenizer of a published checkpoint: of VAR, of LlamaGen, or a KL autoencoder, of whatever size; or that of
    a folder of our own, of tiles.

    Raises ValueError for something else.
    """
    if path.is_dir():
        return tile_checkpoint.load_tokenizer(path)
    state = {key: tensor for key, tensor in weights.read(path).items() if not key.startswith("loss.")}
    try:
        tokenizer, layout = _made_for(state)
    except KeyError as missing:
        raise ValueError(f"{path}: no tokenizer known here, it has no {missing}") from None
    try:
        weights.load(tokenizer, state, layout)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return tokenizer.eval()


def _made_for(state: Mapping[str, Tensor]) -> tuple[nn.Module, weights.Layout]:
    """A tokenizer of the kind and the size of a checkpoint, and what its tensors are called there."""
    channels = len(state["encoder.conv_in.weight"])
    latent, width = state["post_quant_conv.weight"].shape[:2]
    if "quantize.embedding.weight" not in state:
        return KLTokenizer(width, CNNConfig(channels)), weights.KL_TOKENIZER
    n_codes = len(state["quantize.embedding.weight"])
    if any(".conv_blocks." in key for key in state):
        return VQTokenizer(n_codes, width, CNNConfig(channels, latent=latent)), weights.LLAMAGEN_TOKENIZER
    return VARTokenizer(channels, n_codes, width), weights.VAR_TOKENIZER


def reconstructing(tokenizer: Any) -> Reconstruct:
    """What a tokenizer's decoder makes of what its encoder says of an image."""

    @torch.inference_mode()
    def reconstruct(image: Pixels) -> Pixels:
        given = torch.from_numpy(image).permute(2, 0, 1)[None] * 2 - 1
        copy = tokenizer.decode(tokenizer.encode(given))[0].permute(1, 2, 0)
        return ((copy + 1) / 2).clamp(0, 1).numpy()

    return reconstruct


def read_image(path: Path, px: int) -> Pixels:
    """The middle square of an image file, (px, px, 3). Raises ValueError for a file that is none."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"{path}: no image; give a JPEG, PNG or the like") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    square = ImageOps.fit(upright, (px, px), Image.Resampling.LANCZOS)
    return np.asarray(square, np.float32) / np.float32(255)


def table(found: Report) -> Table:
    """The figures of every image, and their means."""
    out = Table("image", *MEASURES, title="what the tokenizer keeps")
    for name, figures in zip(found.names, found.figures, strict=True):
        out.add_row(Path(name).name, *(f"{figures[measure]:.3f}" for measure in MEASURES))
    means = [np.mean([figures[measure] for figures in found.figures]) for measure in MEASURES]
    out.add_row("mean", *(f"{mean:.3f}" for mean in means), style="bold")
    return out


def draw(found: Report, path: Path) -> None:
    """Images, reconstructions and what differs, a page of letters, and the legibility by height."""
    from matplotlib.figure import Figure

    rows = list(zip(found.names, found.images, found.copies, strict=True))[:SHOWN]
    rows.append((f"letters, {SHOWN_LETTER_PX} px", *found.page))
    figure = Figure(figsize=(11, 2.7 * len(rows)), layout="constrained")
    pictures, side = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 1))[0]
    for axes, (name, image, copy) in zip(pictures.subplots(len(rows), 3, squeeze=False), rows, strict=True):
        difference = np.abs(image - copy).mean(2)
        for ax, pixels in zip(axes, (image, copy, difference), strict=True):
            ax.imshow(pixels, cmap="magma", vmin=0, vmax=0.3 if pixels.ndim == 2 else 1)
            ax.set_axis_off()
        axes[0].set_title(Path(name).name, fontsize=9, loc="left")
        axes[1].set_title(f"PSNR {psnr(image, copy):.1f} dB, SSIM {ssim(image, copy):.2f}", fontsize=9)
        axes[2].set_title("difference, up to 0.3", fontsize=9)
    ax, *others = side.subplots(len(rows), 1)
    for empty in others:
        empty.set_axis_off()
    heights, shares = list(found.legibility), list(found.legibility.values())
    ax.plot(heights, shares, "o-", color="black")
    ax.set(xlabel="height of letters, px", ylabel="share told apart", ylim=(0, 1.05), xticks=heights)
    ax.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(
    images: Annotated[list[Path], typer.Argument(help="Image files; their middle squares are used.")],
    checkpoint: Annotated[
        Path, typer.Option(help="A published tokenizer (VAR, LlamaGen, KL), or a folder of tiles' own.")
    ],
    out: Annotated[Path, typer.Option(help="The picture to draw.")] = Path("tokenizer-report.png"),
    px: Annotated[int, typer.Option(help="Side of the squares; VAR's tokenizer knows 256 only.")] = 256,
) -> None:
    """Say what a tokenizer keeps of images: PSNR, SSIM, an untrained feature distance, edges, small letters."""
    try:
        if px % 16 or px < 32:
            raise ValueError(f"--px {px}: must be a multiple of 16, from 32 on")
        tokenizer = load_tokenizer(checkpoint)
        if isinstance(tokenizer, VARTokenizer) and px != 256:
            raise ValueError(f"--px {px}: the tokenizer of VAR takes 256 only")
        if isinstance(tokenizer, TileTokenizer) and px != tokenizer.px:
            raise ValueError(f"--px {px}: this tokenizer takes {tokenizer.px} only")
        squares = {str(path): read_image(path, px) for path in images}
    except ValueError as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        raise typer.Exit(2) from None
    found = report(squares, reconstructing(tokenizer))
    Console().print(table(found))
    read = ", ".join(f"{share:.0%} at {height} px" for height, share in found.legibility.items())
    Console().print(f"letters told apart: {read}")
    draw(found, out)
    Console().print(f"{out}", markup=False)


if __name__ == "__main__":
    typer.run(main)
