import json
import math
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime

import numpy as np
import piexif
import pytest
from PIL import ExifTags, Image, ImageCms

from zoomloc import photo
from zoomloc.errors import PhotoError

GPS, EXIF, BASE = ExifTags.GPS, ExifTags.Base, ExifTags.IFD


def _scene(width=64, height=48, mode="RGB"):
    """Upright: red in the top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    pixels[: height // 2, width // 2 :, 1] = 255
    pixels[height // 2 :, : width // 2, 2] = 255
    pixels[height // 2 :, width // 2 :] = 255
    return Image.fromarray(pixels).convert(mode)


def _corners(pixels):
    """The names of the colours in the four corners, clockwise from the top left."""
    h, w = pixels.shape[0] // 5, pixels.shape[1] // 5
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (1, 1, 1): "white", (0, 0, 1): "blue"}
    return [names[tuple(pixels[y, x] // 128)] for y, x in ((h, w), (h, -w), (-h, -w), (-h, w))]


UPRIGHT = ["red", "green", "white", "blue"]


def _exif(*, gps=None, camera=None, orientation=None):
    exif = Image.Exif()
    exif.get_ifd(BASE.GPSInfo).update(gps or {})
    exif.get_ifd(BASE.Exif).update(camera or {})
    if orientation:
        exif[EXIF.Orientation] = orientation
    return exif


def _refusal(path):
    """The one line a photo is refused with, naming the file first."""
    with pytest.raises(PhotoError) as raised:
        photo.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and ";" in message
    return message


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.webp", "a.heic", "a.tif", "a.bmp", "a.gif", "jpeg.png"]
)
def test_formats(tmp_path, name):
    path = tmp_path / name
    _scene().save(path, format="JPEG" if name == "jpeg.png" else "HEIF" if name == "a.heic" else None)
    loaded = photo.load(path)
    assert loaded.pixels.shape == (48, 64, 3) and loaded.pixels.dtype == np.uint8
    assert _corners(loaded.pixels) == UPRIGHT
    assert loaded.path == path
    assert (loaded.lat, loaded.heading_deg, loaded.fov_deg, loaded.captured_at) == (None,) * 4


@pytest.mark.parametrize("mode", ["P", "CMYK", "RGBA", "YCbCr"])
def test_modes(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    _scene(mode=mode).save(path)
    assert _corners(photo.load(path).pixels) == UPRIGHT


def test_cmyk_jpeg(tmp_path):
    _scene(mode="CMYK").save(tmp_path / "a.jpg", quality=95)
    assert _corners(photo.load(tmp_path / "a.jpg").pixels) == UPRIGHT


def test_grey_and_bilevel_and_grey_with_alpha(tmp_path):
    for mode in ("L", "1", "LA"):
        _scene(mode=mode).save(tmp_path / "a.png")
        pixels = photo.load(tmp_path / "a.png").pixels
        assert pixels.shape == (48, 64, 3) and (pixels[-1, -1] == 255).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (64, 1))).save(tmp_path / "a.png")
    row = photo.load(tmp_path / "a.png").pixels[0, :, 0].astype(int)
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 1


def test_sixteen_bit_colour(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(">u2")
    lines = b"".join(b"\0" + np.repeat(ramp, 3).tobytes() for _ in range(64))
    (tmp_path / "a.png").write_bytes(_png(64, 64, depth=16, colour=2, data=zlib.compress(lines)))
    row = photo.load(tmp_path / "a.png").pixels[0, :, 0].astype(int)
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 1


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((64, 64), np.float32)).save(tmp_path / "a.tif")
    assert "floating-point" in _refusal(tmp_path / "a.tif")


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (photo.load(tmp_path / "a.png").pixels == 255).all()
    palette = Image.new("P", (64, 64), 3)
    palette.putpalette([200, 0, 0] * 256)
    palette.save(tmp_path / "p.png", transparency=3)
    assert (photo.load(tmp_path / "p.png").pixels == 255).all()


TURN_BACK = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
TURN_BACK |= {7: "TRANSVERSE", 8: "ROTATE_270"}  # how a scene is stored that its orientation turns upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_every_orientation_comes_out_upright(tmp_path, orientation, suffix):
    stored = _scene()
    if orientation > 1:
        stored = stored.transpose(Image.Transpose[TURN_BACK[orientation]])
    stored.save(tmp_path / f"a.{suffix}", exif=_exif(orientation=orientation))
    pixels = photo.load(tmp_path / f"a.{suffix}").pixels
    assert pixels.shape == (48, 64, 3) and _corners(pixels) == UPRIGHT


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(tmp_path, orientation):
    _scene().save(tmp_path / "a.jpg", exif=_exif(orientation=orientation))
    assert _corners(photo.load(tmp_path / "a.jpg").pixels) == UPRIGHT


def test_a_large_photo_is_scaled_down_and_keeps_its_exif(tmp_path):
    exif = _exif(gps=POSITION, orientation=6)
    _scene(5000, 3000).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif)
    loaded = photo.load(tmp_path / "a.jpg")
    assert loaded.pixels.shape[1] == photo.MAX_SIDE_PX and abs(loaded.pixels.shape[0] - 1229) <= 1
    assert _corners(loaded.pixels) == UPRIGHT
    assert loaded.lat == pytest.approx(46.5)


def test_a_colour_profile_is_applied_and_a_broken_one_ignored(tmp_path):
    gray_lab = ImageCms.ImageCmsProfile(
        ImageCms.createProfile("LAB")
    ).tobytes()  # a profile that does not fit
    for profile in (
        b"no profile",
        gray_lab,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ):
        _scene().save(tmp_path / "a.png", icc_profile=profile)
        assert _corners(photo.load(tmp_path / "a.png").pixels) == UPRIGHT
    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = wide.index(b"rXYZ", 128)  # the tag table; the red and green primaries change places
    other = wide.index(b"gXYZ", 128)
    wide[at : at + 4], wide[other : other + 4] = b"gXYZ", b"rXYZ"
    _scene().save(tmp_path / "a.png", icc_profile=bytes(wide))
    assert _corners(photo.load(tmp_path / "a.png").pixels) == ["green", "red", "white", "blue"]


# --- refused


def test_a_path_that_is_no_photo(tmp_path):
    assert "no such file" in _refusal(tmp_path / "none.jpg")
    assert "folder" in _refusal(tmp_path)
    (tmp_path / "empty.jpg").touch()
    assert "empty" in _refusal(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("not an image at all" * 50)
    assert "not an image" in _refusal(tmp_path / "text.jpg")


def test_formats_with_side_effects_are_not_opened(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n")
    assert "not an image" in _refusal(tmp_path / "a.eps")


@pytest.mark.parametrize("size", [(1, 1), (31, 400), (400, 31)])
def test_too_small(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert f"{size[0]} x {size[1]} pixels" in _refusal(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "heic"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
def test_cut_off_anywhere(tmp_path, suffix, part):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)
    Image.fromarray(noise).save(whole, format="HEIF" if suffix == "heic" else None)
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    assert "broken or cut off" in _refusal(cut) or "or cut off" in _refusal(cut)


def test_a_large_jpeg_cut_off_is_refused_though_decoded_at_a_smaller_scale(tmp_path):
    _scene(9000, 6000).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    assert "cut off" in _refusal(tmp_path / "cut.jpg")


def _png(width, height, *, depth=8, colour=2, data=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(20_000, 10_000), (16_000, 10_000), (60_000, 60_000)])
def test_a_bomb_is_refused_from_its_header(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(_png(*size))  # no pixels: decoding would give another message
    assert "150 megapixels" in _refusal(tmp_path / "bomb.png")


# --- EXIF

POSITION = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (46.0, 30.0, 0.0),
    GPS.GPSLongitudeRef: "W",
    GPS.GPSLongitude: (8.0, 15.0, 36.0),
}


def _load_with(tmp_path, *, size=(64, 48), **exif):
    _scene(*size).save(tmp_path / "exif.jpg", exif=_exif(**exif))
    return photo.load(tmp_path / "exif.jpg")


def test_position(tmp_path):
    loaded = _load_with(tmp_path, gps=POSITION)
    assert (loaded.lat, loaded.lon) == (pytest.approx(46.5), pytest.approx(-8.26))
    south_east = POSITION | {GPS.GPSLatitudeRef: "s", GPS.GPSLongitudeRef: "E"}
    loaded = _load_with(tmp_path, gps=south_east)
    assert (loaded.lat, loaded.lon) == (pytest.approx(-46.5), pytest.approx(8.26))


NO_POSITION = {
    "zero": {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    "lat out of range": {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
    "lon out of range": {GPS.GPSLongitude: (180.0, 1.0, 0.0)},
    "no side": {GPS.GPSLongitudeRef: ""},
    "wrong side": {GPS.GPSLatitudeRef: "E"},
}


@pytest.mark.parametrize("fault", NO_POSITION)
def test_a_position_that_makes_no_sense_is_none(tmp_path, fault):
    loaded = _load_with(tmp_path, gps=POSITION | NO_POSITION[fault])
    assert loaded.lat is None and loaded.lon is None


def test_a_position_of_zero_divided_by_zero_is_none(tmp_path):
    degrees = {GPS.GPSLatitude: ((46, 1), (30, 1), (0, 0)), GPS.GPSLongitude: ((8, 1), (15, 1), (36, 1))}
    _scene().save(tmp_path / "a.jpg", exif=piexif.dump({"GPS": POSITION | degrees}))
    assert photo.load(tmp_path / "a.jpg").lat is None


@pytest.mark.parametrize("missing", POSITION)
def test_half_a_position_is_none(tmp_path, missing):
    loaded = _load_with(tmp_path, gps={tag: value for tag, value in POSITION.items() if tag != missing})
    assert loaded.lat is None and loaded.lon is None


@pytest.mark.parametrize(("stored", "heading"), [(0.0, 0), (231.5, 231.5), (360.0, 0), (400.0, None)])
def test_heading(tmp_path, stored, heading):
    loaded = _load_with(tmp_path, gps={GPS.GPSImgDirection: stored})
    assert loaded.heading_deg == (None if heading is None else pytest.approx(heading))


def test_field_of_view_is_that_of_the_upright_photo(tmp_path):
    camera = {EXIF.FocalLengthIn35mmFilm: 18}
    assert _load_with(tmp_path, size=(96, 64), camera=camera).fov_deg == pytest.approx(
        90
    )  # 36 mm wide at 18 mm
    upright = 2 * math.degrees(math.atan(12 / 18))  # 24 mm wide
    assert _load_with(tmp_path, size=(64, 96), camera=camera).fov_deg == pytest.approx(upright)
    turned = _load_with(tmp_path, size=(96, 64), camera=camera, orientation=6)
    assert turned.pixels.shape[:2] == (96, 64) and turned.fov_deg == pytest.approx(upright)
    assert _load_with(tmp_path, camera={EXIF.FocalLengthIn35mmFilm: 0}).fov_deg is None


def test_time(tmp_path):
    camera = {EXIF.DateTimeOriginal: "2024:05:01 12:30:00"}
    assert _load_with(tmp_path, camera=camera).captured_at == datetime(2024, 5, 1, 12, 30)
    zoned = _load_with(tmp_path, camera=camera | {EXIF.OffsetTimeOriginal: "+02:00"}).captured_at
    assert zoned == datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
    for nonsense in ("0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday"):
        assert _load_with(tmp_path, camera={EXIF.DateTimeOriginal: nonsense}).captured_at is None


@pytest.mark.filterwarnings("ignore")  # pytest sets the filter of zoomloc.photo aside
def test_broken_exif_costs_no_image(tmp_path):
    whole = _exif(
        gps=POSITION, orientation=1, camera={EXIF.DateTimeOriginal: "2024:05:01 12:30:00"}
    ).tobytes()
    random = np.random.default_rng(0)
    for _ in range(200):  # bytes of a good block changed at random, now and then cut off
        block = bytearray(whole)
        for at in random.integers(6, len(block), 8):
            block[at] = random.integers(256)
        _scene().save(tmp_path / "a.jpg", exif=bytes(block[: random.integers(6, 2 * len(block))]))
        loaded = photo.load(tmp_path / "a.jpg")
        assert loaded.lat is None or -90 <= loaded.lat <= 90


# --- photos as they come

# Height, width, and "p" position, "h" heading, "f" field of view, "t" time; or the reason for refusal.
AWKWARD = {
    "data_berlin_images_01.jpg": (1536, 2048, "pf"),
    "data_berlin_images_02.jpg": (1536, 2048, "pf"),
    "data_lund_images_01.jpg": (768, 1024, "pf"),
    "data_lund_images_10.jpg": (768, 1024, "pf"),
    "data_lund_images_20.jpg": (768, 1024, "pf"),
    "IMG_5195.HEIC": (2048, 1586, "phft"),
    "gps_DSCN0010.jpg": (480, 640, "pft"),
    "gps_DSCN0012.jpg": (480, 640, "pft"),
    "gps_DSCN0021.jpg": (480, 640, "pft"),
    "gps_DSCN0042.jpg": (480, 640, "pft"),
    "mobile_HMD_Nokia_8.3_5G_hdr.heif": (1536, 2048, "ph"),
    "orientation_landscape_3.jpg": (450, 600, ""),
    "orientation_landscape_6.jpg": (450, 600, ""),
    "orientation_landscape_8.jpg": (450, 600, ""),
    "orientation_portrait_5.jpg": (600, 450, ""),
    "tests_30-type_error.jpg": (1271, 2048, "t"),  # its XMP has a time
    "tests_45-gps_ifd.jpg": (900, 1600, "t"),
    "tests_67-0_length_string.jpg": (1022, 2048, "ph"),
    "tests_87_OSError.jpg": (2048, 1360, "pft"),
    "xmp_no_exif.jpg": (466, 322, ""),
    "tests_data_adobe_coords_adobe_coords.jpg": "only 32 x 28 pixels",
    "tests_unit_data_corrupt_exif.jpg": "only 16 x 16 pixels",
    "tests_unit_data_corrupt_exif_large_thumbnail.jpg": (100, 100, ""),
    "tests_unit_data_test_exif.jpg": "only 16 x 16 pixels",
    "heic_IllegalArgumentException.HeifReader.processBoxes.heif": "not an image",
    "heic_NegativeArraySizeException.HeifReader.processBoxes.heif": "not an image",
    "heic_cheers_1440x960.heic": (960, 1440, ""),
    "heic_exif-at-eof.heic": (2048, 1536, "pft"),
    "jpg_FLIR_Vue_Pro_640.jpg": (512, 640, ""),  # GPS 0, 0
    "jpg_ImageTestSuite_138d3b9e0d9fbf641b8135981e597c3a.jpg": "not an image",
    "jpg_ImageTestSuite_1cbb1bb37d62c44f67374cd451643dc4.jpg": (71, 194, ""),  # CMYK
    "jpg_ImageTestSuite_28968137f4fc75fbf56f16d7a7a8551a.jpg": "or cut off",
    "jpg_ImageTestSuite_5482a54657765056f1a94116a8dbffe7.jpg": (100, 100, ""),  # CMYK
    "jpg_ImageTestSuite_754664a12e36abff7950e796c906ae39.jpg": "or cut off",
    "jpg_ImageTestSuite_c3018ebe53d0046eecb58858ca869a99.jpg": "broken or cut off",
    "jpg_Issue_508.jpg": "only 1 x 1 pixels",
    "jpg_Multiple_ICC_segments.jpg": (140, 140, ""),  # CMYK
    "jpg_Nikon_D5000.jpg": (570, 858, "pft"),  # GPS seconds 0/0 in its EXIF, a position in its XMP
    "jpg_Samsung_GT-I9000_(Galaxy_S).jpg": (640, 480, "t"),  # GPS 0, 0; lies on its side
    "jpg_Sony_DSC-HX5V_(2).jpg": (547, 730, "pht"),
    "jpg_beach.jpg": "not an image",
    "webp_HTC_Desire.webp": (909, 776, "pt"),
}

LOAD_ALL = """
import json, sys
from zoomloc import photo
from zoomloc.errors import PhotoError
for path in sys.argv[1:]:
    try:
        p = photo.load(path)
        facts = {"p": p.lat, "h": p.heading_deg, "f": p.fov_deg, "t": p.captured_at}
        known = "".join(k for k, v in facts.items() if v is not None)
        print(json.dumps([path, [*p.pixels.shape[:2], known]]))
    except PhotoError as error:
        print(json.dumps([path, str(error)]))
"""


def test_awkward_photos_load_or_are_refused_as_stated_and_in_silence(shared_data):
    files = [p for p in (shared_data / "awkward_photos").glob("*/*") if p.name != "SOURCES.txt"]
    command = [sys.executable, "-W", "always", "-c", LOAD_ALL, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    outcomes = dict(map(json.loads, done.stdout.splitlines()))
    assert {path.name for path in files} == set(AWKWARD) and len(outcomes) == len(AWKWARD)
    for path in files:
        expected, outcome = AWKWARD[path.name], outcomes[str(path)]
        if isinstance(expected, str):
            assert outcome.startswith(f"{path}: ") and expected in outcome and "\n" not in outcome
        else:
            assert tuple(outcome) == expected, path.name
