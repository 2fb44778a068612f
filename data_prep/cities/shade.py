"""Colour of what the rays met: materials, light, shadow, haze and sky, vectorised over pixels.

Pixel arrays have channels first, `(3, n)`, so that every operation runs over contiguous memory.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_prep.cities.look import Look
from data_prep.cities.mesh import STYLE, Ground, Material
from data_prep.cities.world import Hits, World

Floats = NDArray[np.float32]
NOISE_PX = 512
F = np.float32  # a truth value times a bare number would be 64 bits wide


def radiance(
    world: World, origins: Floats, directions: Floats, look: Look, *, moment: int, pixel_rad: float
) -> Floats:
    """Linear colour `(3, n)` of rays `(n, 3)`; `pixel_rad` is the angle a pixel spans (0 for parallel rays)."""
    hits = world.cast(origins, directions, moment)
    out = np.zeros((3, len(directions)), np.float32)
    missed = np.ones(len(directions), bool)
    missed[hits.ray] = False
    above = np.flatnonzero(missed)
    if len(above):
        out[:, above] = sky(world, np.ascontiguousarray(directions[above].T), look)
    if len(hits.ray) == 0:
        return out
    surface = _surface(world, hits, look, pixel_rad)
    lit = _light(world, hits, surface, look, moment)
    lit += surface.gloss * _mirror(hits, look)
    if look.haze_per_m:
        clear = np.exp(-hits.distance_m * look.haze_per_m)
        lit = lit * clear + look.horizon * 0.92 * (1 - clear)
    out[:, hits.ray] = lit
    return out


def sky(world: World, d: Floats, look: Look) -> Floats:
    """Gradient, sun glow, clouds and far hills in directions `(3, n)`."""
    up = np.clip(d[2], 0.0, 1.0)
    colour = look.horizon + (look.sky - look.horizon) * np.sqrt(up)
    glow = np.clip(_dot(look.to_sun, d), 0, 1) ** 24
    colour += look.sun * (glow * 0.12)
    if look.clouds > 0.05:
        reach = 16.0 / (up + 0.10)
        cover = _noise(d[0] * reach + look.cloud_shift[0], d[1] * reach + look.cloud_shift[1], 1.7)
        amount = np.clip((cover - (0.85 - 0.75 * look.clouds)) * 3.0, 0, 1) * np.clip(up * 9, 0, 1) * 0.9
        tone = 0.72 + 0.38 * _noise(d[0] * reach * 2 + 9, d[1] * reach * 2, 1.7)
        colour += (tone * (1.0 - 0.25 * look.clouds) - colour) * amount
    low = np.flatnonzero(up < 0.09)
    if len(low):
        colour[:, low] = _hills(world, d[:, low], colour[:, low], look)
    return colour


def _hills(world: World, d: Floats, behind: Floats, look: Look) -> Floats:
    """Two ranges on the horizon: the same from everywhere in the town, different in every direction."""
    turn = np.arctan2(d[0], d[1])
    place = ((turn / (2 * np.pi)) % 1 * world.skyline.shape[1]).astype(np.int32)
    clear = np.exp(-np.array([9000.0, 4500.0]) * look.haze_per_m * 0.5)
    for crest, tone, share in zip(world.skyline[:, place], (0.20, 0.13), clear, strict=True):
        green = np.array([[0.9], [1.1], [0.75]], np.float32) * tone * (0.5 + 0.5 * float(look.horizon.mean()))
        hill = look.horizon * F(0.92 * (1 - share)) + green * np.float32(share)
        behind = np.where(d[2] < crest, hill, behind)
    return behind


@dataclass
class _Surface:
    albedo: Floats  # (3, n)
    gloss: Floats  # (n,) share of light mirrored
    normal: Floats  # (3, n) for lighting


def _surface(world: World, hits: Hits, look: Look, pixel_rad: float) -> _Surface:
    s = world.surfaces
    material = s.material[hits.facet]
    surface = _Surface(s.rgb[:, hits.facet], np.zeros(len(material), np.float32), hits.normal)
    spread = hits.distance_m * pixel_rad  # metres a pixel covers, seen straight on
    for kind, paint in _PAINTERS.items():
        at = np.flatnonzero(material == kind)
        if len(at):
            paint(_Brush(world, hits, surface, look, at, spread[at]))
    return surface


class _Brush:
    """The pixels of one material, and what its painter needs to colour them."""

    def __init__(
        self, world: World, hits: Hits, surface: _Surface, look: Look, at: NDArray[np.intp], spread: Floats
    ) -> None:
        self.world, self.surface, self.look, self.at, self.spread = world, surface, look, at, spread
        self.facet = hits.facet[at]
        self.point = hits.point[:, at]
        self.s = world.surfaces

    def uv(self) -> tuple[Floats, Floats]:
        """Metres along the facet's axes from its origin."""
        p = self.point - self.s.origin[:, self.facet]
        u, v = self.s.u[:, self.facet], self.s.v[:, self.facet]
        return _dot(p, u), _dot(p, v)

    def albedo(self, colour: Floats) -> None:
        self.surface.albedo[:, self.at] = colour


