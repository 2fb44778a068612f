"""What surfaces look like: every material's painter turns places on it into colour and gloss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.cities.look import Look
from data_prep.cities.mesh import STYLE, Ground, Material
from data_prep.cities.noise import F, Floats, Mask, dot, fract, hashed, mix, noise, pick
from data_prep.cities.world import Hits, World


@dataclass
class Brush:
    """The pixels of one material; painters change `albedo`, `gloss` and `normal` in place."""

    world: World
    look: Look
    facet: NDArray[np.int32]  # (n,)
    point: Floats  # (3, n)
    spread: Floats  # (n,) metres that a pixel covers, seen straight on
    albedo: Floats  # (3, n) the facet's colour to begin with
    gloss: Floats  # (n,) share of light mirrored, 0 to begin with
    normal: Floats  # (3, n) for lighting

    def uv(self) -> tuple[Floats, Floats]:
        """Metres along the facet's axes from its origin."""
        s = self.world.surfaces
        p = self.point - pick(s.origin, self.facet)
        return dot(p, pick(s.u, self.facet)), dot(p, pick(s.v, self.facet))

    def seed(self) -> NDArray[np.uint32]:
        return pick(self.world.surfaces.seed, self.facet)


@dataclass(frozen=True)
class Surface:
    """All pixels, ordered by material."""

    albedo: Floats
    gloss: Floats
    normal: Floats


def paint(world: World, hits: Hits, look: Look, pixel_rad: float) -> Surface:
    """Colours of what was hit; `hits` must be ordered by material."""
    material = pick(world.surfaces.material, hits.facet)
    albedo = pick(world.surfaces.rgb, hits.facet)
    gloss = np.zeros(len(material), np.float32)
    spread = hits.distance_m * F(pixel_rad)
    ends = np.searchsorted(material, np.arange(len(Material) + 1))
    for kind, painter in _PAINTERS.items():
        part = slice(int(ends[kind]), int(ends[kind + 1]))
        if part.start < part.stop:
            of = (hits.facet[part], hits.point[:, part], spread[part])
            painter(Brush(world, look, *of, albedo[:, part], gloss[part], hits.normal[:, part]))
    return Surface(albedo, gloss, hits.normal)


def _plain(b: Brush) -> None:
    x, y, z = b.point
    b.albedo *= 0.86 + 0.28 * noise(x + y * 0.6, z + y * 0.8, 3.0)


def _tiles(b: Brush) -> None:
    u, v = b.uv()
    seed = b.seed()
    sharp = np.clip(1.4 - b.spread * 5, 0, 1)
    course = np.floor(v * 3.3)
    tile = hashed(np.floor(u * 3.6 + course * 0.5), course, seed)
    joint = (v * 3.3 - course > 0.85) * F(0.30)
    weather = noise(u + seed % 97, v, 1.1)
    b.albedo *= (1 + sharp * (0.30 * (tile - 0.5) - joint)) * (0.74 + 0.52 * weather)


def _gravel(b: Brush) -> None:
    x, y, _ = b.point
    b.albedo *= 0.70 + 0.36 * noise(x, y, 9.0) + 0.24 * noise(x, y, 0.7)


def _bands(b: Brush) -> None:
    _two(b, fract(b.uv()[1] / pick(b.world.surfaces.size[1], b.facet)) >= 0.5)


def _ribs(b: Brush) -> None:
    _two(b, fract(b.uv()[0] / pick(b.world.surfaces.size[0], b.facet)) >= 0.5)


def _two(b: Brush, second: Mask) -> None:
    x, y, z = b.point
    both = mix(b.albedo, pick(b.world.surfaces.rgb2, b.facet), second)
    b.albedo[:] = both * (0.88 + 0.24 * noise(x + y * 0.6, z + y * 0.8, 2.0))


def _leaf(b: Brush) -> None:
    """Clumps of leaves, turned by the season tree by tree, lit as a soft ball rather than as triangles."""
    s, seed = b.world.surfaces, b.seed()
    evergreen = pick(s.size[0], b.facet) == 0
    own = (seed & 255).astype(np.float32) / 255
    x, y, z = b.point
    turning = np.clip(b.look.autumn * 1.7 - own * 0.8, 0, 1) * ~evergreen
    golden = (fract(own * 7) > 0.6).astype(np.float32)
    for channel, fall in enumerate((0.40 + 0.18 * golden, 0.22 - 0.13 * golden + 0.09 * own, F(0.015))):
        b.albedo[channel] += (fall - b.albedo[channel]) * (turning * 0.85)
    if b.look.leafless:
        b.albedo[:] = mix(b.albedo, _TWIGS, ~evergreen)
    clumps = noise(x + z * 0.7, y - z * 0.6, 5.0)
    speckle = hashed(np.floor(x * 4), np.floor(y * 4), (z * 4).astype(np.uint32))
    b.albedo *= (0.50 + 0.75 * clumps) * (0.8 + 0.4 * speckle)
    out = b.point - pick(s.origin, b.facet)
    round_ = F(0.9) * (pick(s.size[1], b.facet) > 0) / (np.sqrt(dot(out, out)) + F(1e-3))
    b.normal *= F(0.45)
    b.normal += out * round_
    b.normal[2] += 0.15
    b.normal /= np.sqrt(dot(b.normal, b.normal)) + F(1e-6)


