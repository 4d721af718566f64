"""The Copernicus Data Space Ecosystem: every product as a zip, for users with an account.

A catalogue without login says what there is (OData); the download host wants a token from Keycloak and may redirect to
other hosts of the same service. The token goes to hosts on the list `hosts` and to no other.
"""

import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cloudsom.downloads.client import Client, DownloadError, check_url
from cloudsom.downloads.credentials import find_credentials
from cloudsom.downloads.engine import Delivery, Source
from cloudsom.downloads.names import Product
from cloudsom.downloads.transfer import Remote
from cloudsom.errors import UserError

NAMES_AT_ONCE = 20  # in one bulk look-up; the catalogue's own default page
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
EARLY = 30  # seconds before its end that a token is taken as used up


class Token:
    """An access token for all threads: 10 minutes long, renewed by its refresh token, and by the password after that.

    Every login counts as a session there, and sessions are limited: hence one token for all, refreshed.
    """

    def __init__(self, client: Client, url: str, hosts: list[str]) -> None:
        self._client, self._url, self._hosts = client, url, hosts
        user, password = find_credentials("CDSE", "USERNAME", url)
        self._login = {"grant_type": "password", "username": user, "password": password}
        if totp := os.environ.get("CDSE_TOTP"):  # a one-time code, under two-factor login
            self._login["totp"] = totp
        client.keep_secret(user, password, totp)
        self._lock = threading.Lock()
        self._access = self._refresh = ""
        self._access_until = self._refresh_until = 0.0

    def headers(self, url: str) -> dict[str, str]:
        """The token, for a host on the list: as it is, or under a `.suffix`."""
        host = urlsplit(url).hostname or ""
        if not any(host.endswith(entry) if entry.startswith(".") else host == entry for entry in self._hosts):
            return {}
        with self._lock:
            if time.monotonic() >= self._access_until:
                self._renew()
            return {"Authorization": f"Bearer {self._access}"}

    def renew(self, refused: dict[str, str]) -> None:
        """Get another token, unless another thread has done so meanwhile."""
        with self._lock:
            if refused.get("Authorization") == f"Bearer {self._access}":
                self._renew()

    def _renew(self) -> None:
        if self._refresh and time.monotonic() < self._refresh_until:
            refresh, self._refresh = self._refresh, ""
            try:
                self._ask({"grant_type": "refresh_token", "refresh_token": refresh})
                return
            except DownloadError:  # the session has ended there: log in again
                pass
        try:
            self._ask(self._login)
        except DownloadError as problem:
            used = "; the code in CDSE_TOTP holds for one login: give a new one" if "totp" in self._login else ""
            raise UserError(f"login refused, {problem}; check CDSE_USERNAME, CDSE_PASSWORD or ~/.netrc{used}") from None

    def _ask(self, form: dict[str, str]) -> None:
        answer = self._client.json("POST", self._url, data={"client_id": "cdse-public", **form})
        try:
            access, refresh = str(answer["access_token"]), str(answer.get("refresh_token") or "")
            now = time.monotonic()
            until = now + max(1.0, float(answer.get("expires_in", 600)) - EARLY)
            refresh_until = now + float(answer.get("refresh_expires_in", 3600)) - EARLY
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DownloadError(f"{urlsplit(self._url).hostname}: its answer holds no token") from None
        self._client.keep_secret(access, refresh)
        self._access, self._refresh = access, refresh
        self._access_until, self._refresh_until = until, refresh_until


