"""Batches that the app starts: their folders, how far they are, what they leave."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from app import runs
from app.settings import DEMO
from zoomloc import cli, tables
from zoomloc.batch.journal import Journal, place
from zoomloc.errors import PhotoError
from zoomloc.rows import Row

ROW = Row("a.jpg", status="located", lat=51.46, lon=9.53, confidence=0.7)


class Process:
    """What was started, and is not."""

    pid = os.getpid()

    def __init__(self, command, **options):
        self.command, self.options = command, options
        Process.last = self

    def wait(self):
        return 0


@pytest.fixture
def started(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Process)


@pytest.fixture
def run(started, tmp_path):
    photo = (DEMO / "photos" / "000021.jpg").read_bytes()
    uploads = {"a.jpg": photo, "../b.jpg": photo}
    return runs.begin(tmp_path, uploads=uploads, region=DEMO / "region.json", checkpoint=DEMO / "checkpoint")


def test_uploads_are_kept_in_the_folder_of_the_run_and_nowhere_else(run, tmp_path):
    assert sorted(path.name for path in (run.folder / "photos").iterdir()) == ["a.jpg", "b.jpg"]
    assert run.asked.total == 2 and runs.all_runs(tmp_path) == [run]
    assert Process.last.options["start_new_session"]  # so that a closed app does not take it along


def test_the_command_of_a_run_does_what_it_should(run, tmp_path):
    region = shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("photos"))
    words = [
        word.replace(str(DEMO / "region.json"), str(region / "region.json")) for word in Process.last.command
    ]
    assert words[:3] == [sys.executable, "-m", "zoomloc"]
    result = CliRunner().invoke(cli.app, words[3:])
    assert result.exit_code == 0, result.output
    assert run.state == "done" and [row.status != "failed" for row in run.rows()] == [True, True]
    assert (run.folder / runs.REPORT).is_file()


def test_a_run_is_running_then_stopped_then_done(run, monkeypatch):
    assert run.state == "running" and run.rows() == []  # the process is this one
    journal = Journal(run.folder / runs.RESULTS, {"of": "a test"}, resume=True)
    journal.add([ROW])
    assert run.rows() == [ROW]
    signals = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    run.stop()
    assert signals[-1] == (Process.pid, signal.SIGTERM)
    monkeypatch.undo()
    (run.folder / "pid").write_text("no number")
    (run.folder / runs.LOG).write_text("noise\nzoomloc: interrupted\n")
    assert run.state == "stopped" and run.last_line() == "interrupted"
    tables.write([ROW], run.folder / runs.RESULTS)
    assert run.state == "stopped"  # the journal says that it is not whole
    journal.close(done=True)
    assert not place(run.folder / runs.RESULTS).exists()
    assert run.state == "done" and run.rows() == [ROW]


def test_a_folder_without_photos_is_refused_and_leaves_no_run(started, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoError):
        runs.begin(
            tmp_path,
            folder=str(tmp_path / "empty"),
            region=DEMO / "region.json",
            checkpoint=DEMO / "checkpoint",
        )
    assert runs.all_runs(tmp_path) == []


@pytest.mark.parametrize("suffix", list(tables.WRITERS))
def test_rows_are_exported_in_every_format_of_the_batch_command(suffix, tmp_path):
    path = tmp_path / f"results{suffix}"
    path.write_bytes(runs.export([ROW], suffix))
    if suffix in tables.READERS:
        assert tables.read(path) == [ROW]
    else:
        assert b"51.46" in path.read_bytes()
