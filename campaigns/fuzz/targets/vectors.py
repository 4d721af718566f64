"""Points and polygons: GeoJSON, GeoPackage, Shapefile, FlatGeobuf, KML."""

import json
import random
from pathlib import Path
from typing import Any

from osgeo import gdal

from campaigns.fuzz.engine import Case, Seeds, Target
from campaigns.fuzz.mutations import NUMBERS
from campaigns.fuzz.targets.rasters import grid
from cloudsom.images.vectors import features_in, pixels_marked

DRIVERS = {"geojson": "GeoJSON", "gpkg": "GPKG", "fgb": "FlatGeobuf", "kml": "KML"}
SHAPEFILE = ("shp", "shx", "dbf", "prj")

CORNERS = [[600060, 4899960], [600300, 4899960], [600300, 4899600], [600060, 4899600], [600060, 4899960]]
SQUARE = {"type": "Polygon", "coordinates": [CORNERS]}
POINTS = {"type": "MultiPoint", "coordinates": [[600400, 4899800], [600500, 4899900]]}

_shapefile: dict[str, bytes] = {}  # by suffix


def read_part(path: Path) -> None:
    """A part of a shapefile; the others are good."""
    for suffix, content in _shapefile.items():
        if suffix != path.suffix:
            path.with_suffix(suffix).write_bytes(content)
    read(path.with_suffix(".shp"))


def read(path: Path) -> None:
    pixels_marked(features_in(str(path.absolute()), path), grid(24, 20), path)


def seeds(folder: Path) -> Seeds:
    found: dict[str, list[bytes]] = {}
    for kind, driver in DRIVERS.items():
        written(folder / f"a.{kind}", driver, 4326 if kind in ("geojson", "kml") else 32631)
        found[kind] = [(folder / f"a.{kind}").read_bytes()]
    written(folder / "b.shp", "ESRI Shapefile", 32631)
    for part in SHAPEFILE:
        found[part] = [(folder / f"b.{part}").read_bytes()]
        _shapefile[f".{part}"] = found[part][0]
    return found


def written(path: Path, driver: str, code: int) -> None:
    """A layer of features tied to a product: a square and two points, or the square alone where types do not mix."""
    shapes = (SQUARE,) if driver == "ESRI Shapefile" else (SQUARE, POINTS)
    features = [{"type": "Feature", "properties": {"product": "S2A_X.SAFE"}, "geometry": shape} for shape in shapes]
    utm = system("name", name="EPSG:32631")
    source = {"type": "FeatureCollection", "name": "sand", "crs": utm, "features": features}
    gdal.SetConfigOption("OGR_CURRENT_DATE", "2020-01-01T00:00:00Z")
    gdal.VectorTranslate(str(path), json.dumps(source), format=driver, dstSRS=f"EPSG:{code}", reproject=True)


def build(draw: random.Random, good: Seeds) -> Case:
    """GeoJSON with other geometries, coordinates or coordinate systems."""
    content = json.loads(good["geojson"][0])
    feature = draw.choice(content["features"])
    match draw.randrange(5):
        case 0:
            content["crs"] = draw.choice(SYSTEMS)
        case 1:
            feature["geometry"] = draw.choice(GEOMETRIES)
        case 2:
            feature["properties"] = draw.choice(
                ({}, None, [], {"product": 3}, {"product": None}, {"product": "\x1b[2J\n"})
            )
        case 3:
            content[draw.choice(("type", "features", "name"))] = draw.choice((None, 3, "Feature", [], {}, "\x1b[2J"))
        case _:
            number = draw.choice([float(n) for n in NUMBERS if n.strip(b"-0123456789.e") == b"" and n not in (b"",)])
            feature["geometry"] = {"type": "Point", "coordinates": [number, draw.choice((number, 44.2))]}
    return Case("geojson", json.dumps(content).encode())


def system(kind: str, **properties: object) -> dict[str, object]:
    return {"type": kind, "properties": properties}


SYSTEMS: tuple[Any, ...] = (
    None, {}, 3, "EPSG:4326", system("name", name="EPSG:32631"), system("name"),
    system("link", href="http://127.0.0.1:9/", type="proj4"), system("EPSG", code=1),
    system("name", name="/etc/hostname"), system("url", url="http://127.0.0.1:9/"), system("name", name="IAU:1000"),
    system("name", name="+proj=geos +h=1 +lon_0=0"), system("name", name="EPSG:4978"),
    system("name", name="+proj=pipeline +step"),
)  # fmt: skip

GEOMETRIES: tuple[Any, ...] = (
    None, {}, {"type": "Point"}, {"type": "Point", "coordinates": []}, {"type": "Polygon", "coordinates": [[]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
    {"type": "GeometryCollection", "geometries": []}, {"type": "MultiPolygon", "coordinates": [[[]]]},
    {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
    {"type": "Polygon", "coordinates": [[[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300], [-1e300, -1e300]]]},
    {"type": "MultiPoint", "coordinates": [[4.2, 44.2, 7, 8]] * 3000}, {"type": "Curve", "coordinates": 7},
)  # fmt: skip

VECTOR = Target(
    "vector",
    {kind: (f".{kind}", read) for kind in DRIVERS} | {part: (f".{part}", read_part) for part in SHAPEFILE},
    seeds,
    (b'"type"', b'"coordinates"', b'"crs"', b"Polygon", b"Point", b"[", b"]", b"{", b"}", b"null",
     b"SQLite format 3\0", b"fgb",
     b"<Placemark>", b"<coordinates>", b"PROJCS[", b"GEOGCS[", b"EPSG", b"\0\0\x27\x0a", b"\xff\xff\xff\xff",
     b"GP\0\1",
     b"gpkg_contents", b"http://127.0.0.1:9/", b"1e308"),
    build,
)  # fmt: skip
