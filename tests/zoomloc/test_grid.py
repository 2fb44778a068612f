"""The grid nests exactly, and its compatibility mode reproduces the published labels."""

import math
from itertools import pairwise

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from zoomloc.errors import OutsideRegion, RegionError
from zoomloc.grid import Cell, Grid, move_on_sphere, published_path

DC = Grid(crs="EPSG:26985", north_west=(395993.5, 141189.0), size_m=10_000, branch=4, depth=4)

# Squares of odd sizes, branches and places, so that nothing is exact by luck.
PLACES = {"EPSG:32632": (412_345.6, 5_312_345.7), "EPSG:2056": (2_600_000.1, 1_200_000.3),
          "EPSG:26985": (395_993.5, 141_189.0), "EPSG:32720": (610_000.9, 8_000_000.2)}  # fmt: skip


@st.composite
def grids(draw):
    crs = draw(st.sampled_from(sorted(PLACES)))
    branch = draw(st.integers(2, 5))
    return Grid(
        crs=crs,
        north_west=PLACES[crs],
        size_m=draw(st.floats(50, 40_000)),
        branch=branch,
        depth=draw(st.integers(1, 5)),
    )


@st.composite
def grids_and_cells(draw, below_leaf=0):
    grid = draw(grids())
    level = draw(st.integers(0, grid.depth - below_leaf))
    index = st.integers(0, grid.n_cells(level) - 1)
    return grid, Cell(level, draw(index), draw(index))


@st.composite
def grids_and_points(draw):
    grid = draw(grids())
    west, south, east, north = grid.bounds(grid.root)
    # Lines of the grid are where rounding shows, so half of the points lie on some.
    line = st.integers(0, grid.n_cells(grid.depth)).map(lambda i: i / grid.n_cells(grid.depth))
    part = st.one_of(st.floats(0, 1), line)
    x = min(max(west + draw(part) * grid.size_m, west), east)
    y = min(max(north - draw(part) * grid.size_m, south), north)
    return grid, x, y


def contains(bounds, x, y):
    return bounds.west <= x <= bounds.east and bounds.south <= y <= bounds.north


@given(grids_and_points())
def test_a_point_lies_in_the_bounds_of_its_cell_at_every_level(case):
    grid, x, y = case
    leaf = grid.cell_at(x, y)
    cell = leaf
    for level in range(grid.depth, -1, -1):
        assert grid.cell_at(x, y, level) == cell
        assert contains(grid.bounds(cell), x, y)
        if level:
            cell = grid.parent(cell)
    assert contains(grid.bounds(grid.cell(grid.path(leaf))), x, y)


@given(grids_and_cells(below_leaf=1))
def test_children_tile_their_parent_without_gap_or_overlap(case):
    grid, cell = case
    b = grid.branch
    outer = grid.bounds(cell)
    inner = [grid.bounds(child) for child in grid.children(cell)]
    rows = [inner[i * b : (i + 1) * b] for i in range(b)]
    assert len(inner) == b * b
    for row in rows:  # from west to east, edges shared to the last bit
        assert row[0].west == outer.west and row[-1].east == outer.east
        assert all(left.east == right.west for left, right in pairwise(row))
        assert len({(box.south, box.north) for box in row}) == 1
    for upper, lower in pairwise(rows):
        assert upper[0].south == lower[0].north
    assert rows[0][0].north == outer.north and rows[-1][0].south == outer.south


@given(grids_and_cells())
def test_cell_to_path_and_back(case):
    grid, cell = case
    path = grid.path(cell)
    assert len(path) == cell.level and all(0 <= step < grid.branch**2 for step in path)
    assert grid.cell(path) == cell


@given(grids_and_cells(below_leaf=1))
def test_children_know_their_parent_and_their_place(case):
    grid, cell = case
    for k, child in enumerate(grid.children(cell)):
        assert grid.parent(child) == cell
        assert grid.path(child) == (*grid.path(cell), k)


@given(grids_and_cells())
def test_a_cells_centre_lies_in_it(case):
    grid, cell = case
    assert grid.cell_at(*grid.centre(cell), cell.level) == cell


@given(grids_and_points())
def test_projecting_there_and_back_loses_less_than_a_centimetre(case):
    grid, x, y = case
    back_x, back_y = grid.project(*grid.unproject(x, y))
    assert math.hypot(back_x - x, back_y - y) < 0.01


def test_inner_edges_belong_to_the_south_and_the_east():
    west, south, east, north = DC.bounds(DC.root)
    middle_x, middle_y = west + 5000, north - 5000
    assert DC.cell_at(middle_x, middle_y, 1) == (1, 2, 2)
    assert DC.cell_at(middle_x - 1e-6, middle_y + 1e-6, 1) == (1, 1, 1)
    assert DC.cell_at(west, north) == (4, 0, 0)
    assert DC.cell_at(east, south) == (4, 255, 255)


@pytest.mark.parametrize(
    ("dx", "dy"), [(-1, 0), (0, 1), (10_001, 0), (0, -10_001), (math.nan, 0), (math.inf, 0)]
)
def test_points_outside_are_refused(dx, dy):
    with pytest.raises(OutsideRegion, match="outside the region"):
        DC.cell_at(DC.north_west[0] + dx, DC.north_west[1] + dy)
    with pytest.raises(OutsideRegion, match="lat=48"):
        DC.path_at(48.0, 8.0)


