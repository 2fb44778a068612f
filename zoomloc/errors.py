"""The errors a user can cause. Every message is one line: what is wrong, where, and what to do about it."""


class ZoomlocError(Exception):
    """Root of the tree; the command line prints the message and exits non-zero."""


class PhotoError(ZoomlocError):
    """A photo that cannot be read or used."""


class RegionError(ZoomlocError):
    """A region file, or imagery it names, that cannot be used."""


class OutsideRegion(ZoomlocError):
    """A point that does not lie in the region's square."""


class ManifestError(ZoomlocError):
    """A table of photos that does not follow the schema."""


class ConfigError(ZoomlocError):
    """A training or model configuration with unknown keys or impossible values."""


class CheckpointError(ZoomlocError):
    """A checkpoint that cannot be loaded, or does not fit the region."""


class PriorError(ZoomlocError):
    """What is said to be known of a position, and is not understood or lies off the region."""


class TrackError(ZoomlocError):
    """Photos whose times do not make a walk, or a track of times that cannot be read."""


class OutputError(ZoomlocError):
    """A result that cannot be written where it was asked for."""


class ClusterError(ZoomlocError):
    """Machines that cannot be reached, or cannot do the work."""


class SourceError(ZoomlocError):
    """Data that cannot be read, or lacks what its format promises."""
