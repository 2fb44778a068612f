"""What the app was started with, handed to its pages through one environment variable."""

import json
import os
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

VARIABLE = "ZOOMLOC_APP"
HOME = Path("zoomloc-app")
DEMO = Path(str(files("zoomloc"))) / "assets" / "demo"  # as zoomloc.demo has it, whose imports take seconds


@dataclass(frozen=True)
class Settings:
    """checkpoint: a folder. regions: region files to choose from. home: where batches and added regions are kept."""

    checkpoint: Path = DEMO / "checkpoint"
    regions: tuple[Path, ...] = (DEMO / "region.json",)
    home: Path = HOME

    def pack(self) -> dict[str, str]:
        """For the environment of the app."""
        return {VARIABLE: json.dumps(asdict(self), default=str)}

    def region_files(self) -> list[Path]:
        """Those given, then those added in the app."""
        return [*self.regions, *sorted((self.home / "regions").glob("*/region.json"))]


def current() -> Settings:
    """The settings of this app; those of the demo where it was started without any."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return Settings()
    given = json.loads(text)
    return Settings(
        checkpoint=Path(given["checkpoint"]),
        regions=tuple(map(Path, given["regions"])),
        home=Path(given["home"]),
    )
