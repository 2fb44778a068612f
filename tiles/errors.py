"""The one error of this package."""


class TilesError(Exception):
    """Imagery that cannot be read. The message is one line: what is wrong, where, and what to do about it."""