def _water(b: Brush) -> None:
    x, y, _ = b.point
    fade = np.clip(1 - b.spread * 0.6, 0.15, 1) * 0.10
    b.albedo *= 0.85 + 0.3 * noise(x, y, 0.15)
    b.normal[0] += (noise(x, y, 1.3) - 0.5) * fade
    b.normal[1] += (noise(y + 50, x, 1.3) - 0.5) * fade
    b.gloss[:] = 0.55


def _paint(b: Brush) -> None:
    b.gloss[:] = 0.16


def _glass(b: Brush) -> None:
    b.gloss[:] = 0.42


def _wall(b: Brush) -> None:
    """Bays and storeys after the building's style, ground floors with doors or shops, far ones averaged."""
    s, facet, seed, z = b.world.surfaces, b.facet, b.seed(), b.point[2]
    style = dict(zip(STYLE, pick(s.styles, pick(s.style_of, facet)), strict=True))
    u, accent = b.uv()[0], pick(s.rgb2, facet)
    long, high = pick(s.size, facet)
    bays = np.maximum(np.rint(long / style["bay_m"]), 1)
    bay_m, floor_m = long / bays, style["floor_m"]
    column, row = np.floor(u / bay_m), np.floor(z / floor_m)
    fu, fv = u / bay_m - column, z / floor_m - row
    whole = (row + 1) * floor_m <= high + 0.5
    ground, upper = row == 0, row > 0
    shop, shed = ground & (style["ground"] == 1), ground & (style["ground"] == 2)
    luck = hashed(column, row, seed)
    chance = mix(1.6 / np.maximum(bays, 2), 0.3, shed)
    door = ground & ~shop & (hashed(column, row + 71, seed) < chance)
    wide = mix(mix(style["window_w"], 0.86, shop), mix(np.minimum(1.3 / bay_m, 0.6), 0.7, shed), door)
    low = mix(style["window_low"], 0.12, shop) * ~door
    tall = mix(style["window_high"], 0.80, shop | door) - low
    aside = np.abs(fu - 0.5)
    across, up = aside * 2 / wide, (fv - low) / tall
    between = (up > 0) & (up < 1) & whole
    inside = (across < 1) & between
    edge_u, edge_v = (1 - across) * wide * bay_m / 2, np.minimum(up, 1 - up) * tall * floor_m
    bars = (aside * bay_m < 0.05) & (style["mullions"] >= 1) | (np.abs(up - 0.68) < 0.03) & (
        style["mullions"] >= 2
    )
    frame = inside & ((np.minimum(edge_u, edge_v) < 0.09) | (bars & ~door))

    wall = b.albedo * _masonry(b, u, z, seed, style["brick"])
    trim = (fv < 0.07) & upper | (high - z < 0.45)
    wall = mix(wall, accent * F(0.9), trim * style["bands"])
    sill = (aside * 2 < wide + 0.06) & (up > -0.09) & (up <= 0) & whole & upper
    wall += (F(0.28) - F(0.45) * wall) * sill
    shutter = (across > 1.03) & (across < 1.55) & between & (style["shutters"] > 0) & ~shop & ~door
    wall = mix(wall, accent * (0.8 + F(0.2) * (fract(z * 14) > 0.3)), shutter)
    wall = mix(wall, accent, shop & (fv > 0.82) & (fv < 0.97))  # the shop's sign

    blind = (luck > 0.72) & ~shop
    dark = 0.6 + 0.8 * hashed(column, row + 7, seed)
    tint = np.stack([0.055 + 0.02 * style["tint"], np.full_like(z, 0.075), 0.095 - 0.03 * style["tint"]])
    pane = mix(tint * dark, F(0.50) + 0.2 * (luck - 0.8), blind & (up > 5 * (luck - 0.72) - 0.2))
    goods = F(0.20) + 0.35 * noise(u * 1.7 + seed % 53, z * 1.7, 3.0) * accent
    pane = mix(pane, goods, shop)
    leaf = mix(accent * F(0.55), F(0.36) + F(0.1) * (fract(z * 3) > 0.2), shed)
    pane = mix(pane, leaf, door) * (1 - F(0.45) * ((up > 0.9) & ~door))  # the lintel shades the reveal
    colour = mix(mix(wall, pane, inside), style["frame"] ** 2.2 * F(0.9), frame)

    share = np.clip(wide * tall, 0, 0.9) * whole
    mean = mix(wall, 0.12 + 0.08 * luck, share)
    blur = np.clip(b.spread / (0.45 * np.minimum(bay_m, floor_m)) - 0.35, 0, 0.85)
    b.albedo[:] = mix(colour, mean, blur)
    glass = inside & ~frame & ~door & ~blind
    b.gloss[:] = F(0.26) * glass * (1 - blur) + 0.16 * share * blur


