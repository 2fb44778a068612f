"""How fast and how exactly windows are read out of imagery, beside what people use.

    pip install rio-tiler
    pip install --target build/tiledwebmaps --no-deps tiledwebmaps==0.2.0
    python benchmarks/tiles.py --tiledwebmaps build/tiledwebmaps

Makes, once, a made-up aerial picture of 10 x 10 km in UTM and stores it in every way that is compared: a COG
(JPEG, 512-px blocks, overviews), a folder of 256-px JPEG tiles in UTM, a web map of 256-px JPEG tiles, and a cell
store. Then every contender, in a process of its own, reads the same 384-px windows of 10 km, 2.5 km, 625 m and
156 m that lie anywhere, turn by turn, so that a busy moment of the machine hits all alike; rates are medians, and
those of one thread are also given by the processor time that was used, which other programs take less of. Errors are
held against the exact area average of the picture before it was compressed. Writes docs/results/tiles.json and
tiles.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median
from threading import local
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[0] = str(ROOT)  # where "tiles" is the package, not this file
from benchmarks.aerial import CRS, NORTH, QUALITY, SIDE_M, SQUARE, TILE, WEST, ZOOMS, finest_m, make  # noqa: E402

VIEWS_M = (10_000.0, 2500.0, 625.0, 156.25)
PX = 384
ROUNDS = 3
PROCESSOR = "1 thread, by processor time"
JUDGED = {10_000.0: 2, 2500.0: 6, 625.0: 12, 156.25: 12}  # windows held against the exact picture
CACHE_MB = 256  # of decoded tiles or blocks: our default, given to all
LRU_TILES = CACHE_MB * 2**20 // (3 * TILE**2)

Box = tuple[float, float, float, float]  # west, south, east, north
Read = Callable[[Box], np.ndarray]
Rate = tuple[float, float]  # windows a second of time, of processor time


def boxes(view_m: float) -> Iterator[Box]:
    """Windows that lie anywhere in the picture, without end; those of all of it lie a little inside."""
    rng = np.random.default_rng(int(view_m))
    side = min(view_m, SIDE_M * 0.998)
    while True:
        x, y = rng.uniform(0, SIDE_M - side, 2)
        yield WEST + x, NORTH - y - side, WEST + x + side, NORTH - y


# The contenders: each opens its store and answers with a function from a box to (384, 384, 3) pixels ------------


def of_ours(name: str) -> Callable[[Path], Read]:
    def opened(folder: Path) -> Read:
        import cv2

        import tiles

        cv2.setNumThreads(1)  # "one thread" is to mean one
        source = tiles.open(folder / name)
        return lambda box: source.read(tiles.Bounds(*box), CRS, (PX, PX)).pixels

    return opened


def rio_tiler(resampling: str) -> Callable[[Path], Read]:
    def opened(folder: Path) -> Read:
        import rasterio
        from rio_tiler.io import Reader

        crs, mine = rasterio.CRS.from_string(CRS), local()

        def read(box: Box) -> np.ndarray:
            if not hasattr(mine, "reader"):
                mine.reader = Reader(str(folder / "picture.cog.tif"))
            image = mine.reader.part(
                box, dst_crs=crs, bounds_crs=crs, width=PX, height=PX, resampling_method=resampling
            )
            return image.data.transpose(1, 2, 0)

        return read

    return opened


def plain_rasterio(folder: Path) -> Read:
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.windows import from_bounds

    mine = local()

    def read(box: Box) -> np.ndarray:
        if not hasattr(mine, "dataset"):
            mine.dataset = rasterio.open(folder / "picture.cog.tif")
        window = from_bounds(*box, transform=mine.dataset.transform)
        return mine.dataset.read(
            window=window, out_shape=(3, PX, PX), resampling=Resampling.average
        ).transpose(1, 2, 0)

    return read


def tiledwebmaps(folder: Path) -> Read:
    """At its best: tiles of the picture's own CRS, decoded tiles kept, no finer zoom than needed."""
    import tiledwebmaps as twm

    loader = twm.LRUCached(twm.from_yaml(str(folder / "utm"), wait_after_last_modified=0.0), LRU_TILES)
    layout, gsd_m = loader.layout, finest_m(folder)

    def read(box: Box) -> np.ndarray:
        middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        latlon = layout.crs_to_epsg4326.transform(middle)
        shrinks = (box[2] - box[0]) / PX / gsd_m
        zoom = min(ZOOMS - 1, ZOOMS - 1 - int(np.floor(np.log2(shrinks))))
        level_px = shrinks / 2 ** (ZOOMS - 1 - zoom)
        # It takes metres of its own sphere and a bearing from true north.
        own_m = level_px / layout.pixels_per_meter_at_latlon(latlon, zoom).mean()
        bearing = np.degrees(layout.get_meridian_convergence(latlon))
        return loader.load(latlon, bearing, own_m, np.array([PX, PX]), zoom)

    return read


