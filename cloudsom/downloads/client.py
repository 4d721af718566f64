"""One HTTP request: encrypted, bounded in time, retried politely, and silent about credentials."""

import email.utils
import http.client
import ipaddress
import json
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent import futures
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from cloudsom import __version__
from cloudsom.downloads.display import Display
from cloudsom.errors import UserError

T = TypeVar("T")

CHUNK = 256 * 1024  # bytes read at once
MAX_CONNECTIONS = 65  # kept open: of as many transfers as there may be, and a login
MAX_REDIRECTS = 5
MAX_JSON = 64 * 1024 * 1024  # bytes; a listing page or catalogue answer is far smaller
MAX_ERROR = 16 * 1024  # bytes of an error's page that are looked at
MAX_EXCERPT = 200  # characters of a server's message that are shown
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
QUOTA_WORDS = re.compile(r"quota|limit|exceeded|too many|max(imum)? (session|number)|concurrent", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """How long to wait for a server (seconds), how slow it may be (bytes a second), and how often to try again."""

    connect_timeout: float = 20.0
    read_timeout: float = 60.0
    stall_seconds: float = 60.0
    stall_rate: float = 1000.0
    retries: int = 6
    backoff: float = 1.0
    backoff_max: float = 60.0
    wait_max: float = 600.0


class DownloadError(UserError):
    """A file that cannot be had; `state` is the word for it in the final table."""

    def __init__(self, message: str, state: str = "failed") -> None:
        super().__init__(message)
        self.state = state


class Transient(Exception):
    """A fault worth another try; `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None, state: str = "failed") -> None:
        super().__init__(message)
        self.wait = wait
        self.state = state


class Stopped(Exception):
    """The run is being stopped."""


class Auth(Protocol):
    """Who may see a credential, and how to get a new one."""

    def headers(self, url: str) -> dict[str, str]:
        """The headers for this URL; none for a host that must not see them."""

    def renew(self, refused: dict[str, str]) -> None:
        """Replace the credential that was refused; raises DownloadError if there is no other."""


def is_loopback(host: str | None) -> bool:
    """Whether a host name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_url(url: str, came_from: str = "", plain_hosts: Collection[str] = ()) -> None:
    """Refuse, with a DownloadError, any URL that is not https; http only to this machine itself, as in tests, and to
    `plain_hosts`."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is none shows only when it is asked for
    except ValueError:
        whence = f"{urlsplit(came_from).hostname}: redirects to " if came_from else ""
        raise DownloadError(f"{whence}{url[:100]!r}, which is not a URL; check the address") from None
    if parts.username or parts.password:
        raise DownloadError(f"{host}: the URL carries credentials; give them in ~/.netrc or the environment")
    plain_allowed = is_loopback(host) and (not came_from or is_loopback(urlsplit(came_from).hostname))
    plain_allowed |= host in plain_hosts
    if not host or (parts.scheme != "https" and not (parts.scheme == "http" and plain_allowed)):
        whence = f"{urlsplit(came_from).hostname} redirects to " if came_from else ""
        raise DownloadError(f"{whence}{parts.scheme}://{host}: only https is used; give an https URL")


def seconds_to_wait(header: str | None) -> float | None:
    """A Retry-After header, in seconds or as an HTTP date, as seconds from now; None if there is none to be read."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


@contextmanager
def network_faults(host: str) -> Iterator[None]:
    """Turn what `requests`, `urllib3` and the sockets raise into Transient, or DownloadError where no retry helps."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise DownloadError(f"{host}: not a URL that can be asked; check the address") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as problem:
        text = str(problem)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            raise DownloadError(
                f"{host}: its TLS certificate is not trusted here; if your network has its own certificate authority, "
                "name its file in the environment variable REQUESTS_CA_BUNDLE"
            ) from None
        raise Transient(f"{host}: {_reason(problem)}") from None


def _reason(problem: BaseException) -> str:
    """The cause at the bottom of a wrapped exception, in a few words."""
    for _ in range(8):
        inner = getattr(problem, "reason", None) or (problem.args[0] if problem.args else None)
        inner = inner if isinstance(inner, BaseException) else problem.__cause__ or problem.__context__
        if inner is None:
            break
        problem = inner
    words = {
        "ReadTimeoutError": "no answer in time",
        "ConnectTimeoutError": "no connection in time",
        "TimeoutError": "no answer in time",
        "IncompleteRead": "the connection was cut",
        "RemoteDisconnected": "the connection was cut",
        "ConnectionResetError": "the connection was cut",
        "ConnectionRefusedError": "the connection was refused",
        "NameResolutionError": "the host name cannot be resolved",
        "gaierror": "the host name cannot be resolved",
    }
    return words.get(type(problem).__name__, f"connection failed ({type(problem).__name__})")


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps `requests` from sending ~/.netrc's credentials by itself: who sees them is decided here."""
    return request


class _Session(requests.Session):
    """A session that leaves redirects alone: `requests` reads their target even where it is not to follow them, and
    lets what cannot be read end in exceptions of its own."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: `Client.send` follows redirects."""
        return None


def settle(future: futures.Future[T], action: Callable[[], T]) -> None:
    """Do for another thread what `future` is to hold: what `action` returns or raises."""
    try:
        future.set_result(action())
    except BaseException as problem:
        future.set_exception(problem)


class Client:
    """Sends requests. One is shared by all threads of a run.

    plain_hosts  hosts that may be asked without encryption; what comes from them is checked by a known checksum
    """

    def __init__(self, limits: Limits | None = None, plain_hosts: Collection[str] = ()) -> None:
        self.limits = limits or Limits()
        self.plain_hosts = frozenset(plain_hosts)
        self.verify: str | bool | None = None  # certificates to trust; None: what `requests` and its environment say
        self.stop = threading.Event()
        self.secrets: set[str] = set()
        self.display = Display()
        self.tell = self.display.line
        self.session = _Session()
        self.session.auth = _no_credentials
        self.session.headers["User-Agent"] = f"cloudsom/{__version__}"
        pool = requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS)
        self.session.mount("https://", pool)
        self.session.mount("http://", pool)

    # --- what is said -------------------------------------------------------------------------------------------------

    def clean(self, text: str) -> str:
        """Text from a server as one printable line without the credentials."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())

    def keep_secret(self, *words: str | None) -> None:
        """Never show these words. One of under four letters would black out half of every message: it is let be."""
        self.secrets |= {word for word in words if word and len(word) > 3}

    def say(self, text: str) -> None:
        """A line for the user; nothing once the run is being stopped."""
        if not self.stop.is_set():
            self.tell(self.clean(text))

    # --- trying -------------------------------------------------------------------------------------------------------

    def persist(self, attempt: Callable[[], T], progressed: Callable[[], bool] = lambda: False) -> T:
        """Call `attempt` until it works, waiting longer after each Transient fault (exponential backoff, full jitter).

        The count of failures starts again when `progressed` says the last attempt brought something. Raises
        DownloadError when the tries are used up or the server asks for a longer wait than `wait_max`.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except Transient as fault:
                failures = 1 if progressed() else failures + 1
                if fault.wait is not None and fault.wait > self.limits.wait_max:
                    raise DownloadError(
                        self.clean(f"{fault}; it asks to wait {fault.wait:.0f} s, try again then"), fault.state
                    ) from None
                if failures > self.limits.retries:
                    raise DownloadError(self.clean(f"{fault} (tried {failures} times)"), fault.state) from None
                delay = self._delay(failures, fault.wait)
                self.say(f"{fault}; trying again in {delay:.1f} s")
            if self.stop.wait(delay):
                raise Stopped

    def _delay(self, failures: int, asked: float | None) -> float:
        jitter = random.uniform(0, min(self.limits.backoff_max, self.limits.backoff * 2 ** (failures - 1)))
        return jitter if asked is None else asked + min(jitter, 1.0)

    # --- requests -----------------------------------------------------------------------------------------------------

    def send(
        self, method: str, url: str, auth: Auth | None = None, headers: dict[str, str] | None = None, **body: Any
    ) -> requests.Response:
        """One request, with redirects followed by hand so that credentials go only where `auth` allows.

        A refused credential is renewed and the request sent again, twice at most. The body of the response is not read
        yet. Raises Transient, DownloadError, Stopped.
        """
        renewals = redirects = 0
        start = url
        while True:
            check_url(url, "" if url == start else start, self.plain_hosts)
            credentials = auth.headers(url) if auth else {}
            sent = body if url == start else {key: value for key, value in body.items() if key != "params"}
            response = self._once(method, url, {**(headers or {}), **credentials}, sent)
            if method == "GET" and response.is_redirect:
                response.close()
                redirects += 1
                if redirects > MAX_REDIRECTS:
                    raise DownloadError(f"{urlsplit(start).hostname}: redirects in a circle")
                url = _join(url, response.headers["Location"])
            elif response.status_code == 401 and auth and credentials and renewals < 2:
                response.close()
                renewals += 1
                auth.renew(credentials)
                url = start
            else:
                return response

    def _once(self, method: str, url: str, headers: dict[str, str], body: dict[str, Any]) -> requests.Response:
        """One answer, asked for in a thread of its own: the system's name look-up and a server that sends its headers
        letter by letter know no time limit. A late answer is nobody's, and closed as such."""
        limits = self.limits
        request = partial(
            self.session.request,
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            allow_redirects=False,
            timeout=(limits.connect_timeout, limits.read_timeout),
            verify=self.verify,
            **body,
        )
        future: futures.Future[requests.Response] = futures.Future()
        threading.Thread(target=settle, args=(future, request), daemon=True).start()
        end = time.monotonic() + limits.connect_timeout + limits.read_timeout
        with network_faults(urlsplit(url).hostname or ""):
            while not futures.wait([future], timeout=0.2).done:
                if self.stop.is_set():
                    raise Stopped
                if time.monotonic() > end:
                    raise TimeoutError
            return future.result()

    def chunks(self, response: requests.Response, decode: bool = False) -> Iterator[bytes]:
        """The body as it comes. Raises Transient when the connection is cut or is slower than `stall_rate`."""
        limits = self.limits
        host = urlsplit(response.url).hostname or ""
        began, count = time.monotonic(), 0
        while True:
            if self.stop.is_set():
                raise Stopped
            with network_faults(host):
                block = response.raw.read1(CHUNK, decode_content=decode)
            if not block:
                return
            yield block
            count += len(block)
            elapsed = time.monotonic() - began
            if elapsed >= limits.stall_seconds:
                if count < limits.stall_rate * elapsed:
                    raise Transient(f"{host}: stalled, {count:,} bytes in {elapsed:.0f} s")
                began, count = time.monotonic(), 0

    def judge(self, response: requests.Response) -> None:
        """Return on success; otherwise raise what the status means: Transient, or DownloadError with its state."""
        status = response.status_code
        if status in (200, 206):
            return
        host = urlsplit(response.url).hostname
        said = self.excerpt(response)
        told = f"{host}: status {status}" + (f": {said}" if said else "")
        quota = "quota" if status == 429 or QUOTA_WORDS.search(said) else "failed"
        if status in TRY_AGAIN:
            raise Transient(told, seconds_to_wait(response.headers.get("Retry-After")), quota)
        if status == 202:
            raise DownloadError(f"{told}; it is archived and asked for: try again in some hours", "offline")
        if status in (404, 410):
            raise DownloadError(told, "missing")
        if status == 401:
            raise DownloadError(f"{told}; it refuses the credentials")
        raise DownloadError(f"{told}; the server refuses" if status == 403 and quota == "failed" else told, quota)

    def excerpt(self, response: requests.Response) -> str:
        """The message in an error response: its JSON `message`, `detail`..., or its text without tags; one line."""
        data = b""
        with suppress(Transient, DownloadError), closing(response):
            for block in self.chunks(response, decode=True):
                data += block
                if len(data) > MAX_ERROR:
                    break
        text = response.headers.get("cause-message") or data[:MAX_ERROR].decode("utf-8", "replace")
        try:
            text = _message(json.loads(text)) or text
        except (ValueError, RecursionError):
            text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE)
        return self.clean(text)[:MAX_EXCERPT]

    def answer(self, method: str, url: str, auth: Auth | None = None, **request: Any) -> tuple[bytes, str, str]:
        """The body of a short answer, its content type, and the URL it came from. Raises Transient, DownloadError."""
        with closing(self.send(method, url, auth, **request)) as response:
            self.judge(response)
            data = bytearray()
            for block in self.chunks(response, decode=True):
                data += block
                if len(data) > MAX_JSON:
                    raise DownloadError(f"{urlsplit(url).hostname}: its answer is over {MAX_JSON:,} bytes")
            return bytes(data), response.headers.get("Content-Type", ""), response.url

    def json(self, method: str, url: str, auth: Auth | None = None, **body: Any) -> Any:
        """The JSON answer to a request, with retries. Raises DownloadError."""

        def attempt() -> Any:
            data, _, _ = self.answer(method, url, auth, **body)
            try:
                return json.loads(data)
            except (ValueError, RecursionError):
                raise Transient(f"{urlsplit(url).hostname}: its answer is not JSON") from None

        return self.persist(attempt)


def _join(url: str, target: str) -> str:
    """Where a redirect leads; headers come as Latin-1, and servers write UTF-8 into them."""
    try:
        return urljoin(url, target.encode("latin-1").decode("utf-8"))
    except ValueError:
        raise DownloadError(f"{urlsplit(url).hostname}: redirects to something that is not a URL") from None


def _message(answer: Any) -> str:
    """The human part of a JSON error, wherever this server puts it."""
    if isinstance(answer, list) and answer:
        return _message(answer[0])
    for key in ("error_description", "message", "detail", "error", "value", "msg"):
        if isinstance(answer, dict) and answer.get(key):
            return _message(answer[key])
    return answer if isinstance(answer, str) else ""
