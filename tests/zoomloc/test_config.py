"""Configurations: a mistake is one line that says where it is."""

from pathlib import Path

import pytest

from zoomloc.config import load_train_config
from zoomloc.errors import ConfigError

GOOD = 'data = "d"\nout = "o"\nsteps = 10\nbatch_size = 2\n'

POINTER = GOOD + '[model]\nkind = "pointer"\n'


def load(tmp_path: Path, text: str):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return load_train_config(path)


def test_folders_are_relative_to_the_file(tmp_path):
    config = load(tmp_path, GOOD + "[model]\nwidth = 768\n")
    assert (config.data, config.out) == ((tmp_path / "d",), tmp_path / "o")
    several = load(tmp_path, GOOD.replace('"d"', '["d", "e"]'))
    assert several.data == (tmp_path / "d", tmp_path / "e")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "learning_rat = 1e-3", "unknown key 'learning_rat'; did you mean learning_rate"),
        (GOOD + "[model]\nwidht = 3", "unknown key 'model.widht'; did you mean width"),
        (GOOD + "[model]\nwidth = 10\nencoder_heads = 4", "width 10 must be an even multiple"),
        (GOOD.replace("steps = 10", "steps = -1"), "steps: .*greater than 0"),
        (GOOD.replace("steps = 10\n", ""), "steps: .*required"),
        ("steps = ", "not valid TOML"),
        (POINTER + "key_widht = 3", "unknown key 'model.key_widht'; did you mean key_width"),
        (POINTER + "view_px = 96", "view_px 96 must be a multiple of 84"),
        (POINTER + "depth = 3", "unknown key 'model.depth'"),
        (
            POINTER + "not_here = false",
            "not_here = false goes with off_path = 0, own_mistakes = 0 and contrast = 0",
        ),
        ("own_context = 0.1\n" + POINTER, "own_context > 0 goes with kind = .just_zoom_in"),
        ("heading = 0.1\n" + POINTER, "heading > 0 goes with a model of heading_waves > 0"),
        ('labels = "published"\n' + POINTER, '"published" go with .* kind = "just_zoom_in"'),
    ],
)
def test_mistakes(tmp_path, text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "c.toml" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="is not there"):
        load_train_config(tmp_path / "none.toml")


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "path",
    sorted(set(CONFIGS.glob("*.toml")) - set(CONFIGS.glob("tiles_*.toml"))),  # those are of generation.train
    ids=lambda p: p.stem,
)
def test_shipped_configurations_are_valid(path):
    config = load_train_config(path)
    assert config.out.name == path.stem  # each has a run's folder of its own