def floor(folder: Path) -> Read:
    """What no reader of such tiles can do without: decode those touched, put them together, warp once."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    gsd_m = finest_m(folder)
    warp = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def read(box: Box) -> np.ndarray:
        shrinks = (box[2] - box[0]) / PX / gsd_m
        up = max(0, int(np.floor(np.log2(shrinks))))
        scale, unit = shrinks / 2**up, gsd_m * 2**up
        left, top = (box[0] - WEST) / unit, (NORTH - box[3]) / unit
        cols, rows = (
            range(int(start // TILE), int((start + PX * scale) // TILE) + 1) for start in (left, top)
        )
        canvas = np.empty((len(rows) * TILE, len(cols) * TILE, 4), np.uint8)
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                data = (folder / f"utm/{ZOOMS - 1 - up}/{col}/{row}.jpg").read_bytes()
                place = canvas[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE]
                cv2.cvtColor(simplejpeg.decode_jpeg(data), cv2.COLOR_RGB2RGBA, dst=place)
        corner = left - cols.start * TILE, top - rows.start * TILE
        affine = np.array([[scale, 0, corner[0] + scale / 2 - 0.5], [0, scale, corner[1] + scale / 2 - 0.5]])
        return cv2.cvtColor(cv2.warpAffine(canvas, affine, (PX, PX), flags=warp), cv2.COLOR_RGBA2RGB)

    return read


def whole_cells(cache_bytes: int) -> Callable[[Path], Read]:
    """Views of the cells that hold the windows' middles: not the same windows, but what a search asks for."""

    def opened(folder: Path) -> Read:
        import tiles
        from tiles.cache import SHARED

        SHARED.max_bytes = cache_bytes
        pyramid = tiles.Pyramid(tiles.open(folder / "cells.mbtiles"), **SQUARE)

        def read(box: Box) -> np.ndarray:
            side = box[2] - box[0]
            level = round(np.log(SIDE_M / side) / np.log(SQUARE["branch"]))
            row, col = int((NORTH - box[1] - side / 2) / side), int((box[0] + side / 2 - WEST) / side)
            return pyramid.view(level, row, col, PX).pixels

        if cache_bytes:
            for row, col in np.ndindex(64, 64):
                pyramid.view(3, row, col, PX)
        return read

    return opened


CONTENDERS: dict[str, Callable[[Path], Read]] = {
    "ours, tiles in UTM": of_ours("utm"),
    "ours, web map (MBTiles)": of_ours("web.mbtiles"),
    "ours, COG": of_ours("picture.cog.tif"),
    "ours, cell store": of_ours("cells.mbtiles"),
    "ours, whole cells, file": whole_cells(0),
    "ours, whole cells, memory": whole_cells(2**32),
    "rio-tiler, nearest": rio_tiler("nearest"),
    "rio-tiler, average": rio_tiler("average"),
    "rasterio, average": plain_rasterio,
    "tiledwebmaps": tiledwebmaps,
    "floor": floor,
}
CELLS = ("ours, whole cells, file", "ours, whole cells, memory")
OFF_GRID = ("ours, tiles in UTM", "ours, web map (MBTiles)", "ours, COG", "ours, cell store")
RIVAL = "rio-tiler, average"
PEERS = ("rio-tiler, nearest", "rio-tiler, average", "rasterio, average", "tiledwebmaps")


# A process of one contender, told what to do line by line --------------------------------------------------------


def worker(name: str, folder: Path) -> None:
    """Answers {"view_m", "threads", "seconds"} with a rate, {"view_m", "judge": file} by saving windows there."""
    read = CONTENDERS[name](folder)
    endless = {view_m: boxes(view_m) for view_m in VIEWS_M}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = 0.0, 0.0
        if "judge" in order:
            judged = list(islice(boxes(order["view_m"]), JUDGED[order["view_m"]]))
            np.save(order["judge"], np.stack([read(box) for box in judged]))
        else:
            answer = windows_a_second(read, endless[order["view_m"]], order["threads"], order["seconds"])
        print(json.dumps({"rate": answer}), flush=True)


def windows_a_second(read: Read, endless: Iterator[Box], threads: int, seconds: float) -> Rate:
    """Of time, and of processor time: others on the machine take of the one, not of the other."""
    wanted = list(islice(endless, int(2000 * seconds)))  # new ones every time, drawn before the clock runs
    stop = time.perf_counter() + seconds

    def run(start: int) -> int:
        for done, box in enumerate(cycle(wanted[start::threads])):
            if time.perf_counter() > stop:
                return done
            read(box)
        return 0

    with ThreadPoolExecutor(threads) as pool:
        start, worked = time.perf_counter(), time.process_time()
        done = sum(pool.map(run, range(threads)))
        return done / (time.perf_counter() - start), done / (time.process_time() - worked)