def _plain(b: _Brush) -> None:
    x, y, z = b.point
    b.surface.albedo[:, b.at] *= 0.86 + 0.28 * _noise(x + y * 0.6, z + y * 0.8, 3.0)


def _tiles(b: _Brush) -> None:
    u, v = b.uv()
    seed = b.s.seed[b.facet]
    sharp = np.clip(1.4 - b.spread * 5, 0, 1)
    course = v * 3.3
    step = course - np.floor(course)
    tile = _hash(np.floor(u * 3.6 + np.floor(course) * 0.5), np.floor(course), seed)
    weather = _noise(u + seed % 97, v, 1.1)
    b.surface.albedo[:, b.at] *= (1 + sharp * (0.30 * (tile - 0.5) - F(0.30) * (step > 0.85))) * (
        0.74 + 0.52 * weather
    )


def _gravel(b: _Brush) -> None:
    x, y, _ = b.point
    b.surface.albedo[:, b.at] *= 0.70 + 0.36 * _noise(x, y, 9.0) + 0.24 * _noise(x, y, 0.7)


def _bands(b: _Brush) -> None:
    _, v = b.uv()
    turn = v / b.s.size[1][b.facet]
    _two(b, turn - np.floor(turn) >= 0.5)


def _ribs(b: _Brush) -> None:
    u, _ = b.uv()
    turn = u / b.s.size[0][b.facet]
    _two(b, turn - np.floor(turn) >= 0.5)


def _two(b: _Brush, second: NDArray[np.bool_]) -> None:
    colour = np.where(second, b.s.rgb2[:, b.facet], b.surface.albedo[:, b.at])
    x, y, z = b.point
    b.albedo(colour * (0.88 + 0.24 * _noise(x + y * 0.6, z + y * 0.8, 2.0)))


def _leaf(b: _Brush) -> None:
    kind = np.rint(b.s.rgb2[0][b.facet] ** (1 / 2.2) * 8)
    seed = b.s.seed[b.facet]
    own = (seed & 255).astype(np.float32) / 255
    x, y, z = b.point
    colour = b.surface.albedo[:, b.at]
    turning = np.clip(b.look.autumn * 1.7 - own * 0.8, 0, 1) * ~((kind == 3) | (kind == 7))
    golden = (own * 7 % 1 > 0.6).astype(np.float32)
    fall = (
        np.stack([0.52 + 0.16 * golden, 0.34 - 0.16 * golden + 0.1 * own, np.full_like(own, 0.05)]).astype(
            np.float32
        )
        ** 1.4
    )
    colour += (fall - colour) * (turning * 0.85)
    clumps = _noise(x + z * 0.7, y - z * 0.6, 5.0)
    colour *= (0.50 + 0.75 * clumps) * (
        0.8 + 0.4 * _hash(np.floor(x * 4), np.floor(y * 4), (z * 4).astype(np.int64).astype(np.uint32))
    )
    b.albedo(colour.astype(np.float32))
    out = b.point - b.s.origin[:, b.facet]
    radius = np.sqrt(_dot(out, out)) + 1e-3
    soft = b.surface.normal[:, b.at] * 0.45 + out / radius * F(0.9) * (kind != 7)
    soft[2] += 0.15
    soft /= np.sqrt(_dot(soft, soft)) + 1e-6
    b.surface.normal[:, b.at] = soft


