"""Photos on Google Cloud Storage, which a server on loopback plays, asked with a key of a service account as ever."""

import json
import socket
import urllib.request

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from zoomloc import remote, tables
from zoomloc.errors import PhotoError

BUCKET = "my-bucket"


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


@pytest.fixture(scope="module")
def upload(tmp_path_factory):
    """Puts content into a bucket of a server that Arrow finds by the environment."""
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "tests@nowhere.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": key.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    file = tmp_path_factory.mktemp("key") / "account.json"
    file.write_text(json.dumps(account))
    port = free_port()
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    remote._file_system.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

        def put(name, content):
            where = f"http://127.0.0.1:{port}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
            headers = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(where, content, headers, method="POST")).close()

        yield put
    server.stop()
    remote._file_system.cache_clear()


def test_photos_are_located_as_those_on_a_disk(upload, town, untrained, tmp_path, zoomloc):
    photos = sorted((town / "photos").glob("*.jpg"))
    for photo in photos:
        upload(f"photos/{photo.name}", photo.read_bytes())
    upload("photos/notes.txt", b"not meant as one")
    asked = ["--region", town / "region.json", "--checkpoint", untrained, "--device", "cpu"]
    zoomloc("batch", town / "photos", *asked, "--out", tmp_path / "disk.jsonl")
    for there in (f"gs://{BUCKET}/photos", f"gs://{BUCKET}/photos/*.jpg"):
        out = tmp_path / f"{len(there)}.jsonl"
        zoomloc("batch", there, *asked, "--out", out)
        rows = tables.read(out)
        assert [row.file for row in rows] == [f"gs://{BUCKET}/photos/{photo.name}" for photo in photos]
        on_disk = tables.read(tmp_path / "disk.jsonl")
        assert [(row.lat, row.lon, row.confidence) for row in rows] == [
            (row.lat, row.lon, row.confidence) for row in on_disk
        ]


def test_what_is_not_there_is_one_line(upload):
    upload("photos/a.jpg", b"x")
    assert list(remote.listed(f"gs://{BUCKET}/photos/none.jpg")) == [(f"gs://{BUCKET}/photos/none.jpg", "")]
    with pytest.raises(PhotoError, match=rf"^gs://{BUCKET}/photos/none.jpg: no such file; check the name$"):
        remote.content(f"gs://{BUCKET}/photos/none.jpg")


def test_a_photo_that_changes_has_another_version(upload):
    def version():
        [(_, told)] = remote.listed(f"gs://{BUCKET}/changing/a.jpg")
        return told

    upload("changing/a.jpg", b"x")
    before = version()
    upload("changing/a.jpg", b"xx")
    assert version() != before
