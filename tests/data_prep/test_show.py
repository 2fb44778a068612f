import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from data_prep import maps, photomap, sheet
from data_prep.show import main

TEST_COLOUR = (0xD5, 0x5E, 0x00)
EVIL = 'photos/</script><img src=x onerror="document.title=1">.jpg'


def test_three_pictures_are_made(drives, tmp_path, capsys):
    folder = drives.write(drives.frame())
    main(folder, out=tmp_path / "pictures", photos=6)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "map.html",
        "map.png",
        "sheet.png",
    ]
    assert len(capsys.readouterr().out.splitlines()) == 3
    page = (tmp_path / "pictures" / "map.html").read_text()
    assert "Imagery: nobody" in page and "CC0-1.0" in page and "../data/photos/0-00.jpg" in page
    assert "data:image/jpeg;base64," in page
    assert "default-src 'none'" in page, "the browser is told to fetch nothing"


def test_a_photo_stands_on_the_map_where_it_was_taken(drives):
    frame = drives.frame()
    folder = drives.write(frame)
    ground = maps.ground(frame, folder)
    photomap.write(frame, ground, folder, folder / "map.html")
    data = json.loads(re.search(r'id="data">(.*?)</script>', (folder / "map.html").read_text())[1])
    photo = data["photos"][15]
    x, y = drives.region.grid.project(frame.geometry[15].y, frame.geometry[15].x)
    assert photo["at"] == pytest.approx([y - ground.bounds.south, x - ground.bounds.west], abs=1e-3)
    assert np.degrees(np.arctan2(*photo["ahead"])) == pytest.approx(67, abs=0.2)
    assert (
        photo["facts"][0].startswith("train · 45.")
        and "heading 67° · fov 70° · perspective" in photo["facts"]
    )


PROBE = """<script>
addEventListener("load", async () => {
  const rest = ms => new Promise(done => setTimeout(done, ms));
  const photo = data.photos.find(photo => photo.split === "train");
  map.setView(photo.at, 1, { animate: false });
  await rest(200);
  const at = map.latLngToContainerPoint(photo.at);
  const target = document.elementFromPoint(at.x, at.y);
  for (const type of ["mousemove", "click"])
    target.dispatchEvent(new MouseEvent(type, { bubbles: true, view: window, clientX: at.x, clientY: at.y }));
  await rest(1000);
  const boxes = document.querySelectorAll("input[type=checkbox]");
  const arrowsBefore = arrows.getLayers().length;
  boxes[0].click();
  document.title = JSON.stringify({ card: document.querySelector("#card h2")?.textContent, photo: photo.name,
    width: document.querySelector("#card img")?.naturalWidth, boxes: boxes.length, arrowsBefore,
    arrowsAfter: arrows.getLayers().length, ground: document.querySelectorAll("img.leaflet-image-layer").length });
});
</script></body>"""


def test_a_browser_without_network_shows_the_photo_that_is_clicked(drives, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("NO BROWSER: chromium is not installed, so the map's program did not run")
    frame = drives.frame()
    frame.loc[0, "photo"] = "photos/odd name #1 ä.jpg"
    frame.loc[1, "sequence"] = EVIL
    folder = drives.write(frame)
    photomap.write(frame, maps.ground(frame, folder), folder, folder / "map.html")
    page = (folder / "map.html").read_text().replace("</body>", PROBE)
    (folder / "probed.html").write_text(page)
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --enable-logging=stderr"
    command = [browser, *flags.split(), "--virtual-time-budget=5000", "--window-size=1000,800", "--dump-dom"]
    done = subprocess.run(
        [*command, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'user'}",
         (folder / "probed.html").as_uri()], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1].replace("&amp;", "&"))
    assert seen["card"] == seen["photo"] == "photos/odd name #1 ä.jpg"
    assert seen["width"] == 96, "the photo itself, from the disk"
    assert seen["boxes"] == 3 and seen["ground"] == 1
    assert seen["arrowsBefore"] > seen["arrowsAfter"] >= 0


def test_the_sheet_has_photos_of_every_split_and_marks_the_camera(drives):
    frame = drives.frame()
    folder = drives.write(frame)
    ground = maps.ground(frame, folder)
    picked = sheet.pick(frame, 6, seed=0)
    assert list(picked["split"]) == ["test"] * 3 + ["train"] * 3
    assert list(sheet.pick(frame, 6, seed=0)["photo"]) == list(picked["photo"])
    assert len(sheet.pick(frame, 500, seed=0)) == 72
    sheet.write(frame, ground, folder, folder / "sheet.png", count=6, side_m=100, seed=0)
    pixels = np.asarray(Image.open(folder / "sheet.png"))
    tile = pixels[sheet.GAP :, sheet.GAP + sheet.PHOTO_PX[0] :][: sheet.SIDE_PX, : sheet.SIDE_PX]
    middle = sheet.SIDE_PX // 2
    assert tuple(tile[middle, middle]) == TEST_COLOUR, "the camera of the first, a test photo"
    assert tuple(tile[5, 5]) == (90, 120, 80), "the imagery"


def test_the_sheet_names_whom_its_photos_are_by(drives):
    frame = drives.frame().head(1)
    folder = drives.write(frame)
    inked = []
    for credits in ({}, {"attribution": None, "licence": None}):
        rows = frame.assign(**credits)
        assert maps.credit(rows.iloc[0]) == ("" if credits else "CC0-1.0 · nobody")
        sheet.write(
            rows, maps.ground(rows, folder), folder, folder / "sheet.png", count=1, side_m=100, seed=0
        )
        top = sheet.GAP + sheet.SIDE_PX + 4 + sheet.LINE
        second_line = np.asarray(Image.open(folder / "sheet.png"))[top : top + sheet.LINE]
        inked.append(bool((second_line < 128).any()))
    assert inked == [True, False]


@pytest.mark.parametrize("heading", [0, 90, 200, 315])
def test_the_fan_opens_where_the_camera_looked(drives, heading):
    frame = drives.frame().head(1).assign(heading=float(heading), split="train")
    ground = maps.ground(frame, drives.write(frame))
    (tile,) = sheet.overhead(frame, ground, 100.0)
    pixels = np.asarray(tile).astype(int)
    coloured = np.abs(pixels - (90, 120, 80)).sum(axis=2) > 40
    rows, cols = np.nonzero(coloured[:270])  # above the scale bar
    middle = sheet.SIDE_PX / 2
    east, south = cols.mean() - middle, rows.mean() - middle
    assert np.hypot(east, south) > 20
    assert abs((np.degrees(np.arctan2(east, -south)) - heading + 180) % 360 - 180) < 8


def test_a_broken_photo_and_a_place_without_imagery_are_shown_as_such(drives):
    frame = drives.frame(drives=2, photos=4)
    folder = drives.write(frame, region=False)
    (folder / frame["photo"][0]).write_bytes(b"no photo")
    sheet.write(frame, maps.ground(frame, folder), folder, folder / "sheet.png", count=72, side_m=50, seed=0)
    assert Image.open(folder / "sheet.png").height > 3 * sheet.SIDE_PX
