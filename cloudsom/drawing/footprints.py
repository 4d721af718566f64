"""Where products lie: a small map of their footprints and of the area they were looked for in."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cloudsom.drawing.figures import BRIGHT_COLOUR, PAGE, styled

MARGIN = 0.08  # of the larger side, around everything


@styled
def footprints(
    tiles: Sequence[str],
    rings: Sequence[Sequence[NDArray[np.float64]]],
    cloud: Sequence[float],
    area: Sequence[NDArray[np.float64]],
) -> Figure:
    """A map, longitude and latitude in degrees, of one footprint (outer rings (n, 2)) a product, and of the area.

    Products of one tile lie above each other, the least cloudy on top; the tile's name, the number of its products and
    the least cloud of them (per cent, NaN: not known) are written upon them.
    """
    colours, scale = matplotlib.colormaps["Blues_r"], Normalize(0, 100)
    places = np.concatenate([*(ring for product in rings for ring in product), *area])
    low, high = places.min(axis=0), places.max(axis=0)
    pad = MARGIN * max(*(high - low), 0.02)
    squeeze = math.cos(math.radians(min(85.0, abs(low[1] + high[1]) / 2)))  # of a degree of longitude
    width, height = (high - low + 2 * pad) * (squeeze, 1)
    figure = Figure(figsize=(PAGE * 0.6, PAGE * 0.6 * min(2.0, max(0.45, height / width))), layout="constrained")
    axes = figure.add_subplot()
    shades = np.where(np.isnan(cloud), 100, cloud)
    for i in np.argsort(-shades, kind="stable"):
        shade = colours(scale(shades[i]))
        axes.add_collection(
            PolyCollection(list(rings[i]), facecolors=[(*shade[:3], 0.5)], edgecolors="#203040", linewidths=0.6)
        )
    for tile in sorted(set(tiles)):
        mine = [i for i, name in enumerate(tiles) if name == tile and rings[i]]
        if mine:
            known = [cloud[i] for i in mine if not math.isnan(cloud[i])]
            x, y = np.mean(
                [(np.min(ring, axis=0) + np.max(ring, axis=0)) / 2 for i in mine for ring in rings[i]], axis=0
            )
            text = f"{tile}\n{len(mine)} product{'s' * (len(mine) > 1)}" + (
                f"\nfrom {min(known):.0f} %" if known else ""
            )
            label = axes.text(x, y, text, ha="center", va="center", fontsize=7)
            label.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="white")])
    for outline in area:
        marker = "+" if len(outline) == 1 else ""
        axes.plot(*outline.T, color=BRIGHT_COLOUR, linewidth=1.2, marker=marker, markersize=9, markeredgewidth=1.5)
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
    axes.set(aspect=1 / squeeze, xlabel="longitude (°)", ylabel="latitude (°)")
    axes.ticklabel_format(useOffset=False)
    figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="cloud, as the catalogue says (%)", shrink=0.8)
    return figure
