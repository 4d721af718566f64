"""The U-matrix against MiniSom's, susi's, and one made by hand."""

import numpy as np
import pytest
from minisom import MiniSom

from cloudsom.som.u_matrix import u_matrix


@pytest.mark.parametrize("shape", [(20, 15), (6, 5), (1, 7), (7, 1), (2, 2)])
def test_u_matrix_equals_minisoms(shape: tuple[int, int]) -> None:
    som = MiniSom(*shape, 13)
    som._weights = np.random.default_rng(3).random((*shape, 13))
    ours = u_matrix(som._weights)
    np.testing.assert_allclose(ours / ours.max(), som.distance_map(scaling="mean"), rtol=1e-12)


def test_u_matrix_by_hand_is_not_divided_by_its_maximum() -> None:
    weights = np.zeros((1, 3, 13))
    weights[0, 1, :2] = (3, 4)  # 5 from its left neighbour, which is at 0
    weights[0, 2] = weights[0, 1]
    assert u_matrix(weights).tolist() == [[5.0, 2.5, 0.0]]


def test_u_matrix_equals_susis_between_two_neurons() -> None:
    import susi

    weights = np.random.default_rng(4).random((1, 2, 13))
    clusterer = susi.SOMClustering(n_rows=1, n_columns=2)
    clusterer.unsuper_som_ = weights
    between = clusterer.get_u_matrix()[0, 1, 0]
    np.testing.assert_allclose(u_matrix(weights), between, rtol=1e-12)
