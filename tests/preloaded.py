"""What scripts import and compile, done once, in the process that `scripts` forks; nothing here is a test's own."""

import defusedxml.ElementTree  # noqa: F401
import h5py  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import minisom  # noqa: F401
import numpy as np
import pandas  # noqa: F401
import requests  # noqa: F401
import sklearn.preprocessing  # noqa: F401
from osgeo import gdal_array  # noqa: F401

import cloudsom.downloads.spectra
import cloudsom.images.safe_to_tiff
import cloudsom.scoring.comparison
import cloudsom.tuning.final_masks
import cloudsom.tuning.suggestions  # noqa: F401
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.training import TrainingLaw, train_som
from cloudsom.tables import decimals

_spectra = np.random.default_rng(0).random((600, 13))
train_som(_spectra, TrainingLaw(2, 2, 10, radius_start=1))
BMUSearch(_spectra[:4])(_spectra, second=True, distance=True, threads=1)
BMUSearch(_spectra[:4])(_spectra, threads=1)
decimals.parse_table(bytes(decimals.fixed_text(_spectra)[0]), 13, np.float64)
decimals.parse_table(bytes(decimals.shortest_text(_spectra, np.full(600, 10))), 14, np.float32)
decimals.integer_text(np.zeros((2, 2), np.int32))
