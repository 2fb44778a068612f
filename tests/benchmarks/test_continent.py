"""The plan for a continent: its sums hold, and the pages say what the command does."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import continent

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = json.loads((DOCS / "results" / "continent.json").read_text())
MEASURED = json.loads(continent.LATENCY.read_text())


@pytest.fixture(scope="module")
def made():
    return continent.plan(continent.Assumed(**WRITTEN["assumed"]), MEASURED)


def test_what_is_written_is_what_the_command_finds(made):
    for name, value in WRITTEN["plan"].items():  # files differ a little between versions of libraries
        assert getattr(made, name) == pytest.approx(
            value, rel=0.1 if "row" in name or "results" in name else 0.02
        ), name


def test_the_sums_hold(made):
    assert made.regions * 160**2 >= 10_180_000 > (made.regions - 1) * 160**2
    assert made.cells_a_region == MEASURED["large_cells"], "of the size that was measured"
    assert made.index_gb_a_region * 1e9 == MEASURED["large_bytes"]
    assert made.leaf_m == 160_000 / 4**6 <= 40
    assert made.core_hours_a_million == pytest.approx(made.photo_s * 2 * 1e6 / 3600)
    assert made.shards_a_million == math.ceil(1e6 / 4096)


def test_the_page_has_the_commands_numbers():
    page, plan = (DOCS / "cluster.md").read_text(), continent.Plan(**WRITTEN["plan"])
    table = continent.markdown(continent.Assumed(**WRITTEN["assumed"]), MEASURED, plan)
    assert table == (DOCS / "results" / "continent.md").read_text()
    for line in table.splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            assert line.replace("views (inner cells)", "views") in page, line
    assert f"all {plan.regions} costs {plan.everywhere_s / plan.photo_s:.0f} times as much" in page
