"""A crowd of clients, for a short while: `benchmarks/serve.py` does the same for long, beside others."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="NOT LINUX: the memory of a process is read from /proc")
def test_fifty_clients_lose_no_request_and_memory_stays_bounded(tmp_path):
    out = tmp_path / "load.json"
    command = [sys.executable, ROOT / "benchmarks" / "serve.py", "--only", "zoomloc", "--out", out]
    done = subprocess.run(
        [*command, "--clients", "50", "--seconds", "2.5", "--side", "1024"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    [result] = json.loads(out.read_text())["servers"]
    assert result["requests"] >= 50 and result["lost"] == 0
    assert result["rss_after"] - result["rss_before"] < 400
