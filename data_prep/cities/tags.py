"""What is written into a photo's file beside its pixels: EXIF as a phone has it, XMP for panoramas."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import piexif

FRAME_MM = (
    math.hypot(36, 24) * 16 / math.hypot(16, 9)
)  # width of a 16:9 frame with the diagonal of 35 mm film
PANORAMA = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
 GPano:ProjectionType="equirectangular" GPano:UsePanoramaViewer="True"
 GPano:PoseHeadingDegrees="{heading:.3f}" GPano:PosePitchDegrees="0" GPano:PoseRollDegrees="0"
 GPano:FullPanoWidthPixels="{width}" GPano:FullPanoHeightPixels="{height}"
 GPano:CroppedAreaImageWidthPixels="{width}" GPano:CroppedAreaImageHeightPixels="{height}"
 GPano:CroppedAreaLeftPixels="0" GPano:CroppedAreaTopPixels="0"/>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def exif(
    *,
    lat: float,
    lon: float,
    heading_deg: float,
    fov_deg: float | None,
    captured_at: datetime,
    copyright: str | None = None,
) -> bytes:
    """EXIF, the position to a tenth of a millimetre. `fov_deg` is None for panoramas, which have no focal length."""
    gps = {
        piexif.GPSIFD.GPSVersionID: (2, 3, 0, 0),
        piexif.GPSIFD.GPSLatitudeRef: "N" if lat >= 0 else "S",
        piexif.GPSIFD.GPSLatitude: _dms(lat),
        piexif.GPSIFD.GPSLongitudeRef: "E" if lon >= 0 else "W",
        piexif.GPSIFD.GPSLongitude: _dms(lon),
        piexif.GPSIFD.GPSImgDirectionRef: "T",
        piexif.GPSIFD.GPSImgDirection: (round(heading_deg * 1000), 1000),
    }
    shot: dict[int, Any] = {
        piexif.ExifIFD.DateTimeOriginal: captured_at.strftime("%Y:%m:%d %H:%M:%S"),
        piexif.ExifIFD.OffsetTimeOriginal: "+00:00",
    }
    if fov_deg is not None:
        focal_35_mm = FRAME_MM / 2 / np.tan(np.radians(fov_deg) / 2)
        # The tag holds whole millimetres; the exact focal length for such film is the other one.
        shot[piexif.ExifIFD.FocalLengthIn35mmFilm] = round(focal_35_mm)
        shot[piexif.ExifIFD.FocalLength] = (round(focal_35_mm * 1000), 1000)
    about: dict[int, Any] = {
        piexif.ImageIFD.ImageDescription: "simulated",
        piexif.ImageIFD.Software: "zoomloc",
    }
    if copyright is not None:
        about[piexif.ImageIFD.Copyright] = copyright.encode()
    return bytes(piexif.dump({"0th": about, "Exif": shot, "GPS": gps}))


def _dms(degrees: float) -> tuple[tuple[int, int], ...]:
    ticks = round(abs(degrees) * 3600 * 1_000_000)
    minutes, seconds = divmod(ticks, 60 * 1_000_000)
    return (minutes // 60, 1), (minutes % 60, 1), (seconds, 1_000_000)


def panorama_xmp(*, heading_deg: float, width: int, height: int) -> bytes:
    """An XMP packet by which viewers know a whole, level, equirectangular panorama."""
    return PANORAMA.format(heading=heading_deg, width=width, height=height).encode()
