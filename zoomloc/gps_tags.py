"""GPS tags into image files, losslessly: what is written is appended to the EXIF block, and nothing in it moves.

Rewriting an EXIF block breaks maker notes, which hold absolute offsets, and whatever the writer does not know. Here
the block keeps every byte but one pointer; a GPS directory, and where there was none a longer copy of the first
directory, stand behind it. The same goes for a whole TIFF file, which is such a block. JPEG, PNG and WebP carry the
block in a segment or chunk of its own; all others of theirs are copied as they are.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from io import BytesIO

from PIL import ExifTags, Image

Value = bytes | str | tuple[Fraction, ...]

GPS_POINTER = 0x8825
BYTE, ASCII, LONG, RATIONAL, UNDEFINED = 1, 2, 4, 5, 7
EXIF_HEADER = b"Exif\0\0"
EMPTY = b"MM\0*\0\0\0\x08" + bytes(6)  # a block of one directory without entries
JPEG_SEGMENT = 65_533
Tag = ExifTags.GPS
# What another position's fix said, and is not true of this one.
OF_A_FIX = frozenset(
    {
        Tag.GPSLatitudeRef, Tag.GPSLatitude, Tag.GPSLongitudeRef, Tag.GPSLongitude, Tag.GPSAltitudeRef,
        Tag.GPSAltitude, Tag.GPSSatellites, Tag.GPSStatus, Tag.GPSMeasureMode, Tag.GPSDOP, Tag.GPSMapDatum,
        Tag.GPSProcessingMethod, Tag.GPSAreaInformation, Tag.GPSDifferential, Tag.GPSHPositioningError,
    }
)  # fmt: skip


class NoRoom(ValueError):
    """A file that cannot carry the tags; the message says why."""


def into_file(data: bytes, tags: Mapping[int, Value]) -> bytes:
    """An image file with GPS tags set and those of another fix gone. Raises NoRoom where its format has no place
    for them, or it is not built as its format says."""
    try:
        if data[:2] == b"\xff\xd8":
            return _into_jpeg(data, tags)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _into_png(data, tags)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _into_webp(data, tags)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return into_block(data, tags)
    except NoRoom:
        raise
    except (struct.error, IndexError, ValueError, OSError):
        raise NoRoom("is not built as its format says") from None
    raise NoRoom("is of a format that takes no EXIF without being encoded anew")


def into_block(block: bytes, tags: Mapping[int, Value]) -> bytes:
    """A TIFF block, such as EXIF is, with GPS tags set and those of another fix gone. Raises NoRoom, or what unpacking
    a broken one raises."""
    if block[:4] not in (b"II*\0", b"MM\0*"):
        raise NoRoom("has broken EXIF")
    order = "<" if block[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "L", block, 4)
    entries, following = _directory(block, first, order)
    block += b"\0" * (len(block) % 2)
    gps_at = next((at for at, tag in entries.items() if tag == GPS_POINTER), None)
    kept: dict[int, bytes] = {}
    if gps_at is not None:
        (old,) = struct.unpack_from(order + "L", block, gps_at + 8)
        gone = OF_A_FIX | set(tags)
        kept = {
            tag: block[at : at + 12]
            for at, tag in _directory(block, old, order)[0].items()
            if tag not in gone
        }
    directory = _gps_directory(len(block), kept, tags, order)
    pointer = struct.pack(order + "HHLL", GPS_POINTER, LONG, 1, len(block))
    if gps_at is not None:
        return block[:gps_at] + pointer + block[gps_at + 12 :] + directory
    longer = {tag: block[at : at + 12] for at, tag in entries.items()} | {GPS_POINTER: pointer}
    moved = struct.pack(order + "L", len(block) + len(directory))
    whole = block[:4] + moved + block[8:] + directory + _packed(longer, following, order)
    if len(whole) >= 1 << 32:
        raise NoRoom("is too large for its format")
    return whole


def _directory(block: bytes, at: int, order: str) -> tuple[dict[int, int], int]:
    """Where each entry of a directory stands, with its tag; and the offset of the directory after it."""
    (count,) = struct.unpack_from(order + "H", block, at)
    entries = {
        at + 2 + 12 * i: struct.unpack_from(order + "H", block, at + 2 + 12 * i)[0] for i in range(count)
    }
    return entries, struct.unpack_from(order + "L", block, at + 2 + 12 * count)[0]


def _gps_directory(at: int, kept: Mapping[int, bytes], tags: Mapping[int, Value], order: str) -> bytes:
    """A directory that will stand at an offset, the longer values behind it."""
    after = at + 2 + 12 * (len(kept) + len(tags)) + 4
    entries, values = dict(kept), b""
    for tag, value in tags.items():
        kind, count, raw = _raw(value, order)
        if len(raw) > 4:
            placed = struct.pack(order + "L", after + len(values))
            values += raw + b"\0" * (len(raw) % 2)
        else:
            placed = raw.ljust(4, b"\0")
        entries[tag] = struct.pack(order + "HHL", tag, kind, count) + placed
    return _packed(entries, 0, order) + values


def _packed(entries: Mapping[int, bytes], following: int, order: str) -> bytes:
    ordered = b"".join(entries[tag] for tag in sorted(entries))
    return struct.pack(order + "H", len(entries)) + ordered + struct.pack(order + "L", following)


def _raw(value: Value, order: str) -> tuple[int, int, bytes]:
    """(type, count, bytes) of a value: text is ASCII, four bytes are a version, other bytes are undefined."""
    if isinstance(value, str):
        raw = value.encode("ascii", "replace") + b"\0"
        return ASCII, len(raw), raw
    if isinstance(value, bytes):
        return (BYTE if len(value) == 4 else UNDEFINED), len(value), value
    numbers = [part for each in value for part in (each.numerator, each.denominator)]
    return RATIONAL, len(value), struct.pack(f"{order}{len(numbers)}L", *numbers)


# --- where formats carry the block


def _into_jpeg(data: bytes, tags: Mapping[int, Value]) -> bytes:
    start = end = 2
    block = EMPTY
    for marker, at, size in _jpeg_segments(data):
        if marker == 0xE0 and at == 2:  # JFIF comes first
            start = end = at + size
        if marker == 0xE1 and data[at + 4 : at + 10] == EXIF_HEADER:
            start, end, block = at, at + size, data[at + 10 : at + size]
            break
    payload = EXIF_HEADER + into_block(block, tags)
    if len(payload) > JPEG_SEGMENT:
        raise NoRoom("has EXIF that leaves no room for more")
    return data[:start] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[end:]


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, offset, whole size) of the segments before the scan."""
    at = 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield data[at + 1], at, size
        at += size


