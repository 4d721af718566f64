"""Copernicus Data Space: Keycloak's token endpoint, the OData catalogue, and a download host that redirects.

The catalogue is written from its public documentation (filters, orderby, top and skip with their limits, nextLink,
expand=Attributes, the form of its errors) and from answers that public clients keep among their tests. CDSETool 0.3.3,
with this address in place of the service's, searched it and found what it should.
"""

import hashlib
import json
import operator
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from servers.base import Answer, Seen, Server

TOKEN_PATH = "/auth/realms/CDSE/protocol/openid-connect/token"


class KeycloakServer(Server):
    """Gives tokens for `user`, `password` and, if set, a one-time code; `valid` holds those that are good now."""

    def __init__(self, user: str, password: str, totp: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.user, self.password, self.totp = user, password, totp
        self.valid: set[str] = set()
        self.refresh: set[str] = set()
        self.lifetime, self.refresh_lifetime = 600, 3600
        self.grants: list[str] = []
        self._mutex = threading.Lock()

    @property
    def token_url(self) -> str:
        """Where tokens are asked for."""
        return self.url + TOKEN_PATH

    def answer(self, seen: Seen) -> Answer:
        """A token, or why not."""
        form = {key: value[0] for key, value in parse_qs(seen.body.decode()).items()}
        kind = form.get("grant_type", "")
        with self._mutex:
            if kind == "refresh_token" and form.get("refresh_token") in self.refresh:
                self.refresh.discard(form["refresh_token"])
                return self._grant(kind)
            right = (form.get("username"), form.get("password")) == (self.user, self.password)
            right = right and form.get("totp") == self.totp and form.get("client_id") == "cdse-public"
            if kind == "password" and right:
                if self.totp:
                    self.totp = "used up"  # a one-time code is good once
                return self._grant(kind)
        said = f"Invalid user credentials for {form.get('username')} / {form.get('password')}"
        return Answer.json({"error": "invalid_grant", "error_description": said}, 401)

    def _grant(self, kind: str) -> Answer:
        self.grants.append(kind)
        access, refresh = f"access-{uuid.uuid4()}", f"refresh-{uuid.uuid4()}"
        self.valid.add(access)
        self.refresh.add(refresh)
        times = {"expires_in": self.lifetime, "refresh_expires_in": self.refresh_lifetime}
        return Answer.json({"access_token": access, "refresh_token": refresh, **times})

    def expire(self) -> None:
        """End every access token that was given so far."""
        self.valid.clear()

    def expire_session(self) -> None:
        """End the refresh tokens too: only the password helps now."""
        self.valid.clear()
        self.refresh.clear()


class FileServer(Server):
    """The host that holds the zips, by product id, and wants the token; the others redirect to it."""

    def __init__(self, keycloak: KeycloakServer, **options: Any) -> None:
        super().__init__(**options)
        self.keycloak = keycloak
        self.zips: dict[str, bytes] = {}
        self.chunked = self.open_to_all = False
        self.etag = True

    def answer(self, seen: Seen) -> Answer:
        """A zip, for a good token."""
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.open_to_all and token not in self.keycloak.valid:
            return Answer.json({"detail": "Expired signature!"}, 401)
        found = re.search(r"Products\(([^)]*)\)", seen.path)
        data = self.zips.get(found[1]) if found else None
        if data is None:
            return Answer.json({"detail": {"message": "Product not found"}}, 404)
        return Answer(data, ranged=not self.chunked, chunked=self.chunked, etag=self.etag)


class CatalogueServer(Server):
    """The catalogue: bulk look-up by name, filters, deleted products; and redirects of downloads to `files_url`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entries: list[dict[str, Any]] = []
        self.deleted: list[dict[str, Any]] = []
        self.files_url = ""
        self.most_skipped = 10_000

    def add(self, name: str, data: bytes, checksum: bool = True, size: bool = True, **changes: Any) -> str:
        """Add a product to the catalogue; its id."""
        identity = str(uuid.uuid4())
        sums = [
            {"Value": hashlib.blake2b(data).hexdigest(), "Algorithm": "BLAKE3"},
            {"Value": hashlib.md5(data).hexdigest(), "Algorithm": "MD5", "ChecksumDate": "2023-10-01T00:00:00Z"},
        ]
        entry = {
            "Id": identity,
            "Name": f"{name}.SAFE",
            "ContentLength": len(data) if size else 0,
            "Checksum": sums if checksum else [{}],
            "Online": True,
            "PublicationDate": "2023-10-01T00:00:00.000Z",
            "ContentDate": dict.fromkeys(("Start", "End"), _sensing(name)),
            "GeoFootprint": None,
            "Attributes": [_attribute("String", "productType", "S2MSI1C")],
        }
        self.entries.append(entry | changes)
        return identity

    def answer(self, seen: Seen) -> Answer:
        """A catalogue answer, or a redirect."""
        parts = urlsplit(seen.path)
        if parts.path == "/odata/v1/Products/OData.CSC.FilterList" and seen.method == "POST":
            wanted = [product["Name"] for product in json.loads(seen.body)["FilterProducts"]]
            return Answer.json({"value": [entry for entry in self.entries if entry["Name"] in wanted]})
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path in ("/odata/v1/Products", "/odata/v1/DeletedProducts"):
            return self._search(self.deleted if "Deleted" in parts.path else self.entries, query)
        if parts.path.endswith("/$value"):
            return Answer(b"", 302, {"Location": self.files_url + seen.path})
        return Answer.json({"detail": "Not Found"}, 404)

    def _search(self, entries: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        """A page of the entries that meet the filter, and the way to the next one."""
        top, skip = int(query.get("$top", 20)), int(query.get("$skip", 0))
        for name, value, most in (("$top", top, 1000), ("$skip", skip, self.most_skipped)):
            if value > most:
                said = f"Input should be less than or equal to {most}"
                detail = {"type": "less_than_equal", "loc": ["query", name], "msg": said, "input": str(value)}
                return Answer.json({"detail": [detail]}, 422)
        try:
            found = [entry for entry in entries if _matches(query.get("$filter", ""), entry)]
        except ValueError as problem:
            return Answer.json({"detail": {"message": f"Invalid field: {problem}", "request_id": "1"}}, 400)
        if query.get("$orderby"):
            found.sort(key=lambda e: (e["ContentDate"]["Start"], e["Id"]), reverse=query["$orderby"].endswith(" desc"))
        page = found[skip : skip + top]
        if query.get("$expand") != "Attributes":
            page = [{key: value for key, value in entry.items() if key != "Attributes"} for entry in page]
        answer: dict[str, Any] = {"@odata.context": "$metadata#Products", "value": page}
        if query.get("$count", "").lower() == "true":
            answer["@odata.count"] = len(found)
        if skip + top < len(found) and skip + top <= self.most_skipped:
            more = urlencode(query | {"$skip": str(skip + top)})
            answer["@odata.nextLink"] = f"https://catalogue.dataspace.copernicus.eu/odata/v1/Products?{more}"
        return Answer.json(answer)


def _sensing(name: str) -> str:
    """The sensing time in a product's name, as the catalogue writes times."""
    found = re.search(r"_(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)_", name)
    return "{}-{}-{}T{}:{}:{}.024000Z".format(*found.groups()) if found else ""


def _attribute(kind: str, name: str, value: Any) -> dict[str, Any]:
    return {"@odata.type": f"#OData.CSC.{kind}Attribute", "Name": name, "Value": value, "ValueType": kind}


def described(cloud: float, west: float, south: float, side: float = 1.0) -> dict[str, Any]:
    """What the catalogue says besides of a product with so much cloud and such a footprint, as changes to `add`."""
    east, north = west + side, south + side
    ring = [[west, north], [west, south], [east, south], [east, north], [west, north]]
    attributes = [_attribute("String", "productType", "S2MSI1C"), _attribute("Double", "cloudCover", cloud)]
    return {"Attributes": attributes, "GeoFootprint": {"type": "Polygon", "coordinates": [ring]}}


COMPARE = {"eq": operator.eq, "le": operator.le, "lt": operator.lt, "ge": operator.ge, "gt": operator.gt}


def _matches(condition: str, entry: dict[str, Any]) -> bool:
    """Whether an entry meets conditions joined by `and`; ValueError for what the catalogue does not know."""
    attribute = (
        r"Attributes/OData\.CSC\.(\w+)Attribute/any\(att:att/Name eq '(\w+)' and "
        r"att/OData\.CSC\.\1Attribute/Value (\w+) ('[^']*'|[\d.]+)\)"
    )
    name, start = entry["Name"], entry.get("ContentDate", {}).get("Start", "")
    tests: dict[str, Callable[..., bool]] = {
        r"Name eq '([^']*)'": lambda text: name == text,
        r"startswith\(Name,'([^']*)'\)": name.startswith,
        r"contains\(Name,'([^']*)'\)": lambda text: text in name,
        r"Collection/Name eq '([^']*)'": lambda text: text == "SENTINEL-2",
        r"ContentDate/Start (\w+) ([-\d]+(?:T[\d:.]+Z)?)": lambda how, text: COMPARE[how](start, text),
        r"OData\.CSC\.Intersects\(area=geography'SRID=4326;((?:POLYGON|POINT)\([^']*\))'\)": lambda wkt: _touches(
            wkt, entry["GeoFootprint"]
        ),
        attribute: lambda kind, key, how, value: any(
            COMPARE[how](a["Value"], value.strip("'") if kind == "String" else float(value))
            for a in entry["Attributes"]
            if a["Name"] == key and a["ValueType"] == kind
        ),
    }
    results = []
    while condition:
        found = [(test, match) for form, test in tests.items() if (match := re.match(rf"{form}(?: and |$)", condition))]
        if not found:
            raise ValueError(condition[:60])
        test, match = found[0]
        results.append(test(*match.groups()))
        condition = condition[match.end() :]
    return bool(results) and all(results)


def _touches(wkt: str, geojson: dict[str, Any] | None) -> bool:
    from osgeo import ogr

    area = ogr.CreateGeometryFromWkt(wkt)
    if area.GetGeometryName() == "POLYGON":
        corners = area.GetGeometryRef(0).GetPoints()
        if corners[0] != corners[-1]:
            raise ValueError("a polygon must start and end with the same point")
    return bool(geojson and area.Intersects(ogr.CreateGeometryFromJson(json.dumps(geojson))))
