"""From a band's native pixels to the target grid: exact block means, and good estimates at a quarter of the cost.

Decoding is what a JPEG 2000 product costs, and a file decoded at half its resolution costs less than a third. What
comes out then is no block mean: the 5/3 wavelet's low-pass samples sit at every second native pixel. Undoing the
wavelet with its missing details set to zero is linear interpolation between those samples, so the mean over a block of
that line is the block mean of the picture less its finest details. It is exact for any linear ramp, hence free of
shift, and most of the details cancel inside a block; what remains grows with texture and with the ratio of detail to
block size: 3 to 15 DN rms for 10 m bands, 13 to 53 DN for 20 m ones (real scenes, at 60 m).

The 20 m bands' remainder is then taken from the 10 m bands, whose own details of that size were decoded: the same
operators tell what a 10 m band would have lost, and the gains that carry its details over to a 20 m band are fitted one
octave coarser, where both are known. That leaves 7 to 18 DN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float = NDArray[np.float32]

#: Low-pass samples are rounded down twice an axis, a quarter DN on average: their mean is this much too high. DN.
ROUNDING_BIAS = 0.5

#: Fewest blocks the gains are fitted on; below, none are used.
MIN_FIT_BLOCKS = 200


# --- from all native pixels -------------------------------------------------------------------------------------------


def block_mean(dn: NDArray[np.uint16], factor: int, nodata: int, saturated: int) -> NDArray[np.uint16]:
    """Mean over blocks of factor x factor pixels, (h * factor, w * factor) -> (h, w), rounded half up.

    Nodata and saturated pixels are codes, not measurements, and are left out. A block with nothing else is saturated
    if any of its pixels is, and nodata otherwise. A block with data never comes out as nodata: 0 becomes 1.
    """
    if factor == 1:
        return dn
    missing = dn == nodata
    flagged = missing | (dn == saturated)
    if not flagged.any():
        total = _block_sum(dn, factor)
        count: NDArray[np.uint32] | int = factor * factor
        mean = (2 * total + count) // (2 * count)
        return np.maximum(mean, 1 if nodata == 0 else 0).astype(np.uint16)
    count = factor * factor - _block_sum(flagged, factor)
    total = _block_sum(np.where(flagged, 0, dn), factor)
    mean = np.maximum((2 * total + count) // np.maximum(2 * count, 1), 1 if nodata == 0 else 0)
    empty = np.where(_block_sum(missing, factor) == factor * factor, nodata, saturated)
    return np.where(count > 0, mean, empty).astype(np.uint16)


def _block_sum(values: NDArray[np.uint16] | NDArray[np.bool_], factor: int) -> NDArray[np.uint32]:
    """Sums over blocks as uint32: rows first, as whole rows add fastest."""
    rows = values[0::factor].astype(np.uint32)
    for i in range(1, factor):
        rows += values[i::factor]
    total = rows[:, 0::factor].copy()
    for i in range(1, factor):
        total += rows[:, i::factor]
    return total


def replicate(dn: NDArray[np.uint16], times: int) -> NDArray[np.uint16]:
    """Each pixel as a block of times x times: a coarser band on a finer grid, nothing invented."""
    return dn.repeat(times, axis=0).repeat(times, axis=1)


# --- from low-pass samples --------------------------------------------------------------------------------------------
# One-dimensional operators as sparse matrices (out x in); `both_ways` applies one along both axes of an image.


def line_mean(blocks: int, factor: int, step: int) -> sparse.csr_matrix:
    """Mean over blocks of `factor` native pixels of the line through samples at every `step`-th native pixel.

    (blocks, ceil(blocks * factor / step)) matrix; behind the last sample the line stays level, as the wavelet's
    symmetric border has it. For `step` 1 it is the plain block mean.
    """
    samples = -(-blocks * factor // step)
    pixel = np.arange(blocks * factor)
    left, share = pixel // step, (pixel % step) / step
    right = np.minimum(left + 1, samples - 1)
    block = pixel // factor
    weights = np.concatenate([(1 - share) / factor, share / factor])
    places = (np.concatenate([block, block]), np.concatenate([left, right]))
    return sparse.csr_matrix((weights.astype(np.float32), places), shape=(blocks, samples))


def low_pass(size: int) -> sparse.csr_matrix:
    """The 5/3 wavelet's analysis low-pass, (-1 2 6 2 -1) / 8 at every second pixel, symmetric at the borders."""
    centre = np.arange(0, size, 2)
    taps = np.array([-1, 2, 6, 2, -1], np.float32) / 8
    columns = np.abs(centre[:, None] + np.arange(-2, 3))
    columns = np.where(columns >= size, np.maximum(2 * (size - 1) - columns, 0), columns)
    rows = np.repeat(np.arange(len(centre)), 5)
    return sparse.csr_matrix((np.tile(taps, len(centre)), (rows, columns.ravel())), shape=(len(centre), size))


