"""A DHuS hub: OpenSearch, OData and `$value`, with user name and password."""

import base64
import hashlib
import re
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from servers.base import Answer, Seen, Server


class DhusServer(Server):
    """Products in `products`: name, bytes, whether online, and the checksum the hub gives."""

    def __init__(self, user: str, password: str, **options: Any) -> None:
        super().__init__(**options)
        self.user, self.password = user, password
        self.products: dict[str, dict[str, Any]] = {}
        self.quota_left = 20

    def add(self, name: str, data: bytes, online: bool = True, checksum: bool = True) -> str:
        """Add a product; its id."""
        identity = str(uuid.uuid4())
        self.products[identity] = {"name": name, "data": data, "online": online, "checksum": checksum}
        return identity

    def answer(self, seen: Seen) -> Answer:
        """What a hub answers."""
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if seen.headers.get("Authorization") != f"Basic {pair}":
            return Answer(b"<html><body>Full authentication is required</body></html>", 401)
        parts = urlsplit(seen.path)
        if parts.path == "/search":
            return self._search(parse_qs(parts.query)["q"][0])
        found = re.match(r"/odata/v1/Products\('([^']*)'\)(.*)", unquote(parts.path))
        product = self.products.get(found[1]) if found else None
        if found is None or product is None:
            return Answer.json({"error": {"message": {"value": f"No Products found with key '{seen.path}'"}}}, 404)
        if found[2] == "/$value":
            return self._value(product)
        return Answer.json({"d": self._entry(found[1], product)})

    def _search(self, query: str) -> Answer:
        name = query.removeprefix('filename:"').removesuffix('.SAFE"')
        feed: dict[str, Any] = {"opensearch:totalResults": "0"}
        hits = [{"title": p["name"], "id": key} for key, p in self.products.items() if p["name"] == name]
        if hits:
            feed |= {"opensearch:totalResults": str(len(hits)), "entry": hits[0] if len(hits) == 1 else hits}
        return Answer.json({"feed": feed})

    def _entry(self, identity: str, product: dict[str, Any]) -> dict[str, Any]:
        data = product["data"]
        checksum = {"Algorithm": "MD5", "Value": hashlib.md5(data).hexdigest().upper() if product["checksum"] else ""}
        return {
            "Id": identity,
            "Name": product["name"],
            "ContentLength": str(len(data)),
            "Checksum": checksum,
            "Online": product["online"],
        }

    def _value(self, product: dict[str, Any]) -> Answer:
        if product["online"]:
            return Answer(product["data"], ranged=True)
        self.quota_left -= 1
        if self.quota_left < 0:
            cause = f"User '{self.user}' offline products retrieval quota exceeded (20 fetches max)"
            return Answer(b"", 403, {"cause-message": cause})
        return Answer(b"", 202)
