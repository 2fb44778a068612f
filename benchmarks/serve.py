"""The tile service under load, beside titiler on the same imagery: failures, speed, memory.

    python benchmarks/serve.py --out docs/results/serve.json

Clients of another process ask for map tiles over HTTP on loopback, each for the next as soon as it has one, for so
many seconds; a request is lost if it is refused, cut short, late or no picture. Every server is one process of
uvicorn, started for its turn, with the same settings. They are: this service as it is; this service keeping no
encoded tiles, so that each is rendered; titiler (its TilerFactory as it comes; it keeps no tiles either, and takes the
nearest pixel where this service averages). What they may keep is made small, so that caches are full after the same
crowd has warmed the server up, for as long again: how much the different pictures of that warm-up make together is
beside the limit. What is counted comes after. Memory is the resident set of the server before and after that, its
growth the slope between. Needs the extra `benchmarks`, and Linux for the memory.
"""

import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import numpy as np
import rasterio
import rasterio.shutil
import typer

sys.path[0] = str(Path(__file__).parent.parent)  # where "tiles" is the package, not the file beside this one
import tiles  # noqa: E402
from tiles.server import create_app, serve  # noqa: E402
from tiles.server.mercator import extent, tile_bounds  # noqa: E402

CRS, WEST, NORTH, GSD_M = "EPSG:32632", 500_000.0, 5_700_000.0, 0.5
KINDS = {"jpg": b"\xff\xd8", "png": b"\x89PNG", "webp": b"RIFF"}
LATE_S = 60
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Result:
    """What came of one server. Memory in MiB; growth in MiB a minute; times in milliseconds."""

    server: str
    requests: int
    lost: int
    tiles_per_s: float
    p50_ms: float
    p99_ms: float
    warm_up: float  # of different pictures
    rss_before: float
    rss_after: float
    rss_growth: float


# --- servers, each in a process of its own


def serve_ours(imagery: str, ready: Connection, blocks_mib: int, cache_bytes: int) -> None:
    os.environ["GDAL_CACHEMAX"] = str(blocks_mib)
    serve(create_app({"city": tiles.open(imagery)}, cache_bytes=cache_bytes), port=0, ready=ready.send)


def serve_titiler(imagery: str, ready: Connection, blocks_mib: int) -> None:
    os.environ["GDAL_CACHEMAX"] = str(blocks_mib)
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # as titiler's guide to speed says
    from fastapi import FastAPI
    from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
    from titiler.core.factory import TilerFactory

    app = FastAPI()
    app.include_router(TilerFactory().router)
    add_exception_handlers(app, DEFAULT_STATUS_CODES)
    serve(app, port=0, ready=ready.send)


# --- clients


