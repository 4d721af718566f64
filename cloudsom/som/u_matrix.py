"""The U-matrix: how far apart neighbours on the map are."""

from itertools import product

import numpy as np
from numpy.typing import NDArray


def u_matrix(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean Euclidean distance of each neuron's weights to those of its neighbours, up to eight, in scaled units.

    weights (rows, columns, bands) -> (rows, columns). The same as `MiniSom.distance_map(scaling="mean")` before the
    division by its maximum; the paper names its 20 x 15 U-matrix, but not the neighbours it counts.
    """
    rows, columns, _ = weights.shape
    total, neighbours = np.zeros((rows, columns)), np.zeros((rows, columns))
    for down, right in product((-1, 0, 1), repeat=2):
        if (down, right) == (0, 0):
            continue
        here = slice(max(0, -down), rows - max(0, down)), slice(max(0, -right), columns - max(0, right))
        there = slice(max(0, down), rows - max(0, -down)), slice(max(0, right), columns - max(0, -right))
        total[here] += np.linalg.norm(weights[here] - weights[there], axis=-1)
        neighbours[here] += 1
    return total / neighbours
