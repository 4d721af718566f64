"""Block means by hand; the wavelet's operators against the real codec; estimates against the means they stand for."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from osgeo import gdal
from safe_maker import PIXEL_M, textured_bands, write_jp2

from cloudsom.images.resampling import (
    BandEstimate,
    block_mean,
    both_ways,
    carry_details,
    detail_gains,
    estimate,
    estimate_guide,
    line_mean,
    low_pass,
    replicate,
)

U16 = NDArray[np.uint16]


def mean(rows: list[list[int]], factor: int = 2) -> list[list[int]]:
    return block_mean(np.array(rows, np.uint16), factor, 0, 65535).tolist()


def test_block_mean_by_hand() -> None:
    assert mean([[1, 2, 10, 10], [3, 4, 10, 11]]) == [[3, 10]]  # 2.5 goes up, 10.25 down
    assert mean([[7, 8, 9], [7, 8, 9], [7, 8, 9]], 3) == [[8]]
    assert mean([[65534, 65534], [65534, 65534]]) == [[65534]]  # no overflow
    assert mean([[5, 6]], 1) == [[5, 6]]


def test_nodata_is_kept_out_of_the_mean() -> None:
    assert mean([[0, 0, 0, 0], [10, 20, 0, 0]]) == [[15, 0]]
    assert mean([[0, 0], [0, 1]]) == [[1]]


def test_saturated_pixels_are_kept_out_and_a_block_of_them_stays_saturated() -> None:
    assert mean([[65535, 100, 65535, 65535], [200, 300, 65535, 65535]]) == [[200, 65535]]
    assert mean([[65535, 0], [0, 0]]) == [[65535]]


@given(st.integers(0, 10_000), st.sampled_from([2, 3, 6]), st.floats(0, 1))
def test_block_mean_equals_the_mean_of_the_valid_pixels(seed: int, factor: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    dn = rng.integers(1, 65535, (2 * factor, 3 * factor)).astype(np.uint16)
    dn[rng.random(dn.shape) < gaps] = 0
    blocks = dn.reshape(2, factor, 3, factor).swapaxes(1, 2).reshape(6, -1)
    expected = [int(np.floor(b[b > 0].mean() + 0.5)) if b.any() else 0 for b in blocks]
    assert block_mean(dn, factor, 0, 65535).ravel().tolist() == expected


def test_replicate_repeats_each_pixel() -> None:
    assert replicate(np.array([[1, 2]], np.uint16), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


# --- operators --------------------------------------------------------------------------------------------------------


def test_line_mean_by_hand() -> None:
    # six pixels from samples at every second: s0, (s0+s1)/2, s1, (s1+s2)/2, s2, (s2+s3)/2
    row = line_mean(2, 6, 2).toarray()[0]
    assert row == pytest.approx([1.5 / 6, 2 / 6, 2 / 6, 0.5 / 6, 0, 0])
    assert line_mean(1, 2, 1).toarray().tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(("factor", "step"), [(6, 2), (6, 4), (3, 2), (2, 2), (3, 1)])
def test_line_mean_is_exact_for_a_ramp_so_nothing_is_shifted(factor: int, step: int) -> None:
    pixels = np.arange(20 * factor, dtype=float)
    found = line_mean(20, factor, step) @ pixels[::step]
    assert found[:-1] == pytest.approx(pixels.reshape(20, factor).mean(axis=1)[:-1], abs=1e-4)


def test_low_pass_by_hand() -> None:
    impulse = np.array([0, 0, 8, 0, 0, 0, 0])
    assert (low_pass(7) @ impulse).tolist() == [-2, 6, -1, 0]  # the border mirrors: -1 twice on the left
    assert low_pass(8) @ np.full(8, 5.0) == pytest.approx(np.full(4, 5))
    assert low_pass(1).toarray().tolist() == [[1]]


def decoded(place: Path, dn: U16, pixel: int, octaves: int) -> U16:
    """The samples a JPEG 2000 decoder gives at a reduced resolution."""
    write_jp2(place, dn, pixel)
    dataset = gdal.Open(str(place))
    samples: U16 = dataset.GetRasterBand(1).GetOverview(octaves - 1).ReadAsArray()
    return samples


def test_low_pass_is_what_the_codec_computes(tmp_path: Path) -> None:
    dn = textured_bands(80)["B02"] + np.uint16(3000)  # away from zero, where the codec clips
    samples = decoded(tmp_path / "a.jp2", dn, 10, 1)
    ours = both_ways(low_pass(480), low_pass(480), dn)
    assert np.abs(samples - ours).max() < 2  # the codec rounds four times on the way
    assert (samples - ours).mean() == pytest.approx(0.5, abs=0.05)  # ROUNDING_BIAS


# --- estimates --------------------------------------------------------------------------------------------------------


def means(dn: U16, factor: int) -> NDArray[np.float64]:
    h, w = (n // factor for n in dn.shape)
    return np.asarray(dn.reshape(h, factor, w, factor).mean(axis=(1, 3)))


def rms(difference: NDArray[np.floating]) -> float:
    return float(np.sqrt((difference**2).mean()))


@pytest.mark.parametrize(("pixel", "octaves"), [(10, 1), (10, 2), (20, 1)])
def test_a_ramp_is_estimated_exactly(tmp_path: Path, pixel: int, octaves: int) -> None:
    factor, side = 60 // pixel, 80 * 60 // pixel
    y, x = np.mgrid[:side, :side]
    dn = (1000 + 40 * y + 20 * x).astype(np.uint16)
    found = estimate(decoded(tmp_path / "a.jp2", dn, pixel, octaves), (80, 80), factor, octaves)
    error = found.mean[:-1, :-1] - means(dn, factor)[:-1, :-1]  # the last block has no sample behind it
    assert np.abs(error).max() < 1.5


def test_estimates_of_a_landscape(tmp_path: Path) -> None:
    """Guides carry their details over: every band is well within 25 DN, and nearer than it is by itself."""
    bands, shape = textured_bands(128, seed=3), (128, 128)
    guides = [estimate_guide(decoded(tmp_path / f"{b}.jp2", bands[b], 10, 1), shape) for b in ("B04", "B08")]
    clean = np.ones(shape, bool)
    for band in ("B02", "B03", "B05", "B8A", "B12"):
        factor = 60 // PIXEL_M[band]
        octaves = 2 if factor == 6 else 1
        samples = decoded(tmp_path / f"{band}.jp2", bands[band], PIXEL_M[band], octaves)
        alone = estimate(samples, shape, factor, octaves)
        exact = means(bands[band], factor)
        error = carry_details(alone, factor, guides, clean) - exact
        assert rms(error) < 15
        assert rms(error) < 0.8 * rms(alone.mean - exact)
        assert abs(error.mean()) < 0.5


def test_gains_are_found() -> None:
    rng = np.random.default_rng(0)
    sources = [rng.normal(size=(20, 30)).astype(np.float32) for _ in range(2)]
    target = (2 * sources[0] - 0.5 * sources[1]).astype(np.float32)
    assert detail_gains(target, sources, np.ones((40, 60), bool)) == pytest.approx([2, -0.5], abs=1e-4)


def test_gains_are_fitted_on_clean_blocks_only() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 30)).astype(np.float32)
    target, clean = source.copy(), np.ones((40, 60), bool)
    target[10:], clean[20:] = 1e6, False
    assert detail_gains(target, [source], clean) == pytest.approx([1])


def test_without_enough_clean_blocks_nothing_is_carried_over() -> None:
    flat = np.ones((10, 10), np.float32)
    assert detail_gains(flat, [flat], np.ones((20, 20), bool)).tolist() == [0]
    band = BandEstimate(np.full((20, 20), 7, np.float32), flat)
    guide = BandEstimate(band.mean, flat, {3: np.full((20, 20), 100, np.float32)})
    assert (carry_details(band, 3, [guide], np.ones((20, 20), bool)) == 7).all()


def test_flat_details_give_finite_gains() -> None:
    flat = np.zeros((20, 30), np.float32)
    assert detail_gains(flat, [flat, flat], np.ones((40, 60), bool)).tolist() == [0, 0]
