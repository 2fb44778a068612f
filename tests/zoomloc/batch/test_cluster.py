"""A batch and an index on a Ray of two workers, of photos on a disk and on an S3 server: equal to those of one machine,
to the last digit; a worker that is killed and a run that is stopped lose nothing."""

import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from zoomloc import cluster, index_blocks, tables
from zoomloc.batch import jobs, run, shards
from zoomloc.batch.journal import place
from zoomloc.errors import CheckpointError, ClusterError
from zoomloc.index import FEATURES, KNOWN, place_on_disk
from zoomloc.localizer import Localizer
from zoomloc.region import Region

# Not imported here: before Ray is, `cluster` says on which network it listens.
if not find_spec("ray"):
    pytest.skip("the ray extra is not installed: pip install -e '.[ray]'", allow_module_level=True)

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
BUCKET = "my-bucket"


@contextmanager
def at_most(seconds):
    """A test that hangs fails, and what it started is stopped."""

    def late(*_):
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def server():
    """A client of an S3 server on loopback, which Arrow finds by the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.get_host_and_port()[1]}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client
    served.stop()


@pytest.fixture(scope="module")
def address(server):
    """That of a Ray of two processor cores, started after the server, as its workers inherit the environment."""
    with pytest.MonkeyPatch.context() as patch, at_most(600):
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other tests' memory is no reason to kill workers
        before = signal.getsignal(signal.SIGTERM)
        with cluster.connected(n_cpus=2) as said:
            import ray

            assert said == "neither --address nor RAY_ADDRESS: a Ray started on this machine"
            where = ray.get_runtime_context().gcs_address
            assert where.startswith("127.0.0.1:"), "nobody else can talk to it"
            yield where
        assert signal.getsignal(signal.SIGTERM) is before, "children forked later can be ended"


def many(folder: Path, n: int) -> list[Path]:
    """A folder's photos n times over."""
    for path in sorted(folder.glob("*.jpg")):
        for i in range(n):
            shutil.copy(path, path.with_name(f"{i}-{path.name}"))
    return sorted(folder.glob("*.jpg"))


def without_times(rows):
    return [replace(row, milliseconds=None) for row in rows]


def test_the_pages_commands_give_what_one_machine_does(
    town, untrained, server, address, zoomloc, monkeypatch
):
    monkeypatch.chdir(town)
    shutil.copytree(untrained, "checkpoint")
    photos = many(town / "photos", 4)
    (town / "photos" / "broken.jpg").write_bytes(b"no photo")
    for path in photos[:5]:
        server.upload_file(str(path), BUCKET, f"photos/{path.name}")
    (town / "photos").rename("my-photos")
    on_ray = [line for line in re.findall(r"^zoomloc .+$", PAGE, re.MULTILINE) if "--engine ray" in line]
    indexing, locating, resuming = (shlex.split(line.replace("head:6379", address)) for line in on_ray)
    place_, model = Region.load("region.json"), Localizer.from_pretrained("checkpoint", device="cpu").model
    with at_most(600):
        zoomloc(*indexing[1:])
        folder = place_on_disk(model, place_)
        encoded = [(folder / name).read_bytes() for name in (FEATURES, KNOWN)]
        done = subprocess.run(
            [sys.executable, "-m", *locating], capture_output=True, text=True, timeout=600, check=False
        )
    assert done.returncode == 1, done.stderr  # as one photo is broken
    assert f"zoomloc: Ray at {address}" in done.stderr and "Traceback" not in done.stderr
    assert not place(Path("results.parquet")).exists()
    assert len(tables.shards(Path("results.parquet"))) == 3, "of a batch of 8 each"
    _, said = zoomloc(*resuming[1:], code=1)
    assert "complete already" in said

    shutil.rmtree(folder.parent)
    local = [word for word in locating[1:] if word not in ("--engine", "ray", "--address", address)]
    zoomloc(*local[:-1], "local.parquet", code=1)
    assert [(folder / name).read_bytes() for name in (FEATURES, KNOWN)] == encoded
    rows = tables.read("results.parquet")
    assert without_times(rows) == without_times(tables.read("local.parquet"))
    assert len(rows) == 21 and sum(row.file.startswith(f"s3://{BUCKET}/photos/") for row in rows) == 5
    assert next(row for row in rows if row.status == "failed").file == "my-photos/broken.jpg"
    frame = gpd.read_parquet("results.parquet")
    assert list(frame["file"]) == [row.file for row in rows] and frame.crs == 4326
    _, said = zoomloc("tag", "results.parquet", "--dry-run", "--min-confidence", "0", code=1)
    assert "would be tagged" in said