def _water(b: _Brush) -> None:
    x, y, _ = b.point
    fade = np.clip(1 - b.spread * 0.6, 0.15, 1) * 0.10
    b.surface.albedo[:, b.at] *= 0.85 + 0.3 * _noise(x, y, 0.15)
    b.surface.normal[0, b.at] += (_noise(x, y, 1.3) - 0.5) * fade
    b.surface.normal[1, b.at] += (_noise(y + 50, x, 1.3) - 0.5) * fade
    b.surface.gloss[b.at] = 0.55


def _paint(b: _Brush) -> None:
    b.surface.gloss[b.at] = 0.16


def _glass(b: _Brush) -> None:
    b.surface.gloss[b.at] = 0.42


def _wall(b: _Brush) -> None:
    """Bays and storeys after the building's style, ground floors with doors or shops, far ones averaged."""
    s, facet = b.s, b.facet
    style = dict(zip(STYLE, s.styles[:, s.style_of[facet]], strict=True))
    seed = s.seed[facet]
    u, z = b.uv()[0], b.point[2]
    bays = np.maximum(np.rint(s.size[0][facet] / style["bay_m"]), 1)
    bay_m = s.size[0][facet] / bays
    column, row = np.floor(u / bay_m), np.floor(z / style["floor_m"])
    fu, fv = u / bay_m - column, z / style["floor_m"] - row
    high = s.size[1][facet]
    whole = (row + 1) * style["floor_m"] <= high + 0.5
    shop = (row == 0) & (style["ground"] == 1)
    shed = (row == 0) & (style["ground"] == 2)
    wide = np.where(shop, 0.86, style["window_w"])
    low, top = np.where(shop, 0.12, style["window_low"]), np.where(shop, 0.80, style["window_high"])
    luck = _hash(column, row, seed)
    door = (
        (row == 0)
        & ~shop
        & (_hash(column, row * 0 + 71, seed) < np.where(shed, 0.3, 1.6 / np.maximum(bays, 2)))
    )
    wide = np.where(door, np.where(shed, 0.7, np.minimum(1.3 / bay_m, 0.6)), wide)
    low, top = np.where(door, 0.0, low), np.where(door, 0.80, top)
    across, up = np.abs(fu - 0.5) * 2 / wide, (fv - low) / (top - low)
    inside = (across < 1) & (up > 0) & (up < 1) & whole
    edge_u, edge_v = (1 - across) * wide * bay_m / 2, np.minimum(up, 1 - up) * (top - low) * style["floor_m"]
    mid = (np.abs(fu - 0.5) * bay_m < 0.05) & (style["mullions"] >= 1) | (np.abs(up - 0.68) < 0.03) & (
        style["mullions"] >= 2
    )
    frame = inside & ((np.minimum(edge_u, edge_v) < 0.09) | (mid & ~door))
    wall, accent = b.surface.albedo[:, b.at], s.rgb2[:, facet]
    x, y, _ = b.point
    grain = 0.84 + 0.32 * _noise(u + seed % 89, z, 1.3)
    course = z * 11
    joint = (course - np.floor(course) < 0.22) & (b.spread < 0.05)
    grain *= 1 - style["brick"] * (
        0.22 * joint
        + 0.18
        * (_hash(np.floor(u * 4 + np.floor(course) * 0.5), np.floor(course), seed) - 0.5)
        * (b.spread < 0.12)
    )
    plinth = np.clip(1.3 - z, 0, 1) * 0.25 + F(0.12) * (z < 0.55)
    wall = wall * (grain * (1 - plinth))
    trim = (fv < 0.07) & (row > 0) | (high - z < 0.45)
    wall += (accent * 0.9 - wall) * (trim * style["bands"])
    sill = (np.abs(fu - 0.5) * 2 < wide + 0.06) & (up > -0.09) & (up <= 0) & whole & (row > 0) & ~shop
    wall = np.where(sill, wall * 0.55 + 0.28, wall)
    beside = (
        (across > 1.03)
        & (across < 1.55)
        & (up > 0)
        & (up < 1)
        & whole
        & (style["shutters"] > 0)
        & (row >= 0)
        & ~shop
        & ~door
    )
    wall = np.where(beside, accent * (0.8 + F(0.2) * ((z * 14) % 1 > 0.3)), wall)
    sign = shop & (fv > 0.82) & (fv < 0.97)
    wall = np.where(sign, accent, wall)
    blind = luck > 0.72
    tint = np.stack([0.055 + 0.02 * style["tint"], 0.075 + 0 * luck, 0.095 - 0.03 * style["tint"]]) * (
        0.6 + 0.8 * _hash(column, row + 7, seed)
    )
    pane = np.where(blind & (up > 1.4 * (luck - 0.72) / 0.28 - 0.2), F(0.50) + 0.2 * (luck - 0.8), tint)
    goods = F(0.10) + 0.35 * _noise(u * 1.7 + seed % 53, z * 1.7, 3.0) * accent + 0.10
    pane = np.where(shop, goods, pane)
    leaf = np.where(shed, F(0.36) + F(0.1) * ((z * 3) % 1 > 0.2), accent * 0.55)
    pane = np.where(door, leaf, pane)
    shaded = inside & (up > 0.9) & ~door  # the lintel's shadow in the reveal
    pane = pane * (1 - F(0.45) * shaded)
    colour = np.where(frame, style["frame"] ** 2.2 * 0.9, np.where(inside, pane, wall))
    share = np.clip(wide * (top - low), 0, 0.9) * whole
    mean = wall * (1 - share) + (0.12 + 0.08 * luck) * share
    blur = np.clip(b.spread / (0.45 * np.minimum(bay_m, style["floor_m"])) - 0.35, 0, 0.85)
    b.albedo((colour + (mean - colour) * blur).astype(np.float32))
    glass = inside & ~frame & ~door & ~(blind & ~shop)
    b.surface.gloss[b.at] = F(0.26) * glass * (1 - blur) + 0.16 * share * blur


