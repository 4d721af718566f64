"""An area of interest: a point or box written as text, or the shapes of a vector file, in degrees."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from osgeo import ogr, osr

from cloudsom.errors import UserError
from cloudsom.files.places import existing
from cloudsom.images.rasters import gdal_errors
from cloudsom.images.vectors import moved, read_features, system

MOST_CORNERS = 60  # of an area in a question to a catalogue, whose addresses are not of any length; more: its box

_HELP = "give 'LONGITUDE LATITUDE', 'WEST SOUTH EAST NORTH' in degrees, or a vector file (GeoJSON, GeoPackage...)"


@dataclass(frozen=True)
class Area:
    """Points and polygons in degrees, longitude first, as one collection."""

    shapes: ogr.Geometry

    def hull(self) -> str:
        """A point, or one polygon without holes around all of it, as WKT with no more than MOST_CORNERS corners."""
        geometry = self.shapes.ConvexHull()
        if geometry.GetGeometryName() == "POINT":
            return f"POINT({geometry.GetX():.6f} {geometry.GetY():.6f})"
        if geometry.GetGeometryName() != "POLYGON":  # points in a line
            geometry = geometry.Buffer(1e-4).ConvexHull()
        corners = _corners(geometry)
        if len(corners) > MOST_CORNERS:
            west, east, south, north = geometry.GetEnvelope()
            corners = list[tuple[float, ...]](_box(west, south, east, north))
        return "POLYGON((" + ",".join(f"{x:.6f} {y:.6f}" for x, y, *_ in corners) + "))"

    def meets(self, rings: Iterable[Sequence[tuple[float, float]]]) -> bool:
        """Whether any of the polygons with these outer rings touches the area."""
        with gdal_errors("AREA", "its shapes cross themselves; draw them again"):
            return any(part.Intersects(_polygon(ring)) for part in _parts(self.shapes) for ring in rings)

    def outlines(self) -> list[NDArray[np.float64]]:
        """The points and the outer rings of the polygons, (n, 2) each, n of 1 being a point."""
        return [np.array(_corners(part), np.float64)[:, :2] for part in _parts(self.shapes)]


def read_area(data_dir: str, text: str) -> Area:
    """The area that `text` describes: two or four numbers, or the name of a vector file. Raises UserError."""
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return _from_file(data_dir, text)
    lon, lat = numbers[::2], numbers[1::2]
    ordered = len(numbers) != 4 or (lon[0] < lon[1] and lat[0] < lat[1])
    inside = all(abs(n) <= 180 for n in lon) and all(abs(n) <= 90 for n in lat)  # neither is true of NaN
    if len(numbers) not in (2, 4) or not ordered or not inside:
        raise UserError(f"AREA: {text!r} is no point or box; {_HELP}")
    parts = ogr.Geometry(ogr.wkbGeometryCollection)
    point = f"POINT({numbers[0]!r} {numbers[1]!r})"
    parts.AddGeometry(ogr.CreateGeometryFromWkt(point) if len(numbers) == 2 else _polygon(_box(*numbers)))
    return Area(parts)


def _from_file(data_dir: str, text: str) -> Area:
    path = existing(data_dir, text, _HELP)
    parts, degrees = ogr.Geometry(ogr.wkbGeometryCollection), system(osr.GetUserInputAsWKT("EPSG:4326"))
    features = read_features(path)
    with gdal_errors(path, "its shapes cannot be brought to degrees; check their coordinate system"):
        for feature in features:
            geometry = moved(feature, degrees)
            for part in _parts(geometry) if geometry.GetGeometryName().startswith("MULTI") else [geometry]:
                parts.AddGeometry(part)
    west, east, south, north = parts.GetEnvelope()
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise UserError(f"{path}: reaches beyond the globe in degrees; check its coordinate system")
    return Area(parts)


def _parts(several: ogr.Geometry) -> list[ogr.Geometry]:
    return [several.GetGeometryRef(i).Clone() for i in range(several.GetGeometryCount())]


def _corners(part: ogr.Geometry) -> list[tuple[float, ...]]:
    """A point's place, or those of a polygon's outer ring (which lives no longer than the polygon)."""
    corners: list[tuple[float, ...]] = (part.GetGeometryRef(0) if part.GetGeometryCount() else part).GetPoints()
    return corners


def _box(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def _polygon(points: Iterable[tuple[float, float]]) -> ogr.Geometry:
    ring, polygon = ogr.Geometry(ogr.wkbLinearRing), ogr.Geometry(ogr.wkbPolygon)
    for x, y in points:
        ring.AddPoint_2D(x, y)
    polygon.AddGeometry(ring)
    return polygon