class Contender:
    """A worker process, and the line it is spoken to by."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        command = [sys.executable, __file__, "--data", str(folder), "--worker", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self._answer()

    def ask(self, **order: object) -> Rate:
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return tuple(self._answer()["rate"])

    def close(self) -> None:
        self.process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the worker is gone; see its message above")


# Errors ----------------------------------------------------------------------------------------------------------


def exact(folder: Path, box: Box) -> np.ndarray:
    """(384, 384, 3) float64: the area average of the uncompressed picture over every pixel of a window."""
    import rasterio
    from rasterio.windows import Window

    gsd_m = finest_m(folder)
    rows = area_weights((NORTH - box[3]) / gsd_m, (NORTH - box[1]) / gsd_m)
    cols = area_weights((box[0] - WEST) / gsd_m, (box[2] - WEST) / gsd_m)
    left, right = cols[0][0], cols[-1][0] + len(cols[-1][1])
    result = np.empty((PX, PX, 3))
    with rasterio.open(folder / "picture.tif") as picture:
        for i, (top, weights) in enumerate(rows):
            block = picture.read(window=Window(left, top, right - left, len(weights)))
            line = np.tensordot(block.astype(float), weights, axes=(1, 0))
            result[i] = [line[:, first - left : first - left + len(by)] @ by for first, by in cols]
    return result


def area_weights(start: float, stop: float) -> list[tuple[int, np.ndarray]]:
    """For every pixel of an axis from start to stop the first raster pixel it shows, and the weights from there on."""
    edges, weights = np.linspace(start, stop, PX + 1), []
    for low, high in pairwise(edges):
        pixel = np.arange(int(np.floor(low)), int(np.ceil(high)))
        within = np.minimum(pixel + 1, high) - np.maximum(pixel, low)
        weights.append((int(pixel[0]), within / within.sum()))
    return weights


def judge(seen: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The mean absolute error in grey values, and the shift in pixels that explains most of it."""
    inner = (slice(8, -8), slice(8, -8))
    difference = (seen.astype(float) - truth).mean(axis=2)[inner]
    down, across = (slope[inner] for slope in np.gradient(truth.mean(axis=2)))
    slopes = np.stack([across.ravel(), down.ravel()], axis=1)
    (x, y), *_ = np.linalg.lstsq(slopes, -difference.ravel(), rcond=None)
    return float(np.abs(seen - truth)[inner].mean()), float(np.hypot(x, y))


# The run and its report ------------------------------------------------------------------------------------------


def main() -> None:
    options = parse()
    if options.worker:
        worker(options.worker, options.data)
        return
    folder = options.data / str(options.side)
    begun = time.perf_counter()
    make(folder, options.side)
    warm(folder)
    names = [name for name in CONTENDERS if available(name, options)]
    with ExitStack() as stack:
        contenders = {}
        for name in names:
            contenders[name] = Contender(name, folder, environment(name, options))
            stack.callback(contenders[name].close)
        rates = measure(contenders, options.threads, options.seconds)
        errors = judge_all(contenders, folder)
    results = {
        "command": f"python benchmarks/tiles.py --side {options.side} --seconds {options.seconds} --threads "
        + " ".join(map(str, options.threads)),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "load": round(os.getloadavg()[2], 1),  # of the last quarter of an hour: 1 where nothing else ran
        },
        "versions": {name: found for name in PACKAGES if (found := installed(name, options))},
        "side_px": options.side,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "windows_a_second": rates,
        "errors": errors,
    }
    text = report(results)
    print(text)
    options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT / "data/bench", help="where the picture is kept (4 GB)"
    )
    parser.add_argument("--side", type=int, default=20_000, help="of the picture, in pixels")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help=f"of a measurement; there are {ROUNDS} of each"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tiledwebmaps", type=Path, help="the folder it was installed into")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/tiles", help="less .json and .md")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def available(name: str, options: argparse.Namespace) -> bool:
    """False, said so, for a peer that is not installed."""
    missing = {
        "tiledwebmaps": not (options.tiledwebmaps and (options.tiledwebmaps / "tiledwebmaps").is_dir()),
        "rio-tiler": not installed("rio-tiler", options),
    }.get(name.split(",")[0], False)
    if missing:
        print(f"{name}: not installed, so left out; see the head of this file")
    return not missing


