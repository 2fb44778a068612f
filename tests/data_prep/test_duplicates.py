import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_prep import duplicates


def scene(seed, size=(400, 300)):
    """A picture with structure at every scale, as photos have."""
    rng = np.random.default_rng(seed)
    layers = [
        ndimage.zoom(rng.random((n, n, 3)), (size[1] / n, size[0] / n, 1), order=1) / n**0.5
        for n in (4, 16, 64)
    ]
    return np.clip(sum(layers) * 150, 0, 255).astype(np.uint8)


def stored_anew(pixels, *, part=1.0, quality=60):
    image = Image.fromarray(pixels)
    data = io.BytesIO()
    image.resize((int(image.width * part), int(image.height * part))).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


@pytest.mark.parametrize(("part", "quality"), [(1.0, 40), (0.5, 80), (0.33, 60)])
def test_a_photo_stored_anew_is_a_copy(part, quality):
    photos = [scene(0), scene(1), stored_anew(scene(0), part=part, quality=quality), scene(2)]
    assert list(duplicates.copies([duplicates.fingerprint(each) for each in photos])) == [(0, 2)]


def test_every_pair_is_found_across_chunks():
    rng = np.random.default_rng(0)
    prints = [rng.bytes(32).hex() for _ in range(12 * duplicates.ROWS)]
    prints[700] = prints[3]
    prints[10] = prints[9]
    prints[500] = (
        f"{int(prints[300], 16) ^ (2**duplicates.SAME_BITS - 1):064x}"  # as different as copies may be
    )
    prints[501] = f"{int(prints[301], 16) ^ (2 ** (duplicates.SAME_BITS + 1) - 1):064x}"
    assert set(duplicates.copies(prints)) == {(3, 700), (9, 10), (300, 500)}


def test_few_photos_have_no_copies():
    assert list(duplicates.copies([])) == []
    assert list(duplicates.copies(["00" * 32])) == []


def test_photos_of_one_drive_are_no_copies(shared_data):
    photos = sorted((shared_data / "streetscapes" / "tiny" / "images").iterdir())[:12]
    pixels = [np.asarray(Image.open(path).reduce(4)) for path in photos]
    assert list(duplicates.copies([duplicates.fingerprint(each) for each in pixels])) == []
