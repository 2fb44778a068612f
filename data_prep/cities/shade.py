"""Light: what the rays bring back from surfaces, sun, sky and haze.

Pixel arrays have channels first, `(3, n)`, so that every operation runs over contiguous memory.
"""

import numpy as np

from data_prep.cities.look import Look
from data_prep.cities.materials import Surface, paint
from data_prep.cities.noise import F, Floats, dot, mix, noise, pick
from data_prep.cities.world import Hits, World


def radiance(
    world: World, origins: Floats, directions: Floats, look: Look, *, moment: int, pixel_rad: float
) -> Floats:
    """Linear colour `(3, n)` of rays `(n, 3)`; `pixel_rad` is the angle that a pixel spans."""
    hits = world.cast(origins, directions, moment)
    out = np.zeros((3, len(directions)), np.float32)
    missed = np.ones(len(directions), bool)
    missed[hits.ray] = False
    above = np.flatnonzero(missed)
    if len(above):
        d = np.ascontiguousarray(directions.take(above, 0).T)
        for row, colour in zip(out, sky(world, d, look), strict=True):
            row[above] = colour
    if len(hits.ray) == 0:
        return out
    surface = paint(world, hits, look, pixel_rad)
    lit = _light(world, hits, surface, look, moment)
    shiny = np.flatnonzero(surface.gloss)
    mirrored = _mirror(pick(hits.normal, shiny), pick(hits.direction, shiny), look) * surface.gloss[shiny]
    clear = np.exp(-hits.distance_m * F(look.haze_per_m))
    for channel in range(3):
        lit[channel][shiny] += mirrored[channel]
        out[channel][hits.ray] = mix(F(0.92) * look.horizon[channel], lit[channel], clear)
    return out


def sky(world: World, d: Floats, look: Look) -> Floats:
    """Gradient, sun glow, clouds and far hills in directions `(3, n)`."""
    up = np.clip(d[2], 0.0, 1.0)
    colour = look.horizon + (look.sky - look.horizon) * np.sqrt(up)
    glow = np.clip(dot(look.to_sun, d), 0, 1) ** 24
    colour += look.sun * (glow * F(0.12))
    if look.clouds > 0.05:
        reach = 16.0 / (up + 0.10)
        cover = noise(d[0] * reach + look.cloud_shift[0], d[1] * reach + look.cloud_shift[1], 1.7)
        amount = np.clip((cover - (0.85 - 0.75 * look.clouds)) * 3.0, 0, 1) * np.clip(up * 9, 0, 1) * 0.9
        tone = 0.72 + 0.38 * noise(d[0] * reach * 2 + 9, d[1] * reach * 2, 1.7)
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
    for crest, tone, share in zip(pick(world.skyline, place), (0.20, 0.13), clear, strict=True):
        green = np.array([[0.9], [1.1], [0.75]], np.float32) * tone * (0.5 + 0.5 * float(look.horizon.mean()))
        hill = look.horizon * F(0.92 * (1 - share)) + green * np.float32(share)
        behind = mix(behind, hill, d[2] < crest)
    return behind


def _light(world: World, hits: Hits, surface: Surface, look: Look, moment: int) -> Floats:
    """Diffuse light of sky, ground and, where nothing is in its way, sun."""
    n, z = surface.normal, hits.point[2]
    up = n[2] * 0.5 + 0.5
    shelter = world.ground.open_at(hits.point[0] + n[0] * 2, hits.point[1] + n[1] * 2)
    open_sky = mix(shelter, 1.0, np.clip(z / 22, 0, 1))
    ambient = look.sky * F(0.55) + look.horizon * F(0.45)
    bounced = F(0.16) * ambient + F(0.05) * look.sun
    light = ambient * ((0.33 + 0.62 * up) * open_sky) + bounced * (1 - up)
    if look.sun[0, 0] > 0:
        facing = dot(look.to_sun, n)
        bright = np.flatnonzero(facing > 0.01)
        lift = 0.02 + pick(hits.distance_m, bright) * 2e-5
        start = pick(hits.point, bright) + pick(hits.face, bright) * lift
        dark = world.shadowed(np.ascontiguousarray(start.T), look.to_sun, moment)
        direct = pick(facing, bright) * ~dark
        for channel in range(3):
            light[channel][bright] += look.sun[channel] * direct
    return light * surface.albedo * (1 - surface.gloss)


def _mirror(normal: Floats, seen: Floats, look: Look) -> Floats:
    """What glossy surfaces reflect: sky above, dim town below."""
    cos = dot(seen, normal)
    up = seen[2] - 2 * cos * normal[2]
    share = np.clip(up * 2.2 + 0.1, 0, 1)
    bright = look.horizon + (look.sky - look.horizon) * np.sqrt(np.clip(up, 0, 1))
    fresnel = 0.55 + 0.9 * (1 - np.abs(cos)) ** 3
    return (bright * (share * 0.8) + F(0.14) * look.horizon * (1 - share)) * fresnel
