"""The batch benchmark measures everything it names, and both contenders answer alike."""

import math

import pytest

from benchmarks import batch


@pytest.fixture(scope="module")
def facts():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batch, "WATCHED", 40)
        return batch.measure(4, 80, 1, "cpu")


def test_both_locate_the_same_photos_alike(facts):
    assert facts["same_answers"]
    assert all(math.isfinite(speed) and speed > 0 for speed in facts["photos_a_second"].values())


def test_every_stage_takes_time_and_together_no_more_than_there_was(facts):
    stages = facts["stages_s"]
    assert all(seconds > 0 for seconds in stages.values())
    assert sum(stages[name] for name in ("wait", "encode", "search", "write")) <= facts["whole_s"]


def test_memory_is_looked_at_again_and_again(facts):
    assert len(facts["megabytes"]) == 2


def test_the_page_names_every_stage(facts):
    page = batch.markdown(facts)
    assert all(f"| {stage} |" in page for stage in ("decode", "encode", "search", "write"))
    assert "The model waits" in page and "Memory over 80 photos" in page
