"""The layers beside a mask: classes and cloud probability as GeoTIFFs, and what a GIS shows of their codes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, CLEAR, CLOUD, MASK_NODATA, NO_CLASS
from cloudsom.files import stores
from cloudsom.images.rasters import MASK_COLOURS, Grid, write_layer
from cloudsom.som.committee import PROBABILITY_NODATA

Legend = Mapping[int, tuple[str, tuple[int, int, int], int]]  # by code: name, colour, opacity (0 or 255)


def write_class_map(place: Path, classes: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The class (height, width) of each pixel, in the paper's colours; 0 without data or without a class."""
    codes = {"CODES": ", ".join(f"{code} {text}" for code, text in CLASSES.items())}
    colours = {code: rgb for code, (_, rgb, _) in CLASS_LEGEND.items()}
    write_layer(place, classes, grid, nodata=NO_CLASS, descriptions=["class"], tags=tags | codes, colours=colours)


def write_probability(place: Path, per_cent: NDArray[np.uint8], grid: Grid, tags: dict[str, str]) -> None:
    """The share of the maps that say cloud (height, width), 0..100; 255 without data."""
    meaning = {"CODES": f"0..100 per cent of the maps that say cloud, {PROBABILITY_NODATA} nodata"}
    names = ["cloud probability (%)"]
    write_layer(place, per_cent, grid, nodata=PROBABILITY_NODATA, descriptions=names, tags=tags | meaning)


def write_legend(layer: Path, legend: Legend) -> None:
    """Write what QGIS and others that read by GDAL show of a layer's codes, as GDAL's `.aux.xml` beside the layer.

    A GeoTIFF's own palette has no transparency and no names. Those who have no use for the file may delete it; so that
    no layer is without it, it is written first.
    """
    fields = {"Value": (0, 5), "Class": (2, 2), "Red": (0, 6), "Green": (0, 7), "Blue": (0, 8), "Alpha": (0, 9)}
    columns = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>\n'
        for i, (name, (kind, usage)) in enumerate(fields.items())
    )
    rows = "".join(
        f'<Row index="{i}">{"".join(f"<F>{value}</F>" for value in (code, name, *rgb, opacity))}</Row>\n'
        for i, (code, (name, rgb, opacity)) in enumerate(sorted(legend.items()))
    )
    every = [legend.get(code, ("", (0, 0, 0), 0)) for code in range(max(legend) + 1)]
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{opacity}"/>\n' for _, (r, g, b), opacity in every)
    names = "".join(f"<Category>{name}</Category>\n" for name, _, _ in every)
    with stores.atomic(layer.with_name(layer.name + ".aux.xml")) as partial:
        partial.write_text(
            f'<PAMDataset><PAMRasterBand band="1">\n<CategoryNames>\n{names}</CategoryNames>\n'
            f"<ColorInterp>Palette</ColorInterp>\n<ColorTable>\n{entries}</ColorTable>\n"
            f'<GDALRasterAttributeTable tableType="thematic">\n{columns}{rows}</GDALRasterAttributeTable>\n'
            "</PAMRasterBand></PAMDataset>\n",
            encoding="utf-8",
        )


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """'#0066CC' as three numbers."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue


#: Clear ground does not hide what lies below the mask.
MASK_LEGEND: Legend = {
    CLOUD: ("cloud", MASK_COLOURS[CLOUD], 255),
    CLEAR: ("clear", MASK_COLOURS[CLEAR], 0),
    MASK_NODATA: ("no data", MASK_COLOURS[MASK_NODATA], 0),
}
CLASS_LEGEND: Legend = {code: (name, hex_to_rgb(CLASS_COLOURS[code]), 255) for code, name in CLASSES.items()} | {
    NO_CLASS: ("no data or no class", (0, 0, 0), 0)
}

#: By the kind of the layer, as in NAME_mask.tif.
LEGENDS = {"mask": MASK_LEGEND, "classes": CLASS_LEGEND}
