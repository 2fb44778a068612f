"""A street photo: whatever comes out of a camera, as upright sRGB pixels and what its EXIF and XMP say of it."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from zoomloc.errors import PhotoError
from zoomloc.xmp import Xmp, is_estimate

MAX_PIXELS = 150_000_000  # the largest cameras; more is a mistake or a decompression bomb
MIN_SIDE_PX = 32  # smaller is an icon or a stub, nothing to find a place by
MAX_SIDE_PX = 2048  # of the pixels kept: more than any encoder looks at
FILM_DIAGONAL_MM = math.hypot(36, 24)

# Named, so that a file cannot reach Pillow's rarer readers (EPS would start Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "BMP", "GIF", "JPEG2000", "PPM")

TURNS = {  # EXIF orientation -> what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

SENSOR_UNITS_MM = {2: 25.4, 3: 10.0, 4: 1.0}  # EXIF unit of resolution -> mm
PANORAMAS = {"equirectangular": "spherical"}  # GPano's name -> ours

pillow_heif.register_heif_opener()
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
# Pillow warns of every odd tag and large size; we answer for both. A filter, not a context: that would not be
# safe where photos are loaded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

T = TypeVar("T")


@dataclass(frozen=True)
class Photo:
    """A photo as loaded.

    pixels: (h, w, 3) uint8 sRGB, upright, the long side at most MAX_SIDE_PX. lat, lon: its own position, WGS 84
    degrees. accuracy_m: the radius in which the camera believed it to be. heading_deg: where the camera, or the
    middle of a panorama, looked, clockwise from north (a magnetic heading is passed on as it is, off by the
    local declination). fov_deg: horizontal field of view of the upright photo. captured_at: with its time zone
    if it has one, else the camera's own clock. projection: "perspective", "spherical" (equirectangular) or
    another kind of panorama as its XMP names it. creator, rights: who made it, and what they say may be done
    with it. Each None where unknown.
    """

    path: Path
    pixels: NDArray[np.uint8] = field(repr=False, compare=False)
    lat: float | None = None
    lon: float | None = None
    heading_deg: float | None = None
    fov_deg: float | None = None
    captured_at: datetime | None = None
    accuracy_m: float | None = None
    projection: str = "perspective"
    creator: str | None = None
    rights: str | None = None


def load(
    path: str | Path,
    sidecar: str | Path | None = None,
    *,
    content: bytes | None = None,
    max_side_px: int = MAX_SIDE_PX,
) -> Photo:
    """Reads a photo of any common format, mode and orientation. Broken EXIF never costs a good image.

    sidecar: an XMP file that speaks for the photo; what it says counts more than the photo's own EXIF and XMP.
    content: the file's bytes, where they are at hand; `path` then is only what the photo is called. max_side_px: of the
    pixels kept, at most MAX_SIDE_PX; the smaller, the faster a JPEG is read. Panoramas, which are cut into parts, are
    kept as large as ever.
    Raises PhotoError, one line, where there is no whole image of a usable size, or the sidecar is broken.
    """
    path = Path(path)
    with _open(path, content) as image:
        exif, embedded = (
            _Exif(image),
            _embedded(image),
        )  # before pixels, which may be decoded at a smaller scale
        side_px = MAX_SIDE_PX if embedded.panorama() else max_side_px
        pixels = _decode(image, path, exif.orientation, side_px)
    return _photo(path, pixels, exif, embedded, sidecar)


def facts(path: str | Path) -> Photo:
    """What a photo says of itself, nothing decoded: its pixels are (h, w, 0). Raises PhotoError as `load` does, but
    for what only decoding finds."""
    path = Path(path)
    with _open(path) as image:
        exif = _Exif(image)
        width, height = image.size if exif.orientation < 5 else image.size[::-1]
        return _photo(path, np.zeros((height, width, 0), np.uint8), exif, _embedded(image))


def _photo(
    path: Path, pixels: NDArray[np.uint8], exif: "_Exif", embedded: Xmp, sidecar: str | Path | None = None
) -> Photo:
    edited = _sidecar(Path(sidecar)) if sidecar else Xmp(b"")
    facts = (edited, exif, embedded)
    lat, lon = next(filter(_plausible, (each.position() for each in facts)), None) or (None, None)
    panorama = _first(edited.panorama(), embedded.panorama())
    pano_headings = (edited.panorama_heading_deg(), embedded.panorama_heading_deg())
    heading_deg = _first(*map(_direction, (*pano_headings, *(each.heading_deg() for each in facts))))
    if panorama:
        fov_deg = _first(edited.panorama_fov_deg(), embedded.panorama_fov_deg(), 360.0)
    else:
        fov_deg = _fov_deg(_first(*(each.film_focal_mm() for each in facts)), pixels)
    return Photo(
        path=path,
        pixels=pixels,
        lat=lat,
        lon=lon,
        heading_deg=heading_deg,
        fov_deg=fov_deg,
        captured_at=_first(*(each.captured_at() for each in facts)),
        accuracy_m=_first(*map(_radius, (each.accuracy_m() for each in facts))),
        projection=PANORAMAS.get(panorama, panorama) if panorama else "perspective",
        creator=_first(*(each.creator() for each in facts)),
        rights=_first(*(each.rights() for each in facts)),
    )


def _sidecar(path: Path) -> Xmp:
    try:
        return Xmp(path.read_bytes())
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except ValueError:
        raise PhotoError(f"{path}: not XMP that can be read; export it again or remove it") from None


def _first(*values: T | None) -> T | None:
    return next((value for value in values if value is not None), None)


def _plausible(position: tuple[float, float] | None) -> bool:
    """Exactly 0, 0 is what a camera without a fix writes; nan is in no range."""
    return position is not None and position != (0, 0) and abs(position[0]) <= 90 and abs(position[1]) <= 180


def _direction(degrees: float | None) -> float | None:
    return degrees % 360 if degrees is not None and 0 <= degrees <= 360 else None


def _radius(metres: float | None) -> float | None:
    return metres if metres is not None and 0 < metres < math.inf else None


def _fov_deg(film_focal_mm: float | None, pixels: NDArray[np.uint8]) -> float | None:
    """Horizontal, from the focal length that gives the same diagonal view on 36 x 24 mm film."""
    if film_focal_mm is None or not 0 < film_focal_mm < math.inf:
        return None
    height, width, _ = pixels.shape
    width_mm = FILM_DIAGONAL_MM * width / math.hypot(width, height)
    return math.degrees(2 * math.atan(width_mm / 2 / film_focal_mm))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise PhotoError(f"{path}: is a folder; name the photos in it, for instance {path}/*.jpg")
    if not path.exists():
        raise PhotoError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise PhotoError(f"{path}: is not a regular file; copy the photo to a file first")
    if path.stat().st_size == 0:
        raise _empty(path)


def _empty(path: Path) -> PhotoError:
    return PhotoError(f"{path}: is empty (0 bytes); copy or download it again")


def _open(path: Path, content: bytes | None = None) -> Image.Image:
    """The image with its header read, nothing decoded yet."""
    if content is None:
        _check_file(path)
    elif not content:
        raise _empty(path)
    try:
        image = Image.open(path if content is None else BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise _too_large(path, "its size") from None
    except OSError as error:
        if error.errno:  # the file system's word: permissions and the like
            raise PhotoError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
        raise _no_image(path) from None
    except Exception:  # a broken file makes Pillow's readers fail in many ways
        raise _no_image(path) from None
    try:
        _check_size(image, path)
    except PhotoError:
        image.close()
        raise
    return image


def _embedded(image: Image.Image) -> Xmp:
    return _attempt(lambda: Xmp(image.info.get("xmp") or b"")) or Xmp(b"")


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} x {height} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise PhotoError(
            f"{path}: only {width} x {height} pixels; give a photo of at least {MIN_SIDE_PX} a side"
        )


def _no_image(path: Path) -> PhotoError:
    return PhotoError(f"{path}: not an image that can be read, or cut off; save it as JPEG or PNG")


def _too_large(path: Path, what: str) -> PhotoError:
    return PhotoError(
        f"{path}: {what} is over the {MAX_PIXELS // 10**6} megapixels read; scale it down first"
    )


def _decode(image: Image.Image, path: Path, orientation: int, side_px: int) -> NDArray[np.uint8]:
    """Upright sRGB pixels (h, w, 3), the long side at most side_px."""
    scale = side_px / max(image.size)
    wanted = (math.ceil(image.width * scale), math.ceil(image.height * scale))
    image.draft(None, wanted)  # a large JPEG is decoded at 1/2, 1/4 or 1/8, no smaller than that
    try:
        image.load()
        rgb = _rgb(image)
    except PhotoError as error:
        raise PhotoError(f"{path}: {error}") from None
    except Exception:
        raise PhotoError(f"{path}: broken or cut off in the middle; copy or download it again") from None
    rgb.thumbnail((side_px, side_px), Image.Resampling.BICUBIC)
    return np.array(rgb.transpose(TURNS[orientation]) if orientation in TURNS else rgb)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: sixteen bits scaled, not clipped; what is transparent on white; profiles to sRGB."""
    if image.mode == "F":
        raise PhotoError("has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).clip(0, 65535)  # (h, w); mode I too is how Pillow reads 16 bits
        return Image.fromarray((wide / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return _attempt(lambda: _to_srgb(image)) or image.convert("RGB")


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = ImageCms.getOpenProfile(BytesIO(image.info["icc_profile"]))
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None  # only in-place conversion returns None
    return converted


def _attempt(read: Callable[[], T]) -> T | None:
    """What `read` returns, None if it fails: EXIF and colour profiles are extras, broken in every way."""
    try:
        return read()
    except Exception:
        return None


class _Exif:
    """The few facts wanted of an image's EXIF, each None where it is absent or makes no sense."""

    def __init__(self, image: Image.Image) -> None:
        exif: Any = _attempt(image.getexif) or {}
        self.main: Mapping[int, Any] = _attempt(lambda: dict(exif)) or {}
        self.camera: Mapping[int, Any] = _attempt(lambda: exif.get_ifd(ExifTags.IFD.Exif)) or {}
        self.gps: Mapping[int, Any] = _attempt(lambda: exif.get_ifd(ExifTags.IFD.GPSInfo)) or {}
        self.orientation: int = self.main.get(ExifTags.Base.Orientation, 1)

    def estimated(self, what: str) -> bool:
        """Whether the position or the heading is an estimate of ours, which tells nothing of the photo."""
        method = _attempt(lambda: bytes(self.gps[ExifTags.GPS.GPSProcessingMethod]).decode("latin-1")) or ""
        return is_estimate(method, what)

    def position(self) -> tuple[float, float] | None:
        """(lat, lon) in degrees."""
        if self.estimated("position"):
            return None
        tags = ExifTags.GPS
        lat = _attempt(lambda: _degrees(self.gps[tags.GPSLatitude], self.gps[tags.GPSLatitudeRef], "NS"))
        lon = _attempt(lambda: _degrees(self.gps[tags.GPSLongitude], self.gps[tags.GPSLongitudeRef], "EW"))
        return None if lat is None or lon is None else (lat, lon)

    def accuracy_m(self) -> float | None:
        if self.estimated("position"):
            return None
        return _attempt(lambda: float(self.gps[ExifTags.GPS.GPSHPositioningError]))

    def heading_deg(self) -> float | None:
        if self.estimated("heading"):
            return None
        return _attempt(lambda: float(self.gps[ExifTags.GPS.GPSImgDirection]))

    def film_focal_mm(self) -> float | None:
        """As stated, else from the true focal length and the density of the sensor's pixels."""
        stated = _attempt(lambda: float(self.camera[ExifTags.Base.FocalLengthIn35mmFilm]))
        return stated or _attempt(self._film_focal_mm_from_sensor)

    def _film_focal_mm_from_sensor(self) -> float:
        tags = ExifTags.Base
        unit_mm = SENSOR_UNITS_MM[int(self.camera[tags.FocalPlaneResolutionUnit])]
        focal_px = (
            float(self.camera[tags.FocalLength]) * float(self.camera[tags.FocalPlaneXResolution]) / unit_mm
        )
        return (
            focal_px
            * FILM_DIAGONAL_MM
            / math.hypot(float(self.camera[tags.ExifImageWidth]), float(self.camera[tags.ExifImageHeight]))
        )

    def captured_at(self) -> datetime | None:
        moment = _attempt(lambda: str(self.camera[ExifTags.Base.DateTimeOriginal])[:19])
        offset = _attempt(lambda: str(self.camera[ExifTags.Base.OffsetTimeOriginal]).strip("\0 "))
        zoned = _attempt(lambda: datetime.strptime(f"{moment}{offset}", "%Y:%m:%d %H:%M:%S%z"))
        return zoned or _attempt(lambda: datetime.strptime(f"{moment}", "%Y:%m:%d %H:%M:%S"))

    def creator(self) -> str | None:
        return self._text(ExifTags.Base.Artist)

    def rights(self) -> str | None:
        return self._text(ExifTags.Base.Copyright)

    def _text(self, tag: int) -> str | None:
        """The tag's first text: a copyright may name the photographer, then, after a zero byte, the editor."""
        return _attempt(lambda: str(self.main[tag]).split("\0")[0].strip()) or None


def _degrees(parts: tuple[float, float, float], side: str, sides: str) -> float:
    """Signed degrees from (degrees, minutes, seconds) and the side; the first of `sides` is positive."""
    degrees, minutes, seconds = (float(part) for part in parts)
    sign = (1, -1)[sides.index(side.strip("\0 ").upper()[0])]
    return sign * (degrees + minutes / 60 + seconds / 3600)