_GROUND = np.zeros((16, 3), np.float32)
for _kind, _rgb in {
    Ground.FIELD: (0.44, 0.45, 0.29), Ground.LAWN: (0.35, 0.42, 0.23), Ground.GARDEN: (0.37, 0.42, 0.25),
    Ground.PAVING: (0.60, 0.58, 0.55), Ground.YARD: (0.54, 0.53, 0.51), Ground.GRAVEL: (0.68, 0.63, 0.53),
    Ground.WOOD: (0.27, 0.28, 0.16), Ground.CROP: (0.62, 0.56, 0.32), Ground.PATH: (0.70, 0.64, 0.54),
    Ground.SAND: (0.76, 0.70, 0.55), Ground.STUBBLE: (0.52, 0.43, 0.30), Ground.MEADOW: (0.43, 0.46, 0.27),
}.items():  # fmt: skip
    _GROUND[_kind] = np.array(_rgb) ** 2.2
_GREEN = np.isin(np.arange(16), [Ground.FIELD, Ground.LAWN, Ground.GARDEN, Ground.WOOD, Ground.MEADOW])


def _ground(b: _Brush) -> None:
    x, y, _ = b.point
    g = b.world.ground
    fine, coarse = _noise(x, y, 7.0), _noise(x, y, 0.35)
    shift = (fine - 0.5) * 0.9
    kind = g.kind.ravel()[g.cell(x + shift, y - shift)]
    size = b.world.plan.size_m
    away = (x < -79) | (y < -79) | (x > size + 79) | (y > size + 79)
    patch = _hash(np.floor((x + y * 0.3) / 170), np.floor((y - x * 0.3) / 120), np.full(len(x), 5, np.uint32))
    abroad = np.array([Ground.FIELD, Ground.MEADOW, Ground.CROP, Ground.STUBBLE, Ground.WOOD])[
        (patch * 4.99).astype(np.int64)
    ]
    kind = np.where(away, abroad, kind)
    colour = np.ascontiguousarray(_GROUND[kind].T)
    green = _GREEN[kind]
    colour *= 0.62 + 0.46 * fine + 0.30 * coarse
    pale = np.array([[0.42], [0.36], [0.17]], np.float32)
    colour += (pale * (0.7 + 0.3 * fine) - colour) * (
        green * np.clip(b.look.bare + 0.25 * (coarse - 0.5), 0, 1)
    )
    litter = (kind == Ground.WOOD) * b.look.autumn * 0.5
    colour += (np.array([[0.30], [0.16], [0.05]], np.float32) - colour) * litter
    rows = np.sin((x * 0.83 + y * 0.56) * 5.2) * np.clip(1 - b.spread * 2, 0, 1)
    colour *= 1 + 0.14 * rows * ((kind == Ground.CROP) | (kind == Ground.STUBBLE))
    slab = (kind == Ground.PAVING) & (((x * 1.25) % 1 < 0.05) | ((y * 1.25) % 1 < 0.05)) & (b.spread < 0.06)
    colour *= 1 - F(0.25) * slab
    piece = np.where(away, -1, g.piece.ravel()[g.cell(x, y)])
    near = np.flatnonzero(piece >= 0)
    if len(near):
        colour[:, near] = _street(
            g.pieces[:, piece[near]],
            x[near],
            y[near],
            colour[:, near],
            b.spread[near],
            fine[near],
            coarse[near],
        )
    b.albedo(colour)


