"""Step 6: the reference masks, from both forms of the record API, and archives that mean harm."""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Fault, drive
from servers.drive import NAME, OTHER
from servers.zenodo import ZenodoServer

from cloudsom.downloads.archives import unpack_reference
from cloudsom.downloads.client import DownloadError

ARCHIVE = "masks.tgz"
TOP = "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle"


def scene(name: str, collection: str = "Reference_dataset", mask: bytes = b"mask") -> dict[str, bytes]:
    """The files of a scene as the published archive has them."""
    folder = f"{TOP}/{collection}/{name}"
    return {
        f"{folder}/Classification/classification_map.tif": mask,
        f"{folder}/Classification/used_parameters.json": b'{"tile": "31TFH"}',
        f"{folder}/Statistics/k_fold_summary.json": b"{}",
        f"{folder}/Classification/._classification_map.tif": b"junk of a Mac",
    }


def packed(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """A gzipped tar of some files, and of members as they are given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


GOOD = packed(
    {f"{TOP}/README.txt": b"about"}
    | scene(NAME)
    | scene(OTHER, mask=b"first")
    | scene(OTHER, "Hollstein", b"second")
    | scene(drive.OLD, "Hollstein")
)


@pytest.fixture
def zenodo() -> Iterator[ZenodoServer]:
    with ZenodoServer() as server:
        assert isinstance(server, ZenodoServer)
        server.files = {"other.txt": b"?", ARCHIVE: GOOD}
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def masks(data: Path, zenodo: ZenodoServer, *more: str, archive: bytes | None = None, **options: Any) -> Any:
    """Run step 6 for the masks; `archive` is served, and its own MD5 pinned."""
    if archive is not None:
        zenodo.files[ARCHIVE] = archive
    md5 = hashlib.md5(zenodo.files[ARCHIVE]).hexdigest()
    pins = ["--ZENODO_URL", zenodo.url, "--REFERENCE_ARCHIVE", ARCHIVE, "--REFERENCE_MD5", md5]
    return drive.run(data, "--WHAT", "reference", *pins, *more, **options)


def masks_are_right(data: Path) -> bool:
    found = drive.on_disk(data / "reference")
    return (
        found.pop(f"{NAME}/Classification/classification_map.tif") == b"mask"
        and found.pop(f"{OTHER}/Classification/classification_map.tif") == b"first"
        and found.pop(f"{drive.OLD}/Classification/classification_map.tif") == b"mask"
        and all(name.endswith(".json") for name in found)
        and len(found) == 6
    )


@pytest.mark.parametrize("form", ["old", "deposit", "new", "invenio"])
def test_masks_come_from_every_form_of_the_record(form: str, data: Path, zenodo: ZenodoServer) -> None:
    zenodo.form = form
    result = masks(data, zenodo)
    assert result.returncode == 0, result.stderr
    assert masks_are_right(data)
    assert f"{OTHER}: is in Reference_dataset and in Hollstein, with different masks; taken from" in result.stderr


def test_masks_are_not_fetched_twice(data: Path, zenodo: ZenodoServer) -> None:
    masks(data, zenodo)
    asked = len(zenodo.log)
    assert masks(data, zenodo).returncode == 0 and len(zenodo.log) == asked
    local = masks(data, zenodo, "--SOURCE", "local")
    assert local.returncode == 0 and "3 scenes" in local.stdout and len(zenodo.log) == asked


def test_a_lost_scene_comes_back_from_the_archive_without_the_network(data: Path, zenodo: ZenodoServer) -> None:
    masks(data, zenodo)
    asked, left = len(zenodo.log), data / f".{ARCHIVE}.partial.json"
    left.write_text("{}")  # by a run that ended just after the archive got its name
    (data / "reference" / NAME / "Classification" / "classification_map.tif").unlink()
    (data / "reference" / OTHER / "Classification" / "classification_map.tif").write_bytes(b"fir")
    assert masks(data, zenodo).returncode == 0
    assert masks_are_right(data) and len(zenodo.log) == asked and not left.exists()


def test_an_archive_whose_names_begin_with_a_dot(tmp_path: Path) -> None:
    here = tarfile.TarInfo("./")
    here.type = tarfile.DIRTYPE
    (tmp_path / ARCHIVE).write_bytes(packed({f"./{name}": content for name, content in scene(NAME).items()}, here))
    assert unpack_reference(tmp_path / ARCHIVE, tmp_path / "out", 10_000, print) == {NAME: "Reference_dataset"}


def test_interrupted_and_resumed(data: Path, zenodo: ZenodoServer) -> None:
    big = packed(scene(NAME, mask=bytes(hashlib.sha256(b"%d" % i).digest()[0] for i in range(100_000))))
    zenodo.faults = [Fault(ARCHIVE, cut_after=20_000), Fault(ARCHIVE, status=429, headers={"Retry-After": "1"})]
    result = masks(data, zenodo, archive=big)
    assert result.returncode == 0, result.stderr
    assert zenodo.asked(ARCHIVE)[-1].headers["Range"] == "bytes=20000-"
    assert hashlib.md5((data / ARCHIVE).read_bytes()).digest() == hashlib.md5(big).digest()


def test_an_archive_of_ours_that_was_damaged_is_fetched_again(data: Path, zenodo: ZenodoServer) -> None:
    masks(data, zenodo)
    (data / ARCHIVE).write_bytes(GOOD[:-20] + bytes(20))
    shutil.rmtree(data / "reference")
    assert masks(data, zenodo).returncode == 0
    assert masks_are_right(data)


def test_a_file_of_the_archives_name_that_we_did_not_fetch_stays(data: Path, zenodo: ZenodoServer) -> None:
    data.mkdir()
    (data / ARCHIVE).write_bytes(b"mine")
    result = masks(data, zenodo)
    assert result.returncode == 1 and f"{ARCHIVE}: is there, was not fetched by this program" in result.stdout
    assert "move it away" in result.stdout and (data / ARCHIVE).read_bytes() == b"mine"
    assert zenodo.asked(ARCHIVE) == []


def test_a_record_that_has_changed_is_not_taken(data: Path, zenodo: ZenodoServer) -> None:
    result = masks(data, zenodo, "--REFERENCE_MD5", "0" * 32)
    assert result.returncode == 1 and "now, not 0000" in result.stdout and zenodo.asked(ARCHIVE) == []
    assert not (data / ARCHIVE).exists()
    gone = masks(data, zenodo, "--ZENODO_RECORD", "7")
    assert gone.returncode == 1 and "PID does not exist" in gone.stdout
    unnamed = masks(data, zenodo, "--REFERENCE_ARCHIVE", "another.tgz")
    assert unnamed.returncode == 1 and "has no file another.tgz" in unnamed.stdout
    zenodo.faults = [Fault("/api/", status=200, body=b'{"files": [5]}')]
    nonsense = masks(data, zenodo)
    assert nonsense.returncode == 1 and "makes no sense" in nonsense.stdout


# --- archives that mean harm ------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


IN_SCENE = f"{TOP}/Reference_dataset/{NAME}"


def header_bomb() -> bytes:
    """A pax header that claims (and holds) 200 MB of zeros, in a few hundred kB."""
    info = member("././@PaxHeader", tarfile.XHDTYPE, size=200_000_000)
    return gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + bytes(200_000_000), 1)


EVIL = {
    "absolute path": packed(scene(NAME), member("/tmp/evil_by_absolute_path")),
    "way out": packed(scene(NAME), member(f"{IN_SCENE}/../../../../../evil")),
    "way out at the front": packed(scene(NAME), member("../evil")),
    "backslashes": packed(scene(NAME), member(f"{IN_SCENE}\\..\\..\\evil")),
    "symlink out": packed(scene(NAME), member(f"{IN_SCENE}/link", tarfile.SYMTYPE, "/etc")),
    "symlink, and a file through it": packed(
        scene(NAME) | {}, member(f"{IN_SCENE}/x", tarfile.SYMTYPE, "../../.."), member(f"{IN_SCENE}/x/evil", size=4)
    ),
    "hard link": packed(scene(NAME), member(f"{IN_SCENE}/link", tarfile.LNKTYPE, "/etc/passwd")),
    "device": packed(scene(NAME), member(f"{IN_SCENE}/sda", tarfile.BLKTYPE)),
    "pipe": packed(scene(NAME), member(f"{IN_SCENE}/pipe", tarfile.FIFOTYPE)),
    "bomb": packed(scene(NAME), member(f"{IN_SCENE}/zeros", size=60_000_000)),
    "header bomb": header_bomb(),
    "terminal sequences in a name": packed(scene(NAME), member(f"{IN_SCENE}/\x1b]0;evil\x07")),
}


THROUGH_THE_SCRIPT = ["absolute path", "way out", "symlink out", "device", "bomb"]


@pytest.mark.parametrize("kind", THROUGH_THE_SCRIPT)
def test_nothing_of_a_malicious_archive_is_used(kind: str, data: Path, zenodo: ZenodoServer, tmp_path: Path) -> None:
    result = masks(data, zenodo, "--REFERENCE_MAX_GB", "0.05", archive=EVIL[kind])
    assert result.returncode == 1 and REFUSALS.search(result.stdout), result.stdout
    assert drive.on_disk(data / "reference") == {}
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert not Path("/tmp/evil_by_absolute_path").exists()


REFUSALS = re.compile("could leave its folder|link or device|unpacks to more than|damaged archive")


@pytest.mark.parametrize("kind", [kind for kind in EVIL if kind not in THROUGH_THE_SCRIPT])
def test_nor_of_a_more_devious_one(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / ARCHIVE
    archive.write_bytes(EVIL[kind])
    with pytest.raises(DownloadError, match=REFUSALS):
        unpack_reference(archive, tmp_path / "reference", 50_000_000, print)
    assert drive.on_disk(tmp_path / "reference") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == [ARCHIVE, "reference"]


def test_an_archive_without_masks_or_not_an_archive_is_told(data: Path, zenodo: ZenodoServer) -> None:
    result = masks(data, zenodo, archive=packed({"a/b.txt": b"x"}))
    assert result.returncode == 1 and "it is another archive" in result.stdout
    result = masks(data, zenodo, archive=b"not gzip at all")
    assert result.returncode == 1 and "damaged archive" in result.stdout
    result = masks(data, zenodo, archive=GOOD[:-30])
    assert result.returncode == 1 and "damaged archive" in result.stdout
    assert drive.on_disk(data / "reference") == {}