@dataclass
class DataSpace(Source):
    """The catalogue at `catalogue`, files at `download`; `allow_reprocessed` takes a newer baseline for a lost one."""

    client: Client
    catalogue: str
    download: str
    token: Token
    allow_reprocessed: bool = False
    name: str = "cdse"
    most_connections: int = 4  # its quota for one user
    answer: str = "the catalogue's answer"
    _entries: list[dict[str, Any]] = field(default_factory=list, init=False)

    def prepare(self, products: list[Product]) -> None:
        """Look all names up in bulk."""
        check_url(self.download)
        self.token.headers(self.download)  # a wrong password is told before anything else is done
        names = [{"Name": f"{product.name}.SAFE"} for product in products]
        for first in range(0, len(names), NAMES_AT_ONCE):
            group = {"FilterProducts": names[first : first + NAMES_AT_ONCE]}
            answer = self.client.json("POST", f"{self._odata}/Products/OData.CSC.FilterList", json=group)
            self._entries += entries_of(answer)

    @property
    def _odata(self) -> str:
        return f"{self.catalogue.rstrip('/')}/odata/v1"

    def find(self, product: Product) -> Delivery:
        """The zip of a product."""
        found = [entry for entry in self._entries if entry.get("Name") == f"{product.name}.SAFE"]
        if found:  # of several, one that is online, and the one published last
            best = max(found, key=lambda entry: (entry.get("Online") is not False, str(entry.get("PublicationDate"))))
            return self._zip(product, best, reprocessed=False)
        if self.allow_reprocessed:
            return self._reprocessed(product)
        raise self._why_missing(product)

    def _zip(self, product: Product, entry: dict[str, Any], reprocessed: bool) -> Delivery:
        identity = str(entry["Id"])
        if not UUID.fullmatch(identity):
            raise DownloadError("the catalogue gives no proper product id")
        if entry.get("Online") is False:
            raise DownloadError("archived, not online: order it in the Copernicus Browser and try later", "offline")
        url = f"{self.download.rstrip('/')}/odata/v1/Products({identity})/$value"
        remote, delivered = zip_at(url, product, entry), str(entry["Name"]).removesuffix(".SAFE")
        return Delivery(product, self.name, [remote], True, delivered, url, self.token, reprocessed)

    def _search(self, collection: str, condition: str) -> list[dict[str, Any]]:
        url = f"{self._odata}/{collection}"
        return entries_of(self.client.json("GET", url, params={"$filter": condition, "$top": "100"}))

    def _why_missing(self, product: Product) -> DownloadError:
        """What the catalogue knows about a product that it no longer has."""
        advice = "the same acquisition may be there reprocessed: ALLOW_REPROCESSED = True takes it"
        try:
            gone = self._search("DeletedProducts", f"Name eq '{product.name}.SAFE'")
        except DownloadError:
            gone = []
        if not gone:
            return DownloadError(f"not in the catalogue (old baselines are being deleted); {advice}", "missing")
        when = self.client.clean(str(gone[0].get("DeletionDate", "")))[:10]
        cause = self.client.clean(str(gone[0].get("DeletionCause") or "no cause given"))[:80]
        return DownloadError(f"deleted there on {when} ({cause}); {advice}", "deleted")

    def _reprocessed(self, product: Product) -> Delivery:
        """The same acquisition in its newest processing baseline."""
        if not product.tile:
            raise DownloadError("an old long name: give the tile after it, as in PRODUCTS 'NAME 31TFJ'", "missing")
        start, place = f"{product.satellite}_MSIL1C_{product.sensing}_", f"_{product.orbit}_T{product.tile}_"
        found = [
            entry
            for entry in self._search("Products", f"startswith(Name,'{start}') and contains(Name,'{place}')")
            if re.fullmatch(rf"{start}N\d{{4}}{place}\d{{8}}T\d{{6}}\.SAFE", str(entry.get("Name")))
        ]
        if not found:
            raise DownloadError("neither it nor its acquisition in another baseline is in the catalogue", "missing")
        return self._zip(product, max(found, key=lambda entry: str(entry["Name"])), reprocessed=True)


def entries_of(answer: Any) -> list[dict[str, Any]]:
    """The products in a catalogue's answer."""
    value = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(value, list):
        raise DownloadError("the catalogue's answer makes no sense")
    return [entry for entry in value if isinstance(entry, dict)]


def zip_at(url: str, product: Product, entry: dict[str, Any]) -> Remote:
    """A product's zip, with the size and MD5 that an OData entry gives; for many products they are not known."""
    size = int(entry.get("ContentLength") or 0) or None  # 0 stands for "not known" there
    checksums = entry.get("Checksum") or []
    for checksum in [checksums] if isinstance(checksums, dict) else checksums:
        algorithm, value = str(checksum.get("Algorithm")).upper(), str(checksum.get("Value"))
        if algorithm == "MD5" and re.fullmatch(r"[0-9a-fA-F]{32}", value):
            return Remote(url, f"{product.name}.SAFE.zip", size, f"md5:{value.lower()}")
    return Remote(url, f"{product.name}.SAFE.zip", size)