def _into_png(data: bytes, tags: Mapping[int, Value]) -> bytes:
    chunks = list(_chunks(data, 8, ">", 4))
    block = next((body for kind, body, _ in chunks if kind == b"eXIf"), EMPTY)
    body = into_block(block, tags)
    whole = struct.pack(">L", len(body)) + b"eXIf" + body + struct.pack(">L", zlib.crc32(b"eXIf" + body))
    header, *others = [raw for kind, _, raw in chunks if kind != b"eXIf"]
    return data[:8] + header + whole + b"".join(others)


def _into_webp(data: bytes, tags: Mapping[int, Value]) -> bytes:
    chunks = list(_chunks(data[: 8 + struct.unpack_from("<L", data, 4)[0]], 12, "<", 0))
    old = next((body for kind, body, _ in chunks if kind == b"EXIF"), EMPTY)
    body = into_block(old.removeprefix(EXIF_HEADER), tags)
    exif = b"EXIF" + struct.pack("<L", len(body)) + body + b"\0" * (len(body) % 2)
    header, *others = [raw for kind, _, raw in chunks if kind != b"EXIF"]
    if chunks[0][0] == b"VP8X":
        header = header[:8] + bytes([header[8] | 0x08]) + header[9:]
    else:  # the simple form has no place for EXIF: the same image in the extended one
        others.insert(0, header)
        header = _extended_header(data)
    behind = [raw for raw in others if raw[:4] == b"XMP "]
    whole = header + b"".join(raw for raw in others if raw[:4] != b"XMP ") + exif + b"".join(behind)
    return b"RIFF" + struct.pack("<L", 4 + len(whole)) + b"WEBP" + whole


def _extended_header(data: bytes) -> bytes:
    with Image.open(BytesIO(data), formats=["WEBP"]) as image:
        width, height = image.size
        alpha = image.mode == "RGBA"
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X" + struct.pack("<L", 10) + bytes([0x08 | 0x10 * alpha, 0, 0, 0]) + size


def _chunks(data: bytes, at: int, order: str, n_check: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, body, all of it) of PNG's and RIFF's chunks; PNG's say their length before their kind and end with a
    check, RIFF's are padded to an even length."""
    png = order == ">"
    while at < len(data):
        (length,) = struct.unpack_from(order + "L", data, at if png else at + 4)
        kind = data[at + 4 : at + 8] if png else data[at : at + 4]
        end = at + 8 + length + (n_check if png else length % 2)
        yield kind, data[at + 8 : at + 8 + length], data[at:end]
        at = end
