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
    padded = np.pad(weights, ((1, 1), (1, 1), (0, 0)), constant_values=np.nan)  # beyond the edge there is no neighbour
    shifts = [(down, right) for down, right in product(range(3), repeat=2) if (down, right) != (1, 1)]
    neighbours = [padded[down : down + rows, right : right + columns] for down, right in shifts]
    return np.asarray(np.nanmean([np.linalg.norm(weights - other, axis=-1) for other in neighbours], axis=0))
