"""Copernicus Data Space: Keycloak's token endpoint, the OData catalogue, and a download host that redirects."""

import hashlib
import json
import re
import threading
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
        }
        self.entries.append(entry | changes)
        return identity

    def answer(self, seen: Seen) -> Answer:
        """A catalogue answer, or a redirect."""
        parts = urlsplit(seen.path)
        if parts.path == "/odata/v1/Products/OData.CSC.FilterList" and seen.method == "POST":
            wanted = [product["Name"] for product in json.loads(seen.body)["FilterProducts"]]
            return Answer.json({"value": [entry for entry in self.entries if entry["Name"] in wanted]})
        condition = parse_qs(parts.query).get("$filter", [""])[0]
        if parts.path == "/odata/v1/Products":
            return Answer.json({"value": [e for e in self.entries if _matches(condition, e["Name"])]})
        if parts.path == "/odata/v1/DeletedProducts":
            return Answer.json({"value": [e for e in self.deleted if _matches(condition, e["Name"])]})
        if parts.path.endswith("/$value"):
            return Answer(b"", 302, {"Location": self.files_url + seen.path})
        return Answer.json({"detail": "Not Found"}, 404)


def _matches(condition: str, name: str) -> bool:
    """The few OData conditions that are used, joined by `and`."""
    tests = {
        r"Name eq '(.*)'": lambda text: name == text,
        r"startswith\(Name,'(.*)'\)": name.startswith,
        r"contains\(Name,'(.*)'\)": lambda text: text in name,
    }
    results = []
    for part in condition.split(" and "):
        found = [(test, re.fullmatch(form, part)) for form, test in tests.items()]
        results += [test(match[1]) for test, match in found if match]
    return bool(results) and all(results)
