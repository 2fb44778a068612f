"""The example of docs/search.md runs as it is printed."""

import re
from pathlib import Path

from generation import selection

DOC = (Path(__file__).parents[2] / "docs" / "search.md").read_text()


def test_the_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOC, flags=re.DOTALL)
    exec(compile(example, "docs/search.md", "exec"), {})
    assert capsys.readouterr().out.startswith("[(2, 1), (2, 4), (2, 9), (2, 16)]")


def test_the_plans_named_are_those_there_are():
    for name in re.findall(r"^\| `(\w+)`", DOC, flags=re.MULTILINE):
        assert callable(getattr(selection, name))
