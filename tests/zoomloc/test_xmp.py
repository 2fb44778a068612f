from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from zoomloc import photo
from zoomloc.errors import PhotoError
from zoomloc.xmp import Xmp

PACKET = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:cc="http://creativecommons.org/ns#" {attributes}>{elements}</rdf:Description>
</rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def packet(elements="", **attributes):
    """An XMP packet; attributes are named like exif__GPSLatitude."""
    words = " ".join(f'{name.replace("__", ":")}="{value}"' for name, value in attributes.items())
    return PACKET.format(attributes=words, elements=elements).encode()


def test_a_position_in_either_form_and_either_place():
    as_attributes = Xmp(packet(exif__GPSLatitude="46,30.5N", exif__GPSLongitude="8,15.6W"))
    assert as_attributes.position() == (pytest.approx(46 + 30.5 / 60), pytest.approx(-8.26))
    as_elements = Xmp(
        packet(
            "<exif:GPSLatitude>33,51,54S</exif:GPSLatitude><exif:GPSLongitude>151,12,36E</exif:GPSLongitude>"
        )
    )
    assert as_elements.position() == (pytest.approx(-33.865), pytest.approx(151.21))


@pytest.mark.parametrize("lat", ["46.5", "46,30.5", "46,30.5E", "N46,30.5", "", "46;30N"])
def test_a_coordinate_of_another_form_is_none(lat):
    assert Xmp(packet(exif__GPSLatitude=lat, exif__GPSLongitude="8,15.6W")).position() is None


@given(
    st.integers(0, 89),
    st.floats(0, 59.999999).map(lambda minutes: round(minutes, 6)),
    st.sampled_from("NS"),
)
def test_any_coordinate_is_read_as_written(degrees, minutes, side):
    said = Xmp(packet(exif__GPSLatitude=f"{degrees},{minutes:.6f}{side}", exif__GPSLongitude="0,0.5E"))
    expected = (degrees + minutes / 60) * (1 if side == "N" else -1)
    assert said.position()[0] == pytest.approx(expected, abs=1e-9)


def test_numbers_are_fractions_or_decimals():
    said = Xmp(packet(exif__GPSImgDirection="2315/10", exif__GPSHPositioningError="4.5"))
    assert (said.heading_deg(), said.accuracy_m()) == (231.5, 4.5)
    for nonsense in ("1/0", "north", "", "nan/2"):
        assert Xmp(packet(exif__GPSImgDirection=nonsense)).heading_deg() is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:30:00+02:00", datetime(2024, 5, 1, 10, 30, tzinfo=UTC)),
        ("2024-05-01T10:30:00.5Z", datetime(2024, 5, 1, 10, 30, 0, 500_000, tzinfo=UTC)),
        ("2024:05:01 12:30:00", datetime(2024, 5, 1, 12, 30)),
        ("2024-05-01", None),
        ("0000:00:00 00:00:00", None),
        ("yesterday", None),
    ],
)
def test_time(text, moment):
    assert Xmp(packet(exif__DateTimeOriginal=text)).captured_at() == moment


def test_creator_and_rights():
    lists = (
        "<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bob</rdf:li></rdf:Seq></dc:creator>"
        '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">ask me</rdf:li></rdf:Alt></dc:rights>'
    )
    assert Xmp(packet(lists)).creator() == "Ada" and Xmp(packet(lists)).rights() == "ask me"
    licence = '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>'
    assert Xmp(packet(lists + licence)).rights() == "https://creativecommons.org/licenses/by/4.0/"


def test_a_part_of_a_panorama_shows_a_part_of_the_horizon():
    said = Xmp(packet(GPano__CroppedAreaImageWidthPixels="1000", GPano__FullPanoWidthPixels="4000"))
    assert said.panorama_fov_deg() == 90
    wrong = Xmp(packet(GPano__CroppedAreaImageWidthPixels="5000", GPano__FullPanoWidthPixels="4000"))
    assert wrong.panorama_fov_deg() is None


@given(st.binary(max_size=200))
def test_bytes_that_are_no_packet_raise_valueerror_or_say_nothing(data):
    try:
        said = Xmp(data)
    except ValueError:
        return
    assert said.position() is None and said.captured_at() is None


def test_entities_that_multiply_are_refused():
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><x>&l11;</x>'
    with pytest.raises(ValueError, match=r"amplification|entity"):
        Xmp(bomb.encode())


