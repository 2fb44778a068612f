"""ZoomLoc: where a street photo was taken, on your own overhead imagery, by zooming in."""
