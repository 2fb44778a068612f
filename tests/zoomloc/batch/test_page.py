"""The commands of docs/batch.md, run as they stand there, and what the page says of columns and formats."""

import re
import shlex
import shutil
from pathlib import Path

from zoomloc import tables
from zoomloc.rows import COLUMNS

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()
COMMANDS = re.findall(r"^((?:find .+ \| )?zoomloc .+)$", PAGE, re.MULTILINE)


def test_every_command_runs(town, elsewhere, untrained, zoomloc, monkeypatch):
    monkeypatch.chdir(town)
    shutil.copytree("photos", "my-photos")
    shutil.copytree(untrained, "checkpoint")
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        words, stdin = shlex.split(command.split(" > ")[0]), ""
        if words[0] == "find":
            words = words[words.index("|") + 1 :]
            stdin = "\n".join(map(str, sorted(Path("my-photos").rglob("*.jpg"))))
        out, _ = zoomloc(*words[1:], stdin=stdin)
        if stdin:
            assert len(out.splitlines()) == 3
    assert len(tables.read("results.parquet")) == len(tables.read("results.csv")) == 3
    assert Path("report.html").stat().st_size > 100_000


def test_it_explains_every_column_and_format():
    table = PAGE.split("## The columns")[1].split("## The report")[0]
    firsts = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    names = [name for first in firsts for name in re.findall(r"`(.+?)`", first)]
    assert [name for name in names if not name.startswith(".")] == list(COLUMNS)
    assert {name for name in names if name.startswith(".")} == set(tables.WRITERS)
