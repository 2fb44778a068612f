"""How fast the parts are on this machine: importing, locating with the demonstration model, simulating photos.

    python benchmarks/speed.py

Prints one line a figure. Locating is timed warm: the cells of the map are encoded before.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path = [
    folder for folder in sys.path if Path(folder) != Path(__file__).parent
]  # tiles.py there is no package
from data_prep.cities import make_city  # noqa: E402
from zoomloc import demo  # noqa: E402
from zoomloc.localizer import Localizer, Search  # noqa: E402
from zoomloc.photo import load  # noqa: E402
from zoomloc.region import Region  # noqa: E402

SEARCHES: tuple[Search, ...] = ("greedy", "beam", "posterior")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def importing(packages: str) -> float:
    """Seconds a fresh interpreter takes for `import packages`, less its own start; median of five."""

    def run(code: str) -> float:
        return median(
            seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True)) for _ in range(5)
        )

    return run(f"import {packages}") - run("pass")


def locating(data: Path, checkpoint: Path, *, limit: int | None = None) -> dict[Search, float]:
    """Milliseconds a photo of a dataset, file to answer, one at a time; of the first `limit` photos."""
    region = Region.load(data / "region.json")
    localizer = Localizer.from_pretrained(checkpoint, device="cpu")
    localizer.index(region).fill()
    files = sorted((data / "photos").glob("*.jpg"))[:limit]
    return {
        how: 1000
        * median(
            seconds(lambda f=file, h=how: localizer.locate([load(f).pixels], region, names=[f.name], how=h))
            for file in files
        )
        for how in SEARCHES
    }


def simulating(photos: int, size_m: float) -> float:
    """Photos a second at 384 x 216 from all cores: a run, less a second one that finds all photos made."""
    with tempfile.TemporaryDirectory() as folder:

        def run() -> float:
            return seconds(lambda: make_city(Path(folder), seed=7, photos=photos, size_m=size_m, gsd_m=5))

        return photos / (run() - run())


def main() -> None:
    print(f"threads                 {torch.get_num_threads()}")
    print(f"import zoomloc, tiles   {importing('zoomloc, tiles'):.2f} s")
    for how, milliseconds in locating(demo.FOLDER, demo.FOLDER / "checkpoint").items():
        print(f"locate, {how:<15} {milliseconds:.0f} ms a photo")
    print(f"simulate                {simulating(800, 1280):.1f} photos/s")


if __name__ == "__main__":
    main()
