"""Pairs of a photo and an overhead image: the table of a retrieval benchmark, `pairs.parquet`.

Where a manifest says where a photo was taken, this says which image from above shows the place. Columns:

photo        path of the photo, relative to the table's folder; null for an overhead image nobody took a photo in,
             which is there to be searched through
overhead     path of the image from above, likewise
split        "train", "val" or "test"; the gallery of a split is every overhead image that it names
match        "exact", or "overlap" where the place lies near the image's edge and another is its exact match;
             null without a photo
view         "street" or "drone", from where the photo was taken; null without a photo
licence      what may be done with the images, or null
attribution  whom to name when they are shown, or null

A photo may stand in several rows, all of one split.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from zoomloc.errors import ManifestError
from zoomloc.files import atomic
from zoomloc.manifest import SPLITS

COLUMNS = ("photo", "overhead", "split", "match", "view", "licence", "attribution")
MATCHES = ("exact", "overlap")
VIEWS = ("street", "drone")


def read(path: str | Path) -> pd.DataFrame:
    """The rows, paths still relative. Raises ManifestError, one line naming file, column and first offending row."""
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path}: no such table of pairs; write one with `zoomloc prep retrieval`")
    try:
        frame = pd.read_parquet(path)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ManifestError(
            f"{path}: not Parquet ({reason}); write it with `zoomloc prep retrieval`"
        ) from None
    _check(frame, path)
    return frame


def write(frame: pd.DataFrame, path: str | Path) -> None:
    """Checks the frame and writes it, whole or not at all. Raises ManifestError as `read` does."""
    path = Path(path)
    _check(frame, path)
    with atomic(path) as draft:
        frame[list(COLUMNS)].astype("string").to_parquet(draft, index=False)


def _check(frame: pd.DataFrame, path: Path) -> None:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ManifestError(
            f"{path}: no column {', '.join(missing)}; add it (values may be null where unknown)"
        )
    if frame.empty:
        raise ManifestError(f"{path}: no rows; a table of pairs needs at least one")
    for column, bad, problem in _rules(frame, path.parent):
        if bad.any():
            row = int(bad.to_numpy().argmax())
            value = frame[column].iloc[row]
            raise ManifestError(f"{path}: column {column}, row {row} ({value}): {problem}")


def _rules(frame: pd.DataFrame, folder: Path) -> Iterator[tuple[str, "pd.Series[bool]", str]]:
    """(column, which rows break the rule, what is wrong and the way out)."""
    alone = frame["photo"].isna()
    for column, needed in (("photo", ~alone), ("overhead", True)):
        there = {name: (folder / str(name)).is_file() for name in frame[column].dropna().unique()}
        absolute = frame[column].map(lambda name: isinstance(name, str) and Path(name).is_absolute())
        yield column, absolute.astype(bool), "absolute; make it relative to this folder"
        yield (
            column,
            needed & ~frame[column].map(there).eq(True),
            "no such file; add it or drop the row",
        )
    yield "split", ~frame["split"].isin(SPLITS), f"unknown; use one of {', '.join(SPLITS)}"
    for column, known in (("match", MATCHES), ("view", VIEWS)):
        bad = ~frame[column].isin(known).where(~alone, frame[column].isna())
        yield column, bad, f"use one of {', '.join(known)}; null where there is no photo"
    yield (
        "overhead",
        frame.duplicated(["photo", "overhead", "split"]),
        "paired twice with the same photo; keep one row",
    )
    splits = frame.groupby("photo")["split"].transform("nunique")
    yield "photo", splits.gt(1), "in several splits; keep it in one"
