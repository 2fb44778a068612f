"""Towns on maps: a tiny map written here, whose every part is checked; and real extracts, where they are."""

import gzip
import json
import re
import shlex
from pathlib import Path

import numpy as np
import piexif
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, Point, Polygon, box
from typer.testing import CliRunner

from data_prep.cities.city import main
from data_prep.cities.mesh import Ground, Mesh
from data_prep.cities.osm import Feature, centre, read, survey
from data_prep.cities.osm.read import metres, number
from data_prep.cities.osm.water import sea
from data_prep.cities.outlines import flat, footprint, rise_m, sloped, walls
from data_prep.cities.plan import Plan
from data_prep.cities.roofs import Paint
from data_prep.cities.square import Square, around, covering, numbers
from data_prep.cities.world import make_world
from zoomloc import manifest
from zoomloc.cli import app
from zoomloc.errors import ConfigError, SourceError, ZoomlocError
from zoomloc.region import Region

SIZE_M = 320.0
LAT, LON = 48.5, 9.05
SQUARE = around(LAT, LON, SIZE_M)


def lon_lat(x: float, y: float) -> tuple[float, float]:
    lat, lon = SQUARE.geographic(x, y)
    return lon, lat


Way = tuple[list[tuple[float, float]], dict[str, str]]


def ring(*bounds: float) -> list[tuple[float, float]]:
    return list(box(*bounds).exterior.coords)


WAYS: list[Way] = [  # in local metres
    ([(-300, 160), (160, 160)], {"highway": "residential", "name": "West"}),
    ([(160, 160), (600, 160)], {"highway": "primary", "lanes": "4"}),
    ([(160, 160), (160, 600)], {"highway": "residential"}),
    ([(0, 60), (320, 60)], {"highway": "footway"}),
    ([(40, 100), (40, 300)], {"highway": "residential", "tunnel": "yes"}),
    (ring(40, 180, 60, 200), {"building": "yes", "height": "21.5 m", "roof:shape": "flat"}),
    (ring(70, 180, 82, 190), {"building": "house", "building:levels": "2", "roof:shape": "gabled"}),
    (ring(90, 180, 96, 185), {"building": "garage"}),
    ([(200, 190), (240, 190), (240, 200), (215, 200), (215, 230), (200, 230), (200, 190)], {"building": "yes"}),
    (ring(250, 190, 280, 220), {"building": "yes", "height": "40"}),
    (ring(250, 190, 280, 220), {"building:part": "yes", "height": "12"}),
    (ring(258, 198, 270, 212), {"building:part": "yes", "height": "40", "min_height": "12"}),
    (ring(0, 0, 120, 50), {"landuse": "forest"}),
    (ring(130, 0, 180, 50), {"amenity": "parking"}),
    (ring(280, -400, 800, 800), {"natural": "water"}),
    (ring(270, 100, 310, 110), {"man_made": "pier"}),
    ([(200, 80), (260, 80)], {"natural": "tree_row"}),
    ([(0, 55), (160, 55)], {"railway": "rail"}),
]  # fmt: skip
POINTS = [((20, 300), {"natural": "tree", "leaf_type": "needleleaved"}), ((30, 300), {"natural": "tree"})]


def osm_xml() -> str:
    nodes: dict[tuple[float, float], int] = {}
    ways = []
    for k, (line, tags) in enumerate(WAYS):
        refs = [nodes.setdefault(p, len(nodes) + 1) for p in line]
        inner = "".join(f'<nd ref="{ref}"/>' for ref in refs) + _tags(tags)
        ways.append(f'<way id="{k + 1}" version="1">{inner}</way>')
    points = [_node(1000 + k, at, _tags(tags)) for k, (at, tags) in enumerate(POINTS)]
    lines = [_node(number, at, "") for at, number in nodes.items()] + points + ways
    return '<?xml version="1.0"?><osm version="0.6">' + "\n".join(lines) + "</osm>"


def _tags(tags: dict[str, str]) -> str:
    return "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())


def _node(number: int, at: tuple[float, float], inner: str) -> str:
    lon, lat = lon_lat(*at)
    return f'<node id="{number}" version="1" lon="{lon:.7f}" lat="{lat:.7f}">{inner}</node>'


