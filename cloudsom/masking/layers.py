"""Masks and the layers beside them as files: classes, cloud probability, and what a GIS shows of their codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLASS_COLOURS, CLASSES, CLEAR, CLOUD, MASK_NODATA, NO_CLASS
from cloudsom.files import stores
from cloudsom.files.stores import Recipe, Snapshot
from cloudsom.images.filters import final_mask
from cloudsom.images.rasters import MASK_COLOURS, Grid, write_layer, write_mask
from cloudsom.masking.labelling import Layers, layers_of_scene, shares
from cloudsom.som.committee import PROBABILITY_NODATA
from cloudsom.som.labelled_map import LabelledMap

Legend = Mapping[int, tuple[str, tuple[int, int, int], int]]  # by code: name, colour, opacity (0 or 255)


@dataclass(frozen=True)
class Masking:
    """How a run masks its products, and where to; fit to send to a worker.

    models   files of trained and labelled maps, by their roles in a recipe
    kinds    of outputs wanted of a product, as in NAME_mask.tif
    filters  size of the median filter, radius and shape of the dilation, in pixels
    """

    settings: Snapshot
    models: Mapping[str, Path]
    folder: Path
    kinds: Sequence[str]
    least_probability: float
    filters: tuple[int, int, str]
    overwrite: bool

    def files(self, name: str) -> dict[str, Path]:
        """A product's outputs by kind, in the order of `kinds`."""
        return {kind: self.folder / f"{name}_{kind}.{'jpg' if kind == 'quicklook' else 'tif'}" for kind in self.kinds}

    def layers(self, source: Path, tiff: Path, maps: Sequence[LabelledMap]) -> Layers:
        """What these maps say of a scene, the mask filtered; source, tiff and errors as `layers_of_scene`."""
        layers = layers_of_scene(source, tiff, maps, self.least_probability, "classes" in self.kinds)
        return layers._replace(mask=final_mask(layers.mask, *self.filters))


def write_layers(
    files: Mapping[str, Path], layers: Layers, tags: dict[str, str], made_by: Recipe, results: dict[str, str]
) -> None:
    """Write the layers that `files` names by kind, the mask last; `results` go into its settings file."""
    for kind in LEGENDS.keys() & files.keys():
        write_legend(files[kind], LEGENDS[kind])
    if layers.classes is not None:
        with stores.product(files["classes"], made_by) as product:
            write_class_map(product.partial, layers.classes, layers.grid, tags)
    if "probability" in files:
        with stores.product(files["probability"], made_by) as product:
            write_probability(product.partial, layers.probability, layers.grid, tags)
    with stores.product(files["mask"], made_by) as product:
        write_mask(product.partial, layers.mask, layers.grid, tags=tags)
        product.results |= shares(layers.mask) | results


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
