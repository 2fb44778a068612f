"""What a check of a dataset comes to."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    check: its name. text: what was found; or what proves that nothing is wrong; or why it cannot be checked.
    photos: the names of those concerned, empty where nothing is wrong. way_out: what to do about them.
    """

    check: str
    text: str
    photos: Sequence[str] = ()
    way_out: str = ""
    checked: bool = True


def unchecked(check: str, reason: str) -> Finding:
    return Finding(check, reason, checked=False)
