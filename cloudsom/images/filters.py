"""The filters that make the final mask: median, then dilation (paper, section 2.2, stage 3).

Pixels without data stay as they are: they neither grow nor shrink, and they have no say in what becomes of others. The
edge of the image is treated the same way: beyond it there is no data.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.images.stripes import stripes

Mask = NDArray[np.uint8]


def check_window(median_size: int) -> None:
    """UserError for a MEDIAN_SIZE without a middle pixel."""
    if median_size and median_size % 2 == 0:
        raise UserError(f"MEDIAN_SIZE: {median_size} is even; a window needs a middle pixel: give an odd number, or 0")


def final_mask(mask: Mask, median_size: int, dilation_radius: int, dilation_shape: str) -> Mask:
    """Median filter, then dilation, of a mask (height, width) of CLOUD, CLEAR and MASK_NODATA; 0 leaves one out."""
    return dilate(median(mask, median_size), dilation_radius, dilation_shape)


def median(mask: Mask, size: int) -> Mask:
    """The median of the pixels with data in the `size` x `size` window (pixels, odd) around each pixel with data.

    Of two values the median is the majority; where cloud and clear are equally many, the pixel keeps its value.
    """
    if size <= 1:
        return mask.copy()
    line = np.ones(size, np.int32)

    def count(layer: NDArray[np.bool_]) -> NDArray[np.int32]:
        columns = ndimage.convolve1d(layer.astype(np.int32), line, axis=0, mode="constant")
        sums: NDArray[np.int32] = ndimage.convolve1d(columns, line, axis=1, mode="constant")
        return sums

    def majority(stripe: Mask) -> Mask:
        twice, valid = 2 * count(stripe == CLOUD), count(stripe != MASK_NODATA)
        out = np.where(twice > valid, np.uint8(CLOUD), np.where(twice < valid, np.uint8(CLEAR), stripe))
        out[stripe == MASK_NODATA] = MASK_NODATA
        return out

    return _by_stripes(mask, size // 2, majority)


def dilate(mask: Mask, radius: int, shape: str) -> Mask:
    """Cloud grown by `radius` pixels with a "disk" or a "square"; only pixels with data become cloud."""
    if radius < 1:
        return mask.copy()
    offsets = np.arange(-radius, radius + 1)
    inside = offsets[:, None] ** 2 + offsets**2 <= radius**2
    structure = inside if shape == "disk" else np.ones_like(inside)

    def grow(stripe: Mask) -> Mask:
        grown = ndimage.binary_dilation(stripe == CLOUD, structure)
        return np.where(grown & (stripe != MASK_NODATA), np.uint8(CLOUD), stripe)

    return _by_stripes(mask, radius, grow)


def _by_stripes(mask: Mask, reach: int, work: Callable[[Mask], Mask]) -> Mask:
    """`work` on stripes of the mask with `reach` rows more on both sides: memory does not grow with the mask."""
    out = np.empty_like(mask)
    for rows in stripes(len(mask)):
        above = max(rows.start - reach, 0)
        out[rows] = work(mask[above : rows.stop + reach])[rows.start - above : rows.stop - above]
    return out
