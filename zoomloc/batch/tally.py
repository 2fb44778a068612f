"""How a batch goes: counts for the progress bar, and what failed and why for its end."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from zoomloc.rows import STATUSES, Row

EXAMPLES = 3


class Tally:
    """Counts of rows by status, and of failures by reason, each with a few files as examples."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = defaultdict(list)
        self._by_reason: Counter[str] = Counter()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.by_status[row.status] += 1
            if row.reason:
                reason = without_file(row)
                self._by_reason[reason] += 1
                if len(self._examples[reason]) < EXAMPLES:
                    self._examples[reason].append(Path(row.name).name)

    @property
    def n_failed(self) -> int:
        return self.by_status["failed"]

    def line(self) -> str:
        """As "12 located, 3 uncertain, 0 outside, 1 failed", with those without imagery where there are any."""
        told = [status for status in STATUSES if status != "no imagery" or self.by_status[status]]
        return ", ".join(f"{self.by_status[status]} {status}" for status in told)

    def reasons(self) -> list[str]:
        """A line for each reason, the most frequent first."""
        return [
            f"{count} × {reason} ({', '.join(self._examples[reason])}{', …' if count > EXAMPLES else ''})"
            for reason, count in self._by_reason.most_common()
        ]


def without_file(row: Row) -> str:
    """Why a photo failed, as it is said of all that failed likewise."""
    reason = (row.reason or "").removeprefix(f"{row.file}: ")
    return reason.replace(f" at {row.frame_s:g} s", "") if row.frame_s is not None else reason
