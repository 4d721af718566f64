"""The cloud mask that ESA puts into every Level-1C product, in both its forms.

From processing baseline 04.00 on it is an image, MSK_CLASSI_B00.jp2 (60 m; bands opaque cloud, cirrus, snow); before,
it is a list of polygons, MSK_CLOUDS_B00.gml, of the types OPAQUE and CIRRUS. Both kinds are cloud. Neither form says
where the product has no data.
"""

import re
from xml.etree.ElementTree import Element

from osgeo import ogr, osr

from cloudsom.errors import UserError
from cloudsom.images.products import Granule, parse_xml, text_of
from cloudsom.images.vectors import Feature

#: Names of the two as expressions; before December 2016 they were S2A_OPER_MSK_CLOUDS_..._T31TFH_B00_MSIL1C.gml.
IMAGE = r"MSK_CLASSI_B00\.jp2"
POLYGONS = r"(?:S2\w_OPER_)?MSK_CLOUDS_(?:[^/]*_)?B00(?:_MSIL1C)?\.gml"

CLOUD_TYPES = ("OPAQUE", "CIRRUS")

#: Bands of the image that are cloud; the third is snow.
CLOUD_BANDS, IMAGE_BANDS = (1, 2), 3


def find_mask(granule: Granule) -> str:
    """The path of a granule's cloud mask within the product: the image where there is one, else the polygons."""
    found = granule.quality_file(IMAGE) or granule.quality_file(POLYGONS)
    if found is None:
        names = "MSK_CLASSI_B00.jp2 nor MSK_CLOUDS_B00.gml"
        raise UserError(f"{granule.name}: QI_DATA holds neither {names}; get the product again")
    return found


def read_polygons(shown: str, xml: bytes) -> list[Feature]:
    """The clouds of a MSK_CLOUDS_B00.gml; an empty list where it has none.

    Read here and not by GDAL, whose GML driver fetches the schema that a file names. Raises UserError for what is no
    such file.
    """
    root = parse_xml(shown, xml)
    if (name := root.tag.rpartition("}")[2]) != "Mask":
        raise UserError(f"{shown}: begins with {name[:40]!r}, a mask of ESA's begins with Mask; get it again")
    systems = {e.get("srsName", "") for e in root.iter() if e.get("srsName")}
    features = []
    for member in root.iterfind(".//{*}MaskFeature"):
        kind = text_of(member, "maskType")
        if kind not in CLOUD_TYPES:
            raise UserError(f"{shown}: holds a polygon of type {kind[:40]!r}, known are {', '.join(CLOUD_TYPES)}")
        for polygon in member.iterfind(".//{*}Polygon"):
            features.append(Feature(_wkb(shown, polygon), _system(shown, systems), ""))
    return features


def _system(shown: str, names: set[str]) -> str:
    """The one coordinate system of a file as WKT, of names such as urn:ogc:def:crs:EPSG:8.7:32632."""
    codes = {name.rpartition(":")[2] for name in names}
    code = codes.pop() if len(codes) == 1 else ""
    if not re.fullmatch(r"32[67](0[1-9]|[1-5]\d|60)", code):
        raise UserError(f"{shown}: names no UTM zone for its polygons (srsName ...:EPSG::326xx); get the product again")
    return str(osr.GetUserInputAsWKT(f"EPSG:{code}"))


def _wkb(shown: str, polygon: Element) -> bytes:
    """A polygon's rings, the outer one first, as one geometry."""
    shape = ogr.Geometry(ogr.wkbPolygon)
    for kind in ("exterior", "interior"):
        for line in polygon.iterfind(f"{{*}}{kind}//{{*}}posList"):
            shape.AddGeometry(_ring(shown, line))
    if not shape.GetGeometryCount():
        raise UserError(f"{shown}: holds a polygon without an outline (posList); get the product again")
    return bytes(shape.ExportToWkb())


def _ring(shown: str, line: Element) -> ogr.Geometry:
    try:
        numbers = [float(word) for word in (line.text or "").split()]
        size = int(line.get("srsDimension", "2"))
    except ValueError:
        numbers, size = [], 2
    if size not in (2, 3) or not numbers or len(numbers) % size or not all(abs(n) < 1e8 for n in numbers):
        raise UserError(f"{shown}: holds an outline that is no list of coordinates (posList); get the product again")
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for i in range(0, len(numbers), size):
        ring.AddPoint_2D(numbers[i], numbers[i + 1])
    ring.CloseRings()
    return ring