def test_a_killed_worker_and_a_stopped_run_lose_nothing(
    town, untrained, tmp_path, address, zoomloc, monkeypatch
):
    """Of 12 blocks, the worker that has the fourth is killed by SIGKILL while it works, and the run is interrupted
    when it has written 6; --resume does the others."""
    photos = many(town / "photos", 15)
    words = ["batch", town / "photos", "--region", town / "region.json", "--checkpoint", untrained]
    words += ["--batch-size", "4", "--device", "cpu"]
    zoomloc(*words, "--out", tmp_path / "one.parquet")

    notes, meeting = tmp_path / "notes", tmp_path / "meeting"
    os.mkfifo(meeting)
    fatal, original = str(photos[12]), shards.prepare

    def noting(*asked):
        work = original(*asked)

        def noted(block):
            with notes.open("ab", buffering=0) as file:
                file.write(f"{block[0].path}\n".encode())
            if str(block[0].path) == fatal and meeting.exists():
                with meeting.open("w") as told:
                    told.write(str(os.getpid()))
                signal.pause()
            return work(block)

        return noted

    def kill():
        worker = int(meeting.read_text())  # waits for the worker to come to its fourth block
        meeting.unlink()
        os.kill(worker, signal.SIGKILL)

    monkeypatch.setattr(shards, "prepare", noting)
    written, write = [], shards.Shards.write

    def interrupted(self, number, rows):
        write(self, number, rows)
        written.append(number)
        if len(written) == 6:
            raise KeyboardInterrupt

    out = tmp_path / "ray.parquet"
    words += ["--engine", "ray", "--out", out]
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with at_most(600):
        with monkeypatch.context() as patch:
            patch.setattr(shards.Shards, "write", interrupted)
            zoomloc(*words, code=130)
        killer.join()
        assert not meeting.exists()
        assert place(out).exists() and len(tables.shards(out)) == 6
        (out / ".part-000011-1.parquet").write_bytes(b"what a killed run was writing")
        begun_before = Counter(notes.read_text().split())
        _, said = zoomloc(*words, "--dry-run")
        assert "24 of them done by a stopped run; --resume goes on with it" in said
        _, said = zoomloc(*words, code=2)
        assert "was stopped; go on with --resume" in said
        zoomloc(*words, "--resume")
    assert without_times(tables.read(out)) == without_times(tables.read(tmp_path / "one.parquet"))
    assert not place(out).exists() and len(list(out.iterdir())) == 12
    begun = Counter(notes.read_text().split())
    assert len(begun) == 12 and begun[fatal] >= 2
    after = begun - begun_before
    assert sum(after.values()) == 6, "a resumed run does what is not written, once"
    # What the interrupted run had begun besides what it wrote was in the two workers' hands.
    assert sum(begun_before.values()) <= 6 + 1 + 2 * cluster.IN_HAND


def test_a_photo_that_its_workers_die_of_is_a_row(town, untrained, tmp_path, address, zoomloc, monkeypatch):
    photos = many(town / "photos", 4)
    words = ["batch", town / "photos", "--region", town / "region.json", "--checkpoint", untrained]
    words += ["--batch-size", "4", "--device", "cpu"]
    zoomloc(*words, "--out", tmp_path / "one.parquet")
    deadly, original = photos[5], shards.prepare

    def prepare(*asked):
        work = original(*asked)

        def done(block):
            if any(Path(job.path) == deadly for job in block):
                os.kill(os.getpid(), signal.SIGKILL)
            return work(block)

        return done

    monkeypatch.setattr(shards, "prepare", prepare)
    out = tmp_path / "ray.parquet"
    with at_most(600):
        _, said = zoomloc(*words, "--engine", "ray", "--out", out, code=1)
    assert "1 failed" in said and "its worker died, 3 times" in said
    rows, wanted = tables.read(out), tables.read(tmp_path / "one.parquet")
    assert [row.file for row in rows] == [row.file for row in wanted] == [str(photo) for photo in photos]
    for row, its in zip(rows, wanted, strict=True):
        assert row.model == its.model
        if row.file == str(deadly):
            assert row.status == "failed" and its.status != "failed"
        else:  # photo by photo, numbers are rounded otherwise
            assert row.status == its.status and row.path == its.path
            assert row.confidence == pytest.approx(its.confidence, rel=1e-3)


def test_an_index_whose_workers_died_is_not_called_complete(town, untrained, monkeypatch):
    monkeypatch.setattr(cluster, "over", lambda *_, **__: iter(()))
    model = Localizer.from_pretrained(untrained, device="cpu").model
    with pytest.raises(ClusterError, match="batches of cells: their workers died"):
        index_blocks.build(model, Region.load(town / "region.json"), untrained, device="cpu")


