"""The service under load on loopback: `python -m benchmarks.service CHECKPOINT REGION PHOTOS --seconds 120`.

Clients send one photo each, again and again, and check that every answer is the one that a single request got before.
Prints, and with --out writes (.json, and a page .md), answers a second, the time to an answer (p50, p99), memory, and
what batching gains: the same load on a service that takes one photo at a time, for at most 45 s.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

from zoomloc.files import atomic
from zoomloc.photo import SUFFIXES

ALONE_S = 45


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("region", type=Path)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--distinct", type=int, default=32, help="photos to choose from")
    parser.add_argument("--out", type=Path, help="write the figures here (.json)")
    args = parser.parse_args()
    paths = sorted(path for path in args.photos.iterdir() if path.suffix.lower() in SUFFIXES)[: args.distinct]
    photos = {path.name: path.read_bytes() for path in paths}
    figures = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "command": f"python -m benchmarks.service {args.checkpoint} {args.region} {args.photos}",
        "load_before": round(os.getloadavg()[0], 1),
        "clients": args.clients,
        "batch_size": args.batch_size,
    }
    turns = (("batched", args.batch_size, args.seconds), ("one at a time", 1, min(args.seconds, ALONE_S)))
    for name, size, seconds in turns:
        figures[name] = under_load(args, photos, size, seconds)
        print(name, json.dumps(figures[name]))
    gain = figures["batched"]["answers_per_s"] / figures["one at a time"]["answers_per_s"]
    figures["gain"] = round(gain, 2)
    print(f"batching {args.batch_size} answers {gain:.2f} times as many as one at a time")
    if args.out:
        with atomic(args.out) as draft:
            draft.write_text(json.dumps(figures, indent=1) + "\n")
        with atomic(args.out.with_suffix(".md")) as draft:
            draft.write_text(markdown(figures))


def markdown(figures: dict) -> str:
    """The figures as a page."""
    kinds = ("batched", "one at a time")
    rows = {
        "seconds": "seconds",
        "answers": "answers",
        "answers a second": "answers_per_s",
        "p50, s": "p50_s",
        "p99, s": "p99_s",
        "lost": "lost",
        "crossed": "crossed",
        "refused (429)": "refused",
        "memory before, MB": "memory_mb_before",
        "most in the first half, MB": "memory_mb_half_way",
        "most, MB": "memory_mb_most",
    }
    lines = [
        "# The service under load",
        "",
        f"`{figures['command']}` on {figures['machine']}, load before {figures['load_before']}; "
        f"{figures['clients']} clients on the same machine, each asking for the next photo when it has an answer. "
        "Lost: requests without an answer; crossed: answers that are not those of the photo sent.",
        "",
        f"| | at most {figures['batch_size']} at a time | one at a time |",
        "|---|--:|--:|",
        *(
            f"| {name} | {' | '.join(f'{figures[kind][key]:,}' for kind in kinds)} |"
            for name, key in rows.items()
        ),
        "",
        f"Batching answers {figures['gain']} times as many.",
    ]
    return "\n".join(lines) + "\n"


def under_load(args: argparse.Namespace, photos: dict[str, bytes], batch_size: int, seconds: float) -> dict:
    """A service of its own process, asked by all clients for so many seconds."""
    words = ["serve", "--region", args.region, "--checkpoint", args.checkpoint, "--port", 0]
    words += ["--batch-size", batch_size, "--device", "cpu"]
    command = [sys.executable, "-m", "zoomloc", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served:
        url = json.loads(served.stdout.readline())["message"].rpartition(" ")[2]
        reader = asyncio.new_event_loop()
        drained = reader.run_in_executor(None, served.stdout.read)  # so that its log never blocks it
        try:
            return asyncio.run(_load(url, photos, args.clients, seconds, served.pid))
        finally:
            served.terminate()
            reader.run_until_complete(drained)
            reader.close()


async def _load(url: str, photos: dict[str, bytes], clients: int, seconds: float, pid: int) -> dict:
    limits = httpx.Limits(max_connections=clients + 1)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        expected = {name: await _ask(client, name, photos[name]) for name in photos}
        taken, wrong, refused = [], 0, 0
        memory = [_memory_mb(pid)]
        end = time.perf_counter() + seconds

        async def one(number: int) -> None:
            nonlocal wrong, refused
            rng = np.random.default_rng(number)
            while time.perf_counter() < end:
                name = list(photos)[rng.integers(len(photos))]
                began = time.perf_counter()
                answer = await _ask(client, name, photos[name])
                if answer is None:
                    refused += 1
                    await asyncio.sleep(1)
                    continue
                taken.append(time.perf_counter() - began)
                wrong += not _same(answer, expected[name])
                memory.append(_memory_mb(pid))

        began = time.perf_counter()
        done = await asyncio.gather(*(one(number) for number in range(clients)), return_exceptions=True)
        lasted = time.perf_counter() - began
    p50, p99 = np.percentile(taken, [50, 99])
    return {
        "seconds": round(lasted, 1),
        "answers": len(taken),
        "answers_per_s": round(len(taken) / lasted, 2),
        "p50_s": round(float(p50), 3),
        "p99_s": round(float(p99), 3),
        "lost": sum(isinstance(each, BaseException) for each in done),
        "crossed": wrong,
        "refused": refused,
        "memory_mb_before": memory[0],
        "memory_mb_half_way": max(memory[: len(memory) // 2 + 1]),
        "memory_mb_most": max(memory),
    }


async def _ask(client: httpx.AsyncClient, name: str, content: bytes) -> dict | None:
    """The photo's answer; None where the service had no room."""
    answer = await client.post("/locate", files={"photos": (name, content)})
    if answer.status_code == 429:
        return None
    answer.raise_for_status()
    [found] = answer.json()["photos"]
    return found


def _same(one: dict, other: dict) -> bool:
    """Of one photo: batches round otherwise, so that nearly equal places may change their order, not their sums."""
    near = abs(one["not_here"] - other["not_here"]) < 1e-3
    return one["photo"] == other["photo"] and near and abs(one["probability"] - other["probability"]) < 1e-2


def _memory_mb(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


if __name__ == "__main__":
    main()
