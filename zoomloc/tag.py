"""Estimated positions written back to where photos keep theirs: EXIF, or an XMP sidecar where a format cannot.

A photo's own position is a measurement and stays, unless asked otherwise; what is written is marked as an estimate in
GPSProcessingMethod, and `zoomloc.photo` never takes it for more. The pixels are not touched: see `zoomloc.gps_tags`.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image

from zoomloc.errors import PhotoError
from zoomloc.gps_tags import NoRoom, Value, into_file
from zoomloc.photo import facts
from zoomloc.rows import Row
from zoomloc.xmp import ESTIMATE

BACKUP = "_original"  # behind the whole name, as ExifTool has it
Tag = ExifTags.GPS
Outcome = Literal["tagged", "sidecar", "skipped", "failed"]


@dataclass(frozen=True)
class Tagged:
    """What became of one row: where it was written, or why not."""

    row: Row
    outcome: Outcome
    reason: str


def tag(
    rows: Iterable[Row],
    *,
    min_confidence: float,
    backup: bool = True,
    overwrite: bool = False,
    sidecars: bool = False,
    dry_run: bool = False,
) -> Iterator[Tagged]:
    """Write the positions of rows into their photos, one by one; what cannot be is told and stops nothing.

    backup: keep the file as it was beside it, under its name with "_original". overwrite: photos' own positions.
    sidecars: leave the photos alone and write XMP files beside them.
    """
    for row in rows:
        try:
            yield _tag(row, min_confidence, backup, overwrite, sidecars, dry_run)
        except PhotoError as error:
            yield Tagged(row, "failed", str(error).removeprefix(f"{row.file}: "))
        except OSError as error:
            yield Tagged(row, "failed", f"cannot be written ({error.strerror}); it is as it was")


def _tag(
    row: Row, min_confidence: float, backup: bool, overwrite: bool, sidecars: bool, dry_run: bool
) -> Tagged:
    path = Path(row.file)
    if row.lat is None or row.lon is None:
        return Tagged(row, "skipped", "has no estimate")
    if row.frame_s is not None:
        return Tagged(row, "skipped", "is a frame of a video")
    if (row.confidence or 0) < min_confidence:
        return Tagged(row, "skipped", "is less sure than --min-confidence")
    known = facts(path)
    if known.lat is not None and not overwrite:
        return Tagged(row, "skipped", "has a position of its own; --overwrite replaces it")
    heading_deg = row.heading_deg if known.heading_deg is None or overwrite else None
    if sidecars:
        return _sidecar(row, path, heading_deg, "asked for", dry_run)
    try:
        changed = into_file(path.read_bytes(), exif_tags(row, heading_deg))
        _read_back(changed)
    except NoRoom as error:
        return _sidecar(row, path, heading_deg, str(error), dry_run)
    if not dry_run:
        _replace(path.resolve(), changed, backup)
    return Tagged(row, "tagged", "in its EXIF")


def exif_tags(row: Row, heading_deg: float | None) -> dict[int, Value]:
    """The estimate as GPS tags. The error is the radius that holds 90 % of the probability, where that is known."""
    assert row.lat is not None and row.lon is not None
    tags: dict[int, Value] = {
        Tag.GPSVersionID: bytes([2, 3, 0, 0]),
        Tag.GPSLatitudeRef: "N" if row.lat >= 0 else "S",
        Tag.GPSLatitude: _degrees(row.lat),
        Tag.GPSLongitudeRef: "E" if row.lon >= 0 else "W",
        Tag.GPSLongitude: _degrees(row.lon),
        Tag.GPSMapDatum: "WGS-84",
        Tag.GPSProcessingMethod: b"ASCII\0\0\0" + _mark(row, heading_deg).encode("ascii"),
    }
    if row.radius_90_m is not None:
        tags[Tag.GPSHPositioningError] = (_decimal(row.radius_90_m),)
    if heading_deg is not None:
        tags |= {Tag.GPSImgDirectionRef: "T", Tag.GPSImgDirection: (_decimal(heading_deg % 360),)}
    return tags


def sidecar_path(photo: Path) -> Path:
    """`photo.heic.xmp` beside `photo.heic`."""
    return photo.with_name(f"{photo.name}.xmp")


def _sidecar(row: Row, photo: Path, heading_deg: float | None, why: str, dry_run: bool) -> Tagged:
    path = sidecar_path(photo)
    if path.exists() and ESTIMATE not in path.read_text(encoding="utf-8", errors="replace"):
        return Tagged(row, "skipped", "has a sidecar that others wrote")
    if not dry_run:
        with _beside(path) as draft:
            draft.write_text(_xmp(row, heading_deg), encoding="utf-8")
    return Tagged(row, "sidecar", why)


def _xmp(row: Row, heading_deg: float | None) -> str:
    assert row.lat is not None and row.lon is not None
    values = {
        "GPSVersionID": "2.3.0.0",
        "GPSLatitude": _minutes(row.lat, "NS"),
        "GPSLongitude": _minutes(row.lon, "EW"),
        "GPSMapDatum": "WGS-84",
        "GPSProcessingMethod": _mark(row, heading_deg),
    }
    if row.radius_90_m is not None:
        values["GPSHPositioningError"] = _rational(row.radius_90_m)
    if heading_deg is not None:
        values |= {"GPSImgDirectionRef": "T", "GPSImgDirection": _rational(heading_deg % 360)}
    inside = "".join(f'\n   exif:{name}="{escape(value)}"' for name, value in values.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        f'  <rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"{inside}/>\n'
        " </rdf:RDF>\n</x:xmpmeta>\n"
    )


def _mark(row: Row, heading_deg: float | None) -> str:
    what = "position" if heading_deg is None else "position heading"
    return f"{ESTIMATE} {what} confidence {row.confidence or 0:.2f} model {row.model}"


def _degrees(signed: float) -> tuple[Fraction, ...]:
    """Degrees, minutes and seconds, the last to a ten thousandth: 3 mm."""
    units = round(abs(signed) * 3600 * 10_000)
    whole, rest = divmod(units, 3600 * 10_000)
    minutes, seconds = divmod(rest, 60 * 10_000)
    return Fraction(whole), Fraction(minutes), Fraction(seconds, 10_000)


def _minutes(signed: float, sides: str) -> str:
    """As XMP has it: "46,18.7407407N"."""
    whole, rest = divmod(round(abs(signed) * 60 * 10**7), 60 * 10**7)
    return f"{whole},{rest // 10**7}.{rest % 10**7:07d}{sides[signed < 0]}"


def _decimal(value: float) -> Fraction:
    return Fraction(round(value * 100), 100)


def _rational(value: float) -> str:
    return f"{round(value * 100)}/100"


def _read_back(changed: bytes) -> None:
    """Raises NoRoom where a reader would not find what was written."""
    try:
        with Image.open(BytesIO(changed)) as image:
            method = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)[Tag.GPSProcessingMethod]
    except Exception:  # broken EXIF makes readers fail in many ways
        method = b""
    if ESTIMATE.encode() not in bytes(method):
        raise NoRoom("has broken EXIF")


def _replace(path: Path, changed: bytes, backup: bool) -> None:
    """The file in one step."""
    with _beside(path) as draft:
        draft.write_bytes(changed)
        shutil.copymode(path, draft)
        kept = path.with_name(path.name + BACKUP)
        if backup and not kept.exists():  # an older one is the true original
            try:
                os.link(path, kept)
            except OSError:  # a file system without links
                shutil.copy2(path, kept)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well, else is gone."""
    draft = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