def _masonry(b: Brush, u: Floats, z: Floats, seed: NDArray[np.uint32], brick: Floats) -> Floats:
    """Light and dark of a wall: stains, courses of bricks near by, a darker plinth."""
    course = np.floor(z * 11)
    joint = (z * 11 - course < 0.22) & (b.spread < 0.05)
    each = (hashed(np.floor(u * 4 + course * 0.5), course, seed) - 0.5) * (b.spread < 0.12)
    plinth = np.clip(1.3 - z, 0, 1) * 0.25 + F(0.12) * (z < 0.55)
    stains = 0.84 + 0.32 * noise(u + seed % 89, z, 1.3)
    return stains * (1 - brick * (F(0.22) * joint + 0.18 * each)) * (1 - plinth)


_GROUND = np.zeros((3, len(Ground)), np.float32)
for _kind, _rgb in {
    Ground.FIELD: (0.44, 0.45, 0.29), Ground.LAWN: (0.35, 0.42, 0.23), Ground.GARDEN: (0.37, 0.42, 0.25),
    Ground.PAVING: (0.60, 0.58, 0.55), Ground.YARD: (0.54, 0.53, 0.51), Ground.GRAVEL: (0.68, 0.63, 0.53),
    Ground.WOOD: (0.27, 0.28, 0.16), Ground.CROP: (0.62, 0.56, 0.32), Ground.PATH: (0.70, 0.64, 0.54),
    Ground.STUBBLE: (0.52, 0.43, 0.30), Ground.MEADOW: (0.43, 0.46, 0.27),
    Ground.SAND: (0.80, 0.73, 0.58), Ground.BALLAST: (0.44, 0.39, 0.35), Ground.ASPHALT: (0.42, 0.42, 0.43),
    Ground.PITCH: (0.33, 0.47, 0.22), Ground.ROCK: (0.58, 0.57, 0.55), Ground.VINES: (0.42, 0.46, 0.24),
    Ground.FOREST: (0.22, 0.28, 0.14),
}.items():  # fmt: skip
    _GROUND[:, _kind] = np.array(_rgb) ** 2.2
_GREEN = np.isin(
    np.arange(len(Ground)),
    [Ground.FIELD, Ground.LAWN, Ground.GARDEN, Ground.WOOD, Ground.MEADOW, Ground.PITCH, Ground.VINES],
)
_ROWS = np.isin(np.arange(len(Ground)), [Ground.CROP, Ground.STUBBLE, Ground.VINES])
_ABROAD = np.array([Ground.FIELD, Ground.MEADOW, Ground.CROP, Ground.STUBBLE, Ground.WOOD])
_PALE = np.array([[0.42], [0.36], [0.17]], np.float32)  # dry grass
_LITTER = np.array([[0.30], [0.16], [0.05]], np.float32)  # fallen leaves
_TWIGS = np.array([[0.17], [0.145], [0.12]], np.float32)