def test_what_an_actor_cannot_use_comes_back_as_one_line(town, untrained):
    asked = "cpu", untrained / "elsewhere", None
    actor = cluster.Actor(index_blocks.prepare, asked, str(town), lambda number: 1)
    answer = actor({"number": np.array([3]), "block": np.array([pickle.dumps([])], object)})
    _, error = pickle.loads(answer["done"][0])
    assert isinstance(error, CheckpointError) and str(error).startswith("checkpoint ")
    assert "elsewhere" in str(error)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "r.csv"], "results are a folder of GeoParquet files; name it, --out NAME.parquet"),
        ([], "results are a folder of GeoParquet files"),
        (["--out", "there.parquet"], "there.parquet: is there already; delete it"),
        (["--out", "r.parquet", "--sequence", "walk"], "leave out --engine ray"),
        (["--out", "r.parquet", "--address", "head"], "Ray head: cannot be used (not HOST:PORT; give"),
        (["--out", "r.parquet", "--address", "ray://head:10001"], "cannot be used (not HOST:PORT; give"),
        (["--out", "r.parquet", "--address", "127.0.0.1:1"], "Ray 127.0.0.1:1: cannot be used ([Errno"),
        (["s3://nothing/*.jpg", "--out", "r.parquet"], "s3://nothing/*.jpg: no such file"),
        (["foo://nothing/x", "--out", "r.parquet"], "foo://: Protocol not known: foo"),
    ],
)
def test_mistakes_are_one_line(words, says, town, untrained, server, zoomloc, monkeypatch):
    monkeypatch.chdir(town)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    (town / "there.parquet").mkdir()
    asked = [
        "batch",
        "photos",
        "--region",
        "region.json",
        "--checkpoint",
        untrained,
        "--engine",
        "ray",
        *words,
    ]
    out, err = zoomloc(*asked, code=2)
    assert out == "" and says in err and err.count("\n") == 1, err


def test_an_address_is_of_ray(town, untrained, zoomloc):
    asked = ["--region", town / "region.json", "--checkpoint", untrained, "--address", "head:6379"]
    for command in (["batch", town / "photos"], ["index"]):
        _, err = zoomloc(*command, *asked, code=2)
        assert err == "zoomloc: --address: is that of a Ray cluster; add --engine ray\n"


def test_a_folder_of_results_is_not_written_over(town, untrained, zoomloc):
    (town / "r.parquet").mkdir()
    asked = ["batch", town / "photos", "--region", town / "region.json", "--checkpoint", untrained]
    _, err = zoomloc(*asked, "--out", town / "r.parquet", code=2)
    assert "r.parquet: is a folder; delete it" in err


@pytest.mark.parametrize(
    ("n_jobs", "batch_size", "size", "n_blocks"),
    [(1, 8, 8, 1), (24, 8, 8, 3), (10_000, 8, 160, 63), (10_000, 64, 192, 53), (10**6, 64, 4096, 245)],
)
def test_blocks_are_whole_batches_enough_to_share_out(n_jobs, batch_size, size, n_blocks, tmp_path):
    made = shards.Shards.of(tmp_path, n_jobs, batch_size)
    assert made.size == size and size % batch_size == 0
    blocks = made.blocks(range(n_jobs))
    assert len(blocks) == n_blocks and sum(map(len, blocks.values())) == n_jobs


def test_photos_on_a_server_fail_as_rows_with_their_names(server, tmp_path, town, untrained, zoomloc):
    server.put_object(Bucket=BUCKET, Key="odd/broken.jpg", Body=b"no photo")
    server.put_object(Bucket=BUCKET, Key="odd/film.mp4", Body=b"no film")
    server.put_object(Bucket=BUCKET, Key="odd/notes.txt", Body=b"not meant as one")
    server.put_object(Bucket=BUCKET, Key="odd/.hidden/x.jpg", Body=b"")
    server.upload_file(str(next((town / "photos").glob("*.jpg"))), BUCKET, "odd/deep/good.JPG")
    words = ["--region", town / "region.json", "--checkpoint", untrained, "--out", tmp_path / "r.jsonl"]
    zoomloc("batch", f"s3://{BUCKET}/odd/", f"s3://{BUCKET}/missing.jpg", *words, code=1)
    rows = tables.read(tmp_path / "r.jsonl")
    names = ["odd/broken.jpg", "odd/deep/good.JPG", "odd/film.mp4", "missing.jpg"]
    assert [row.file for row in rows] == [f"s3://{BUCKET}/{name}" for name in names]
    reasons = [
        (row.reason or "").partition(f"s3://{BUCKET}/{name}: ")[2]
        for row, name in zip(rows, names, strict=True)
    ]
    assert reasons[0].startswith("not an image") and rows[1].reason is None
    assert reasons[2].startswith("a video, which is read from a disk only") and reasons[3].startswith(
        "no such file"
    )


def test_a_changed_photo_on_a_server_is_another_batch(server):
    def of(body):
        server.put_object(Bucket=BUCKET, Key="changing/a.jpg", Body=body)
        found = jobs.find([f"s3://{BUCKET}/changing/*.jpg"], every_s=1, listed=sys.stdin)
        return jobs.digest(found)

    assert of(b"x") != of(b"xx")


def test_a_sharded_table_is_one(tmp_path):
    """Whatever its first file holds: there, nothing was found."""
    rows = [run.Row(file=f"{i}.jpg", reason="x" if i < 2 else None) for i in range(4)]
    rows[3] = replace(rows[3], status="located", lat=46.5, lon=8.25, confidence=0.5)
    for n in range(2):
        tables.write(rows[2 * n : 2 * n + 2], tmp_path / "r.parquet" / f"part-{n:06d}.parquet")
    assert tables.read(tmp_path / "r.parquet") == rows
    frame = gpd.read_parquet(tmp_path / "r.parquet")
    assert list(frame["file"]) == [row.file for row in rows]
    assert frame.geometry.notna().tolist() == [False, False, False, True] and frame.geometry.iloc[3].x == 8.25
