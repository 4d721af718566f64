"""Right and wrong in a mask, in the paper's colours."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cloudsom.bands import CLOUD, MASK_NODATA

NOT_SCORED, TP, TN, FN, FP = 0, 1, 2, 3, 4

#: Name, meaning and the paper's colour of each code.
OUTCOMES = {
    TP: ("TP", "cloud found", (0, 102, 102)),
    TN: ("TN", "clear confirmed", (0, 102, 204)),
    FN: ("FN", "cloud missed", (255, 102, 102)),
    FP: ("FP", "false alarm", (153, 0, 0)),
}

#: Each of them in words, for legends.
MEANINGS = [f"{name}: {meaning}" for name, meaning, _ in OUTCOMES.values()]


def outcomes_of(
    mask: NDArray[np.uint8], reference: NDArray[np.integer], cloud_codes: Sequence[int], left_out: Sequence[int]
) -> NDArray[np.uint8]:
    """TP, TN, FN and FP of each pixel; NOT_SCORED where the mask has no data or the reference code is left out.

    mask (height, width) of 255, 0 and nodata; reference (height, width) class codes.
    """
    by_truth_and_mask = np.array([TN, FP, FN, TP], np.uint8)
    truth = np.isin(reference, cloud_codes)
    codes = by_truth_and_mask[2 * truth + (mask == CLOUD)]
    codes[np.isin(reference, left_out) | (mask == MASK_NODATA)] = NOT_SCORED
    return codes


def patches(labels: list[str]) -> list[Patch]:
    """One coloured patch an outcome."""
    colours = [f"#{bytes(colour).hex()}" for _, _, colour in OUTCOMES.values()]
    return [Patch(facecolor=colour, label=label) for colour, label in zip(colours, labels, strict=True)]


def picture(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes (height, width) as colours (height, width, 4); what is not scored is transparent."""
    table = np.zeros((5, 4), np.uint8)
    for code, (_, _, colour) in OUTCOMES.items():
        table[code] = (*colour, 255)
    return table[codes]
