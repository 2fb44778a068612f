import pandas as pd
import pytest

from zoomloc import pairs
from zoomloc.errors import ManifestError


@pytest.fixture
def frame(tmp_path):
    """Three good rows, and their images beside the table to be."""
    for name in ("a.jpg", "b.jpg", "above-a.png", "above-b.png", "above-c.png"):
        (tmp_path / name).touch()
    return pd.DataFrame(
        {
            "photo": ["a.jpg", "a.jpg", "b.jpg", None],
            "overhead": ["above-a.png", "above-b.png", "above-b.png", "above-c.png"],
            "split": ["train", "train", "test", "test"],
            "match": ["exact", "overlap", "exact", None],
            "view": ["street", "street", "drone", None],
            "licence": None,
            "attribution": "somebody",
        }
    )


def test_what_is_written_is_read(frame, tmp_path):
    pairs.write(frame, tmp_path / "pairs.parquet")
    back = pairs.read(tmp_path / "pairs.parquet")
    assert list(back.columns) == list(pairs.COLUMNS) and len(back) == 4
    assert list(back.overhead) == list(frame.overhead) and list(back.photo.dropna()) == [
        "a.jpg",
        "a.jpg",
        "b.jpg",
    ]
    assert back.licence.isna().all() and back.photo.isna().sum() == 1


def _with(frame, column, row, value):
    values = list(frame[column])
    values[row] = value
    return frame.assign(**{column: pd.Series(values, dtype=object)})


BROKEN = {
    "no column match, view": lambda f: f.drop(columns=["match", "view"]),
    "no rows": lambda f: f.iloc[:0],
    "photo, row 2 .gone.jpg.: no such file": lambda f: _with(f, "photo", 2, "gone.jpg"),
    "overhead, row 1 .gone.png.: no such file": lambda f: _with(f, "overhead", 1, "gone.png"),
    "overhead, row 3 .*no such file": lambda f: _with(f, "overhead", 3, None),
    "photo, row 0 ./a.jpg.: absolute": lambda f: _with(f, "photo", 0, "/a.jpg"),
    "split, row 0 .holdout.: unknown": lambda f: _with(f, "split", 0, "holdout"),
    "match, row 3 .exact.: use one of": lambda f: _with(f, "match", 3, "exact"),
    "match, row 0 .*use one of exact, overlap": lambda f: _with(f, "match", 0, None),
    "view, row 1 .plane.: use one of street, drone": lambda f: _with(f, "view", 1, "plane"),
    "overhead, row 1 .above-a.png.: paired twice": lambda f: _with(f, "overhead", 1, "above-a.png"),
    "photo, row 0 .a.jpg.: in several splits": lambda f: _with(f, "split", 1, "val"),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_table_is_refused_in_one_line_on_both_ways(frame, tmp_path, message):
    broken, path = BROKEN[message](frame), tmp_path / "pairs.parquet"
    with pytest.raises(ManifestError, match=message) as on_write:
        pairs.write(broken, path)
    assert not path.exists()
    broken.to_parquet(path)
    with pytest.raises(ManifestError, match=message) as on_read:
        pairs.read(path)
    for raised in (on_write, on_read):
        assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(ManifestError, match="no such table"):
        pairs.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("photo,overhead\n")
    with pytest.raises(ManifestError, match="not Parquet") as raised:
        pairs.read(tmp_path / "text.parquet")
    assert "\n" not in str(raised.value)