def both_ways(down: sparse.csr_matrix, across: sparse.csr_matrix, image: NDArray[np.generic]) -> Float:
    """`down @ image @ across.T` in float32, a few columns in float32 at a time."""
    turned = np.empty((image.shape[1], down.shape[0]), np.float32)
    for column in range(0, image.shape[1], 512):
        turned[column : column + 512] = (down @ image[:, column : column + 512].astype(np.float32)).T
    return np.ascontiguousarray((across @ turned).T)


@dataclass(frozen=True)
class Estimate:
    """A band's block means estimated from its low-pass samples, and its details for carrying over.

    `mean` (h, w); `details` (h, w) are what a band of twice the pixel size would have lost (None for 20 m bands);
    `coarse` (h // 2, w // 2 or so) are the details one octave coarser, known for all bands.
    """

    mean: Float
    details: Float | None
    coarse: Float


def estimate_from_10m(samples: NDArray[np.uint16], height: int, width: int) -> Estimate:
    """Block means of 6 x 6 pixels of 10 m from low-pass samples at every second pixel, (3 h, 3 w)."""
    mean = both_ways(line_mean(height, 6, 2), line_mean(width, 6, 2), samples)
    to_20m = [low_pass(3 * n) @ line_mean(3 * n, 2, 2) for n in (height, width)]
    as_20m_band = both_ways(to_20m[0], to_20m[1], samples)  # its low-pass samples, had it been a 20 m band
    details = mean - _mean_of_20m(as_20m_band, height, width)
    return Estimate(mean - np.float32(ROUNDING_BIAS), details, _coarse_details(as_20m_band))


def estimate_from_20m(samples: NDArray[np.uint16], height: int, width: int) -> Estimate:
    """Block means of 3 x 3 pixels of 20 m from low-pass samples at every second pixel, (ceil(1.5 h), ceil(1.5 w))."""
    mean = _mean_of_20m(samples, height, width)
    return Estimate(mean - np.float32(ROUNDING_BIAS), None, _coarse_details(samples))


def _mean_of_20m(samples: NDArray[np.generic], height: int, width: int) -> Float:
    return both_ways(line_mean(height, 3, 2), line_mean(width, 3, 2), samples)


def _coarse_details(samples: NDArray[np.generic]) -> Float:
    """What `_mean_of_20m` would lose one octave coarser: with the samples as pixels, in blocks of 3 x 3 of them."""
    height, width = (n // 3 for n in samples.shape)
    pixels = samples[: 3 * height, : 3 * width]
    known = both_ways(line_mean(height, 3, 1), line_mean(width, 3, 1), pixels)
    lost = both_ways(low_pass(3 * height), low_pass(3 * width), pixels)
    return known - _mean_of_20m(lost, height, width)


def carry_details(coarse: Estimate, fine: Sequence[Estimate], clean: NDArray[np.bool_]) -> Float:
    """The mean of a 20 m band with the 10 m bands' details added, each with its gain; (h, w).

    `clean` (h, w) are blocks far enough from missing pixels for their details to be true; the gains are fitted there.
    """
    gains = detail_gains(coarse.coarse, [band.coarse for band in fine], clean)
    mean = coarse.mean.copy()
    for gain, band in zip(gains, fine, strict=True):
        assert band.details is not None
        mean += np.float32(gain) * band.details
    return mean


def detail_gains(target: Float, sources: Sequence[Float], clean: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least-squares gains of `sources` on `target`, over the coarse blocks that lie on clean ones.

    Sums, not a matrix product: BLAS may add up in another order on another number of threads.
    """
    height, width = target.shape
    both_rows = clean[0 : 2 * height : 2][:height] & clean[1 : 2 * height : 2][:height]
    usable = both_rows[:, 0 : 2 * width : 2][:, :width] & both_rows[:, 1 : 2 * width : 2][:, :width]
    if not sources or usable.sum() < MIN_FIT_BLOCKS:
        return np.zeros(len(sources))
    picked = [source[usable].astype(np.float64) for source in sources]
    wanted = target[usable].astype(np.float64)
    normal = np.array([[(a * b).sum() for b in picked] for a in picked])
    right = np.array([(a * wanted).sum() for a in picked])
    return np.asarray(np.linalg.lstsq(normal, right, rcond=1e-6)[0])
