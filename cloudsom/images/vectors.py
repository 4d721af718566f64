"""Points and polygons from vector files, as the pixels of a scene they mark.

As with images, files may come from strangers: they are opened with a few known drivers only, never over a network, and
in a process of its own (this module, run): a GeoPackage may hold a query that never ends, in which GDAL hears nothing.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, ogr, osr

from cloudsom.errors import UserError
from cloudsom.files.places import is_remote
from cloudsom.images.rasters import Grid, as_text, file_here, gdal_errors

ogr.UseExceptions()
osr.UseExceptions()
osr.SetPROJEnableNetwork(False)  # a transformation takes the grids that are installed

#: OGR drivers that read a local file and nothing else (GML would fetch the schema a file names).
DRIVERS = ("GeoJSON", "GPKG", "ESRI Shapefile", "FlatGeobuf", "KML")

#: Attribute that ties a feature to one product; features without it hold for every product they lie in.
PRODUCT_FIELD = "product"

#: Seconds that reading a file may take; one with every field of a country takes a few.
MAX_SECONDS = 120

#: Features of a file, some 300 bytes each in memory; a country's fields are some hundred thousand.
MAX_FEATURES = 2_000_000

#: Bytes of a file that what reads one may write: a query that sorts would fill the disk.
MAX_WRITTEN = 100_000_000

SHAPES = (ogr.wkbPoint, ogr.wkbMultiPoint, ogr.wkbPolygon, ogr.wkbMultiPolygon)


@dataclass(frozen=True)
class Feature:
    """One shape: its geometry and coordinate system as text (WKT), and the product it is tied to ("": any)."""

    geometry: bytes
    projection: str
    product: str


def sidecars(path: Path) -> list[Path]:
    """The file, and those of a Shapefile that lie beside it."""
    beside = [path.with_suffix(suffix) for suffix in (".shx", ".dbf", ".prj")] if path.suffix.lower() == ".shp" else []
    return [path, *(place for place in beside if place.is_file())]


def read_features(path: Path) -> list[Feature]:
    """The points and polygons of all layers of a vector file.

    Raises UserError if it is no such file, a layer has no coordinate system, a feature is neither point nor polygon, or
    reading takes longer than MAX_SECONDS.
    """
    if is_remote(path) and path.suffix.lower() == ".shp":
        raise UserError(f"{path}: a Shapefile is several files; behind a URL give a GeoPackage or GeoJSON")
    place = file_here(path, path)
    modules = filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(modules)}
    command = [sys.executable, "-P", "-m", "cloudsom.images.vectors", place, str(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=MAX_SECONDS
        )
    except subprocess.TimeoutExpired:
        advice = "save its points and polygons to a new file, without views or queries"
        raise UserError(f"{path}: is not read within {MAX_SECONDS} s; {advice}") from None
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").splitlines() or [f"status {done.returncode}"])[-1]
        raise UserError(f"{path}: what reads it has crashed ({reason[:200]}); it is damaged, save it again")
    found = json.loads(done.stdout)
    if "fault" in found:
        raise UserError(found["fault"])
    return [Feature(bytes.fromhex(shape), *words) for shape, *words in found["features"]]


def features_in(place: str, path: Path) -> list[Feature]:
    """`read_features` of the file at `place`, in this process and however long it takes; `path` names it in errors."""
    with gdal_errors(path, f"a vector file is needed ({', '.join(DRIVERS)}): it is damaged or of another format"):
        if gdal.IdentifyDriverEx(place, gdal.OF_VECTOR, allowed_drivers=["GeoJSON"]):
            _refuse_linked_systems(place, path)
        dataset = gdal.OpenEx(place, gdal.OF_VECTOR | gdal.OF_VERBOSE_ERROR, allowed_drivers=list(DRIVERS))
        layers = (dataset.GetLayer(i) for i in range(dataset.GetLayerCount()))
        every = (feature for layer in layers for feature in _of_layer(path, layer))
        features = list(islice(every, MAX_FEATURES + 1))
    if len(features) > MAX_FEATURES:
        raise UserError(f"{path}: holds more than {MAX_FEATURES:,} points and polygons; save those that are needed")
    if not features:
        raise UserError(f"{path}: holds no points or polygons; draw some on bright cloud-free land")
    return features


def _refuse_linked_systems(place: str, path: Path) -> None:
    """UserError for a GeoJSON file with a coordinate system that GDAL would fetch from the address it gives.

    Names are compared as GDAL does, in any case, and every one of repeated members counts.
    """

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:
            if key.lower() == "crs" and isinstance(value, dict) and value.keys() & {"link", "url"}:
                raise UserError(f"{path}: its coordinate system is on a network, which is not asked; save it as EPSG")
        kinds = {str(value).lower(): None for key, value in pairs if key.lower() == "type"}
        return kinds

    try:
        json.loads(Path(place).read_bytes(), object_pairs_hook=members)
    except (ValueError, RecursionError) as problem:
        raise UserError(f"{path}: is not whole GeoJSON ({problem}); save it again") from None


def _of_layer(path: Path, layer: ogr.Layer) -> Iterator[Feature]:
    reference = layer.GetSpatialRef()
    has_product = layer.GetLayerDefn().GetFieldIndex(PRODUCT_FIELD) >= 0
    for feature in layer:
        geometry = feature.GetGeometryRef()
        if geometry is None or geometry.IsEmpty():
            continue
        if reference is None:
            raise UserError(f"{path}: layer {layer.GetName()} has no coordinate system; save it with one")
        if ogr.GT_Flatten(geometry.GetGeometryType()) not in SHAPES:
            kind = geometry.GetGeometryName().lower()
            raise UserError(f"{path}: feature {feature.GetFID()} is a {kind}; points and polygons are needed")
        product = as_text(feature.GetFieldAsString(PRODUCT_FIELD)) if has_product else ""
        yield Feature(bytes(geometry.ExportToWkb()), as_text(reference.ExportToWkt()), product.removesuffix(".SAFE"))


def pixels_marked(features: list[Feature], grid: Grid, shown: object) -> NDArray[np.int64]:
    """Sorted flat positions of the pixels of `grid` that features mark (see `marked`)."""
    return np.flatnonzero(marked(features, grid, shown))


def marked(features: list[Feature], grid: Grid, shown: object) -> NDArray[np.uint8]:
    """Which pixels of `grid` features mark, as 1: centres inside polygons, pixels points lie in. (height, width).

    Geometries are brought to the grid's coordinate system. `shown` stands for the scene in errors; a scene without a
    coordinate system is one.
    """
    if not grid.projection:
        raise UserError(f"{shown}: has no coordinate system, so polygons cannot be placed in it; run step 7 again")
    with gdal_errors(shown, "the polygons cannot be brought to its coordinate system; check theirs"):
        canvas = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, 1, gdal.GDT_Byte)
        canvas.SetGeoTransform(grid.transform)
        canvas.SetProjection(grid.projection)
        target = system(grid.projection)
        shapes = ogr.GetDriverByName("Memory").CreateDataSource("")
        layer = shapes.CreateLayer("", target)
        for feature in features:
            shape = ogr.Feature(layer.GetLayerDefn())
            shape.SetGeometryDirectly(moved(feature, target))
            layer.CreateFeature(shape)
        gdal.RasterizeLayer(canvas, [1], layer, burn_values=[1])
        found: NDArray[np.uint8] = canvas.ReadAsArray()
        return found


def moved(feature: Feature, target: osr.SpatialReference) -> ogr.Geometry:
    geometry = ogr.CreateGeometryFromWkb(feature.geometry)
    source = system(feature.projection)
    if not source.IsSame(target):
        geometry.Transform(osr.CoordinateTransformation(source, target))
    return geometry


def system(projection: str) -> osr.SpatialReference:
    system = osr.SpatialReference()
    system.ImportFromWkt(projection)
    system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)  # x before y, as geometries store them
    return system


def main(place: str, path: str) -> None:
    """Print what is in a file, or the fault, as JSON."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_WRITTEN, MAX_WRITTEN))
    try:
        found = features_in(place, Path(path))
        told: dict[str, Any] = {"features": [(f.geometry.hex(), f.projection, f.product) for f in found]}
    except UserError as problem:
        told = {"fault": str(problem)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
