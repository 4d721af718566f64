"""DHuS hubs, as the paper's own script used them through `sentinelsat`.

`sentinelsat` searches and asks for archived products. The rest is done here, because (version 1.2.1) its `timeout` has
no effect, it fails on a product without a checksum, appends to a partial file whatever the server answers to a Range,
and takes a file under the final name as good without looking.
"""

import base64
import re
import threading
import warnings
from typing import Any
from urllib.parse import urlsplit

import requests

from cloudsom.downloads.cdse import UUID, zip_at
from cloudsom.downloads.client import (
    TRY_AGAIN,
    Client,
    DownloadError,
    Transient,
    check_url,
    network_faults,
    seconds_to_wait,
)
from cloudsom.downloads.credentials import find_credentials
from cloudsom.downloads.engine import Delivery, Source
from cloudsom.downloads.names import Product
from cloudsom.errors import UserError


class Basic:
    """User name and password for one host."""

    def __init__(self, client: Client, url: str) -> None:
        self._host = urlsplit(url).netloc
        user, password = find_credentials("DHUS", "USER", url)
        pair = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        self._header = f"Basic {pair}"
        client.keep_secret(user, password, pair)
        self.credentials = user.encode(), password.encode()  # text would be made Latin-1

    def headers(self, url: str) -> dict[str, str]:
        """The credentials, for the hub itself."""
        return {"Authorization": self._header} if urlsplit(url).netloc == self._host else {}

    def renew(self, refused: dict[str, str]) -> None:
        """There is nothing to renew."""
        raise UserError("the hub refuses the user name or password; check DHUS_USER and DHUS_PASSWORD or ~/.netrc")


class _InTime(requests.adapters.HTTPAdapter):
    """Gives sentinelsat's session the client's timeouts and its watch over slow answers."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """As `requests` has it, but with the timeouts set and the body read under the client's limits."""
        check_url(request.url or "")
        limits = self._client.limits
        options["timeout"] = (limits.connect_timeout, limits.read_timeout)
        response = super().send(request, *args, **options)
        if not options.get("stream"):
            response._content = b"".join(self._client.chunks(response, decode=True))
            response._content_consumed = True
        return response


class Hub(Source):
    """A DHuS hub at `url`."""

    name = "dhus"
    most_connections = 2  # what most hubs allow one user
    answer = "the hub's answer"

    def __init__(self, client: Client, url: str) -> None:
        try:
            from sentinelsat import SentinelAPI
        except ImportError:
            raise UserError("SOURCE dhus needs the package sentinelsat: pip install sentinelsat") from None
        check_url(url)
        self._client, self._url = client, url.rstrip("/")
        self._auth = Basic(client, url)
        self._one_at_a_time = threading.Lock()  # warnings are filtered for all threads
        self._api = SentinelAPI(*self._auth.credentials, url, show_progressbars=False)
        for scheme in ("https://", "http://"):
            self._api.session.mount(scheme, _InTime(client))

    def _ask(self, question: Any, *args: Any, **options: Any) -> Any:
        """Call a function of sentinelsat's API, with retries and with its errors told as ours."""
        from sentinelsat import exceptions

        def attempt() -> Any:
            host = urlsplit(self._url).hostname or ""
            try:
                with self._one_at_a_time, network_faults(host), warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    return question(*args, **options)
            except exceptions.UnauthorizedError:
                self._auth.renew({})
            except exceptions.SentinelAPIError as problem:
                status = getattr(problem.response, "status_code", 0)
                told = self._client.clean(f"{host}: status {status}: {problem.msg}")[:300].rstrip(": ")
                if status in TRY_AGAIN and not isinstance(problem, exceptions.LTAError):
                    raise Transient(told, seconds_to_wait(problem.response.headers.get("Retry-After"))) from None
                raise DownloadError(told, "quota" if re.search("quota", told, re.IGNORECASE) else "failed") from None

        return self._client.persist(attempt)

    def find(self, product: Product) -> Delivery:
        """The zip of a product; one that is archived is asked for."""
        answer = self._ask(self._api.query, filename=f"{product.name}.SAFE")
        found = [key for key, facts in answer.items() if facts.get("title", "").removesuffix(".SAFE") == product.name]
        if not found:
            raise DownloadError("not on this hub", "missing")
        identity = str(found[0])
        if not UUID.fullmatch(identity):
            raise DownloadError("the hub gives no proper product id")
        entry = self._client.json("GET", f"{self._url}/odata/v1/Products('{identity}')?$format=json", self._auth)["d"]
        if entry.get("Online") is False:
            asked = self._ask(self._api.trigger_offline_retrieval, identity)
            if asked:
                raise DownloadError("archived on this hub; it is asked for now, try again in some hours", "offline")
        url = f"{self._url}/odata/v1/Products('{identity}')/$value"
        return Delivery(product, self.name, [zip_at(url, product, entry)], True, product.name, url, self._auth)