def test_sizes():
    assert (DC.n_cells(4), DC.leaf_m, DC.side_m(1)) == (256, 39.0625, 2500)
    assert DC.root == (0, 0, 0) and DC.path(DC.root) == () and DC.cell(()) == DC.root
    with pytest.raises(ValueError, match="no parent"):
        DC.parent(DC.root)


def test_north_is_row_zero_and_lat_comes_first():
    lat, lon = DC.unproject(*DC.centre(DC.root))
    assert 38.8 < lat < 39 and -77.1 < lon < -76.9
    north_west = DC.path_at(lat + 0.03, lon - 0.04)
    assert north_west[0] == 0
    assert DC.path_at(lat - 0.03, lon + 0.04)[0] == 15


@given(grids_and_cells())
def test_polygons_are_the_cells_on_the_ground(case):
    grid, cell = case
    polygon = grid.polygon(cell)
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(polygon)
    assert polygon.is_valid
    assert area == pytest.approx(grid.side_m(cell.level) ** 2, rel=0.01)
    lat, lon = grid.unproject(*grid.centre(cell))
    assert polygon.contains(shapely.Point(lon, lat))


def test_polygon_edges_follow_the_crs():
    """Halfway between neighbouring points, where a chord is furthest off, it is still on the square's edge."""
    points = list(DC.polygon(DC.root).exterior.coords)
    square = shapely.box(*DC.bounds(DC.root)).exterior
    for (lon0, lat0), (lon1, lat1) in pairwise(points):
        x, y = DC.project((lat0 + lat1) / 2, (lon0 + lon1) / 2)
        assert square.distance(shapely.Point(x, y)) < 0.02


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"crs": "EPSG:999999"}, "unknown CRS"),
        ({"crs": "EPSG:4326"}, "not projected"),
        ({"crs": "EPSG:2248"}, "US survey foot"),
        ({"crs": "EPSG:3857", "north_west": (-8_573_000.0, 4_710_000.0)}, r"0\.77\d m on the ground.*EPSG:32618"),
        ({"crs": "EPSG:32618", "north_west": (1e9, 1e9)}, "north_west"),
        ({"size_m": 0}, "size_m is 0"),
        ({"size_m": math.inf}, "size_m is inf"),
        ({"branch": 1}, "branch is 1"),
        ({"depth": 0}, "depth is 0"),
        ({"north_west": (math.nan, 0.0)}, "two finite numbers"),
    ],
)  # fmt: skip
def test_what_makes_no_grid_is_refused(change, says):
    fields = {"crs": DC.crs, "north_west": DC.north_west, "size_m": 10_000, "branch": 4, "depth": 4}
    with pytest.raises(RegionError, match=says) as caught:
        Grid(**{**fields, **change})
    assert "\n" not in str(caught.value)


# Thirteen rows of the published benchmark: latitude, longitude, label path.
PUBLISHED = [
    (38.908513, -76.940898, (7, 6, 6, 5)),
    (38.909364, -76.940879, (7, 6, 2, 13)),
    (38.908547, -76.940446, (7, 6, 6, 6)),
    (38.910576, -76.941785, (7, 2, 13, 15)),
    (38.913548, -76.932969, (7, 3, 6, 15)),
    (38.908289, -76.942360, (7, 6, 5, 10)),
    (38.908905, -76.932115, (7, 7, 7, 1)),
    (38.910752, -76.939744, (7, 2, 15, 12)),
    (38.908546, -76.937093, (7, 7, 4, 6)),
    (38.918031, -76.941140, (3, 14, 10, 9)),
    (38.909983, -76.937252, (7, 7, 0, 5)),
    (38.908792, -76.942123, (7, 6, 5, 2)),
    (38.912380, -76.940105, (7, 2, 10, 11)),
]
PUBLISHED_SQUARE = {
    "centre": move_on_sphere((38.8936, -77.0116), east_m=2000),
    "size_m": 10_000,
    "branch": 4,
    "depth": 4,
}


@pytest.mark.parametrize(("lat", "lon", "path"), PUBLISHED)
def test_the_published_labels_are_reproduced(lat, lon, path):
    assert published_path(lat, lon, **PUBLISHED_SQUARE) == path


def test_the_published_rows_are_the_ones_restated_here(shared_parity):
    import csv
    import json

    with (shared_parity / "just_zoom_in_rows.csv").open() as file:
        rows = [
            (float(row["latitude"]), float(row["longitude"]), tuple(json.loads(row["sequence"])))
            for row in csv.DictReader(file)
        ]
    assert rows == PUBLISHED


@given(st.floats(-0.44, 0.44), st.floats(-0.44, 0.44))
def test_the_published_labels_nearly_are_an_exact_grid(east, north):
    """Well inside the square a published leaf lies less than one leaf away from the point itself."""
    lat, lon = move_on_sphere(PUBLISHED_SQUARE["centre"], east_m=east * 10_000, north_m=north * 10_000)
    row, col = 0, 0
    for step in published_path(lat, lon, **PUBLISHED_SQUARE):
        row, col = row * 4 + step // 4, col * 4 + step % 4
    side = 10_000 / 256
    assert (
        math.hypot((col + 0.5) * side - 5000 - east * 10_000, 5000 - (row + 0.5) * side - north * 10_000)
        < side
    )


def test_the_published_labels_end_at_the_square():
    with pytest.raises(OutsideRegion, match="outside the 10000 m square"):
        published_path(38.8936, -77.2, **PUBLISHED_SQUARE)
