"""The pieces of the downloads that decide over names, waits and hosts, on inputs of every kind."""

import io
import posixpath
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import Fault, Server
from servers.drive import NAME, OLD, OTHER

from cloudsom.downloads.archives import lacking, safe_path
from cloudsom.downloads.cdse import DataSpace, Token
from cloudsom.downloads.client import Client, DownloadError, Limits, check_url, seconds_to_wait
from cloudsom.downloads.dhus import Basic, Hub
from cloudsom.downloads.display import Display
from cloudsom.downloads.engine import Fetched, table
from cloudsom.downloads.names import parse, wanted
from cloudsom.downloads.transfer import Unusable
from cloudsom.errors import UserError


@given(st.one_of(st.text(), st.lists(st.sampled_from(["a", "..", ".", "", "/", "\\", "C:", "\0", "é"])).map("/".join)))
def test_no_name_leaves_its_folder(name: str) -> None:
    try:
        path = safe_path(name, "test")
    except Unusable:
        return
    landed = posixpath.normpath(posixpath.join("/root/folder", str(path)))
    assert landed.startswith("/root/folder/") and ".." not in path.parts


def test_honest_names_are_taken() -> None:
    assert str(safe_path("./GRANULE/L1C_T31TFH/IMG_DATA/T31TFH_B01.jp2", "t")).startswith("GRANULE/L1C_T31TFH/")
    assert str(safe_path("Données/é.tif", "t")) == "Données/é.tif"


@given(st.text())
def test_any_text_is_a_product_or_a_clear_error(text: str) -> None:
    with pytest.raises(UserError, match=r"is not the name of|is an L2A product"):
        parse(text)


def test_names_say_what_they_say() -> None:
    new = parse(f"somewhere/{NAME}.SAFE/")
    assert (new.name, new.satellite, new.sensing) == (NAME, "S2A", "20170917T104021")
    assert (new.orbit, new.tile, new.baseline, new.made) == ("R008", "31TFH", "0205", "20170917T104018")
    old = parse(OLD + ".SAFE.zip")
    assert old.old and (old.sensing, old.orbit, old.tile) == ("20160102T075903", "R049", None)
    listed = wanted([f"{NAME}", "", "# no", f"{OLD} T37RDN", f"{NAME}.SAFE", OTHER], Path("nowhere"))
    assert [(p.name, p.tile) for p in listed] == [(NAME, "31TFH"), (OLD, "37RDN"), (OTHER, "31TFH")]


def test_waits_are_read_in_both_forms() -> None:
    assert seconds_to_wait("7") == 7 and seconds_to_wait("0.5") == 0.5 and seconds_to_wait("-3") == 0
    assert 58 < (seconds_to_wait(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nothing in (None, "", "soon", "Wed, 99 Oct"):
        assert seconds_to_wait(nothing) is None


@pytest.mark.parametrize("url", ["https://a.org/x", "http://localhost:8/x", "http://127.0.0.1/x", "http://[::1]:8/"])
def test_encrypted_or_on_this_machine(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.org/x",
        "ftp://a.org/x",
        "file:///etc/passwd",
        "http://127.0.0.1.a.org/",
        "https:///x",
        "https://u:p@a.org/",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(DownloadError):
        check_url(url)


def test_a_remote_host_cannot_redirect_to_this_machine_unencrypted() -> None:
    with pytest.raises(DownloadError, match=r"a\.org redirects to http://127\.0\.0\.1"):
        check_url("http://127.0.0.1:8080/", came_from="https://a.org/x")


def test_secrets_are_blacked_out_and_lines_stay_lines() -> None:
    client = Client()
    client.keep_secret("hunter22", "hunter2", None, "")
    assert client.clean("it is hunter22,\nhunter2\x1b[31m\ttwice") == "it is ***, *** [31m twice"


def test_what_holds_a_password_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_TOTP", "DHUS_USER", "DHUS_PASSWORD"):
        monkeypatch.setenv(name, "hunter2")
    client, url = Client(), "https://a.org/"
    space = DataSpace(client, url, url, Token(client, url, ["a.org"]))
    assert "hunter2" not in f"{space!r} {Hub(client, url)!r} {Basic(client, url)!r} {client!r}"


def test_what_a_product_lacks() -> None:
    names = [f"GRANULE/x/IMG_DATA/T31TFH_2017_B{i:02}.jp2" for i in range(1, 13)] + ["MTD_MSIL1C.xml"]
    assert lacking(names) == ["B8A", "MTD_TL.xml"]


def test_the_table_keeps_its_columns() -> None:
    text = table([Fetched("A", "fetched", "gcs", 1_500_000), Fetched("BBBBBBBB", "missing", "cdse", None, "why")])
    assert text.splitlines() == [
        "product   state    source  size  reason",
        "A         fetched  gcs     2 MB",
        "BBBBBBBB  missing  cdse          why",
    ]


def test_a_file_of_unknown_size_is_counted_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "__stderr__", screen)
    display = Display()
    with display.counting(1, None), display.file("spectra.h5", None) as at:
        at(5000)
    assert "spectra.h5" in screen.getvalue() and "5.00kB" in screen.getvalue()


def test_headers_that_come_letter_by_letter_are_not_waited_for() -> None:
    with Server() as server:
        server.faults = [Fault("", -1, status=200, drip_headers=0.1)]
        with pytest.raises(DownloadError, match="no answer in time"):
            Client(Limits(0.3, 0.3, retries=0)).json("GET", f"{server.url}/x")
