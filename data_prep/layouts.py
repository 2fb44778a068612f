"""How the benchmarks of cross-view retrieval lay out their files, as their authors publish them.

Every function takes the folder of an unpacked benchmark and returns what its lists name, paths relative to it; whether
the files are there is not looked at. Panoramas of all three street-level sets are turned so that north is in the
middle. Raises SourceError where the folder has another layout.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from scipy.io import loadmat

from data_prep.report import Rejected
from zoomloc.errors import SourceError

UTM_OF_CANBERRA = "EPSG:32755"
CANBERRA = shapely.box(148.5, -36.5, 149.7, -34.7)  # lon, lat; and the land around it
VIGOR_CITIES = ("Chicago", "NewYork", "SanFrancisco", "Seattle")
VIGOR_CROSS_AREA_TRAIN = ("NewYork", "Seattle")
VIGOR_SAME_AREA = {"train": "same_area_balanced_train", "test": "same_area_balanced_test"}


@dataclass(frozen=True)
class Pair:
    """As a row of zoomloc.pairs."""

    photo: str | None
    overhead: str
    split: str
    match: str | None = "exact"
    view: str | None = "street"


@dataclass(frozen=True)
class Listing:
    """What a benchmark names. places: (lat, lon) of photos, by their path."""

    pairs: list[Pair]
    attribution: str
    licence: str | None = None
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


def cvusa(root: Path) -> Listing:
    """`splits/{train,val}-19zl.csv` of overhead, panorama and its annotation; results are reported on val, which is
    split test here. Positions from `split_locations/all.csv`, row n for image n, if it is there."""
    pairs = [
        Pair(photo, overhead, split)
        for split, name in (("train", "train-19zl.csv"), ("test", "val-19zl.csv"))
        for overhead, photo, *_ in _rows(root / "splits" / name, columns=2)
    ]
    places = {}
    locations = root / "split_locations" / "all.csv"
    if locations.is_file():
        rows = list(_rows(locations, columns=4))
        for pair in pairs:
            number = Path(pair.overhead).stem
            row = rows[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(rows) else []
            place = _place(row[2:4])
            if place and pair.photo:
                places[pair.photo] = place
    return Listing(pairs, "CVUSA (Workman et al. 2015, Zhai et al. 2017)", places=places)


def cvact(root: Path) -> Listing:
    """`ACT_data.mat` with the panoramas' names, their UTM coordinates and the splits; images in `ANU_data_small`
    (train and val) and in `ANU_data_test`, where that was downloaded."""
    path = next(iter(sorted(root.rglob("ACT_data.mat"))), None)
    if path is None:
        raise SourceError(f"{root}: no ACT_data.mat; name the folder that holds it and ANU_data_small")
    names, utm, splits = _act_data(path)
    to_degrees = Transformer.from_crs(UTM_OF_CANBERRA, "EPSG:4326", always_xy=True)
    easting, northing = np.sort(utm, axis=1).T  # in this zone and so far south, northings are the larger
    places_of = list(zip(*to_degrees.transform(easting, northing), strict=True))
    pairs, places = [], {}
    for split, numbers in splits.items():
        folder = "ANU_data_test" if split == "test" else "ANU_data_small"
        for number in numbers if (root / folder).is_dir() else ():
            photo = f"{folder}/streetview/{names[number]}_grdView.jpg"
            overhead = f"{folder}/satview_polish/{names[number]}_satView_polish.jpg"
            pairs.append(Pair(photo, overhead, split))
            lon, lat = places_of[number]
            if CANBERRA.contains(shapely.Point(lon, lat)):
                places[photo] = lat, lon
    return Listing(pairs, "CVACT (Liu and Li, CVPR 2019)", places=places)


def _act_data(path: Path) -> tuple[list[str], NDArray[np.float64], dict[str, NDArray[np.int64]]]:
    """Names (n), UTM coordinates (n, 2), and row numbers by split."""
    try:
        data = loadmat(path)
        names = [str(np.ravel(name)[0]).strip() for name in np.ravel(data["panoIds"])]
        sets = {
            "train": ("trainSet", "trainInd"),
            "val": ("valSet", "valInd"),
            "test": ("valSetAll", "valInd"),
        }
        splits = {
            split: np.ravel(data[table][column][0, 0]).astype(np.int64) - 1  # MATLAB counts from 1
            for split, (table, column) in sets.items()
        }
        utm = np.asarray(data["utm"], np.float64).reshape(len(names), 2)
    except Exception as error:  # SciPy's reader fails in many ways, and so does what is not there
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SourceError(f"{path}: not the table of CVACT ({reason}); download it again") from None
    if any(
        len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(names) for numbers in splits.values()
    ):
        raise SourceError(f"{path}: a split names a row that is not there; download it again")
    return names, utm, splits


def vigor(root: Path, *, cross_area: bool = False) -> Listing:
    """A folder for each city with `panorama/ID,LAT,LON,.jpg` and `satellite/`, and lists in `splits__corrected` (the
    labels corrected by SliceMatch) or `splits`: a panorama, its image from above, and three that overlap.

    cross_area: train on two cities, test on the two others, in place of parts of all. Images from above that no test
    panorama lies in are in the test gallery all the same.
    """
    cities = [city for city in VIGOR_CITIES if (root / city / "panorama").is_dir()]
    if not cities:
        raise SourceError(f"{root}: no {VIGOR_CITIES[0]}/panorama or other city of VIGOR; name its folder")
    pairs: list[Pair] = []
    places: dict[str, tuple[float, float]] = {}
    rejected: list[Rejected] = []
    for city in cities:
        alone = "train" if city in VIGOR_CROSS_AREA_TRAIN else "test"
        lists = {alone: "pano_label_balanced"} if cross_area else VIGOR_SAME_AREA
        for split, name in lists.items():
            for photo, *overheads in _vigor_rows(root, city, name, rejected):
                path = f"{city}/panorama/{photo}"
                matches = ("exact", "overlap", "overlap", "overlap")
                pairs += [
                    Pair(path, f"{city}/satellite/{overhead}", split, match)
                    for overhead, match in zip(overheads, matches, strict=True)
                ]
                if place := _place(photo.split(",")[-3:-1]):
                    places[path] = place
        if "test" in lists:
            tested = {pair.overhead for pair in pairs if pair.split == "test"}
            gallery = (
                f"{city}/satellite/{path.name}" for path in sorted((root / city / "satellite").iterdir())
            )
            pairs += [Pair(None, name, "test", None, None) for name in gallery if name not in tested]
    return Listing(
        pairs,
        "VIGOR (Zhu et al., CVPR 2021)",
        "academic research only, not to be distributed",
        places,
        rejected,
    )


def _vigor_rows(root: Path, city: str, name: str, rejected: list[Rejected]) -> Iterator[list[str]]:
    """Panorama and four images from above a line; where in them it lies is left out."""
    corrected = root / "splits__corrected" / city / f"{name}__corrected.txt"
    path = corrected if corrected.is_file() else root / "splits" / city / f"{name}.txt"
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if len(words) == 13:
            yield [words[0], *words[1::3]]
        elif words:
            rejected.append(
                Rejected(f"{path.relative_to(root)}:{number}", "a line that names no five images")
            )


def university(root: Path) -> Listing:
    """`train/{satellite,street,drone}/ID/` and `test/{query_street,query_drone,gallery_satellite}/ID/`: a building's
    images share its ID. The street photos found by an image search (`train/google`) are left out, many show something
    else. Buildings of the test gallery without a query are there to be searched through."""
    if not (root / "train" / "satellite").is_dir():
        raise SourceError(f"{root}: no train/satellite in it; name the folder of University-1652")
    pairs = []
    for split, above, views in (
        ("train", "train/satellite", {"street": "train/street", "drone": "train/drone"}),
        ("test", "test/gallery_satellite", {"street": "test/query_street", "drone": "test/query_drone"}),
    ):
        for overhead in _files(root, above):
            building = Path(overhead).parent.name
            of_it = [
                Pair(photo, overhead, split, view=view)
                for view, folder in views.items()
                for photo in _files(root, f"{folder}/{building}")
            ]
            pairs += of_it or [Pair(None, overhead, split, None, None)]
    return Listing(
        pairs,
        "University-1652 (Zheng et al., ACM Multimedia 2020)",
        "non-commercial research, not to be distributed",
    )


def _files(root: Path, folder: str) -> list[str]:
    return [p.relative_to(root).as_posix() for p in sorted((root / folder).rglob("*")) if p.is_file()]


def _place(texts: Sequence[str]) -> tuple[float, float] | None:
    """(lat, lon) from two texts, None where they are no position."""
    try:
        lat, lon = (float(text) for text in texts)
    except ValueError:
        return None
    return (lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 and (lat, lon) != (0, 0) else None


def _rows(path: Path, *, columns: int) -> Iterator[list[str]]:
    """The rows of a CSV. Raises SourceError where one has fewer columns."""
    for number, row in enumerate(csv.reader(_lines(path)), start=1):
        if len(row) < columns:
            raise SourceError(f"{path}, line {number}: fewer than {columns} columns; download it again")
        yield row


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise SourceError(f"{path}: no such list; name the folder that holds it and the images") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path}: not text; download it again") from None
