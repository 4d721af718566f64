"""The classes in figures and pages: their looks, and the mean spectra of the training table."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import N_BANDS, NO_CLASS
from cloudsom.progress import progress
from cloudsom.som.labels import CLASS_CODES

#: Colour, marker and line of each class: ours, told apart by any eye (after Okabe and Ito, the blue darker).
LOOKS = {
    10: ("#009E73", "o", "-"),
    20: ("#1F3A93", "s", "--"),
    30: ("#000000", "v", ":"),
    40: ("#E69F00", "D", "-"),
    50: ("#D55E00", "^", "-"),
    60: ("#56B4E9", "P", "-."),
    NO_CLASS: ("#777777", "x", ":"),
}


@dataclass(frozen=True)
class ClassSpectra:
    """Number of spectra (6,), mean and standard deviation (6, 13) of each class, in the order of `CLASS_CODES`."""

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def class_spectra(blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.integer]]]) -> ClassSpectra:
    """Mean and standard deviation of each class from blocks of spectra (n, 13) and labels (n,).

    A class without spectra has NaN. Sums are kept in float64: reflectances are near 1, so nothing is lost in squares.
    """
    n, total, squares = np.zeros(6, np.int64), np.zeros((6, N_BANDS)), np.zeros((6, N_BANDS))
    with progress(None, "averaging spectra") as bar:
        for spectra, labels in blocks:
            for i, code in enumerate(CLASS_CODES):
                chosen = spectra[labels == code].astype(np.float64)
                n[i] += len(chosen)
                total[i] += chosen.sum(axis=0)
                squares[i] += (chosen**2).sum(axis=0)
            bar.update(len(labels))
    count = np.where(n == 0, np.nan, n)[:, None]
    mean = total / count
    return ClassSpectra(n, mean, np.sqrt(np.maximum(squares / count - mean**2, 0)))
