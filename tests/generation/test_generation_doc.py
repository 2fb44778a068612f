"""The example and the command of docs/generation.md run as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "generation.md").read_text()


def test_the_example_makes_an_image(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    exec(compile(example, "docs/generation.md", "exec"), {})
    assert "(1, 256)] (1, 3, 256, 256)" in capsys.readouterr().out


def test_the_benchmark_compares_models_with_the_plain_way_of_running_them():
    (command,) = re.findall(r"^    python (.*)$", DOC, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, *command.split(), "--runs", "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("identical tokens" in line for line in lines) == 4, (
        "two plain ways, each with our tokens, twice"
    )
    for said in ("MVAR-d2: ", "past read again", "LlamaGen in 256 steps", "NAR in 31 steps"):
        assert any(said in line for line in lines), said
