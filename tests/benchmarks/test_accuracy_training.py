"""Nothing that was made with other settings is taken for what is asked for."""

from dataclasses import replace

import pytest

from benchmarks.accuracy.cities import make_cities
from benchmarks.accuracy.rows import OURS, RETRIEVAL, ROWS, trainings
from benchmarks.accuracy.settings import SETTINGS, TINY
from benchmarks.accuracy.training import record, train_all
from zoomloc.errors import ConfigError, OutputError


def test_a_run_of_another_configuration_is_not_taken_for_this_one(tmp_path):
    configs = trainings(TINY, (), tmp_path, seed=0)
    for config in configs.values():
        config.out.mkdir()
        (config.out / "done.json").write_text(record(config))
    assert train_all(configs, jobs=1, device="cpu")[OURS].photos_seen == 24
    with pytest.raises(ConfigError, match="another configuration; delete it"):
        train_all(trainings(TINY, (), tmp_path, seed=1), jobs=1, device="cpu")


def test_a_city_made_otherwise_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "town-0").mkdir()
    (tmp_path / "town-0" / "made.json").write_text("{}")
    with pytest.raises(OutputError, match="town-0 holds a city made otherwise"):
        make_cities(replace(TINY.towns, trained=1, unseen=0), tmp_path, seed=0)


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_row_has_its_training_and_all_share_what_they_should(setting, tmp_path):
    configs = trainings(setting, (), tmp_path, seed=3)
    assert {row.training for row in ROWS} == {None, *configs}
    assert len({config.out for config in configs.values()}) == len(configs)
    shared = (
        "seed",
        "steps",
        "batch_size",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "warmup_steps",
        "augment",
    )
    for training, config in configs.items():
        assert [getattr(config, name) for name in shared] == [getattr(configs[OURS], name) for name in shared]
        for name in set(setting.image) - ({"view_px"} if training == "no rim" else set()):
            assert getattr(config.model, name) == getattr(configs[RETRIEVAL].model, name)