# --- in photos

GPS = {1: "N", 2: (46.0, 30.0, 0.0), 3: "E", 4: (8.0, 15.0, 36.0)}


def _save(path, *, xmp=b"", gps=None, size=(64, 48)):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    form = "HEIF" if path.suffix == ".heic" else None
    Image.fromarray(pixels).save(path, form, exif=exif, **({"xmp": xmp} if xmp else {}))
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.heic"])
def test_a_packet_in_a_file_of_any_format_is_read(tmp_path, name):
    xmp = packet(exif__GPSLatitude="10,0.0N", exif__GPSLongitude="20,0.0E", exif__GPSImgDirection="90")
    if name == "a.png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.new("RGB", (64, 48)).save(tmp_path / name, pnginfo=info)
    elif name == "a.tif":
        Image.new("RGB", (64, 48)).save(tmp_path / name, tiffinfo={700: xmp})
    else:
        _save(tmp_path / name, xmp=xmp)
    loaded = photo.load(tmp_path / name)
    assert (loaded.lat, loaded.lon, loaded.heading_deg) == (10, 20, 90)


def test_a_sidecar_counts_more_than_exif_and_exif_more_than_the_packet_inside(tmp_path):
    inside = packet(
        exif__GPSLatitude="1,0.0N", exif__GPSLongitude="2,0.0E", exif__GPSHPositioningError="7",
        exif__DateTimeOriginal="2024-05-01T10:30:00Z",
    )  # fmt: skip
    path = _save(tmp_path / "a.jpg", xmp=inside, gps=GPS)
    assert (photo.load(path).lat, photo.load(path).accuracy_m) == (46.5, 7)
    sidecar = tmp_path / "a.xmp"
    sidecar.write_bytes(packet(exif__GPSLatitude="40,0.0N", exif__GPSLongitude="3,0.0E"))
    loaded = photo.load(path, sidecar)
    assert (loaded.lat, loaded.lon) == (40, 3) and loaded.captured_at is not None


def test_a_broken_sidecar_is_refused_but_a_broken_packet_inside_is_not(tmp_path):
    path = _save(tmp_path / "a.jpg", xmp=b"<broken", gps=GPS)
    assert photo.load(path).lat == 46.5
    (tmp_path / "a.xmp").write_text("<broken")
    with pytest.raises(PhotoError, match=r"a\.xmp: not XMP.*; export it again"):
        photo.load(path, tmp_path / "a.xmp")
    with pytest.raises(PhotoError, match=r"none\.xmp: cannot be read"):
        photo.load(path, tmp_path / "none.xmp")


def test_a_panorama(tmp_path):
    xmp = packet(GPano__ProjectionType="equirectangular", GPano__PoseHeadingDegrees="0.0")
    turned = GPS | {ExifTags.GPS.GPSImgDirection: 123.0}
    loaded = photo.load(_save(tmp_path / "a.jpg", xmp=xmp, gps=turned, size=(128, 64)))
    assert (loaded.projection, loaded.heading_deg, loaded.fov_deg) == ("spherical", 0, 360)
    tube = _save(tmp_path / "b.jpg", xmp=packet(GPano__ProjectionType="cylindrical"))
    assert photo.load(tube).projection == "cylindrical"


def test_field_of_view_from_the_sensor(tmp_path):
    base = ExifTags.Base
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {  # a sensor of 36 x 24 mm with 6000 x 4000 pixels behind 18 mm
            base.FocalLength: 18.0, base.FocalPlaneXResolution: 6000 / 3.6, base.FocalPlaneResolutionUnit: 3,
            base.ExifImageWidth: 6000, base.ExifImageHeight: 4000,
        }
    )  # fmt: skip
    Image.new("RGB", (96, 64)).save(tmp_path / "a.jpg", exif=exif)
    assert photo.load(tmp_path / "a.jpg").fov_deg == pytest.approx(90, abs=0.01)


def test_creator_and_copyright_in_exif(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ada"
    exif[ExifTags.Base.Copyright] = "(c) Ada, CC BY 4.0\0Bob edited"
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    loaded = photo.load(tmp_path / "a.jpg")
    assert (loaded.creator, loaded.rights) == ("Ada", "(c) Ada, CC BY 4.0")
