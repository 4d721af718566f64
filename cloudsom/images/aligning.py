"""Masks of any resolution on a reference's grid: how much of each of its pixels is cloud, by georeference."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from osgeo import osr
from scipy.sparse import csr_matrix

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.images.rasters import Grid

osr.UseExceptions()

#: Share of a reference pixel that must have data in a mask for the pixel to have some.
LEAST_DATA = 0.5

#: Rows of the reference's grid at a time. Of a mask at 10 m beside one at 60 m that is 34 MB of float64.
ROWS_AT_ONCE = 64

#: Areas are sums of products of overlaps: half a pixel may come out as a little less than half.
ROUNDING = 1e-6

#: Reads rows of a mask: (first row, how many) -> (rows, width) of CLOUD, CLEAR and MASK_NODATA.
Reader = Callable[[int, int], NDArray[np.uint8]]


def mask_on_grid(read: Reader, source: Grid, target: Grid, cloud_share: float, shown: object) -> NDArray[np.uint8]:
    """A mask brought to another grid of the same coordinate system, finer or coarser: uint8 (height, width).

    A target pixel is cloud where cloud covers at least `cloud_share` of its area with data in the mask; it has data
    where at least `LEAST_DATA` of its area has. UserError, which names `shown`, if the two have no common area, or lie
    in other coordinate systems, or the mask has none.
    """
    _check(source, target, shown)
    down = _overlaps(source.transform[3::2], source.height, target.transform[3::2], target.height)
    across = _overlaps(source.transform[:2], source.width, target.transform[:2], target.width)
    if not down.nnz or not across.nnz:
        raise UserError(f"{shown}: covers nothing of the reference; it is of another place: give the mask of the scene")
    whole = abs(target.transform[1] / source.transform[1] * target.transform[5] / source.transform[5])
    out = np.full((target.height, target.width), MASK_NODATA, np.uint8)
    for top in range(0, target.height, ROWS_AT_ONCE):
        rows = down[top : top + ROWS_AT_ONCE]
        if not rows.nnz:
            continue
        first, last = int(rows.indices.min()), int(rows.indices.max()) + 1
        codes = read(first, last - first)
        weights = rows[:, first:last]
        data = (weights @ (codes != MASK_NODATA).astype(np.float64)) @ across.T
        cloud = (weights @ (codes == CLOUD).astype(np.float64)) @ across.T
        has_data = data >= LEAST_DATA * whole - ROUNDING
        is_cloud = cloud >= cloud_share * data - ROUNDING
        out[top : top + ROWS_AT_ONCE] = np.where(has_data, np.where(is_cloud, CLOUD, CLEAR), MASK_NODATA)
    return out


def _check(source: Grid, target: Grid, shown: object) -> None:
    """UserError unless both grids are upright and in the same coordinate system."""
    if not source.projection:
        advice = "give it one (visualization/add_georeference.py, or gdal_edit.py)"
        raise UserError(f"{shown}: has no coordinate system, so it cannot be placed; {advice}")
    if not target.projection:
        raise UserError(f"{shown}: the reference has no coordinate system, so nothing can be placed on it")
    if any((*source.transform[2:5:2], *target.transform[2:5:2])) or not source.transform[1] or not source.transform[5]:
        raise UserError(f"{shown}: its rows do not run from west to east; save it in the tile's own grid")
    if not all(1e-3 < abs(side) < 1e6 for side in source.transform[1::4]) or not np.all(np.abs(source.transform) < 1e9):
        raise UserError(f"{shown}: its georeference {source.transform} is none of an image; give it the right one")
    ours, theirs = osr.SpatialReference(target.projection), osr.SpatialReference(source.projection)
    if not (ours.IsSame(theirs) or ours.ExportToProj4() == theirs.ExportToProj4()):  # formats spell one system in ways
        names = " and ".join(system.GetName() or "unnamed" for system in (theirs, ours))
        raise UserError(f"{shown}: lies in another coordinate system than the reference ({names}); give the tile's own")


def _overlaps(source: tuple[float, ...], n: int, target: tuple[float, ...], m: int) -> csr_matrix:
    """Along one axis, how much of each of `n` source pixels lies in each of `m` target pixels: (m, n), source pixels.

    source, target  the axis: where its first pixel begins, and the step from pixel to pixel
    """
    edges = (target[0] + target[1] * np.arange(m + 1) - source[0]) / source[1]
    low, high = np.clip(np.minimum(edges[:-1], edges[1:]), 0, n), np.clip(np.maximum(edges[:-1], edges[1:]), 0, n)
    first, last = np.floor(low + ROUNDING).astype(int), np.ceil(high - ROUNDING).astype(int)
    counts = np.maximum(last - first, 0)
    rows = np.repeat(np.arange(m), counts)
    columns = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    lengths = np.minimum(high[rows], columns + 1) - np.maximum(low[rows], columns)
    return csr_matrix((lengths, (rows, columns)), shape=(m, n))
