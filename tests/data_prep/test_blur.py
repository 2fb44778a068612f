import sys

import numpy as np
import pytest

from data_prep import blur
from zoomloc.errors import ConfigError, PhotoError

PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def darken(pixels):
    pixels[:] = pixels // 2
    return pixels


def shrink(pixels):
    return pixels[:10]


def fail(pixels):
    raise RuntimeError("no weights")


@pytest.fixture
def module(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_blur", sys.modules[__name__])
    return "my_blur"


def test_a_function_gets_a_copy_of_the_pixels(module):
    before = PIXELS.copy()
    assert (blur.hook(f"{module}:darken")(PIXELS) == before // 2).all()
    assert (before == PIXELS).all()


def test_a_program_reads_one_file_and_writes_another(tmp_path):
    script = tmp_path / "my blur.py"
    script.write_text(
        "import sys\nfrom PIL import Image, ImageOps\nImageOps.invert(Image.open(sys.argv[1])).save(sys.argv[2])\n"
    )
    hook = blur.hook(f"{sys.executable} '{script}' {{in}} {{out}}")
    assert (hook(PIXELS) == 255 - PIXELS).all()


def test_what_fails_on_a_photo_is_a_photo_error_in_one_line(module, tmp_path):
    python = sys.executable
    failures = {
        f"{module}:fail": "RuntimeError: no weights",
        f"{module}:shrink": r"returned uint8 of shape \(10, 30, 3\)",
        f"{python} -c 'raise SystemExit(3)' {{in}} {{out}}": "exited with 3",
        f"{python} -c 'pass' {{in}} {{out}}": "wrote no {out}",
        "no-such-program {in} {out}": "no-such-program is not installed",
    }
    for text, problem in failures.items():
        with pytest.raises(PhotoError, match=f"^blurring failed .*{problem}") as raised:
            blur.hook(text)(PIXELS)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["no_such_module:f", "blur.exe", "json:no_such", "json:__doc__", "program {in}", ""]
)
def test_what_names_no_hook_is_refused_before_any_photo(text):
    with pytest.raises(ConfigError, match="blur") as raised:
        blur.hook(text)
    assert "\n" not in str(raised.value)


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_me.py").write_text("def negative(pixels):\n    return 255 - pixels\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as for an installed command
    monkeypatch.chdir(tmp_path)
    try:
        assert (blur.hook("beside_me:negative")(PIXELS) == 255 - PIXELS).all()
    finally:
        sys.modules.pop("beside_me", None)
