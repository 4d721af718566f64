"""Committees: votes, probability, mask and classes of several maps, by hand; and the same from files and arrays."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloudsom import cloud_mask
from cloudsom.bands import BANDS, CLEAR, CLOUD, MASK_NODATA
from cloudsom.brightness import wrong_units
from cloudsom.errors import UserError
from cloudsom.som import labelled_map
from cloudsom.som.committee import PROBABILITY_NODATA, vote
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import NeuronLabels


def map_of(edge: float, cloud_class: int = 50) -> LabelledMap:
    """A map of two neurons: spectra nearer to 0 than to 2 * edge are land, the others cloud. It scales by two."""
    weights = np.stack([np.zeros(13), np.full(13, 4 * edge)])[None]
    classes, cloud = np.array([10, cloud_class], np.uint8), np.array([CLEAR, CLOUD], np.uint8)
    return LabelledMap(weights, np.full(13, 2.0), np.zeros(13), NeuronLabels(1, 2, classes, cloud, np.ones(2)))


MAPS = [map_of(0.2), map_of(0.4, 40), map_of(0.6)]
SPECTRA = np.repeat([[0.1], [0.3], [0.5], [0.7], [np.nan]], 13, axis=1)


def test_votes_by_hand() -> None:
    votes = vote(MAPS, SPECTRA.copy(), classes=True)
    assert votes.cloud.tolist() == [0, 1, 2, 3, -1] and votes.voters == 3
    assert votes.per_cent().tolist() == [0, 33, 67, 100, PROBABILITY_NODATA]
    assert votes.mask(0.5).tolist() == [CLEAR, CLEAR, CLOUD, CLOUD, MASK_NODATA]
    assert votes.mask(1 / 3).tolist() == [CLEAR, CLOUD, CLOUD, CLOUD, MASK_NODATA]
    assert votes.mask(1).tolist() == [CLEAR, CLEAR, CLEAR, CLOUD, MASK_NODATA]
    # land twice; a tie of land, cirrus and opaque cloud, of which land comes first; opaque twice
    assert votes.classes is not None and votes.classes.tolist() == [10, 10, 10, 50, 0]


def test_one_map_says_what_it_says_alone() -> None:
    votes = vote(MAPS[:1], SPECTRA.copy())
    assert votes.mask(0.5).tolist() == [CLEAR, CLOUD, CLOUD, CLOUD, MASK_NODATA] and votes.classes is None


def test_maps_with_scalers_of_their_own_are_scaled_by_them() -> None:
    other = replace(MAPS[0], scale=np.full(13, 4.0))  # its edge is at 0.1 by reflectance
    found = vote([MAPS[0], other], np.full((1, 13), 0.15))
    assert found.cloud.tolist() == [1]


def test_several_maps_in_one_file(tmp_path: Path) -> None:
    one, all_maps = tmp_path / "one.npz", tmp_path / "all.npz"
    for i, som in enumerate(MAPS):
        labelled_map.save(tmp_path / f"{i}.npz", som)
    labelled_map.save(one, MAPS[0])
    labelled_map.pack(all_maps, *(tmp_path / f"{i}.npz" for i in range(3)))
    back = labelled_map.load_all(all_maps)
    assert [som.labels.classes.tolist() for som in back] == [[10, 50], [10, 40], [10, 50]]
    assert np.array_equal(np.stack([som.weights for som in back]), np.stack([som.weights for som in MAPS]))
    assert len(labelled_map.load_all(one)) == 1
    with pytest.raises(UserError, match="holds 3 maps"):
        labelled_map.load(all_maps)


@pytest.mark.parametrize(("name", "value"), [("scale", 0.0), ("scale", -1.0), ("shift", 1e308), ("weights", 1e308)])
def test_a_map_that_makes_no_sense_is_refused(tmp_path: Path, name: str, value: float) -> None:
    bad = deepcopy(MAPS[0])
    getattr(bad, name).flat[3] = value
    labelled_map.save(tmp_path / "bad.npz", bad)
    with pytest.raises(UserError, match=r"bad\.npz: not a labelled map"):
        labelled_map.load_all(tmp_path / "bad.npz")


@pytest.fixture
def committee_npz(tmp_path: Path) -> Path:
    labelled_map.save(tmp_path / "all.npz", *MAPS)
    return tmp_path / "all.npz"


def test_an_array_becomes_a_mask(committee_npz: Path) -> None:
    scene = SPECTRA.reshape(1, 5, 13)
    cloud, probability = cloud_mask(scene, least_probability=0.5, model_npz=committee_npz)
    assert cloud.tolist() == [[False, False, True, True, False]]
    np.testing.assert_allclose(probability, [[0, 1 / 3, 2 / 3, 1, np.nan]], rtol=1e-6)
    dn = np.nan_to_num(np.rint(scene * 10000 + 1000), nan=0).astype(np.uint16)
    rules = {"least_probability": 0.5, "model_npz": committee_npz}
    again, _ = cloud_mask(dn, offset=-1000, quantification=10000, **rules)
    assert np.array_equal(again, cloud)
    with pytest.raises(ValueError, match="look like digital numbers"):
        cloud_mask(dn, model_npz=committee_npz)
    with pytest.raises(ValueError, match=r"\(rows, columns, 13\) is needed"):
        cloud_mask(scene[..., :12], model_npz=committee_npz)


def test_a_dataarray_keeps_its_coordinates_and_its_bands_are_put_in_order(committee_npz: Path) -> None:
    xarray = pytest.importorskip("xarray")
    names = ["B8A" if band == "B8a" else band for band in BANDS]
    scene = np.random.default_rng(0).random((4, 5, 13))
    array = xarray.DataArray(scene, {"y": np.arange(4) * 60, "x": np.arange(5), "band": names}, ("y", "x", "band"))
    expected = cloud_mask(scene, model_npz=committee_npz)
    shuffled = array.isel(band=slice(None, None, -1)).transpose("band", "y", "x")
    for given in (shuffled, shuffled.chunk({"y": 2, "band": 3})):
        cloud, probability = cloud_mask(given, model_npz=committee_npz)
        assert (cloud.chunks is not None) == (given.chunks is not None)  # lazy where the input is
        assert np.array_equal(cloud.values, expected[0]) and np.array_equal(probability.values, expected[1])
        assert cloud.dims == ("y", "x") and cloud["y"].values.tolist() == [0, 60, 120, 180]
    with pytest.raises(ValueError, match="needed are B1"):
        cloud_mask(array.assign_coords(band=["B99", *names[1:]]), model_npz=committee_npz)


@pytest.mark.parametrize(
    ("factor", "words"), [(1, ""), (100, "look like per cent"), (10000, "look like digital numbers")]
)
def test_units(factor: float, words: str) -> None:
    spectra = np.random.default_rng(0).uniform(0.01, 0.6, (50, 13))
    spectra[7] = np.nan
    assert words in wrong_units(spectra * factor) and bool(words) == bool(wrong_units(spectra * factor))
    spectra[3, 3] = -9999
    assert "code for no data" in wrong_units(spectra)
    assert not wrong_units(np.full((3, 13), np.nan)) and not wrong_units(np.empty((0, 13)))
    bright = np.full((9, 13), 0.1)
    bright[:3] = 6.5  # saturated clouds
    assert not wrong_units(bright)