def environment(name: str, options: argparse.Namespace) -> dict[str, str]:
    """tiledwebmaps breaks rasterio's look-ups of CRSs in its process, so only its own worker sees it.

    All keep as much that is decoded: GDAL would take a twentieth of the machine's memory.
    """
    path = options.tiledwebmaps.resolve() if name == "tiledwebmaps" else ROOT
    return {"PYTHONPATH": str(path), "GDAL_CACHEMAX": str(CACHE_MB)}


def measure(
    contenders: dict[str, Contender], threads: list[int], seconds: float
) -> dict[str, dict[str, list[float]]]:
    """{"n threads": {contender: windows a second by view}}: medians of rounds in which each has its turn."""
    rates: dict[str, dict[str, list[float]]] = {}
    for view_m in VIEWS_M:
        for contender in contenders.values():
            contender.ask(view_m=view_m, threads=max(threads), seconds=4 * seconds)  # warms up, fills caches
        for n in threads:
            turns = [
                {name: c.ask(view_m=view_m, threads=n, seconds=seconds) for name, c in contenders.items()}
                for _ in range(ROUNDS)
            ]
            kinds = [f"{n} threads"] if n > 1 else ["1 thread", PROCESSOR]
            for i, kind in enumerate(kinds):
                of_kind = rates.setdefault(kind, {name: [] for name in contenders})
                for name, found in of_kind.items():
                    found.append(round(median(turn[name][i] for turn in turns), 1))
    return rates


def warm(folder: Path) -> None:
    """Into the system's cache of files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(2**24):
                    pass


def judge_all(contenders: dict[str, Contender], folder: Path) -> dict[str, dict[str, list[float]]]:
    """{"mean_absolute" or "shift_px": {contender: by view}}: means over the windows held against the exact picture."""
    errors: dict[str, dict[str, list[float]]] = {"mean_absolute": {}, "shift_px": {}}
    for view_m in VIEWS_M:
        truth = [exact(folder, box) for box in islice(boxes(view_m), JUDGED[view_m])]
        for name, contender in contenders.items():
            if name in CELLS:
                continue
            saved = folder / "judged.npy"
            contender.ask(view_m=view_m, judge=str(saved))
            found = [judge(seen, true) for seen, true in zip(np.load(saved), truth, strict=True)]
            for kind, values in zip(errors, zip(*found, strict=True), strict=True):
                errors[kind].setdefault(name, []).append(round(float(np.mean(values)), 4))
    return errors


def report(results: dict) -> str:
    views = [f"{view_m / 1000:g} km" if view_m >= 1000 else f"{view_m:.0f} m" for view_m in VIEWS_M]
    versions = ", ".join(f"{name} {found}" for name, found in results["versions"].items())
    lines = [
        "# Windows a second",
        "",
        f"`{results['command']}` on {results['machine']['cores']} cores ({results['machine']['processor']}), "
        f"load {results['machine']['load']}, {versions}. "
        f"{PX} x {PX} px out of {results['side_px']:,} px a side, JPEG quality {QUALITY}; "
        "files in the system's cache; "
        f"made and measured in {results['minutes']} minutes. All keep {CACHE_MB} MB of decoded tiles or blocks. "
        "The floor decodes the JPEG tiles touched and warps once, keeping nothing.",
    ]
    for title, rates in results["windows_a_second"].items():
        peers = {name: rates[name] for name in PEERS if name in rates}
        lines += table(title[0].upper() + title[1:], views, rates, "{:,.0f}")
        best = rates[OFF_GRID[0]]
        ratios = {f"{OFF_GRID[0]} : {name}": np.divide(best, peer) for name, peer in peers.items()}
        ratios["floor : " + OFF_GRID[0]] = np.divide(rates["floor"], best)
        if RIVAL in rates:
            ratios[f"{CELLS[0]} : {RIVAL}"] = np.divide(rates[CELLS[0]], rates[RIVAL])
        lines += table(f"Ratios, {title}", views, ratios, "{:.2f}")
    lines += table("Mean absolute error, grey values", views, results["errors"]["mean_absolute"], "{:.2f}")
    lines += table("Shift, px", views, results["errors"]["shift_px"], "{:.3f}")
    return "\n".join(lines) + "\n"


def table(title: str, columns: list[str], rows: dict, form: str) -> list[str]:
    body = [
        f"| {name} | " + " | ".join(form.format(value) for value in row) + " |" for name, row in rows.items()
    ]
    return ["", f"## {title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *body]


PACKAGES = ("rio-tiler", "rasterio", "tiledwebmaps", "opencv-python-headless", "simplejpeg", "numpy")


def installed(name: str, options: argparse.Namespace) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        found = list(options.tiledwebmaps.glob(f"{name}-*.dist-info")) if options.tiledwebmaps else []
        return found[0].name.removesuffix(".dist-info").split("-")[1] if found else ""


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
