import pytest

from data_prep.journal import Journal
from zoomloc.errors import OutputError


def test_what_was_noted_is_recalled_by_a_later_run_under_the_same_stamp(tmp_path):
    with Journal(tmp_path / "j", {"a": (1, 2)}) as journal:
        journal.note("x", [1, 0.5], {"b": 1})
        journal.note("x", [2, 0.5], {"b": 2})
    with Journal(tmp_path / "j", {"a": (1, 2)}) as journal:
        assert journal.recall("x", [2, 0.5]) == {"b": 2}
        assert journal.recall("x", [1, 0.5]) is None and journal.recall("y", []) is None


def test_a_line_cut_off_costs_that_line_only(tmp_path):
    with Journal(tmp_path / "j", {}) as journal:
        journal.note("x", [], "first")
        journal.note("y", [], "second")
    text = (tmp_path / "j").read_text()
    (tmp_path / "j").write_text(text[:-5])
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.recall("x", []) == "first" and journal.recall("y", []) is None
        journal.note("z", [], "third")
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.recall("x", []) == "first" and journal.recall("z", []) == "third"


@pytest.mark.parametrize("left", ["", '[{"fov": 9'])
def test_one_killed_before_its_first_line_is_begun_anew(tmp_path, left):
    (tmp_path / "j").write_text(left)
    for recalled in (None, "first"):
        with Journal(tmp_path / "j", {"fov": 90}) as journal:
            assert journal.recall("x", []) == recalled
            journal.note("x", [], "first")


def test_other_settings_are_refused_with_the_ways_out(tmp_path):
    Journal(tmp_path / "j", {"fov": 90}).__exit__(None, None, None)
    with pytest.raises(OutputError, match="other settings; name another folder with --out, or delete"):
        Journal(tmp_path / "j", {"fov": 60})


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "file" / "j", {})