def _street(
    p: Floats, x: Floats, y: Floats, verge: Floats, spread: Floats, fine: Floats, coarse: Floats
) -> Floats:
    """Asphalt, marks, kerb and sidewalk, from exact distances to the street's axis."""
    ax, ay, ux, uy, half, walk, start, clear0, clear1, total, tone, long = p
    along, across = (x - ax) * ux + (y - ay) * uy, (x - ax) * uy - (y - ay) * ux
    beyond = np.maximum(np.abs(along - long / 2) - long / 2, 0)
    side = np.hypot(across, beyond)
    at = start + along
    black = 0.105 + 0.05 * tone
    worn = np.exp(-((np.abs(np.abs(across) - half * 0.45) / 0.55) ** 2)) * 0.10
    patchy = 1 - F(0.18) * (_noise(x + 31, y, 0.23) > 0.66)
    grey = black * (0.72 + 0.30 * fine + 0.28 * coarse + worn) * patchy
    asphalt = np.stack([grey, grey * 1.0, grey * (1.04 - 0.06 * tone)])
    ends = np.minimum(at - clear0, total - at - clear1)  # metres from the nearer junction's mouth
    open_road = ends > 7.5
    stripe = 0.075 + spread * 0.25
    centre = (np.abs(across) < stripe) & ((at % 9 < 4.5) | (half > 6)) & open_road & (half > 3.4)
    lanes = (np.abs(np.abs(across) - half / 2) < stripe) & (at % 6 < 3) & open_road & (half > 6)
    zebra = (
        (ends > 1.2)
        & (ends < 4.4)
        & (np.mod(across, 1.0) < 0.5)
        & (np.minimum(clear0, clear1) > 0)
        & (half > 3.4)
        & (np.abs(across) < half - 0.3)
    )
    stop = (ends > 5.0) & (ends < 5.45) & (half > 3.4) & (across * np.where(at < total / 2, -1, 1) > 0.2)
    paint = ((centre | lanes | zebra | stop) & (walk > 0)) * (0.55 + 0.35 * fine)
    asphalt += (0.62 - asphalt) * paint
    kerb = side - half
    slab = ((at * 1.1) % 1 < 0.06) | ((kerb * 1.1) % 1 < 0.06)
    stone = (0.26 + 0.16 * ((tone * 5.3) % 1)) * (0.80 + 0.4 * fine) * (1 - F(0.2) * (slab & (spread < 0.06)))
    pave = np.stack(
        [stone * (1.02 + 0.10 * ((tone * 3.1) % 1)), stone, stone * (0.96 - 0.14 * ((tone * 3.1) % 1))]
    )
    pave = np.where((kerb < 0.28) & (walk > 0), 0.44 + 0.1 * fine, pave)
    inner = np.where(kerb < walk, pave, verge)
    edge = np.clip(1 - np.abs(kerb) / 0.18, 0, 1) * F(0.45) * (walk > 0)
    return np.where(kerb < 0, asphalt, inner) * (1 - edge)


