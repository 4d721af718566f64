"""The spectra files of step 1: no published checksum, so the first download is the measure of the later ones."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Answer, Fault, Seen, Server

from cloudsom.downloads.client import Limits
from cloudsom.downloads.spectra import download_spectra
from cloudsom.errors import UserError

CONTENT = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 300
QUICK = Limits(1, 1, 0.5, 1000, 3, 0.01, 0.05, 5)


class GitLab(Server):
    content = CONTENT

    def answer(self, seen: Seen) -> Answer:
        return Answer(self.content, ranged=True, headers={"ETag": 'W/"weak"'})


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab() as server:
        assert isinstance(server, GitLab)
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spectra.h5"


def test_the_first_download_is_recorded_and_not_repeated(gitlab: GitLab, path: Path) -> None:
    assert download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert path.read_bytes() == CONTENT
    record = json.loads(Path(f"{path}.json").read_text())
    assert record["size"] == len(CONTENT) and len(record["sha256"]) == 64
    assert not download_spectra(gitlab.url + "/x.h5", path, QUICK) and len(gitlab.log) == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["spectra.h5", "spectra.h5.json"]


def test_a_cut_download_goes_on_though_the_etag_is_weak(gitlab: GitLab, path: Path) -> None:
    gitlab.faults = [Fault("x.h5", cut_after=30_000)]
    download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert path.read_bytes() == CONTENT
    assert gitlab.log[-1].headers["Range"] == "bytes=30000-" and "If-Range" not in gitlab.log[-1].headers


def test_a_later_download_must_be_the_same_file(gitlab: GitLab, path: Path) -> None:
    download_spectra(gitlab.url + "/x.h5", path, QUICK)
    path.unlink()
    gitlab.content = CONTENT[:-1] + b"?"
    with pytest.raises(UserError, match=r"sha256 is .* was promised, twice.*remove .*spectra\.h5\.json"):
        download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert not path.exists()
    Path(f"{path}.json").unlink()
    assert download_spectra(gitlab.url + "/x.h5", path, QUICK)


def test_a_file_that_was_changed_on_disk_is_told(gitlab: GitLab, path: Path) -> None:
    download_spectra(gitlab.url + "/x.h5", path, QUICK)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(UserError, match="is not the file that was downloaded first"):
        download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert path.exists()


def test_a_login_page_is_no_spectra_file(gitlab: GitLab, path: Path) -> None:
    gitlab.content = b"<!DOCTYPE html><title>Sign in</title>"
    with pytest.raises(UserError, match="what came is not an HDF5 file, twice"):
        download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert list(path.parent.iterdir()) == []


def test_a_file_of_the_users_own_is_left_alone(gitlab: GitLab, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"mine")
    assert not download_spectra(gitlab.url + "/x.h5", path, QUICK)
    assert path.read_bytes() == b"mine" and gitlab.log == []
