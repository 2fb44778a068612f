"""Rasters GDAL reads: GeoTIFF, COG, VRT, here or on a server, in any CRS, with any number of bands."""

import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from math import ceil, floor, isfinite, sqrt
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.windows import Window as PixelWindow

from tiles.bounds import Bounds
from tiles.errors import TilesError
from tiles.gdal import gdal_options, gdal_path, one_line_errors
from tiles.geo import ground_m
from tiles.locate import Footprint, footprint
from tiles.source import Source
from tiles.uri import check_options, redacted
from tiles.view import View, empty_view
from tiles.warp import MARGIN_PX, Canvas, render
from tiles.window import Window

STRETCH_PERCENT = (2.0, 98.0)
STRETCH_SAMPLE_PX = 1024
OPENING = "not a raster ({}); give a GeoTIFF or another format GDAL reads"
READING = "cannot be read ({}); it may be cut short"
MAX_OPEN = 64  # files a thread keeps open; 1,024 is a common limit for a whole process


class RasterSource(Source):
    """A raster: a file, a URL (https, s3, gs, az) or a path of GDAL's virtual file systems (/vsi...).

    bands: which to show as red, green and blue, counted from 1, or the one to show grey; without it those the
    raster names, else the first three, or the first of fewer. A colour table is applied. Alpha, no-data and mask
    bands become the mask. stretch: the values that become black and white; without it 8-bit values are shown as
    they are, others (16 bit, floating point) from the 2nd to the 98th percentile of the raster's valid values,
    measured once on a sample of the whole raster and the same for all bands. A server must answer range requests;
    of a raster with overviews only what a window shows is fetched; without them state the stretch, for measuring it
    reads all. Environment variables of GDAL (GDAL_HTTP_..., AWS_...) have the last word.
    Raises TilesError for what is missing, no raster, or not georeferenced.
    """

    def __init__(
        self,
        uri: str | Path,
        *,
        bands: Sequence[int] | None = None,
        stretch: tuple[float, float] | None = None,
    ) -> None:
        self.uri = str(uri)
        self._stated = bands, stretch
        self._handles = _Handles(self.uri)
        with gdal_options(self.uri):
            dataset = self._handles.get(None)
            _check_georeferenced(dataset, self.uri)
            self.crs: str = dataset.crs.to_string()
            self.bounds = _bounds(dataset)
            self.gsd_m = _gsd_m(dataset, self.crs)
            self.attribution: str = dataset.tags().get("TIFFTAG_COPYRIGHT", "")
            self._transform = dataset.transform
            self._decimations: list[int] = dataset.overviews(1)
            self.levels_m = tuple(self.gsd_m * decimation for decimation in (1, *self._decimations))
            self._bands = _stated_bands(dataset, bands, self.uri) if bands else _colour_bands(dataset)
            self._dtype = np.dtype(dataset.dtypes[self._bands[0] - 1])
            self._has_mask = any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums)
            if stretch:
                _check_stretch(dataset, stretch, self.uri)

    def render(self, window: Window) -> View:
        """See `Source.render`."""
        place = footprint(window, self.crs, self._transform)
        canvas = self._canvas(place) if place else None
        return render(canvas, window) if canvas else empty_view(window.shape)

    def close(self) -> None:
        self._handles.close()

    def __reduce__(self) -> tuple[Any, ...]:
        bands, stretch = self._stated
        return partial(RasterSource, bands=bands, stretch=stretch), (self.uri,)

    @cached_property
    def stretch(self) -> tuple[float, float] | None:
        """The values that become black and white; None where 8-bit values are shown as they are."""
        stated = self._stated[1]
        if stated or (self._dtype == np.uint8) or self._palette is not None:
            return stated
        return self._measured_stretch()

    def _canvas(self, place: Footprint) -> Canvas | None:
        """The pixels around a footprint, no coarser than needed; None where it misses the raster."""
        level, decimation = self._level(place.scale)
        dataset = self._handles.get(level)
        # Where even the fitting overview is much too fine, blocks of pixels are averaged while reading.
        step = max(1, floor(place.scale / decimation))
        to_level = ~dataset.transform * self._transform  # an overview's size is rounded, so no exact fraction
        left, top = to_level * (place.left, place.top)
        right, bottom = to_level * (place.right, place.bottom)
        cols = _span(left, right, step=step, size=dataset.width)
        rows = _span(top, bottom, step=step, size=dataset.height)
        return self._read(dataset, cols, rows, step) if cols and rows else None

    def _level(self, scale: float) -> tuple[int | None, int]:
        """The coarsest overview that keeps the detail, and its decimation; None is the raster itself."""
        fitting = [(d, i) for i, d in enumerate(self._decimations) if d <= scale * (1 + 1e-6)]
        decimation, level = max(fitting, default=(1, None))
        return level, decimation

    def _read(self, dataset: DatasetReader, cols: range, rows: range, step: int) -> Canvas:
        window = PixelWindow(cols.start, rows.start, len(cols), len(rows))
        shape = ceil(len(rows) / step), ceil(len(cols) / step)
        # The mean of two numbers of a colour table is the number of a third colour.
        mean = step > 1 and self._palette is None
        resampling = Resampling.average if mean else Resampling.nearest
        with gdal_options(self.uri), one_line_errors(self.uri, READING):
            values = dataset.read(
                self._bands, window=window, out_shape=(len(self._bands), *shape), resampling=resampling
            )
            mask = (
                dataset.dataset_mask(window=window, out_shape=shape, resampling=resampling)
                if self._has_mask
                else np.full(shape, 255, np.uint8)
            )
        pixels, alpha = self._colours(values, mask)
        transform = dataset.window_transform(window) * Affine.scale(
            len(cols) / shape[1], len(rows) / shape[0]
        )
        return Canvas(pixels, alpha if alpha.min() < 255 else None, transform, self.crs)

    def _colours(
        self, values: NDArray[Any], alpha: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Band values (bands, h, w) to (h, w, 3) uint8, with the alpha that goes with them."""
        if self._palette is not None:
            rgba = self._palette[values[0]]
            return rgba[..., :3], np.minimum(alpha, rgba[..., 3])
        if self.stretch is not None:
            low, high = self.stretch
            valid = np.isfinite(values).all(axis=0)
            alpha = np.where(valid, alpha, 0).astype(np.uint8)
            shown = np.clip((values - low) / (high - low), 0, 1) * 255
            values = np.nan_to_num(shown).round().astype(np.uint8)
        return np.dstack(list(np.broadcast_to(values, (3, *alpha.shape)))), alpha

    @cached_property
    def _palette(self) -> NDArray[np.uint8] | None:
        """(entries, 4) RGBA of a colour table."""
        dataset = self._handles.get(None)
        if dataset.colorinterp[0] != ColorInterp.palette:
            return None
        table = dataset.colormap(1)
        return np.array([table.get(i, (0, 0, 0, 0)) for i in range(max(table) + 1)], np.uint8)

    def _measured_stretch(self) -> tuple[float, float]:
        dataset = self._handles.get(None)
        shrink = max(1.0, max(dataset.shape) / STRETCH_SAMPLE_PX)
        shape = tuple(ceil(side / shrink) for side in dataset.shape)
        with gdal_options(self.uri), one_line_errors(self.uri, READING):
            values = dataset.read(self._bands, out_shape=(len(self._bands), *shape), masked=True).compressed()
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, STRETCH_PERCENT) if values.size else (0.0, 1.0)
        return float(low), float(max(high, low + 1e-6 * max(1.0, abs(low))))


def open_raster(uri: str, options: Mapping[str, str]) -> RasterSource:
    """A raster with the options of its URI: `bands=4,3,2` and `stretch=0,3000`; see `RasterSource`.

    Raises TilesError for other options and for numbers that are none.
    """
    check_options(uri, options, ("bands", "stretch"))
    try:
        bands = [int(band) for band in options["bands"].split(",")] if "bands" in options else None
        stretch = None
        if "stretch" in options:
            low, high = map(float, options["stretch"].split(","))
            stretch = low, high
    except ValueError:
        raise TilesError(
            f"{redacted(uri)}: an option is no list of numbers; write bands=4,3,2 and stretch=0,3000"
        ) from None
    return RasterSource(uri, bands=bands, stretch=stretch)


class _Handles:
    """Open datasets of one file: one a thread, process and overview level, for GDAL's must not be shared.

    A thread keeps its latest `MAX_OPEN` of all files open: a city comes in more files than a process may hold.
    """

    _thread = threading.local()

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: WeakSet[DatasetReader] = WeakSet()
        self._lock = threading.Lock()

    def get(self, level: int | None) -> DatasetReader:
        """The raster itself (None) or one of its overviews."""
        recent: OrderedDict[Any, DatasetReader] = self._thread.__dict__.setdefault("recent", OrderedDict())
        key = (self, os.getpid(), level)  # a forked child must not share its parent's file position
        dataset = recent.pop(key, None)
        if dataset is None or dataset.closed:
            dataset = _open_dataset(self._uri, level)
            with self._lock:
                self._opened.add(dataset)
        recent[key] = dataset
        if len(recent) > MAX_OPEN:
            recent.popitem(last=False)[1].close()
        return dataset

    def close(self) -> None:
        with self._lock:
            for dataset in list(self._opened):
                dataset.close()


def _open_dataset(uri: str, level: int | None) -> DatasetReader:
    options = {} if level is None else {"OVERVIEW_LEVEL": level}
    with gdal_options(uri), one_line_errors(uri, OPENING), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `_check_georeferenced` says it
        return rasterio.open(gdal_path(uri), **options)


def _check_georeferenced(dataset: DatasetReader, uri: str) -> None:
    if dataset.crs is None or dataset.transform.is_identity:
        missing = "CRS" if dataset.crs is None else "place (geotransform)"
        raise TilesError(
            f"{redacted(uri)}: has no {missing}; georeference it, with gdal_translate -a_srs -a_ullr for one"
        )


def _stated_bands(dataset: DatasetReader, bands: Sequence[int], uri: str) -> list[int]:
    if len(bands) not in (1, 3) or not all(1 <= band <= dataset.count for band in bands):
        raise TilesError(
            f"{redacted(uri)}: cannot show the bands {','.join(map(str, bands))}; "
            f"name one or three of 1..{dataset.count}, such as bands=1"
        )
    return list(bands)


def _check_stretch(dataset: DatasetReader, stretch: tuple[float, float], uri: str) -> None:
    low, high = stretch
    if not (isfinite(low) and isfinite(high) and low < high):
        raise TilesError(
            f"{redacted(uri)}: the stretch {low:g},{high:g} is none; give black,white with black < white"
        )
    if dataset.colorinterp[0] == ColorInterp.palette:
        raise TilesError(
            f"{redacted(uri)}: has a colour table, so it takes no stretch; leave the stretch out"
        )


def _bounds(dataset: DatasetReader) -> Bounds:
    """Around the four corners, for the raster may be rotated or south-up."""
    width, height = dataset.width, dataset.height
    x, y = dataset.transform * np.array([[0, width, 0, width], [0, 0, height, height]], float)
    return Bounds(float(x.min()), float(y.min()), float(x.max()), float(y.max()))


def _gsd_m(dataset: DatasetReader, crs: str) -> float:
    """Metres on the ground of the pixel in the middle, its sides' geometric mean."""
    col, row = dataset.width / 2, dataset.height / 2
    (west, north), (east, south) = dataset.transform * (col, row), dataset.transform * (col + 1, row + 1)
    across, along = ground_m(Bounds(west, south, east, north), crs)
    return sqrt(across * along)


def _colour_bands(dataset: DatasetReader) -> list[int]:
    """Which bands, counted from 1, are red, green and blue; one where there is grey or a colour table."""
    named = {colour: i for i, colour in reversed(list(enumerate(dataset.colorinterp, start=1)))}
    rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(colour in named for colour in rgb):
        return [named[colour] for colour in rgb]
    plain = [i for i, colour in enumerate(dataset.colorinterp, start=1) if colour != ColorInterp.alpha]
    return plain[:3] if len(plain) >= 3 else plain[:1]


def _span(start: float, stop: float, *, step: int, size: int) -> range:
    """Whole pixels around a stretch of one axis, with a margin, in blocks of `step`, within 0..size."""
    first = floor(start / step - MARGIN_PX) * step
    last = ceil(stop / step + MARGIN_PX) * step
    return range(max(first, 0), min(last, size))