def tile_addresses(imagery: str) -> list[list[tuple[int, int, int]]]:
    """The tiles (z, x, y) wholly within the imagery, or touching it where there is none such, by zoom."""
    source = tiles.open(imagery)
    place = extent(source)
    source.close()
    found = []
    for zoom in range(place.min_zoom, place.max_zoom + 1):
        side = tile_bounds(zoom, 0, 0).width
        west, north = tile_bounds(zoom, 0, 0).west, tile_bounds(zoom, 0, 0).north
        cols = range(int((place.bounds.west - west) // side), int((place.bounds.east - west) // side) + 1)
        rows = range(int((north - place.bounds.north) // side), int((north - place.bounds.south) // side) + 1)
        inner = [(zoom, x, y) for x in cols[1:-1] for y in rows[1:-1]]
        found.append(inner or [(zoom, x, y) for x in cols for y in rows])
    return found


def requests(addresses: list[list[tuple[int, int, int]]], path: str) -> Iterator[str]:
    """Endless paths: any zoom, then any tile of it, the same for every server."""
    chance = random.Random(0)
    while True:
        z, x, y = chance.choice(chance.choice(addresses))
        yield path.format(z=z, x=x, y=y)


async def client(
    url: str, paths: Iterator[str], magic: bytes, until: float, times: list[float], sizes: dict[str, int]
) -> int:
    """Ask for one tile after the other; the times taken go to `times`, the bytes of each picture to `sizes`, the number
    of lost ones is returned."""
    address, lost, streams = urlsplit(url), 0, None
    while time.perf_counter() < until:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(LATE_S):
                streams = streams or await asyncio.open_connection(address.hostname, address.port)
                path = next(paths)
                size = await fetch(*streams, path, magic)
        except (OSError, EOFError, TimeoutError):
            size = 0
        if size:
            sizes[path] = size
            times.append(time.perf_counter() - start)
        else:
            lost += 1
            if streams:
                streams[1].close()
            streams = None
    if streams:
        streams[1].close()
    return lost


async def fetch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, magic: bytes) -> int:
    """The bytes of a picture; 0 where a GET brought none. A client that costs little, for it shares the machine."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length: ")
    body = await reader.readexactly(int(rest.split(b"\r", 1)[0]))
    return len(body) if head.split(b" ", 2)[1] == b"200" and body.startswith(magic) else 0


def load(url: str, path: str, kind: str, imagery: str, clients: int, seconds: float, to: Connection) -> None:
    """A crowd of clients in this process; sends (times, lost, seconds, bytes of different pictures)."""

    async def crowd() -> int:
        until = time.perf_counter() + seconds
        crowd = (client(url, paths, KINDS[kind], until, times, sizes) for _ in range(clients))
        return sum(await asyncio.gather(*crowd))

    times: list[float] = []
    sizes: dict[str, int] = {}
    paths = requests(tile_addresses(imagery), path)
    start = time.perf_counter()
    lost = asyncio.run(crowd())
    to.send((times, lost, time.perf_counter() - start, sum(sizes.values())))


# --- the measurement


def measure(
    name: str,
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    path: str,
    kind: str,
    imagery: str,
    clients: int,
    seconds: float,
) -> Result:
    """Start a server, load it until it is warm, load it again, stop it."""
    ready, ready_end = SPAWN.Pipe(duplex=False)
    server = SPAWN.Process(target=target, args=(imagery, ready_end, *arguments))
    server.start()
    ready_end.close()
    try:
        url = ready.recv()
        check(url, path, kind, imagery)
        (*_, seen), _ = crowd(url, path, kind, imagery, clients, seconds, server.pid)
        (times, lost, took, _), memory = crowd(url, path, kind, imagery, clients, seconds, server.pid)
    finally:
        server.terminate()
        server.join()
    p50, p99 = np.percentile(times or [np.nan], [50, 99]) * 1000
    when, mib = np.array(memory).T
    growth = np.polyfit(when - when[0], mib, 1)[0] * 60
    speed = len(times) / took, float(p50), float(p99)
    return Result(name, len(times) + lost, lost, *speed, seen / 2**20, mib[0], mib[-1], float(growth))


def crowd(
    url: str, path: str, kind: str, imagery: str, clients: int, seconds: float, pid: int
) -> tuple[tuple[list[float], int, float, int], list[tuple[float, float]]]:
    """What `load` sends of a process of clients, and (time, MiB) of the server meanwhile."""
    done, done_end = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=load, args=(url, path, kind, imagery, clients, seconds, done_end))
    process.start()
    done_end.close()
    memory = [(time.perf_counter(), rss_mib(pid))]
    try:
        while not done.poll(0.2):
            memory.append((time.perf_counter(), rss_mib(pid)))
        return done.recv(), [*memory, (time.perf_counter(), rss_mib(pid))]
    finally:
        process.terminate()
        process.join()


def check(url: str, path: str, kind: str, imagery: str) -> None:
    """Ask for one tile of every zoom; SystemExit where one is no picture."""
    paths = iter([path.format(z=z, x=x, y=y) for (z, x, y), *_ in tile_addresses(imagery)])

    async def once() -> None:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for path in paths:
            if not await fetch(reader, writer, path, KINDS[kind]):
                raise SystemExit(f"{url}{path[1:]}: no picture")
        writer.close()

    asyncio.run(once())


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_imagery(path: Path, side: int) -> None:
    """A Cloud-Optimized GeoTIFF, JPEG as orthophotos are: noise at every scale."""
    chance = np.random.default_rng(0)
    total = np.zeros((3, side, side), np.float32)
    for factor in (2**k for k in range(int(np.log2(side)))):
        small = chance.normal(0, 9, (3, side // factor + 1, side // factor + 1)).astype(np.float32)
        total += small.repeat(factor, axis=1).repeat(factor, axis=2)[:, :side, :side]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.tif"
        with rasterio.open(
            plain, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=CRS, tiled=True,
            transform=rasterio.transform.from_origin(WEST, NORTH, GSD_M, GSD_M),
        ) as raster:  # fmt: skip
            raster.write((110 + total).clip(0, 255).astype(np.uint8))
        rasterio.shutil.copy(
            plain, path, driver="COG", COMPRESS="JPEG", QUALITY="85", BLOCKSIZE="512",
            OVERVIEW_RESAMPLING="AVERAGE",
        )  # fmt: skip


def table(results: list[Result]) -> str:
    lines = [
        "| server | requests | lost | tiles/s | ratio | p50 ms | p99 ms | MiB seen | before | after | a minute |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    slowest = results[-1].tiles_per_s or float("nan")
    for r in results:
        lines.append(
            f"| {r.server} | {r.requests} | {r.lost} | {r.tiles_per_s:.0f} | {r.tiles_per_s / slowest:.2f} | "
            f"{r.p50_ms:.0f} | {r.p99_ms:.0f} | "
            f"{r.warm_up:.0f} | {r.rss_before:.0f} | {r.rss_after:.0f} | {r.rss_growth:+.1f} |"
        )
    return "\n".join(lines)


def main(
    seconds: Annotated[float, typer.Option(help="How long each server is loaded, twice.")] = 30,
    clients: Annotated[int, typer.Option(help="How many ask at once.")] = 200,
    kind: Annotated[str, typer.Option(help="jpg, png or webp.")] = "jpg",
    imagery: Annotated[Path | None, typer.Option(help="A raster to serve; one is made if not given.")] = None,
    side: Annotated[int, typer.Option(help="Pixels along a side of the raster that is made.")] = 8192,
    only: Annotated[str, typer.Option(help="The one server to load: 'zoomloc', for one.")] = "",
    cache_mib: Annotated[int, typer.Option(help="Of pictures this service keeps.")] = 16,
    blocks_mib: Annotated[int, typer.Option(help="Of decoded blocks GDAL keeps, in every server.")] = 64,
    out: Annotated[Path | None, typer.Option(help="JSON for the results.")] = None,
) -> None:
    ours = f"/city/{{z}}/{{x}}/{{y}}.{kind}"
    with tempfile.TemporaryDirectory() as folder:
        if imagery is None:
            imagery = Path(folder) / "imagery.tif"
            write_imagery(imagery, side)
        place = str(imagery.resolve())
        theirs = f"/tiles/WebMercatorQuad/{{z}}/{{x}}/{{y}}.{kind}?url={quote(place, safe='')}"
        servers = {
            "zoomloc": (serve_ours, (blocks_mib, cache_mib * 2**20), ours),
            "zoomloc, nothing kept": (serve_ours, (blocks_mib, 0), ours),
            "titiler": (serve_titiler, (blocks_mib,), theirs),
        }
        results = [
            measure(name, target, arguments, path, kind, place, clients, seconds)
            for name, (target, arguments, path) in servers.items()
            if only in ("", name)
        ]
    print(f"{clients} clients, {seconds:g} s each, {kind}, {os.cpu_count()} cores; ratio to the last\n")
    print(table(results))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        asked = {"clients": clients, "seconds": seconds, "kind": kind, "cores": os.cpu_count()}
        asked |= {"cache_mib": cache_mib, "blocks_mib": blocks_mib}
        out.write_text(json.dumps(asked | {"servers": [asdict(r) for r in results]}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
