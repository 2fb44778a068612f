"""Pictures that are no street photos, made from seeds: what people feed a localizer by mistake."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixels = NDArray[np.uint8]
SIZE = (512, 288)  # width, height

WORDS = [
    "Settings",
    "Photos",
    "Battery",
    "Network",
    "Inbox",
    "Cancel",
    "Share",
    "Monday",
    "invoice",
    "total",
    "42 %",
]


def make(kind: str, number: int, *, seed: int = 0) -> Pixels:
    """The `number`-th picture of a kind, (288, 512, 3) uint8."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind), number])
    return np.asarray(KINDS[kind](rng).convert("RGB"))


def black(rng: np.random.Generator) -> Image.Image:
    """A covered lens: nearly nothing, and the sensor's noise."""
    return _picture(rng.uniform(0, 6) + rng.normal(0, rng.uniform(0, 3), (*SIZE[::-1], 3)))


def plain(rng: np.random.Generator) -> Image.Image:
    """One colour."""
    return _picture(np.broadcast_to(rng.uniform(0, 255, 3), (*SIZE[::-1], 3)))


def noise(rng: np.random.Generator) -> Image.Image:
    """A broken file: noise, in grains of 1 to 16 pixels."""
    grain = int(2 ** rng.integers(0, 5))
    small = rng.uniform(0, 255, (SIZE[1] // grain, SIZE[0] // grain, 3))
    return _picture(small).resize(SIZE, Image.Resampling.NEAREST)


def sky(rng: np.random.Generator) -> Image.Image:
    """Nothing but sky: a gradient of blue or dusk, and clouds of noise at many scales."""
    top, bottom = (
        np.array([60, 110, 190]) + rng.normal(0, 25, 3),
        np.array([180, 205, 235]) + rng.normal(0, 20, 3),
    )
    if rng.random() < 0.25:
        top, bottom = np.array([50, 50, 100.0]), np.array([235, 150, 90.0])
    down = np.linspace(0, 1, SIZE[1])[:, None, None]
    clouds = np.clip(_clouds(rng) * rng.uniform(1, 3) - rng.uniform(0, 1), 0, 1)[..., None]
    return _picture((top + (bottom - top) * down) * (1 - clouds) + 245 * clouds)


def texture(rng: np.random.Generator) -> Image.Image:
    """The ground at one's feet, a carpet, a wall from too near."""
    grains = _clouds(rng, steepness=rng.uniform(0.2, 1.0)) - 0.5
    return _picture(rng.uniform(50, 200, 3) + grains[..., None] * rng.uniform(60, 250))


def screenshot(rng: np.random.Generator) -> Image.Image:
    """An application's window: bars, cards, buttons, text, light or dark."""
    dark = rng.random() < 0.4
    paper, ink = ((28, 28, 32), (225, 225, 225)) if dark else ((246, 246, 248), (30, 30, 30))
    accent = tuple(int(c) for c in rng.integers(30, 230, 3))
    picture = Image.new("RGB", SIZE, paper)
    draw, width, height = ImageDraw.Draw(picture), *SIZE
    draw.rectangle((0, 0, width, int(rng.integers(16, 40))), fill=accent)
    if rng.random() < 0.5:
        draw.rectangle((0, 30, int(rng.integers(60, 140)), height), fill=_mixed(paper, ink, 0.08))
    for _ in range(int(rng.integers(2, 9))):
        x, y, w, h = (int(rng.integers(0, n)) for n in (width, height, width // 2, height // 3))
        draw.rounded_rectangle((x, y, x + w + 20, y + h + 12), 6, fill=_mixed(paper, ink, 0.12))
    for _ in range(int(rng.integers(0, 4))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        draw.rounded_rectangle((x, y, x + 70, y + 20), 8, fill=accent)
    _write(draw, rng, ink, left=int(rng.integers(5, 160)))
    return picture


def document(rng: np.random.Generator) -> Image.Image:
    """A scanned page."""
    picture = Image.new("RGB", SIZE, tuple(int(c) for c in rng.integers(225, 256, 3)))
    _write(ImageDraw.Draw(picture), rng, (40, 40, 45), left=int(rng.integers(10, 60)))
    return picture.rotate(rng.uniform(-4, 4), fillcolor=(200, 200, 195))


def chart(rng: np.random.Generator) -> Image.Image:
    """A slide with bars or a curve."""
    picture = Image.new("RGB", SIZE, (255, 255, 255))
    draw, n = ImageDraw.Draw(picture), int(rng.integers(4, 14))
    heights = rng.uniform(20, 220, n)
    step = (SIZE[0] - 60) / n
    colour = tuple(int(c) for c in rng.integers(0, 220, 3))
    points = [(40 + i * step, SIZE[1] - 30 - h) for i, h in enumerate(heights)]
    if rng.random() < 0.5:
        for x, y in points:
            draw.rectangle((x, y, x + step * 0.7, SIZE[1] - 30), fill=colour)
    else:
        draw.line(points, fill=colour, width=3)
    draw.line((40, 10, 40, SIZE[1] - 30, SIZE[0] - 10, SIZE[1] - 30), fill=(0, 0, 0), width=2)
    return picture


def indoor(rng: np.random.Generator) -> Image.Image:
    """A room: walls, floor and ceiling in perspective, a window or pictures, furniture, lamplight."""
    width, height = SIZE
    wall, floor = (
        rng.uniform(120, 240) * np.array([1, rng.uniform(0.9, 1), rng.uniform(0.75, 1)]),
        np.array([150, 110, 70]),
    )
    floor = floor * rng.uniform(0.5, 1.4)
    left, right = rng.uniform(0.1, 0.35) * width, rng.uniform(0.65, 0.9) * width
    top, bottom = rng.uniform(0.12, 0.3) * height, rng.uniform(0.6, 0.8) * height
    picture = Image.new("RGB", SIZE)
    draw = ImageDraw.Draw(picture)
    corners = (0, 0), (width, 0), (width, height), (0, height)
    back = (left, top), (right, top), (right, bottom), (left, bottom)
    for i, (colour, light) in enumerate(((wall, 1.1), (wall, 0.8), (floor, 1.0), (wall, 0.9))):
        j = (i + 1) % 4
        draw.polygon((corners[i], corners[j], back[j], back[i]), fill=_rgb(colour * light))
    draw.rectangle((*back[0], *back[2]), fill=_rgb(wall))
    for _ in range(int(rng.integers(1, 4))):  # a window, pictures, a screen
        x, y = rng.uniform(left, right - 40), rng.uniform(top, bottom - 40)
        draw.rectangle(
            (x, y, x + rng.uniform(20, 90), y + rng.uniform(20, 60)),
            fill=_rgb(rng.uniform(20, 255, 3)),
            outline=(60, 45, 35),
            width=2,
        )
    for _ in range(int(rng.integers(2, 7))):  # tables, cupboards, sofas: boxes with a top and a side
        x, y = rng.uniform(0, width - 60), rng.uniform(0.5, 0.85) * height
        w, h, d, colour = (
            rng.uniform(50, 190),
            rng.uniform(25, 110),
            rng.uniform(8, 25),
            rng.uniform(40, 200, 3),
        )
        draw.rectangle((x, y, x + w, y + h), fill=_rgb(colour * 0.8))
        draw.polygon(((x, y), (x + d, y - d), (x + w + d, y - d), (x + w, y)), fill=_rgb(colour * 1.15))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    lamp = np.exp(-((across - rng.uniform(-0.7, 0.7)) ** 2 + (down + 0.6) ** 2) / rng.uniform(0.6, 3))
    lit = np.asarray(picture) * (0.45 + 0.7 * lamp[..., None]) + rng.normal(0, 4, (height, width, 3))
    return _picture(lit)


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    make.__name__: make for make in (black, plain, noise, sky, texture, screenshot, document, chart, indoor)
}


def _write(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, ink: tuple[int, int, int], *, left: int
) -> None:
    """Lines of words from top to bottom."""
    size = int(rng.integers(8, 20))
    font = ImageFont.load_default(size)
    for y in range(int(rng.integers(4, 60)), SIZE[1] - 10, int(size * rng.uniform(1.3, 2.4))):
        line = " ".join(rng.choice(WORDS, int(rng.integers(1, 9))))
        draw.text((left, y), line, fill=ink, font=font)


def _clouds(rng: np.random.Generator, steepness: float = 1.0) -> NDArray[np.float64]:
    """Noise at many scales, 0..1, (288, 512); the steeper, the more of it is at large ones."""
    total = np.zeros(SIZE[::-1])
    for octave in range(1, 8):
        small = _picture(rng.uniform(0, 255, (2**octave, 2 ** (octave + 1), 3))).convert("L")
        total += 2 ** (-steepness * octave) * np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC))
    return (total - total.min()) / (total.max() - total.min())


def _picture(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _rgb(values: NDArray[np.floating]) -> tuple[int, int, int]:
    red, green, blue = (int(c) for c in np.clip(values, 0, 255))
    return red, green, blue


def _mixed(a: tuple[int, int, int], b: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    return _rgb(np.array(a) * (1 - share) + np.array(b) * share)
