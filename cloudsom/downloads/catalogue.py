"""What L1C products of a place and time there are: the public catalogue of Copernicus Data Space, without an account.

Its OData interface and the limits on it are described at https://documentation.dataspace.copernicus.eu/APIs/OData.html
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from cloudsom.downloads.cdse import entries_of
from cloudsom.downloads.client import Client, check_url
from cloudsom.downloads.names import Product, is_product_name, parse
from cloudsom.errors import UserError

PAGE = 200  # products in one answer, each of some 5 kB with its attributes; the catalogue allows 1,000
MOST_PRODUCTS = 10_000  # the catalogue leaves no more than that out from the beginning of a list

#: A closed line of (longitude, latitude), degrees.
Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Listed:
    """A product as the catalogue lists it.

    product  its name, and what that says: tile, orbit, baseline...
    cloud    per cent of it that the producer's own mask calls cloud; None if not said
    size     bytes of its files; None if not said
    rings    its footprint's outer rings; empty if not said
    """

    product: Product
    cloud: float | None = None
    size: int | None = None
    rings: tuple[Ring, ...] = ()

    @property
    def time(self) -> str:
        """Start of sensing, UTC, as 2026-06-01 10:30:21."""
        day, clock = self.product.sensing.split("T")
        return f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"


def condition(area: str, first: date, last: date) -> str:
    """The catalogue's `$filter` for L1C products that touch `area` (WKT in degrees) on days from `first` to `last`."""
    text = "OData.CSC.StringAttribute"
    parts = [
        "Collection/Name eq 'SENTINEL-2'",
        f"Attributes/{text}/any(att:att/Name eq 'productType' and att/{text}/Value eq 'S2MSI1C')",
        f"OData.CSC.Intersects(area=geography'SRID=4326;{area}')",
        f"ContentDate/Start ge {first}T00:00:00.000Z",
        f"ContentDate/Start lt {last + timedelta(days=1)}T00:00:00.000Z",
    ]
    return " and ".join(parts)


def search(client: Client, url: str, what: str) -> list[Listed]:
    """The products that meet a `condition`, by time; entries that are no L1C product are passed over.

    Raises UserError if there are more than the catalogue lists, DownloadError if it cannot be asked.
    """
    check_url(url)
    query = {"$filter": what, "$orderby": "ContentDate/Start asc", "$expand": "Attributes", "$top": str(PAGE)}
    found: list[Listed] = []
    skip = 0
    while True:
        address = f"{url.rstrip('/')}/odata/v1/Products"
        answer = client.json("GET", address, params=query | {"$skip": str(skip)})
        entries = entries_of(answer)
        found += [_listed(entry) for entry in entries if is_product_name(str(entry.get("Name")))]
        skip += len(entries)
        if not entries or "@odata.nextLink" not in answer:
            return found
        if skip > MOST_PRODUCTS:
            raise UserError(f"AREA, FROM, TO: more than {MOST_PRODUCTS:,} products; name a smaller area or fewer days")


def newest_baselines(found: Iterable[Listed]) -> list[Listed]:
    """Of each acquisition (satellite, time, orbit, tile) what is of its newest processing baseline, in order.

    Two of them only where they show different parts of the tile; of one and the same part, the one made last.
    """
    newest: dict[tuple[Any, ...], dict[tuple[Ring, ...], Listed]] = {}
    for entry in sorted(found, key=lambda e: (e.product.baseline or "", e.product.made)):
        p = entry.product
        parts = newest.setdefault((p.sensing, p.satellite, p.orbit, p.tile), {})
        if any(other.product.baseline != p.baseline for other in parts.values()):
            parts.clear()
        parts[entry.rings] = entry
    return [entry for _, parts in sorted(newest.items(), key=lambda item: str(item[0])) for entry in parts.values()]


def _listed(entry: dict[str, Any]) -> Listed:
    size = _number(entry.get("ContentLength"))
    attributes = entry.get("Attributes")
    pairs = [a for a in attributes if isinstance(a, dict)] if isinstance(attributes, list) else []
    cloud = _number(next((a.get("Value") for a in pairs if a.get("Name") == "cloudCover"), None))
    return Listed(parse(str(entry["Name"])), cloud, int(size) if size else None, _rings(entry.get("GeoFootprint")))


def _number(value: Any) -> float | None:
    """A number from 0 up that JSON gives as such or as text; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _rings(geojson: Any) -> tuple[Ring, ...]:
    """The outer rings of a polygon or several; empty for what is neither."""
    try:
        places = geojson["coordinates"]
        polygons = places if geojson["type"] == "MultiPolygon" else [places]
        rings = tuple(tuple((float(x), float(y)) for x, y, *_ in polygon[0]) for polygon in polygons)
    except (TypeError, KeyError, IndexError, ValueError):
        return ()
    usable = all(abs(x) <= 180 and abs(y) <= 90 for ring in rings for x, y in ring)
    return rings if usable and all(len(ring) > 3 for ring in rings) else ()
