"""Cloud masks of arrays, for people who hold reflectances and no files: no GDAL needed."""

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLOUD, N_BANDS
from cloudsom.brightness import wrong_units
from cloudsom.som import labelled_map
from cloudsom.som.committee import vote
from cloudsom.som.labelled_map import LabelledMap

#: Spectra that vote at a time: 52 MB of float64, and as much for the scaled ones.
AT_ONCE = 500_000


def cloud_mask(
    reflectance: Any,
    *,
    offset: float = 0.0,
    quantification: float = 1.0,
    least_probability: float = 0.25,
    model_npz: str | Path | None = None,
) -> tuple[Any, Any]:
    """Cloud and cloud probability of Sentinel-2 L1C pixels, by the vote of the ready-made maps; no filters.

    reflectance        (..., 13), as (rows, columns, 13): top-of-atmosphere reflectance as fractions in the order B1 B2
                       B3 B4 B5 B6 B7 B8 B8a B9 B10 B11 B12; NaN is no data. Or a DataArray of xarray with a dimension
                       "band" of such names (B01 or B1) in any order, which comes back as two DataArrays; a dask array
                       in it is worked on block by block, when it is computed
    offset, quantification  of digital numbers: reflectance = (DN + offset) / quantification, where DN 0 is no data;
                       -1000 and 10000 from processing baseline 04.00 on, 0 and 10000 before
    least_probability  share of the maps (0..1) that must say cloud, as in mask_products.py
    model_npz          labelled maps to take instead of the ready-made ones

    Returns `cloud` (...) bool, False without data, and `probability` (...) float32, NaN without data. Raises ValueError
    for arrays of another shape, unknown band names, and values that are no reflectance.
    """
    rules = (offset, quantification, least_probability, model_npz)
    xarray = sys.modules.get("xarray")
    if xarray is None or not isinstance(reflectance, xarray.DataArray):
        return _of_array(np.asarray(reflectance), *rules)
    cloud, probability = xarray.apply_ufunc(
        lambda block: _of_array(block, *rules),
        _in_order(reflectance),
        input_core_dims=[["band"]],
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[bool, np.float32],
    )
    return cloud, probability


def _of_array(
    values: NDArray[Any], offset: float, quantification: float, least_probability: float, model_npz: str | Path | None
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    if values.ndim < 1 or values.shape[-1] != N_BANDS:
        raise ValueError(f"an array of shape {values.shape}; (rows, columns, {N_BANDS}) is needed, bands last")
    if not 0 < least_probability <= 1 or quantification <= 0:
        raise ValueError("least_probability is above 0 and at most 1, quantification above 0")
    flat, maps = values.reshape(-1, N_BANDS), _maps(model_npz)
    cloud, probability = np.zeros(len(flat), bool), np.full(len(flat), np.nan, np.float32)
    is_dn = (offset, quantification) != (0.0, 1.0)
    for start in range(0, len(flat), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        spectra = flat[part].astype(np.float64)
        if is_dn:
            spectra = np.where(spectra == 0, np.nan, (spectra + offset) / quantification)
        if wrong := wrong_units(spectra):
            raise ValueError(f"the array {wrong}; of digital numbers give offset and quantification")
        votes = vote(maps, spectra)
        probability[part] = np.where(votes.cloud >= 0, votes.cloud / votes.voters, np.nan)
        cloud[part] = votes.mask(least_probability) == CLOUD
    return cloud.reshape(values.shape[:-1]), probability.reshape(values.shape[:-1])


@lru_cache(maxsize=2)
def _maps(model_npz: str | Path | None) -> list[LabelledMap]:
    """The maps of a file, or the ready-made ones, read once."""
    files = labelled_map.READY_MADE if model_npz is None else (Path(model_npz),)
    return labelled_map.load_all(*files)


def _in_order(array: Any) -> Any:
    """A DataArray with its bands in our order, by their names, as one block along the bands."""
    if "band" not in array.dims or "band" not in array.coords:
        raise ValueError(f"a DataArray with the dimensions {array.dims}; one called band, with names, is needed")
    positions = {str(name).upper().replace("B0", "B"): i for i, name in enumerate(array["band"].values.tolist())}
    missing = [band for band in BANDS if band.upper() not in positions]
    if missing or array.sizes["band"] != N_BANDS:
        names = ", ".join(map(str, array["band"].values.tolist()))
        raise ValueError(f"the bands are {names}; needed are {', '.join(BANDS)}, each once")
    ordered = array.isel(band=[positions[band.upper()] for band in BANDS])
    return ordered.chunk(band=-1) if ordered.chunks else ordered
