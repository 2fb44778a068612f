"""What the service answers, refuses and tells."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest
from PIL import Image

from zoomloc import checkpoint, outputs
from zoomloc import photo as photos
from zoomloc.cli import main
from zoomloc.priors import near
from zoomloc.serve.gate import Limits
from zoomloc.serve.record import JsonLines


def png(width, height):
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def until(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def held(localizer, monkeypatch):
    """A model that waits until it is let go; `begun` is set when it has a batch."""
    begun, go = threading.Event(), threading.Event()
    encode = localizer.encode

    def waiting(*args):
        begun.set()
        assert go.wait(60)
        return encode(*args)

    monkeypatch.setattr(localizer, "encode", waiting)
    yield begun, go
    go.set()


def test_answers_are_those_of_the_localizer_in_the_order_of_the_upload(served, localizer, region, photo):
    found = served.locate(("b.jpg", photo(1)), ("broken.jpg", b"no image"), ("dir/a.jpg", photo(0))).json()[
        "photos"
    ]
    assert [each["photo"] for each in found] == ["b.jpg", "broken.jpg", "a.jpg"]
    assert found[1]["error"].startswith("broken.jpg: not an image") and "lat" not in found[1]
    for each, i in ((found[0], 1), (found[2], 0)):
        loaded = photos.load(each["photo"], content=photo(i))
        [alone] = localizer.locate([loaded.pixels], region, names=[each["photo"]], fovs_deg=[loaded.fov_deg])
        expected = json.loads(json.dumps(outputs.record(alone)))
        assert each["lat"] == expected["lat"] and each["path"] == expected["path"]
        assert each["probability"] == pytest.approx(expected["probability"], rel=1e-4)
        assert set(each) == set(expected)


def test_what_else_is_known_moves_the_answer(served, localizer, region, photo):
    lat, lon = region.grid.unproject(*region.grid.centre(region.grid.cell((2, 3))))
    box = f"{lon - 2e-4},{lat - 2e-4},{lon + 2e-4},{lat + 2e-4}"
    area = json.dumps(near(lat, lon, 15).area.__geo_interface__)
    for fields in ({"near": f"{lat},{lon},15"}, {"within": box}, {"within": area}):
        [found] = served.locate(("a.jpg", photo()), **fields).json()["photos"]
        assert found["lat"] == pytest.approx(lat, abs=5e-4) and found["lon"] == pytest.approx(lon, abs=5e-4)
        assert found["path"] == [2, 3]
    exif = photos.load("a.jpg", content=photo())
    [found] = served.locate(("a.jpg", photo()), gps_prior=2).json()["photos"]
    assert found["path"] == list(
        region.grid.path(region.grid.cell_at(*region.grid.project(exif.lat, exif.lon)))
    )


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"region": "atlantis"}, 404, "region: name one of those served: tiny"),
        ({"near": "here"}, 422, "near here: not understood; write LAT,LON,RADIUS_M"),
        ({"near": "0,0,10"}, 422, "near or within: lies off the region 'tiny'"),
        ({"within": "/etc/passwd"}, 422, "within /etc/passwd: not understood"),
        ({"within": "{"}, 422, "within: not GeoJSON"),
        ({"within": '{"type": "Point", "coordinates": [9, 45]}'}, 422, "within: has no polygon"),
        ({"search": "beam", "near": "45,9,10"}, 422, "search beam: cannot use"),
        ({"heading_prior": "0"}, 422, "heading_prior: the model says nothing of headings"),
        ({"radius": "nan"}, 422, "radius: "),
        ({"top": "0"}, 422, "top: "),
    ],
)
def test_fields_that_are_not_understood_are_told_in_one_line(served, photo, fields, status, says):
    answer = served.locate(("a.jpg", photo()), **fields)
    assert answer.status_code == status and answer.json()["detail"].startswith(says)


def test_uploads_have_limits(serving, photo):
    with serving(limits=Limits(upload_bytes=100_000, photos=2)) as small:
        assert small.locate(*[("a.jpg", photo())] * 3).status_code == 413
        answer = small.locate(("a.jpg", b"x" * 100_001))
        assert answer.status_code == 413 and "100,000 bytes" in answer.json()["detail"]

        def unending():  # of unknown length
            yield b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
            for _ in range(1000):
                yield b"x" * 1000

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with suppress(httpx.WriteError, httpx.RemoteProtocolError):  # cut off while still sending
            assert small.client.post("/locate", content=unending(), headers=headers).status_code == 413
        assert small.locate(("a.jpg", photo())).status_code == 200


def test_a_decompression_bomb_is_refused_by_its_header_and_harms_nobody_else(served, photo):
    bomb = png(20_000, 20_000)
    assert len(bomb) < 100_000
    first, second = served.locate(("bomb.png", bomb), ("a.jpg", photo())).json()["photos"]
    assert "megapixels" in first["error"] and second["lat"]


def test_an_upload_that_comes_too_slowly_is_ended(serving):
    with serving(limits=Limits(upload_s=0.3)) as impatient:

        def slowly():
            yield b"--x\r\n"
            time.sleep(1.5)
            yield b"--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        assert impatient.client.post("/locate", content=slowly(), headers=headers).status_code == 408


def test_only_the_key_opens(serving, photo):
    with serving(api_key="schlüssel") as locked:
        assert locked.client.get("/healthz").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic schl"}):
            for answer in (
                locked.client.get("/regions", headers=headers),
                locked.client.post("/locate", files={"photos": photo()}, headers=headers),
            ):
                assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        locked.client.headers = httpx.Headers({"Authorization": "Bearer schlüssel"}, encoding="utf-8")
        assert locked.client.get("/regions").status_code == 200
        assert locked.locate(("a.jpg", photo())).status_code == 200


def test_many_clients_share_batches_and_none_gets_anothers_answer(serving, localizer, photo, held):
    begun, go = held
    with serving() as service, ThreadPoolExecutor(24) as clients:
        first = clients.submit(service.locate, ("first.jpg", photo()))
        assert begun.wait(60)
        rest = [clients.submit(service.locate, (f"{i}.jpg", photo(i))) for i in range(20)]
        until(lambda: service.app.state.worker.waiting == 20)
        go.set()
        assert first.result().status_code == 200
        answers = [each.result().json() for each in rest]
        for i, answer in enumerate(answers):
            [found] = answer["photos"]
            [alone] = service.locate((f"{i}.jpg", photo(i))).json()["photos"]
            assert found["photo"] == f"{i}.jpg"
            assert found["probability"] == pytest.approx(alone["probability"], rel=1e-4)
            assert (found["lat"], found["lon"]) == (alone["lat"], alone["lon"])
        assert (
            'zoomloc_requests_total{path="/locate",status="200"} 41.0' in service.client.get("/metrics").text
        )
    counted = service.app.state.metrics.registry.get_sample_value
    assert counted("zoomloc_batch_photos_bucket", {"le": "1.0"}) == 21  # the first, and those alone
    assert counted("zoomloc_batch_photos_count") == 24  # 20 in three batches


def test_beyond_what_may_wait_clients_are_told_when_to_come_back(serving, photo, held):
    begun, go = held
    with serving(limits=Limits(waiting=2, requests=4)) as small, ThreadPoolExecutor(8) as clients:
        first = clients.submit(small.locate, ("a.jpg", photo()))
        assert begun.wait(60)
        waiting = clients.submit(small.locate, ("b.jpg", photo()), ("c.jpg", photo()))
        until(lambda: small.app.state.worker.waiting == 2)
        queue_full = small.locate(("d.jpg", photo()))
        assert queue_full.status_code == 429 and int(queue_full.headers["Retry-After"]) >= 1
        go.set()
        assert first.result().status_code == waiting.result().status_code == 200


def test_requests_and_their_bytes_at_once_are_bounded_before_they_are_read(serving, photo, held):
    begun, go = held
    for limits in (Limits(requests=1), Limits(memory_bytes=len(photo()) + 1000)):
        begun.clear()
        go.clear()
        with serving(limits=limits) as small, ThreadPoolExecutor(1) as clients:
            first = clients.submit(small.locate, ("a.jpg", photo()))
            assert begun.wait(60)
            answer = small.locate(("b.jpg", photo()))
            assert answer.status_code == 429 and answer.headers["Retry-After"] == "1"
            go.set()
            assert first.result().status_code == 200


def test_an_answer_that_takes_too_long_is_given_up_and_not_worked_on(serving, photo, held):
    _, go = held
    with serving(limits=Limits(answer_s=0.3)) as slow:
        assert slow.locate(("a.jpg", photo())).status_code == 503  # being worked on
        assert slow.locate(("b.jpg", photo())).status_code == 503  # still waiting
        go.set()
        until(lambda: slow.app.state.worker.waiting == 0)
    assert slow.app.state.metrics.registry.get_sample_value("zoomloc_batch_photos_sum") == 1


def test_one_photos_trouble_is_not_the_others(serving, localizer, photo, held, monkeypatch):
    begun, go = held
    zoom = localizer.zoom

    def moody(features, region, *, how, evidence):
        if any(its is not None for its in evidence):
            raise RuntimeError("a mistake of ours")
        return zoom(features, region, how=how, evidence=evidence)

    monkeypatch.setattr(localizer, "zoom", moody)
    with serving() as service, ThreadPoolExecutor(4) as clients:
        first = clients.submit(service.locate, ("a.jpg", photo()))
        assert begun.wait(60)
        good = clients.submit(service.locate, ("b.jpg", photo()))
        bad = clients.submit(service.locate, ("c.jpg", photo()), gps_prior=5)
        until(lambda: service.app.state.worker.waiting == 2)
        go.set()
        assert first.result().status_code == good.result().status_code == 200
        assert bad.result().status_code == 500 and "mistake of ours" not in bad.result().text


def test_what_was_accepted_is_answered_before_the_end(serving, photo, held):
    begun, go = held
    with serving() as service, ThreadPoolExecutor(4) as clients:
        accepted = [clients.submit(service.locate, ("a.jpg", photo()))]
        assert begun.wait(60)
        accepted += [clients.submit(service.locate, (f"{i}.jpg", photo(i))) for i in range(2)]
        until(lambda: service.app.state.worker.waiting == 2)
        service.server.should_exit = True
        time.sleep(0.3)
        go.set()
        assert [each.result().status_code for each in accepted] == [200] * 3
        service.thread.join(30)
        assert not service.thread.is_alive()


def test_regions_and_their_outlines_are_listed(served, region):
    [listed] = served.client.get("/regions").json()
    assert listed["name"] == "tiny" and listed["leaf_m"] == region.grid.leaf_m
    assert listed["outline"]["type"] == "Polygon"


def test_the_log_has_one_line_of_json_for_each_request_and_no_name_or_place(serving, photo, caplog):
    caplog.set_level(logging.INFO, logger="zoomloc.serve")
    for asked in (False, True):
        caplog.clear()
        with serving(log_answers=asked) as service:
            answer = service.locate(("secret.jpg", photo()))
        lines = [JsonLines().format(each) for each in caplog.records if each.message == "request"]
        [line] = [each for each in lines if "/locate" in each]
        told = json.loads(line)
        assert told["id"] == answer.headers["X-Request-Id"]
        assert (told["path"], told["status"], told["photos"]) == ("/locate", 200, 1)
        assert ("secret" in line) is asked and ("lat" in line) is asked


def test_the_command_serves_on_loopback_until_it_is_told_to_end(localizer, tiny_data, tmp_path, photo):
    checkpoint.save(localizer.model, tmp_path / "model")
    words = [
        "serve",
        "--region",
        tiny_data / "region.json",
        "--checkpoint",
        tmp_path / "model",
        "--port",
        "0",
    ]
    command = [sys.executable, "-m", "zoomloc", *map(str, words), "--device", "cpu"]
    environment = os.environ | {"ZOOMLOC_API_KEY": "k"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as served:
        first = json.loads(served.stdout.readline())
        url = re.search(r"http://127\.0\.0\.1:\d+/", first["message"])[0]
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        headers = {"Authorization": "Bearer k"}
        answer = httpx.post(f"{url}locate", files={"photos": photo()}, headers=headers, timeout=60)
        assert answer.json()["photos"][0]["region"] == "tiny"
        served.send_signal(signal.SIGTERM)
        rest = served.communicate(timeout=60)[0]
    assert all(json.loads(line) for line in rest.splitlines())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--api-key", ""], "the API key is empty"),
        (["--memory-mb", "1"], "--memory-mb 1: less than one upload may have"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(tiny_data, monkeypatch, capsys, words, says):
    monkeypatch.setattr(
        sys,
        "argv",
        ["zoomloc", "serve", "--region", str(tiny_data / "region.json"), "--checkpoint", "none", *words],
    )
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2 and says in capsys.readouterr().err
