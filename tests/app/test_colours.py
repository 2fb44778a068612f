"""Who sees no hue, or fewer, can tell the signs on the map apart."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import app
from app import scene
from app.command import OPTIONS
from zoomloc.figure import heat

# Machado, Oliveira and Fernandes (2009), severity 1, for linear sRGB; and the luminance alone.
SIGHTS = {
    "all hues": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "achromatopsia": [[0.2126, 0.7152, 0.0722]] * 3,
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = np.array([0.9505, 1.0, 1.089])


def _lab(colours, sight: str) -> NDArray[np.float64]:
    """sRGB in 0..255, (..., 3) -> CIE L*a*b* as it is seen."""
    values = np.asarray(colours) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = (linear @ np.array(SIGHTS[sight]).T).clip(0, 1) @ np.array(TO_XYZ).T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


def _signs() -> dict[str, list[int]]:
    """The colours of what the map's program draws: answer, other places, truth, uncertain ones."""
    program = (Path(app.__file__).parent / "static" / "map.js").read_text(encoding="utf-8")
    (line,) = re.findall(r"^const ANSWER = .*$", program, re.MULTILINE)
    named = re.findall(r'([A-Z]+) = "#(\w{6})"', line)
    return {name: [int(text[i : i + 2], 16) for i in (0, 2, 4)] for name, text in named}


@pytest.mark.parametrize("sight", SIGHTS)
def test_signs_differ_in_lightness(sight):
    signs = _signs()
    assert set(signs) == {"ANSWER", "OTHER", "TRUTH", "UNSURE"}
    for one, another in combinations(signs, 2):
        first, second = _lab([signs[one], signs[another]], sight)
        assert np.linalg.norm(first - second) > 14, (one, another)
    # The two that differ in nothing but that.
    located, uncertain = _lab([signs["OTHER"], signs["UNSURE"]], sight)[:, 0]
    assert located - uncertain > 50


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("ground", [60, 90, 130, 170])
def test_the_likelier_is_the_brighter_on_any_ground(sight, ground):
    chance = 1 / 64**2
    posterior = np.geomspace(chance, 1, 16, dtype=np.float32).reshape(4, 4)
    posterior = np.pad(posterior, ((0, 60), (0, 60)), constant_values=chance)
    colours = scene._veiled(heat(posterior, 4, at_most_px=512))[:4, :4].reshape(16, 4) / 255
    seen = 255 * colours[:, :3] * colours[:, 3:] + ground * (1 - colours[:, 3:])
    lightness = _lab(seen, sight)[:, 0]
    assert (np.diff(lightness) > -1).all()
    assert lightness[-1] - lightness[0] > 40 and lightness[-1] - lightness[8] > 25


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_hatch_where_there_is_no_imagery_is_seen(sight):
    line, between = _lab([scene.BLANK[:3], scene.BETWEEN[:3]], sight)[:, 0]
    assert between - line > 35


@pytest.mark.parametrize(("theme", "page"), [("light", "#ffffff"), ("dark", "#171614")])
def test_a_button_is_read_and_so_is_what_stands_out_on_the_page(theme, page):
    def luminance(colour: str) -> float:
        lightness = _lab([int(colour[i : i + 2], 16) for i in (1, 3, 5)], "all hues")[0]
        return float(((lightness + 16) / 116) ** 3)

    blue = luminance(OPTIONS[f"theme.{theme}.primaryColor"])
    for other in (1.0, luminance(page)):
        darker, lighter = sorted((blue, other))
        assert (lighter + 0.05) / (darker + 0.05) > 4  # WCAG asks for 3 of signs and of large text
