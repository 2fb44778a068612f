import numpy as np
import pytest

from zoomloc import panorama

WIDTH = 1024


def _rays(lon, lat):
    """Unit vectors (..., 3) to the right, up and ahead."""
    return np.stack([np.sin(lon) * np.cos(lat), np.sin(lat), np.cos(lon) * np.cos(lat)], axis=-1)


def _directions():
    """A panorama whose colours are the directions of its pixels."""
    lon = ((np.arange(WIDTH) + 0.5) / WIDTH - 0.5)[None, :] * 2 * np.pi
    lat = (0.5 - (np.arange(WIDTH // 2) + 0.5) / (WIDTH // 2))[:, None] * np.pi
    lon, lat = np.broadcast_arrays(lon, lat)
    return np.round((_rays(lon, lat) + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("yaw", [0, 37.5, 90, 180, 270, -45, 725])
@pytest.mark.parametrize("fov", [60, 90, 120])
def test_every_pixel_shows_what_lies_in_its_direction(yaw, fov):
    view = panorama.view(_directions(), yaw_deg=yaw, fov_deg=fov)
    height, width, _ = view.shape
    assert height == pytest.approx(width * 3 / 4, abs=1)
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    ray = np.stack([x, -y, np.full_like(x, focal)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    turn = np.radians(yaw)
    right = ray[..., 0] * np.cos(turn) + ray[..., 2] * np.sin(turn)
    ahead = ray[..., 2] * np.cos(turn) - ray[..., 0] * np.sin(turn)
    expected = (np.stack([right, ray[..., 1], ahead], axis=-1) + 1) * 127.5
    assert np.abs(view - expected).max() < 1.5  # rounding of the panorama and of the view


def test_a_view_is_as_fine_in_its_middle_as_the_panorama():
    stripes = np.zeros((WIDTH // 2, WIDTH, 3), np.uint8)
    stripes[:, ::2] = 255
    view = panorama.view(stripes, yaw_deg=0, fov_deg=90)
    middle = view[view.shape[0] // 2, view.shape[1] // 2 - 5 : view.shape[1] // 2 + 5, 0].astype(int)
    assert np.abs(np.diff(middle)).min() > 200  # still one stripe a pixel


def test_the_seam_is_not_seen():
    grey = np.full((256, 512, 3), 100, np.uint8)
    grey[:, 0] = grey[:, -1] = 140
    behind = panorama.view(grey, yaw_deg=180, fov_deg=60)
    row = behind[behind.shape[0] // 2, :, 0].astype(int)
    line = np.flatnonzero(row > 105)
    assert len(line) in (2, 3, 4) and abs(line.mean() + 0.5 - len(row) / 2) < 1 and row[line].max() > 135


def test_the_whole_sphere_is_twice_as_wide_as_high():
    assert panorama.is_whole(np.zeros((1024, 2048, 3), np.uint8))
    assert panorama.is_whole(np.zeros((1023, 2048, 3), np.uint8))
    assert not panorama.is_whole(np.zeros((800, 2048, 3), np.uint8))
    assert not panorama.is_whole(np.zeros((1024, 1024, 3), np.uint8))