def _ground(b: Brush) -> None:
    """Streets where there are any, else what the ground map says, its borders frayed by noise."""
    x, y, _ = b.point
    g, size = b.world.ground, b.world.plan.size_m
    fine, coarse = noise(x, y, 7.0), noise(x, y, 0.35)
    shift = (fine - 0.5) * 0.9
    away = (np.minimum(x, y) < -79) | (np.maximum(x, y) > size + 79)
    kind = pick(g.kind.ravel(), g.cell(x + shift, y - shift))
    far = np.flatnonzero(away)
    patch = hashed(
        np.floor((x[far] + y[far] * 0.3) / 170),
        np.floor((y[far] - x[far] * 0.3) / 120),
        np.full(len(far), 5, np.uint32),
    )
    kind[far] = _ABROAD[(patch * 4.99).astype(np.intp)]
    colour = pick(_GROUND, kind) * (0.62 + 0.46 * fine + 0.30 * coarse)
    dry = pick(_GREEN, kind) * np.clip(b.look.bare + 0.25 * (coarse - 0.5), 0, 1)
    colour += (_PALE * (0.7 + 0.3 * fine) - colour) * dry
    colour += (_LITTER - colour) * ((kind == Ground.WOOD) * F(b.look.autumn * 0.5))
    rows = pick(_ROWS, kind)
    if rows.any():
        colour *= 1 + 0.14 * np.sin((x * 0.83 + y * 0.56) * 5.2) * np.clip(1 - b.spread * 2, 0, 1) * rows
    joint = ((fract(x * 1.25) < 0.05) | (fract(y * 1.25) < 0.05)) & (b.spread < 0.06)
    colour *= 1 - F(0.25) * (joint & (kind == Ground.PAVING))
    b.albedo[:] = colour
    piece = pick(g.piece.ravel(), g.cell(x, y))
    near = np.flatnonzero((piece >= 0) & ~away)
    if len(near):
        of = (pick(a, near) for a in (x, y, colour, b.spread, fine, coarse))
        painted = _street(pick(g.pieces, pick(piece, near)), *of)
        for channel in range(3):
            b.albedo[channel][near] = painted[channel]


def _street(
    p: Floats, x: Floats, y: Floats, verge: Floats, spread: Floats, fine: Floats, coarse: Floats
) -> Floats:
    """Asphalt, marks, kerb and sidewalk, from exact distances to the street's axis."""
    ax, ay, ux, uy, half, walk, start, clear0, clear1, total, tone, long = p
    along, across = (x - ax) * ux + (y - ay) * uy, (x - ax) * uy - (y - ay) * ux
    beyond = np.maximum(np.abs(along - long / 2) - long / 2, 0)
    aside = np.abs(across)
    kerb = np.sqrt(across * across + beyond * beyond) - half
    at, paved = start + along, walk > 0
    worn = np.clip(1 - np.abs(aside - half * 0.45), 0, 1) * 0.10
    patch = 1 - F(0.18) * (noise(x + 31, y, 0.23) > 0.66)
    grey = (0.105 + 0.05 * tone) * (0.72 + 0.30 * fine + 0.28 * coarse + worn) * patch
    ends = np.minimum(at - clear0, total - at - clear1)  # metres from the nearer junction's mouth
    grey = mix(
        grey,
        0.62,
        _marks(at, across, half, ends, total, np.minimum(clear0, clear1), spread)
        * paved
        * (0.55 + 0.35 * fine),
    )
    joint = ((fract(at * 1.1) < 0.06) | (fract(kerb * 1.1) < 0.06)) & (spread < 0.06)
    stone = (0.26 + 0.16 * fract(tone * 5.3)) * (0.80 + 0.4 * fine) * (1 - F(0.2) * joint)
    stone = mix(stone, 0.44 + 0.1 * fine, (kerb < 0.28) & paved)
    road, warm = kerb < 0, fract(tone * 3.1) * ((kerb >= 0.28) | ~paved)
    edge = 1 - np.clip(1 - np.abs(kerb) / 0.18, 0, 1) * F(0.45) * paved
    out = []
    for channel, (cool, warmth) in enumerate(((0.0, 0.10), (0.0, 0.0), (0.02, -0.14))):
        walkway = mix(verge[channel], stone * (1 + warmth * warm), kerb < walk)
        out.append(mix(walkway, grey * (1 + cool), road) * edge)
    return np.stack(out)


def _marks(
    at: Floats, across: Floats, half: Floats, ends: Floats, total: Floats, mouth: Floats, spread: Floats
) -> Mask:
    """Where the carriageway is painted: centre line, lanes, stop lines and crossings."""
    aside, stripe, wide = np.abs(across), 0.075 + spread * 0.25, half > 6
    centre = (aside < stripe) & ((fract(at / 9) < 0.5) | wide)
    lanes = (np.abs(aside - half / 2) < stripe) & (fract(at / 6) < 0.5) & wide
    zebra = (ends > 1.2) & (ends < 4.4) & (fract(across) < 0.5) & (mouth > 0) & (aside < half - 0.3)
    stop = (ends > 5.0) & (ends < 5.45) & ((across > 0.2) ^ (at < total / 2)) & (aside > 0.2)
    return (((centre | lanes) & (ends > 7.5)) | zebra | stop) & (half > 3.4)


_PAINTERS: dict[Material, Callable[[Brush], None]] = {
    Material.GROUND: _ground, Material.WATER: _water, Material.WALL: _wall, Material.TILES: _tiles,
    Material.GRAVEL: _gravel, Material.PLAIN: _plain, Material.BANDS: _bands, Material.RIBS: _ribs,
    Material.LEAF: _leaf, Material.PAINT: _paint, Material.GLASS: _glass,
}  # fmt: skip
