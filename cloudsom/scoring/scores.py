"""Scores of a mask against a reference: counts, and the measures made of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLOUD, MASK_NODATA
from cloudsom.images.references import REFERENCE_CODES
from cloudsom.images.stripes import stripes

#: The measures in the order of metrics.csv.
MEASURES = ("accuracy", "precision", "recall", "f_score", "balanced_accuracy", "iou")

#: What is counted: pixels that reference and mask call cloud, the reference alone, the mask alone, none of both.
COUNTS = ("TP", "FN", "FP", "TN")


def count(
    mask: NDArray[np.uint8], reference: NDArray[np.integer], cloud_codes: tuple[int, ...], left_out: tuple[int, ...]
) -> NDArray[np.int64]:
    """`COUNTS` of a mask (255, 0, nodata) against a reference class map of the same shape, and pixels not scored: (5,).

    cloud_codes  reference codes that are cloud; every other one is clear
    left_out     reference codes that are not scored; pixels without data in the mask are not scored either
    """
    counts = np.zeros(len(COUNTS) + 1, np.int64)
    for rows in stripes(len(mask)):
        scored = ~np.isin(reference[rows], left_out) & (mask[rows] != MASK_NODATA)
        truth = np.isin(reference[rows], cloud_codes)
        counts += [*tally(mask[rows] == CLOUD, truth, scored), int((~scored).sum())]
    return counts


def tally(cloud: NDArray[np.bool_], truth: NDArray[np.bool_], scored: NDArray[np.bool_]) -> list[int]:
    """`COUNTS` of the pixels that are scored, from what the mask calls cloud and what the reference does."""
    pairs = (cloud & truth, ~cloud & truth, cloud & ~truth, ~cloud & ~truth)
    return [int((pair & scored).sum()) for pair in pairs]


def measures(counts: NDArray[Any]) -> dict[str, float]:
    """The usual measures of what `count` found, by the names of `MEASURES`; NaN where a measure is not defined.

    precision is the user's accuracy of the class cloud, TP / (TP + FP); recall its producer's accuracy, TP / (TP + FN).
    A scene without cloud in the reference says nothing of how well clouds are found: all measures of the class cloud
    are undefined there, its false alarms show in the accuracy. Precision is undefined without cloud in the mask,
    balanced accuracy without clear pixels in the reference.
    """
    return dict(zip(MEASURES, measure_arrays(counts[: len(COUNTS)]).tolist(), strict=True))


def measure_arrays(counts: NDArray[Any]) -> NDArray[np.float64]:
    """`measures` of many counts at once: (..., 4) of `COUNTS` -> (..., 6) in the order of `MEASURES`."""
    tp, fn, fp, tn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    recall = ratio(tp, tp + fn)
    of_cloud = [
        ratio(tp, tp + fp),
        recall,
        ratio(2 * tp, 2 * tp + fp + fn),
        (recall + ratio(tn, tn + fp)) / 2,
        ratio(tp, tp + fp + fn),
    ]
    of_cloud = [np.where(tp + fn > 0, values, np.nan) for values in of_cloud]
    return np.stack([ratio(tp + tn, tp + fn + fp + tn), *of_cloud], axis=-1)


def surfaces(
    mask: NDArray[np.uint8], reference: NDArray[np.integer], bright: NDArray[np.bool_] | None
) -> dict[str, tuple[int, int]]:
    """Pixels with data of each surface the reference tells apart, and how many of them the mask calls cloud.

    bright  pixels that are bright in the visible bands, same shape; with it the land (code 5) that is bright is a
            surface of its own, as well as part of the land. On clear surfaces the second number is false alarms, on
            low and high clouds it is what was found. Surfaces without a pixel are left out.
    """
    totals: dict[str, tuple[int, int]] = {}
    for rows in stripes(len(mask)):
        valid, cloud = mask[rows] != MASK_NODATA, mask[rows] == CLOUD
        where = {name: reference[rows] == code for code, name in REFERENCE_CODES.items() if code not in (0, 1)}
        if bright is not None:
            where["bright land"] = where["land"] & bright[rows]
        for name, here in where.items():
            pixels, called = totals.get(name, (0, 0))
            totals[name] = pixels + int((here & valid).sum()), called + int((here & cloud).sum())
    return {name: pair for name, pair in totals.items() if pair[0]}


def ratio(part: Any, whole: Any) -> NDArray[np.float64]:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
