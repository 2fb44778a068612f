"""Writing a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoomloc.errors import OutputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to: it becomes `path` when the block ends well, else it is gone.

    Makes the folder if need be. Only write inside the block: an OSError there is taken for a failure to write
    and becomes an OutputError, one line.
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
        with suppress(OSError):  # gone already, or its folder never was
            draft.unlink()
