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


#: Reflectance that the brightest bands of half a scene's pixels do not come to, and the least that an offset leaves.
MOST_REFLECTANCE, LEAST_REFLECTANCE = 3.0, -0.2


def wrong_units(spectra: NDArray[np.floating]) -> str:
    """What spectra (n, 13) look like that are no reflectance (fractions; NaN where there is no data); else nothing.

    Single bright pixels are none: saturated ones come to 6.5.
    """
    if not spectra.size:
        return ""
    with np.errstate(invalid="ignore"):
        brightest = np.fmax.reduce(spectra[:: max(1, len(spectra) // 50_000)], axis=1)
    middle = float(np.median(brightest[np.isfinite(brightest)])) if np.isfinite(brightest).any() else 0.0
    least = float(np.fmin.reduce(spectra, axis=None))
    if middle > MOST_REFLECTANCE:
        kind = "digital numbers" if middle > 100 * MOST_REFLECTANCE else "per cent"
        return f"holds values about {middle:.4g}, which look like {kind}; reflectance is a fraction, mostly below 1"
    if least < LEAST_REFLECTANCE:
        return f"holds {least:.6g}, which looks like a code for no data; pixels without data are empty cells or NaN"
    return ""