def geojson() -> str:
    def shape(line: list[tuple[float, float]], tags: dict[str, str]) -> dict[str, object]:
        xy = [lon_lat(*p) for p in line]
        closed = xy[0] == xy[-1]
        return {"type": "Polygon" if closed else "LineString", "coordinates": [xy] if closed else xy}

    features = [{"type": "Feature", "properties": tags, "geometry": shape(line, tags)} for line, tags in WAYS]
    for at, tags in POINTS:
        point = {"type": "Point", "coordinates": lon_lat(*at)}
        features.append({"type": "Feature", "properties": tags, "geometry": point})
    return json.dumps({"type": "FeatureCollection", "features": features})


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "tiny.osm").write_text(osm_xml())
    (folder / "tiny.osm.gz").write_bytes(gzip.compress(osm_xml().encode()))
    (folder / "tiny.geojson").write_text(geojson())
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def plan(maps: dict[str, Path]) -> Plan:
    return survey(read(maps["tiny.osm"], SQUARE.window(420)), SQUARE, seed=1)


def outline(features: list[Feature]) -> list[tuple[str, str]]:
    return sorted((f.geometry.geom_type, json.dumps(dict(f.tags), sort_keys=True)) for f in features)


def test_every_format_gives_the_same_features(maps: dict[str, Path]) -> None:
    found = {name: outline(read(path)) for name, path in maps.items()}
    assert len(found["tiny.osm"]) == len(WAYS) + len(POINTS)
    assert found["tiny.osm"] == found["tiny.osm.gz"] == found["tiny.geojson"]


def test_only_what_touches_the_window_is_read(maps: dict[str, Path]) -> None:
    here = read(maps["tiny.osm"], (*lon_lat(35, 175), *lon_lat(65, 205)))
    assert [f.tags.get("height") for f in here if f.has("building")] == ["21.5 m"]


