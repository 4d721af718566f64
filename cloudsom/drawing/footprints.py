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

WIDTH = PAGE * 0.6  # of the picture, inches
MARGIN = 0.08  # of the larger side, around everything
ALPHA, EDGE = 0.6, "#203040"  # of a tile


@styled
def footprints(
    tiles: Sequence[str],
    rings: Sequence[Sequence[NDArray[np.float64]]],
    cloud: Sequence[float],
    area: Sequence[NDArray[np.float64]],
) -> Figure:
    """A map, longitude and latitude in degrees, of one footprint (outer rings (n, 2)) a product, and of the area.

    Tiles have the colour of their least cloudy product (per cent, NaN: not known); their names, the number of their
    products and that cloud are written upon them.
    """
    colours, scale = matplotlib.colormaps["Blues_r"], Normalize(0, 100)
    places = np.concatenate([*(ring for product in rings for ring in product), *area])
    low, high = places.min(axis=0), places.max(axis=0)
    pad = MARGIN * max(*(high - low), 0.02)
    squeeze = math.cos(math.radians(min(85.0, abs(low[1] + high[1]) / 2)))  # of a degree of longitude
    width, height = (high - low + 2 * pad) * (squeeze, 1)
    side = WIDTH * 0.68  # of the axes, beside the colour bar and its words
    figure = Figure(figsize=(WIDTH, 0.5 + side * min(2.0, max(0.45, height / width))), layout="constrained")
    axes = figure.add_subplot()
    for tile in sorted(set(tiles)):
        mine = [i for i, name in enumerate(tiles) if name == tile and rings[i]]
        if not mine:
            continue
        best = min(mine, key=lambda i: (math.isnan(cloud[i]), cloud[i]))
        shade = "none" if math.isnan(cloud[best]) else (*colours(scale(cloud[best]))[:3], ALPHA)
        edges = [ring for i in mine for ring in rings[i]]
        axes.add_collection(PolyCollection(list(rings[best]), facecolors=[shade], edgecolors="none"))
        axes.add_collection(PolyCollection(edges, facecolors="none", edgecolors=EDGE, linewidths=0.6))
        x, y = np.mean([(ring.min(axis=0) + ring.max(axis=0)) / 2 for ring in rings[best]], axis=0)
        text = f"{tile}\n1 product" if len(mine) == 1 else f"{tile}\n{len(mine)} products"
        if not math.isnan(cloud[best]):
            text += f"\n{'from ' * (len(mine) > 1)}{cloud[best]:.0f} % cloud"
        label = axes.text(x, y, text, ha="center", va="center", fontsize=7, zorder=4)
        label.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="white")])
    for outline in area:
        marker = "+" if len(outline) == 1 else ""
        axes.plot(*outline.T, color=BRIGHT_COLOUR, linewidth=1.2, marker=marker, markersize=9, markeredgewidth=1.5)
    axes.set(xlim=(low[0] - pad, high[0] + pad), ylim=(low[1] - pad, high[1] + pad))
    axes.set(aspect=1 / squeeze, xlabel="longitude (°)", ylabel="latitude (°)")
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(nbins=6)
    figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="least cloud, by the catalogue (%)", alpha=ALPHA)
    return figure
