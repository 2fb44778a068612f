"""What `info` says of a source, and which cells `check` finds blank."""

import numpy as np
import pytest

import tiles
from tiles.inspect import check, info


def half_covered(write_raster, covered):
    """64 x 64 px of 1 m, with imagery where `covered` (8 x 8) says so."""
    mask = np.kron(np.asarray(covered, np.uint8), np.ones((8, 8), np.uint8)) * 255
    values = np.full((3, 64, 64), 120, np.uint8)
    return tiles.open(
        write_raster(values, west=500_000, north=5_000_064, alpha=mask, overviews=(2, 4), name="covered.tif")
    )


def pyramid_over(source, *, depth, branch=2):
    return tiles.Pyramid(
        source, crs="EPSG:32632", north_west=(500_000, 5_000_064), size_m=64, branch=branch, depth=depth
    )


def test_info_states_the_facts(write_raster):
    covered = np.ones((8, 8), int)
    covered[:, :2] = 0
    facts = info(half_covered(write_raster, covered))
    assert facts.crs == "EPSG:32632" and facts.bounds == (500_000, 5_000_000, 500_064, 5_000_064)
    assert facts.levels_m == pytest.approx([1, 2, 4], rel=1e-3)
    assert facts.coverage == pytest.approx(0.75, abs=0.005)
    assert facts.lon_lat.west == pytest.approx(9.0, abs=1e-3)
    assert facts.lon_lat.north == pytest.approx(45.1535, abs=1e-3)


def test_check_finds_exactly_the_blank_cells(write_raster):
    covered = np.ones((8, 8), int)
    covered[0:4, 4:8] = 0  # a whole cell of level 1: named once, not with the four below it
    covered[6, 1] = 0  # one of the smallest cells' four quarters: a partial cell
    covered[6:8, 6:8] = 0  # one smallest cell
    found = check(pyramid_over(half_covered(write_raster, covered), depth=3))
    assert found.empty == [(1, 0, 1), (2, 3, 3)]
    assert found.partial == 1
    assert [level.shape for level in found.levels] == [(1, 1), (2, 2), (4, 4)]
    assert found.levels[0][0, 0] == pytest.approx(covered.mean())
    assert found.levels[1] == pytest.approx(np.array([[1, 0], [15 / 16, 0.75]]))


def test_check_tells_its_progress(write_raster):
    told = []
    check(
        pyramid_over(half_covered(write_raster, np.ones((8, 8))), depth=2, branch=4),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_region_wider_than_its_imagery_is_blank_around_it(write_raster):
    source = half_covered(write_raster, np.ones((8, 8), int))
    wide = tiles.Pyramid(
        source, crs="EPSG:32632", north_west=(499_936, 5_000_064), size_m=128, branch=4, depth=2
    )
    found = check(wide)
    assert len(found.empty) == 12 and found.levels[0][0, 0] == pytest.approx(0.25)
