"""A region: the square of the world to search, and the imagery that shows it. Read from `region.json`."""

import glob
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

import tiles
from tiles.opening import SCHEMES
from tiles.stamp import stamp
from tiles.uri import is_remote, split_scheme
from zoomloc.errors import RegionError
from zoomloc.grid import Grid


@dataclass(frozen=True)
class Region:
    """A square to search.

    crs: projected, in metres. north_west: (x, y) of its corner. size_m: its side. branch, depth: of the zoom
    grid. imagery: what `tiles.open` takes, paths and globs relative to `folder`; the finest that covers wins.
    attribution: whom to name for imagery that does not say so itself. folder: where the region file stands.
    Raises RegionError where these make no grid.
    """

    name: str
    crs: str
    north_west: tuple[float, float]
    size_m: float
    branch: int
    depth: int
    imagery: tuple[str, ...]
    attribution: str
    folder: Path

    def __post_init__(self) -> None:
        _ = self.grid  # checks the numbers and the CRS

    @classmethod
    def load(cls, path: str | Path) -> "Region":
        """Read a region file. Raises RegionError, one line that names the file."""
        path = Path(path)
        fields = _parse(_read(path), path)
        try:
            return cls(**fields.model_dump(), folder=path.parent)
        except RegionError as error:
            raise RegionError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write the region file; `imagery` must be relative to where it is written."""
        fields = {key: value for key, value in asdict(self).items() if key != "folder"}
        Path(path).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @cached_property
    def grid(self) -> Grid:
        return Grid(
            crs=self.crs,
            north_west=self.north_west,
            size_m=self.size_m,
            branch=self.branch,
            depth=self.depth,
        )

    def open(self, imagery: Sequence[str] | None = None) -> tiles.Pyramid:
        """Open the region's imagery, or other imagery in its place.

        Raises RegionError where it is not there or shows nothing of the square.
        """
        try:
            source = tiles.open(imagery or self._uris())
            if not source.real.attribution:  # what is made up names itself
                source.attribution = "; ".join(filter(None, (source.attribution, self.attribution)))
            return tiles.Pyramid(
                source,
                crs=self.crs,
                north_west=self.north_west,
                size_m=self.size_m,
                branch=self.branch,
                depth=self.depth,
            )
        except tiles.TilesError as error:
            raise RegionError(f"region {self.name!r} in {self.folder}: imagery: {error}") from None

    def imagery_stamp(self) -> str:
        """A short text that changes when the imagery does. Raises RegionError where it is not there."""
        try:
            return stamp(self._uris())
        except tiles.TilesError as error:
            raise RegionError(f"region {self.name!r} in {self.folder}: imagery: {error}") from None

    def _uris(self) -> list[str]:
        return [_beside(self.folder, entry) for entry in self.imagery]


class _Fields(BaseModel):
    """The keys of a region file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    crs: str
    north_west: tuple[float, float]
    size_m: float
    branch: int
    depth: int
    imagery: tuple[str, ...]
    attribution: str = ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RegionError(f"{path}: no such file; give the path of a region.json") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RegionError(f"{path}: cannot be read ({reason}); give the path of a region.json") from None


def _parse(text: str, path: Path) -> _Fields:
    try:
        return _Fields.model_validate_json(text)
    except ValidationError as error:
        raise RegionError(f"{path}: {_explain(error.errors()[0])}") from None


def _explain(problem: Any) -> str:
    """One line for the first thing that is wrong: pydantic's error to words."""
    key = ".".join(map(str, problem["loc"]))
    match problem["type"]:
        case "json_invalid":
            return f"not valid JSON ({problem['ctx']['error']}); correct it there"
        case "extra_forbidden":
            return f"unknown key {key!r}; {_near(key)}"
        case "missing":
            return f"the key {key!r} is missing; add it"
    if not key:
        return 'not a JSON object; a region file holds {"name": ..., "crs": ..., ...}'
    return f"{key}: {problem['msg'].lower()}, but it is {problem['input']!r}; correct it"


def _near(key: str) -> str:
    known = list(_Fields.model_fields)
    near = get_close_matches(key, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known keys are {', '.join(known)}"


def _beside(folder: Path, entry: str) -> str:
    """An imagery entry as seen from here; brackets in the folder's own name must not act as a glob."""
    scheme, wrapped = split_scheme(entry, SCHEMES)
    if scheme:
        return f"{scheme}:{_beside(folder, wrapped)}"
    if is_remote(entry):
        return entry
    return str(Path(glob.escape(str(folder))) / entry) if glob.has_magic(entry) else str(folder / entry)