def test_a_file_that_is_no_map_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.osm.pbf").write_bytes(b"not a map at all")
    (tmp_path / "map.shp").touch()
    (tmp_path / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    for name, words in (
        ("missing.osm.pbf", "no such file"), ("broken.osm.pbf", "cannot be read"), ("map.shp", "not one of"),
    ):  # fmt: skip
        with pytest.raises(SourceError, match=words) as error:
            read(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(SourceError, match="neither houses nor streets"):
        centre(read(tmp_path / "empty.geojson"))


def test_streets_are_cut_at_junctions_and_as_wide_as_their_tags_say(plan: Plan) -> None:
    assert len(plan.streets) == 3  # the tunnel is not seen
    wide = max(plan.streets, key=lambda s: s.width_m)
    assert wide.rank == "avenue" and wide.width_m == pytest.approx(4 * 3.3 + 0.6)
    junction = Point(160, 160)
    for street in plan.streets:
        ends = [junction.distance(Point(street.line.coords[k])) for k in (0, -1)]
        assert min(ends) < 0.1
        assert street.clear_m[int(np.argmin(ends))] == pytest.approx(wide.width_m / 2 + 1.2)
        assert street.clear_m[int(np.argmax(ends))] == 0


def test_houses_have_the_heights_and_roofs_of_their_tags(plan: Plan) -> None:
    assert plan.survey is not None
    by_place = {(round(h.shape.bounds[0]), round(h.low_m)): h for h in plan.survey.houses}
    assert by_place[40, 0].top_m == 21.5 and by_place[40, 0].roof == "flat"
    assert by_place[70, 0].roof == "gable" and by_place[70, 0].top_m == pytest.approx(2 * 3.1 + 3)
    assert by_place[70, 0].kind == "villas"
    assert 2 < by_place[90, 0].top_m < 4 and by_place[90, 0].kind == "works"
    assert 4 < by_place[200, 0].top_m < 30  # nothing is known of it
    assert by_place[250, 0].top_m == 12  # the part, not the outline, which is as tall as the tower on it
    assert by_place[258, 12].top_m == 40
    assert len(by_place) == len(plan.survey.houses) == 6


def test_a_pier_stands_in_the_water_and_the_bridge_crosses_it(plan: Plan) -> None:
    assert not plan.water.contains(Point(300, 105)) and plan.water.contains(Point(300, 120))
    assert plan.bridges.contains(Point(300, 160))


def ground_at(plan: Plan, x: float, y: float) -> Ground:
    assert plan.survey is not None
    return [kind for area, kind in plan.survey.areas if area.contains(Point(x, y))][-1]


def test_the_ground_is_what_the_map_says(plan: Plan) -> None:
    assert ground_at(plan, 60, 25) == Ground.FOREST
    assert ground_at(plan, 150, 25) == Ground.ASPHALT
    assert ground_at(plan, 250, 60) == Ground.PATH
    assert ground_at(plan, 80, 55) == Ground.BALLAST
    assert ground_at(plan, 300, 105) == Ground.PAVING
    assert plan.survey is not None and len(plan.survey.parking) == 1 and len(plan.survey.rails) == 1


def test_trees_stand_where_they_are_mapped_and_woods_where_nothing_else_is(plan: Plan) -> None:
    assert plan.survey is not None
    trees = plan.survey.trees
    assert [kind for x, y, kind in trees if abs(x - 20) < 1] == [3]  # a spruce
    assert len([1 for x, y, _ in trees if abs(y - 80) < 1]) == 8  # a row of 60 m
    forest = next(g.area for g in plan.survey.groves if g.area.contains(Point(60, 25)))
    assert forest.area == pytest.approx(120 * 50, rel=0.01)
    assert forest.intersection(plan.streets[0].line).is_empty


@pytest.mark.parametrize("x", [160.0, 4000.0])
def test_a_square_without_streets_is_refused(maps: dict[str, Path], x: float) -> None:
    far = Square(SQUARE.crs, (SQUARE.north_west[0] + x + 5000, SQUARE.north_west[1]), SIZE_M)
    with pytest.raises(SourceError, match="no street"):
        survey(read(maps["tiny.osm"], far.window(420)), far, seed=1)


def test_streets_without_houses_are_lined_with_made_up_ones_and_parks_are_not() -> None:
    """A map of streets only: three blocks, of which one is a park."""
    lines = [[(x, 40), (x, 280)] for x in (20, 120, 220, 318)] + [
        [(20, y), (120, y), (220, y), (318, y)] for y in (40, 280)
    ]
    features = [
        Feature(LineString([lon_lat(*p) for p in line]), {"highway": "residential"}) for line in lines
    ]
    features.append(Feature(Polygon([lon_lat(*p) for p in ring(122, 42, 218, 278)]), {"leisure": "park"}))
    town = survey(features, SQUARE, seed=1)
    assert sorted(block.lot.centroid.x // 100 for block in town.blocks) == [0, 2]
    assert {block.use for block in town.blocks} == {"rows"}
    world = make_world(town, seed=1)
    assert world.ground.kind.shape == (960, 960)


COAST = LineString([(-10, 3), (4, 3), (4, 6), (110, 6)])


@pytest.mark.parametrize(
    ("coast", "area"), [(COAST, 4 * 3 + 96 * 6), (COAST.reverse(), 1000 - 4 * 3 - 96 * 6)]
)
def test_the_sea_lies_to_the_right_of_the_coast(coast: LineString, area: float) -> None:
    assert sea([coast], box(0, 0, 100, 10)).area == pytest.approx(area)


def test_an_island_is_no_sea_and_a_gap_in_a_coast_is_closed() -> None:
    frame = box(0, 0, 100, 100)
    island = LineString(box(40, 40, 60, 60).exterior.coords)  # counter-clockwise: land on the left
    parts = [LineString([(-5, 80), (30, 80)]), LineString([(50, 80), (105, 80)]), island]
    wet = sea(parts, frame)
    assert wet.area == pytest.approx(100 * 80 - 400)
    assert sea([], frame).is_empty


@given(st.floats(0.1, 800), st.sampled_from(["{:.2f}", "{:.2f} m", " {:.2f}m", "{:.2f} metres"]))
def test_metres_are_read(value: float, form: str) -> None:
    assert metres(form.format(value)) == pytest.approx(value, abs=0.006)


@given(st.integers(1, 900), st.integers(0, 11))
def test_feet_and_inches_are_read(feet: int, inches: int) -> None:
    assert metres(f"{feet}'{inches}\"") == pytest.approx(0.3048 * (feet + inches / 12))
    assert metres(f"{feet} ft") == pytest.approx(0.3048 * feet)


@given(st.text())
def test_no_tag_breaks_the_reader_of_numbers(text: str) -> None:
    for value in (metres(text), number(text)):
        assert value is None or value >= 0


@settings(max_examples=25)
@given(st.floats(-79, 83), st.floats(-180, 180), st.floats(320, 5000))
def test_a_square_holds_its_centre_in_the_middle(lat: float, lon: float, size_m: float) -> None:
    square = around(lat, lon, size_m)
    x, y = np.ravel([g.coords[0] for g in square.local([Point(lon, lat)])])
    assert (x, y) == (pytest.approx(size_m / 2, abs=1.0), pytest.approx(size_m / 2, abs=1.0))
    again = square.geographic(x, y)
    assert again[0] == pytest.approx(lat, abs=1e-7)


def test_a_box_of_degrees_is_covered() -> None:
    square = covering(9.50, 47.13, 9.53, 47.15)
    west, south, east, north = square.window(0)
    assert west <= 9.5001 and south <= 47.1301 and east >= 9.5299 and north >= 47.1499
    assert square.crs == "EPSG:32632" and square.size_m % 10 == 0
    with pytest.raises(ConfigError, match="not a rectangle"):
        covering(9.53, 47.13, 9.50, 47.15)
    with pytest.raises(ConfigError, match="give 4 numbers"):
        numbers("9.5,47.1,nine", "W,S,E,N")


PAINT = Paint((0.5,) * 3, (0.6,) * 3, (0.7,) * 3, 0.1)
SHAPES = {
    "an L": Polygon([(0, 0), (20, 0), (20, 8), (8, 8), (8, 15), (0, 15)]),
    "a courtyard": box(0, 0, 30, 30).difference(box(10, 10, 20, 20)),
    "a triangle": Polygon([(0, 0), (12, 0), (3, 9)]),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_roofs_cover_their_outline_from_eave_to_ridge(shape: Polygon) -> None:
    for pitched in (True, False):
        mesh = Mesh()
        rise = rise_m(shape, 10.0)
        if pitched:
            sloped(mesh, shape, 10.0, rise, PAINT)
        else:
            flat(np.random.default_rng(0), mesh, shape, 10.0, PAINT)
        mesh.flush()
        corners = np.concatenate(mesh.triangles).astype(float)
        a, b = corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2]
        seen = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
        assert corners[..., 2].min() == pytest.approx(10.0)
        if pitched:
            assert seen == pytest.approx(shape.area, rel=1e-3)
            assert 10 + 0.7 * rise < corners[..., 2].max() <= 10 + rise
        else:
            assert seen >= shape.area * 0.999


def test_walls_go_round_courtyards_too() -> None:
    mesh = Mesh()
    walls(mesh, SHAPES["a courtyard"], 0.0, 10.0, PAINT, 0)
    mesh.flush()
    assert len(np.concatenate(mesh.triangles)) == 2 * (4 + 4)


def test_a_house_faces_its_street() -> None:
    plot = footprint(box(0, 0, 10, 20), LineString([(30, -50), (30, 50)]))
    assert plot is not None and (plot.width_m, plot.depth_m) == (pytest.approx(20), pytest.approx(10))
    assert plot.corners[:2, 0] == pytest.approx([10, 10])  # the front is in the east
    assert footprint(SHAPES["an L"], None) is None


def test_a_town_on_a_map_names_its_source_everywhere(
    maps: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "town"
    main(out, photos=8, size_m=SIZE_M, gsd_m=2.0, width=64, test=2, val=2, workers=1,
         osm=maps["tiny.osm"], centre=f"{LAT},{LON}")  # fmt: skip
    assert "ODbL 1.0" in capsys.readouterr().out and (out / "map.png").exists()
    region = Region.load(out / "region.json")
    assert (region.crs, region.north_west) == ("EPSG:32632", SQUARE.north_west)
    assert region.attribution == "© OpenStreetMap contributors (ODbL), simulated by zoomloc"
    rows = manifest.read(out / "manifest.parquet")
    assert set(rows["attribution"]) == {region.attribution} and set(rows["licence"]) == {"ODbL 1.0"}
    shares = b"(c) OpenStreetMap contributors (ODbL), simulated by zoomloc"
    for row in rows.itertuples():
        assert piexif.load(str(out / row.photo))["0th"][piexif.ImageIFD.Copyright] == shares
        assert all(0 < v < SIZE_M for v in SQUARE.local([row.geometry])[0].coords[0])
    with rasterio.open(out / "city.tif") as picture:
        assert picture.tags()["TIFFTAG_COPYRIGHT"] == shares.decode()
        assert (picture.bounds.left, picture.bounds.top) == SQUARE.north_west
        water, wood = (picture.read()[:, row, col].astype(int) for row, col in ((10, 155), (147, 30)))
    assert water[2] > water[0] + 20 and wood[1] > wood[2] + 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bbox": "9,48,10,49"}, "give --osm"),
        ({"osm": "tiny.osm", "bbox": "9,48,10,49", "centre": "48.5,9"}, "one of them"),
        ({"osm": "tiny.osm", "centre": "48.5"}, "give 2 numbers"),
        ({"osm": "tiny.osm", "centre": "9.05,148.5"}, "no street"),
        ({"osm": "tiny.osm", "bbox": "9.05,48.5,9.0501,48.5001"}, "too small"),
    ],
)
def test_a_wrong_place_is_refused_and_leaves_nothing_behind(
    maps: dict[str, Path], tmp_path: Path, options: dict[str, str], words: str
) -> None:
    given = {key: maps[value] if key == "osm" else value for key, value in options.items()}
    with pytest.raises(ZoomlocError, match=words) as error:
        main(tmp_path / "town", size_m=SIZE_M, photos=8, **given)
    assert "\n" not in str(error.value) and not (tmp_path / "town").exists()


PAGE = Path(__file__).parents[2] / "docs" / "cities.md"
SMALLER = {r"--photos \d+": "--photos 30", r"--size-m \d+": "--size-m 320"}


def test_every_command_of_the_page_on_towns_makes_a_dataset(
    maps: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-town.osm.gz").write_bytes(maps["tiny.osm.gz"].read_bytes())
    commands = re.findall(r"^zoomloc (.+)$", PAGE.read_text(), re.MULTILINE)
    datasets = {}
    for command in commands:
        for long, short in SMALLER.items():
            command = re.sub(long, short, command)
        words = shlex.split(command)
        done = CliRunner().invoke(app, [*words, "--width", "64", "--gsd-m", "5"])
        assert done.exit_code == 0, done.output
        out = words[words.index("--out") + 1]
        assert Region.load(Path(out) / "region.json").open().view(0, 0, 0, 64).mask.all()
        datasets[out] = manifest.read(Path(out) / "manifest.parquet")
    assert list(datasets) == ["data/village", "data/mapped", "data/autumn"]
    assert set(datasets["data/mapped"]["licence"]) == {"ODbL 1.0"}
    autumn = datasets["data/autumn"]
    assert autumn["sequence"].nunique() == 10 and set(autumn["captured_at"].dt.month) <= {9, 10, 11}
    assert set(autumn["projection"]) == {"perspective", "spherical"}
    assert autumn["fov"][autumn["projection"] == "perspective"].between(60, 70).all()


def test_the_middle_of_a_map_is_taken_where_no_place_is_named(maps: dict[str, Path]) -> None:
    lat, lon = centre(read(maps["tiny.osm"]))
    x, y = SQUARE.local([Point(lon, lat)])[0].coords[0]
    assert 0 < x < SIZE_M and 0 < y < SIZE_M


PLACES = {  # file, middle, and what stands there
    "Vaduz": ("liechtenstein-latest.osm.pbf", (47.1395, 9.5215), 60, 25),
    "Manhattan": ("nyc.osm.pbf", (40.7365, -74.0060), 300, 25),
    "Baltimore": ("baltimore.osm.pbf", (39.2825, -76.6020), 20, 25),
}


@pytest.mark.parametrize(("file", "at", "houses", "streets"), PLACES.values(), ids=PLACES)
def test_real_places_have_their_streets_and_houses(
    shared_data: Path, file: str, at: tuple[float, float], houses: int, streets: int
) -> None:
    square = around(*at, 600.0)
    town = survey(read(shared_data / "osm" / file, square.window(420)), square, seed=1)
    assert town.survey is not None
    assert len(town.survey.houses) >= houses and len(town.streets) >= streets
    if file.startswith("nyc"):
        told = np.array([h.top_m for h in town.survey.houses])
        assert 8 < np.median(told) < 30  # four to six storeys in Greenwich Village
        west, east = square.local([Point(-74.0125, 40.7345), Point(-74.0050, 40.7345)])
        assert town.water.contains(west) and not town.water.intersects(east)  # the Hudson


def test_the_rhine_flows_past_vaduz(shared_data: Path) -> None:
    square = around(47.1395, 9.5080, 600.0)
    town = survey(
        read(shared_data / "osm" / "liechtenstein-latest.osm.pbf", square.window(420)), square, seed=1
    )
    inside = town.water.intersection(box(0, 0, 600, 600))
    assert 600 * 60 < inside.area < 600 * 220
