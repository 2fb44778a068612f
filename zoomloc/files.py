"""Writing a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoomloc.errors import OutputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to: it becomes `path` when the block ends well, else it is gone.

    Makes the folder if need be. Raises OutputError, one line, if the file system refuses.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")  # same suffix: writers choose by it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path}: cannot be written ({reason}); choose another place with --out") from error
    finally:
        draft.unlink(missing_ok=True)