_PAINTERS = {
    Material.GROUND: _ground, Material.WATER: _water, Material.WALL: _wall, Material.TILES: _tiles,
    Material.GRAVEL: _gravel, Material.PLAIN: _plain, Material.BANDS: _bands, Material.RIBS: _ribs,
    Material.LEAF: _leaf, Material.PAINT: _paint, Material.GLASS: _glass,
}  # fmt: skip


def _light(world: World, hits: Hits, surface: _Surface, look: Look, moment: int) -> Floats:
    n = surface.normal
    facing = _dot(look.to_sun, n)
    up = n[2] * 0.5 + 0.5
    z = hits.point[2]
    shelter = world.ground.open_at(hits.point[0] + hits.normal[0] * 2, hits.point[1] + hits.normal[1] * 2)
    open_sky = shelter + (1 - shelter) * np.clip(z / 22, 0, 1)
    ambient = look.sky * 0.55 + look.horizon * 0.45
    light = ambient * ((0.35 + 0.65 * up) * open_sky * 0.95)
    ground_glow = (0.16 * ambient + 0.05 * look.sun) * (1 - up)
    light += ground_glow
    if look.sun[0, 0] > 0:
        bright = np.flatnonzero(facing > 0.01)
        lift = 0.02 + hits.distance_m[bright] * 2e-5
        start = (hits.point[:, bright] + hits.normal[:, bright] * lift).T
        dark = world.shadowed(np.ascontiguousarray(start, np.float32), look.to_sun, moment)
        direct = np.where(dark, 0.0, facing[bright]).astype(np.float32)
        light[:, bright] += look.sun * direct
    return light * surface.albedo * (1 - surface.gloss)


def _dot(a: Floats, b: Floats) -> Floats:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _mirror(hits: Hits, look: Look) -> Floats:
    """What glossy surfaces reflect: sky above, dim town below."""
    n, seen = hits.normal, hits.direction
    cos = _dot(seen, n)
    up = seen[2] - 2 * cos * n[2]
    share = np.clip(up * 2.2 + 0.1, 0, 1)
    bright = look.horizon + (look.sky - look.horizon) * np.sqrt(np.clip(up, 0, 1))
    fresnel = 0.55 + 0.9 * (1 - np.abs(cos)) ** 3
    return (bright * (share * 0.8) + 0.14 * look.horizon * (1 - share)) * fresnel


@cache
def _texture() -> Floats:
    """Tileable fractal noise in 0..1."""
    rng = np.random.default_rng(20)
    total = np.zeros((NOISE_PX, NOISE_PX))
    for octave in range(1, 7):
        blur = ndimage.gaussian_filter(
            rng.normal(size=total.shape), 2.0 ** (6 - octave) * 0.8 + 0.3, mode="wrap"
        )
        total += blur / blur.std() * 0.62**octave
    ranks = np.argsort(np.argsort(total.ravel()))
    return (ranks / ranks.size).astype(np.float32)


def _noise(x: Floats, y: Floats, per_m: float) -> Floats:
    """Noise in 0..1 whose finest grain is about `1 / (4 per_m)` metres."""
    scale = per_m * 4
    col = (x * scale).astype(np.int32) & (NOISE_PX - 1)
    row = (y * scale).astype(np.int32) & (NOISE_PX - 1)
    return _texture()[row * NOISE_PX + col]


def _hash(a: Floats, b: Floats, seed: NDArray[np.uint32] | np.uint32) -> Floats:
    """A number in 0..1 for every pair of whole numbers and seed."""
    h = a.astype(np.int32).view(np.uint32) * np.uint32(374761393)
    h += b.astype(np.int32).view(np.uint32) * np.uint32(668265263) + seed * np.uint32(2246822519)
    h ^= h >> np.uint32(13)
    h *= np.uint32(1274126177)
    h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(1 / 2**24)
