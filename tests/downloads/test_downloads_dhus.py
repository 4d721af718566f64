"""Step 6 against a DHuS hub, through sentinelsat and in spite of it."""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Fault, drive
from servers.dhus import DhusServer
from servers.drive import NAME, OTHER

USER, PASSWORD = "somebody", "correct-horse-battery"
ZIP = drive.zipped(NAME, drive.product_files())


@pytest.fixture
def hub() -> Iterator[DhusServer]:
    with DhusServer(USER, PASSWORD) as server:
        assert isinstance(server, DhusServer)
        server.add(NAME, ZIP)
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def download(data: Path, hub: DhusServer, *names: str, **variables: str) -> Any:
    """Run step 6, and look for secrets in everything it said and wrote."""
    words = ["--WHAT", "products", "--SOURCE", "dhus", "--DHUS_URL", hub.url, "--PRODUCTS", *(names or (NAME,))]
    result = drive.run(data, *words, variables={"DHUS_USER": USER, "DHUS_PASSWORD": PASSWORD} | variables)
    texts = [result.stdout, result.stderr, *(seen.path for seen in hub.log)]
    texts += [content.decode("latin-1") for content in drive.on_disk(data).values()] if data.exists() else []
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    assert not [secret for secret in (PASSWORD, pair) for text in texts if secret in text]
    return result


def zip_is_right(data: Path) -> bool:
    folder = data / "products"
    return (folder / f"{NAME}.SAFE.zip").read_bytes() == ZIP and not list(folder.glob(".*.partial*"))


def row(result: Any, name: str = NAME) -> str:
    return next(line for line in result.stdout.splitlines() if line.startswith(name))


def test_a_product_comes_as_a_zip_and_only_once(data: Path, hub: DhusServer) -> None:
    result = download(data, hub)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data)
    assert f'filename:"{NAME}.SAFE"' in re.sub("%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), hub.log[0].path)
    asked = len(hub.log)
    assert download(data, hub).returncode == 0 and len(hub.log) == asked


def test_a_damaged_final_file_is_not_trusted(data: Path, hub: DhusServer) -> None:
    download(data, hub)
    place = data / "products" / f"{NAME}.SAFE.zip"
    place.write_bytes(ZIP[:-100] + bytes(100))
    result = download(data, hub)
    assert result.returncode == 0 and "changed since it was checked" in result.stderr
    assert place.read_bytes() == ZIP


def test_faults_on_the_way_are_overcome(data: Path, hub: DhusServer) -> None:
    hub.faults = [
        Fault("/search", silent=True),  # where sentinelsat's own timeout has no effect
        Fault("/search", drip=0.05),
        Fault("/search", status=503, body=b"<html>busy</html>"),
        Fault("json", status=500),
        Fault("value", cut_after=200_000),
        Fault("value", no_range=True, flip=7),  # sentinelsat would append all of it to what is there
    ]
    result = download(data, hub, NAME, "--READ_TIMEOUT", "1", *drive.STALLED)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data) and all(fault.times == 0 for fault in hub.faults)


def test_without_a_checksum_the_zip_itself_is_tested(data: Path, hub: DhusServer) -> None:
    hub.products.clear()
    hub.add(NAME, ZIP, checksum=False)
    hub.faults = [Fault("value", flip=ZIP.index(b"<product>") + 3)]
    result = download(data, hub)
    assert result.returncode == 0, result.stdout + result.stderr
    assert zip_is_right(data) and "damaged; starting over" in result.stderr


def test_an_archived_product_is_asked_for_and_told_as_offline(data: Path, hub: DhusServer) -> None:
    hub.products.clear()
    identity = hub.add(NAME, ZIP, online=False)
    hub.add(OTHER, drive.zipped(OTHER, drive.product_files(OTHER, 900)))
    result = download(data, hub, NAME, OTHER)
    assert result.returncode == 1 and " offline " in row(result) and " fetched " in row(result, OTHER)
    assert hub.quota_left == 19
    hub.products[identity]["online"] = True
    assert download(data, hub, NAME, OTHER).returncode == 0 and zip_is_right(data)


def test_a_quota_for_archived_products_is_told_as_such(data: Path, hub: DhusServer) -> None:
    hub.products.clear()
    hub.add(NAME, ZIP, online=False)
    hub.quota_left = 0
    result = download(data, hub)
    assert result.returncode == 1 and " quota " in row(result) and "retrieval quota exceeded" in row(result)


def test_missing_products_and_wrong_credentials_are_told(data: Path, hub: DhusServer) -> None:
    result = download(data, hub, OTHER)
    assert result.returncode == 1 and " missing " in row(result, OTHER) and "not on this hub" in row(result, OTHER)
    refused = download(data, hub, DHUS_PASSWORD="wrong-password-xyz")
    assert refused.returncode == 1 and "refuses the user name or password" in refused.stderr
    assert "wrong-password-xyz" not in refused.stdout + refused.stderr
    none = drive.run(data, "--WHAT", "products", "--SOURCE", "dhus", "--DHUS_URL", hub.url, "--PRODUCTS", NAME)
    assert none.returncode == 1 and "set DHUS_USER and DHUS_PASSWORD" in none.stderr
    nowhere = drive.run(data, "--WHAT", "products", "--SOURCE", "dhus", "--PRODUCTS", NAME)
    assert nowhere.returncode == 1 and "needs DHUS_URL" in nowhere.stderr


def test_a_password_may_have_any_letters(data: Path, hub: DhusServer) -> None:
    hub.user, hub.password = "someone-\u0396", "\u03ba\u03c9\u03b4\u03b9\u03ba\u03cc\u03c2-\xe9"
    result = download(data, hub, DHUS_USER=hub.user, DHUS_PASSWORD=hub.password)
    assert result.returncode == 0 and zip_is_right(data) and hub.password not in result.stdout + result.stderr
    foreign = download(data, hub, DHUS_PASSWORD=os.fsdecode(b"caf\xe9"))
    assert foreign.returncode == 1 and "DHUS_USER and DHUS_PASSWORD: not text in UTF-8" in foreign.stderr


def test_a_password_is_not_sent_unencrypted(data: Path, hub: DhusServer) -> None:
    hub.url = "http://hub.example.org/dhus"
    result = download(data, hub)
    assert result.returncode == 1 and "only https is used" in result.stderr
