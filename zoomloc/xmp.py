"""What an XMP packet says of a photo: one in the image file, or the sidecar that an editor wrote beside it."""

import re
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from xml.etree import ElementTree  # its expat bounds the expansion of entities and fetches nothing

EXIF = "{http://ns.adobe.com/exif/1.0/}"
PANO = "{http://ns.google.com/photos/1.0/panorama/}"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
RIGHTS = "{http://ns.adobe.com/xap/1.0/rights/}"
COMMONS = "{http://creativecommons.org/ns#}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"

ESTIMATE = "ESTIMATE zoomloc"  # how GPSProcessingMethod begins where `zoomloc tag` wrote

COORDINATE = re.compile(r"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([NSEW])")


def is_estimate(method: str, what: str) -> bool:
    """Whether a GPSProcessingMethod says that `what`, "position" or "heading", was written by `zoomloc tag`."""
    return ESTIMATE in method and what in method.split(ESTIMATE)[1].split()


class Xmp:
    """The few facts wanted of a packet, each None where it is absent or makes no sense.

    Raises ValueError where the packet is not XML; an empty one says nothing.
    """

    def __init__(self, packet: bytes) -> None:
        try:
            self.values = dict(_values(packet.strip(b"\0 \t\r\n")))
        except (ElementTree.ParseError, LookupError) as error:  # the latter for an unknown encoding
            raise ValueError(str(error)) from None

    def estimated(self, what: str) -> bool:
        """Whether the position or the heading is an estimate of ours, which tells nothing of the photo."""
        return is_estimate(self.values.get(EXIF + "GPSProcessingMethod", ""), what)

    def position(self) -> tuple[float, float] | None:
        """(lat, lon) in degrees."""
        if self.estimated("position"):
            return None
        lat, lon = self._coordinate("GPSLatitude", "NS"), self._coordinate("GPSLongitude", "EW")
        return None if lat is None or lon is None else (lat, lon)

    def accuracy_m(self) -> float | None:
        return None if self.estimated("position") else self._number(EXIF + "GPSHPositioningError")

    def heading_deg(self) -> float | None:
        return None if self.estimated("heading") else self._number(EXIF + "GPSImgDirection")

    def film_focal_mm(self) -> float | None:
        return self._number(EXIF + "FocalLengthIn35mmFilm")

    def captured_at(self) -> datetime | None:
        text = self.values.get(EXIF + "DateTimeOriginal", "")
        date, moment = text[:10].replace(":", "-"), text[10:]  # some write the date as EXIF does
        try:
            return datetime.fromisoformat(date + moment) if moment else None
        except ValueError:
            return None

    def creator(self) -> str | None:
        return self.values.get(DUBLIN_CORE + "creator")

    def rights(self) -> str | None:
        """What may be done with the photo, in the words of whoever made it."""
        names = (COMMONS + "license", RIGHTS + "UsageTerms", DUBLIN_CORE + "rights")
        return next((self.values[name] for name in names if name in self.values), None)

    def panorama(self) -> str | None:
        """The projection of a stitched panorama, such as "equirectangular"."""
        return self.values.get(PANO + "ProjectionType")

    def panorama_heading_deg(self) -> float | None:
        """Where the middle column of a panorama looks."""
        return self._number(PANO + "PoseHeadingDegrees")

    def panorama_fov_deg(self) -> float | None:
        """The part of the horizon that a panorama shows."""
        part = self._number(PANO + "CroppedAreaImageWidthPixels")
        whole = self._number(PANO + "FullPanoWidthPixels")
        return 360 * part / whole if part and whole and 0 < part <= whole else None

    def _number(self, name: str) -> float | None:
        try:
            return float(Fraction(self.values[name].replace(" ", "")))
        except (KeyError, ValueError, ZeroDivisionError, OverflowError):
            return None

    def _coordinate(self, name: str, sides: str) -> float | None:
        """Signed degrees from "DDD,MM.mmk" or "DDD,MM,SSk"; the first of `sides` is positive."""
        match = COORDINATE.fullmatch(self.values.get(EXIF + name, "").replace(" ", ""))
        if not match or match[4] not in sides:
            return None
        degrees = int(match[1]) + float(match[2]) / 60 + float(match[3] or 0) / 3600
        return degrees if match[4] == sides[0] else -degrees


def _values(packet: bytes) -> Iterator[tuple[str, str]]:
    """(name, text) of every simple property, and of the first item of every list."""
    if not packet:
        return
    for description in ElementTree.fromstring(packet).iter(RDF + "Description"):
        yield from ((name, text.strip()) for name, text in description.attrib.items())
        for child in description:
            item = next(child.iter(RDF + "li"), child)
            text = item.get(RDF + "resource") or item.text or ""
            if text.strip():
                yield child.tag, text.strip()
