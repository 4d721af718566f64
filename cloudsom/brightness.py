"""How bright a spectrum is: in the visible bands, in the short-wave infrared, under cirrus."""

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS

VISIBLE = [BANDS.index(band) for band in ("B2", "B3", "B4")]
SHORT_WAVE = [BANDS.index(band) for band in ("B11", "B12")]
CIRRUS = BANDS.index("B10")


def brightness(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean reflectance of B2, B3 and B4 of spectra (..., 13)."""
    return np.asarray(spectra[..., VISIBLE].mean(axis=-1))


def is_bright(spectra: NDArray[np.float64], least_brightness: float, most_cirrus: float) -> NDArray[np.bool_]:
    """Which spectra (n, 13) are bright in the visible bands and not under cirrus."""
    return (brightness(spectra) >= least_brightness) & (spectra[:, CIRRUS] <= most_cirrus)


def is_dry(spectra: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which spectra (n, 13) of land are at least as bright in the short-wave infrared (B11, B12) as in the visible.

    Dry ground is; haze and the edges of clouds, which labels of land may hold too, are not.
    """
    return np.asarray(spectra[:, SHORT_WAVE].mean(axis=1) >= brightness(spectra))
