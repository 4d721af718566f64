"""Step 6 against a bucket: what a poor connection, a poor server and a poor disk do, and how each ends."""

import contextlib
import fcntl
import os
import pty
import random
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from servers import Fault, drive
from servers.bucket import BucketServer
from servers.drive import NAME, OTHER

FOLDER = f"tiles/31/T/FH/{NAME}.SAFE"
B05 = f"{FOLDER}/GRANULE/L1C_T31TFH_A011685_20170917T104021/IMG_DATA/T31TFH_20170917T104021_B05.jp2"


@pytest.fixture
def bucket() -> Iterator[BucketServer]:
    with BucketServer() as server:
        assert isinstance(server, BucketServer)
        server.put_product(FOLDER, drive.product_files())
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def words(bucket: BucketServer, *names: str) -> list[str]:
    where = ["--GCS_URL", bucket.url, "--GCS_BUCKET", bucket.bucket]
    return ["--WHAT", "products", *where, "--PRODUCTS", *(names or (NAME,))]


def download(data: Path, bucket: BucketServer, *more: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return drive.run(data, *words(bucket), *more, **options)


def product_is_right(data: Path, name: str = NAME) -> bool:
    """The product's folder holds what the server holds of it, and nothing else; nothing half-done is left."""
    folder = data / "products" / f"{name}.SAFE"
    hidden = [p.name for p in folder.parent.glob(".*.partial*")]
    return drive.on_disk(folder) == drive.needed(drive.product_files(name)) and not hidden


def nothing_is_there(data: Path) -> bool:
    return drive.visible(data / "products") == []


# --- a good day -------------------------------------------------------------------------------------------------------


def test_bands_and_metadata_come_and_are_not_fetched_again(data: Path, bucket: BucketServer) -> None:
    result = download(data, bucket)
    assert result.returncode == 0, result.stderr
    assert product_is_right(data)
    assert len(bucket.asked("/storage/v1/")) == 3  # 20 objects on pages of 7
    assert "fetched" in result.stdout and "gcs" in result.stdout
    asked = len(bucket.log)
    again = download(data, bucket)
    assert again.returncode == 0 and "there" in again.stdout
    assert len(bucket.log) == asked


def test_a_whole_product_on_request_fetches_only_what_is_missing(data: Path, bucket: BucketServer) -> None:
    download(data, bucket)
    before = len(bucket.asked("^/bucket/"))
    result = download(data, bucket, "--WHOLE_PRODUCT")
    assert result.returncode == 0, result.stderr
    assert drive.on_disk(data / "products" / f"{NAME}.SAFE") == drive.product_files()
    assert len(bucket.asked("^/bucket/")) - before == 3


def test_four_files_at_a_time_and_no_more(data: Path, bucket: BucketServer) -> None:
    bucket.delay = 0.05
    assert download(data, bucket).returncode == 0
    assert bucket.most_busy == 4


def test_names_from_a_text_file_and_a_product_that_is_not_there(
    data: Path, bucket: BucketServer, tmp_path: Path
) -> None:
    (data / "products").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (data / "products" / f".{NAME}.SAFE.partial").symlink_to(tmp_path / "elsewhere")  # planted by someone
    (data / "names.txt").write_text(f"# wanted\n{NAME}.SAFE\n\n{NAME}\n{OTHER}  # gone\n", encoding="utf-8")
    result = drive.run(data, *words(bucket)[:-2], "--PRODUCTS_FILE", "names.txt")
    assert result.returncode == 1
    assert product_is_right(data) and not list((tmp_path / "elsewhere").iterdir())
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert " fetched " in rows[NAME]
    assert " missing " in rows[OTHER] and "not in the bucket" in rows[OTHER]
    assert "1 of 2 are not there" in result.stderr


def test_local_looks_and_asks_nobody(data: Path, bucket: BucketServer) -> None:
    download(data, bucket)
    asked = len(bucket.log)
    result = drive.run(data, "--SOURCE", "local", *words(bucket, NAME, OTHER))
    assert result.returncode == 1
    assert f"{NAME}  there" in result.stdout and f"{OTHER}  missing" in result.stdout
    assert drive.run(data, "--SOURCE", "local", *words(bucket)).returncode == 0
    assert len(bucket.log) == asked


def test_products_of_the_masks_are_the_default(data: Path, bucket: BucketServer) -> None:
    (data / "reference" / NAME / "Classification").mkdir(parents=True)
    result = drive.run(data, *words(bucket)[:-2])
    assert result.returncode == 0, result.stderr
    assert product_is_right(data)


# --- a bad server -----------------------------------------------------------------------------------------------------

# Each fault strikes its own band of one product, so that one run of the script shows how all of them end.
PASSING = {
    "cut in mid-body": [Fault("", cut_after=16384)],
    "cut five times, each further on": [Fault("", 5, cut_after=4096)],
    "cut, then the Range is ignored": [Fault("", cut_after=16384), Fault("", no_range=True)],
    "cut, then another part is sent": [Fault("", cut_after=16384), Fault("", shift_range=100)],
    "cut, then 416": [Fault("", cut_after=16384), Fault("", range_status=416)],
    "slow-loris in the body": [Fault("", drip=0.05)],
    "slow-loris in the headers": [Fault("", drip_headers=0.05)],
    "no answer at all": [Fault("", silent=True)],
    "500": [Fault("", 3, status=500)],
    "503": [Fault("", 2, status=503, body=b"<html><b>busy</b></html>")],
    "a wrong byte once": [Fault("", flip=5000)],
    "cut, and a wrong byte in the rest": [Fault("", cut_after=16384), Fault("", flip=20000)],
    "too short once": [Fault("", trim=500)],
    "too long announced": [Fault("", length=500)],
    "less than announced": [Fault("", trim=500, length=500)],
}
PASSING_NAMES = list(PASSING)


def band_of(number: int) -> str:
    """The path in the bucket of band `number` of one of two products, counted through."""
    product, band = [NAME, OTHER][number // 13], drive.SAFE_BANDS[number % 13]
    return next(path for path in drive.product_files(product) if path.endswith(f"_{band}.jp2"))


@pytest.fixture(scope="module")
def after_passing_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, BucketServer]]:
    """Two products fetched in one run from a server on which every fault of PASSING strikes one band."""
    data = tmp_path_factory.mktemp("passing") / "data"
    with BucketServer() as server:
        assert isinstance(server, BucketServer)
        for name in (NAME, OTHER):
            server.put_product(f"tiles/31/T/FH/{name}.SAFE", drive.product_files(name))
        for number, faults in enumerate(PASSING.values()):
            server.faults += [Fault(**vars(fault) | {"match": band_of(number)}) for fault in faults]
        soon = ["--READ_TIMEOUT", "1", "--CONNECT_TIMEOUT", "1", *drive.STALLED]
        result = drive.run(data, *words(server, NAME, OTHER), *soon)
        assert result.returncode == 0, result.stderr
        yield data, server


@pytest.mark.parametrize("fault", PASSING_NAMES)
def test_the_bytes_are_right_in_spite_of(fault: str, after_passing_faults: tuple[Path, BucketServer]) -> None:
    data, server = after_passing_faults
    number = PASSING_NAMES.index(fault)
    path, product = band_of(number), [NAME, OTHER][number // 13]
    struck = [f for f in server.faults if f.match == path]
    assert struck and all(f.times == 0 for f in struck), "the fault did not strike"
    assert (data / "products" / f"{product}.SAFE" / path).read_bytes() == drive.product_files(product)[path]
    assert product_is_right(data, product)


def test_a_listing_that_fails_in_four_ways_is_asked_for_again(data: Path, bucket: BucketServer) -> None:
    bucket.faults = [
        Fault("/storage/", status=500),
        Fault("/storage/", cut_after=100),
        Fault("/storage/", status=200, body=b"<html>maintenance</html>"),
        Fault("/storage/", drip=0.05),
    ]
    result = download(data, bucket, *drive.STALLED)
    assert result.returncode == 0, result.stderr
    assert product_is_right(data) and all(fault.times == 0 for fault in bucket.faults)


LOST = {
    "a wrong byte always": (Fault("", -1, flip=300), "md5 is .* was promised, twice; nothing of it is kept"),
    "too short always": (Fault("", -1, trim=50), "md5 is .* was promised, twice; nothing of it is kept"),
    "less than announced always": (Fault("", -1, trim=50, length=50), "the connection was cut|refuses to resume"),
    "503 always": (Fault("", -1, status=503, body=b"<p>overloaded</p>"), "status 503: overloaded .tried 5 times"),
    "cut always at the same place": (Fault("", -1, cut_after=100, no_range=True), "cut .tried 5 times"),
    "slow-loris always": (Fault("", -1, drip=0.1), "stalled, .* bytes .tried 5 times|stalled, .*tried 5 times"),
    "gone": (Fault("", -1, status=404), " missing .*status 404"),
    "forbidden": (Fault("", -1, status=403, body=b"no"), "status 403: no; the server refuses"),
    "quota used up": (
        Fault("", -1, status=429, body=b'{"error": {"message": "over quota"}}', headers={"Retry-After": "7000"}),
        " quota .*status 429: over quota; it asks to wait 7000 s",
    ),
    "circle of redirects": (Fault("", -1, status=302, headers={"Location": "/bucket/circle"}), "redirects in a circle"),
    "redirect to an unencrypted host": (
        Fault("", -1, status=302, headers={"Location": "http://example.org/x"}),
        "127.0.0.1 redirects to http://example.org: only https is used",
    ),
    **{
        f"redirect to {place!r}": (Fault("", -1, status=302, headers={"Location": place}), "127.0.0.1: redirects to ")
        for place in ("//[bad", "http://127.0.0.1:99999/x", "http://127.0.0.1:abc/x", "/in-Latin-1/caf\xe9")
    },
    "an encoding nobody asked for": (Fault("", -1, headers={"Content-Encoding": "gzip"}), "encoding"),
}
LOST_NAMES = list(LOST)


def numbered(number: int) -> str:
    """A product's name that holds a number."""
    return NAME.replace("20170917T104018", f"20170917T1050{number:02}")


@dataclass
class Lost:
    """The run in which every fault of LOST struck a product of its own, and the run after the faults had gone."""

    table: str
    visible: list[str]
    later_status: int
    later: dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Lost:
    data = tmp_path_factory.mktemp("lost") / "data"
    names = [numbered(number) for number in range(len(LOST) + 1)]  # the last one meets no fault
    with BucketServer() as server:
        assert isinstance(server, BucketServer)
        for name in names:
            server.put_product(f"tiles/31/T/FH/{name}.SAFE", drive.product_files(name, 500))
        server.faults = [Fault("^/bucket/circle", -1, status=302, headers={"Location": "/bucket/circle"})]
        for name, (fault, _) in zip(names, LOST.values(), strict=False):
            server.faults.append(Fault(**vars(fault) | {"match": f"^/bucket/.*{name}.*_B05"}))
        first = drive.run(data, *words(server, *names), "--CONNECTIONS", "8", "--STALL_SECONDS", "0.4")
        assert first.returncode == 1 and f"{len(LOST)} of {len(LOST) + 1} are not there" in first.stderr
        visible = drive.visible(data / "products")
        server.faults = []
        later = drive.run(data, *words(server, *names))
        return Lost(
            first.stdout,
            visible,
            later.returncode,
            {name: drive.on_disk(data / "products" / f"{name}.SAFE") for name in names},
        )


@pytest.mark.parametrize("fault", LOST_NAMES)
def test_nothing_wrong_stays_and_it_is_said_why(fault: str, lost: Lost) -> None:
    name = numbered(LOST_NAMES.index(fault))
    row = next(line for line in lost.table.splitlines() if line.startswith(name))
    assert re.search(LOST[fault][1], row), row
    assert f"{name}.SAFE" not in lost.visible
    assert lost.later[name] == drive.needed(drive.product_files(name, 500))


def test_the_first_few_products_and_what_cannot_be_had_is_skipped_where_asked(tmp_path: Path) -> None:
    with BucketServer() as server:
        assert isinstance(server, BucketServer)
        server.put_product(f"tiles/31/T/FH/{NAME}.SAFE", drive.product_files(NAME, 500))
        skip = drive.run(tmp_path / "a", *words(server, NAME, numbered(1)), "--MISSING", "skip")
        assert skip.returncode == 0 and numbered(1) in skip.stdout
        none = drive.run(tmp_path / "b", *words(server, numbered(1)), "--MISSING", "skip")
        assert none.returncode == 1 and "1 of 1 are not there" in none.stderr
        first = drive.run(tmp_path / "c", *words(server, NAME, numbered(1)), "--FIRST", "1")
        assert first.returncode == 0 and numbered(1) not in first.stdout


def test_the_other_products_go_on_and_a_later_run_brings_the_rest(lost: Lost) -> None:
    whole = numbered(len(LOST))
    assert lost.visible == [f"{whole}.SAFE", f"{whole}.SAFE.json"]
    assert lost.later_status == 0


def test_retry_after_is_waited_for(data: Path, bucket: BucketServer) -> None:
    soon = formatdate(time.time() + 2, usegmt=True)
    bucket.faults = [
        Fault("B05", status=429, headers={"Retry-After": "1"}),
        Fault("B07", status=503, headers={"Retry-After": soon}),
    ]
    result = download(data, bucket)
    assert result.returncode == 0, result.stderr
    assert "status 429; trying again in 1." in result.stderr
    assert "status 503; trying again in" in result.stderr and product_is_right(data)


def test_a_cut_file_is_continued_and_not_begun_again(data: Path, bucket: BucketServer) -> None:
    bucket.faults = [Fault("B05", cut_after=16384)]
    download(data, bucket)
    first, second = bucket.asked("B05")
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=16384-" and second.headers["If-Range"].startswith('"')
    assert first.sent + second.sent == 30_004


def test_another_version_of_a_file_is_not_glued_to_the_old_one(data: Path, bucket: BucketServer) -> None:
    bucket.faults = [Fault("B05", -1, cut_after=16384)]
    download(data, bucket, "--RETRIES", "0")
    bucket.faults = []
    bucket.objects[B05] = random.Random(7).randbytes(30_004)
    result = download(data, bucket)
    assert result.returncode == 0, result.stderr
    name = B05.removeprefix(FOLDER + "/")
    assert (data / "products" / f"{NAME}.SAFE" / name).read_bytes() == bucket.objects[B05]
    assert "Range" not in bucket.asked("B05")[-1].headers


def test_a_bucket_without_a_band_has_no_such_product(data: Path, bucket: BucketServer) -> None:
    del bucket.objects[B05]
    result = download(data, bucket)
    assert result.returncode == 1 and "without B05" in result.stdout
    assert nothing_is_there(data)


def test_hostile_names_and_nonsense_in_a_listing_are_refused(data: Path, bucket: BucketServer, tmp_path: Path) -> None:
    hostile = ["../../../evil", "a/../../../../evil", "GRANULE/a\\..\\b_B01.jp2", "x/\x1b[2J", "//etc/passwd", "C:/x"]
    nonsense = [{"size": "many"}, {"size": None}, {"name": 5}, {"name": "elsewhere/x_B01.jp2"}]
    names = [numbered(number) for number in range(len(hostile) + len(nonsense))]
    extras: list[Any] = [*hostile, *nonsense]
    for name, extra in zip(names, extras, strict=True):
        folder = f"tiles/31/T/FH/{name}.SAFE"
        bucket.put_product(folder, drive.product_files(name, 10))
        if isinstance(extra, str):
            bucket.objects[f"{folder}/{extra}"] = b"evil"
        else:
            bucket.lies[next(path for path in bucket.objects if name in path and "B05" in path)] = extra
    data.mkdir()
    before = set(tmp_path.rglob("*"))
    result = drive.run(data, *words(bucket, *names))
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    for name in names[: len(hostile)]:
        assert "could leave its folder" in rows[name]
    for name in names[len(hostile) :]:
        assert "makes no sense" in rows[name] or "not asked for" in rows[name]
    assert "\x1b" not in result.stdout + result.stderr
    assert nothing_is_there(data) and bucket.asked("^/bucket/") == []
    assert {p.name for p in set(tmp_path.rglob("*")) - before} <= {"products", ".test_data_downloading.py.lock"}


# --- old products -----------------------------------------------------------------------------------------------------


def old_words(bucket: BucketServer, entry: str) -> list[str]:
    return words(bucket, entry)


def test_an_old_long_name_is_found_by_time_orbit_and_tile(data: Path, bucket: BucketServer) -> None:
    files = drive.old_product_files()
    folder = "tiles/37/R/DN/"
    bucket.put_product(f"{folder}{drive.OLD_IN_BUCKET}.SAFE", files)
    bucket.put_product(f"{folder}{drive.OLD_IN_BUCKET.replace('R049', 'R050')}.SAFE", {"x": b"another orbit"})
    bucket.put_product(f"{folder}{drive.OLD_IN_BUCKET[:-15]}20170101T000000.SAFE", {"x": b"made at another time"})
    result = drive.run(data, *old_words(bucket, f"{drive.OLD} 37RDN"))
    assert result.returncode == 0, result.stderr
    assert drive.on_disk(data / "products" / f"{drive.OLD}.SAFE") == files
    assert f"there as {drive.OLD_IN_BUCKET}" in result.stdout
    assert f'"delivered": "{drive.OLD_IN_BUCKET}"' in (data / "products" / f"{drive.OLD}.SAFE.json").read_text()


def test_the_tile_of_an_old_name_comes_from_its_reference_mask(data: Path, bucket: BucketServer) -> None:
    mask = data / "reference" / drive.OLD / "Classification"
    mask.mkdir(parents=True)
    without = drive.run(data, *words(bucket)[:-2])
    assert without.returncode == 1 and "give the tile after the name" in without.stdout
    (mask / "used_parameters.json").write_text('{"tile": "37RDN", "location": "Arabia"}')
    bucket.put_product(f"tiles/37/R/DN/{drive.OLD_IN_BUCKET}.SAFE", drive.old_product_files())
    result = drive.run(data, *words(bucket)[:-2])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (NAME.replace("L1C", "L2A"), "is an L2A product, which has no band B10"),
        ("../../etc/passwd", "is not the name of a Sentinel-2 L1C product"),
        (f"{drive.OLD} 37R", "give a product name, and its tile"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_asked(entry: str, said: str, data: Path, bucket: BucketServer) -> None:
    result = drive.run(data, *words(bucket, entry))
    assert result.returncode == 1 and said in result.stderr and bucket.log == []


# --- what is on disk --------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_noticed_and_fetched_again_alone(data: Path, bucket: BucketServer) -> None:
    download(data, bucket)
    name = B05.removeprefix(FOLDER + "/")
    band = data / "products" / f"{NAME}.SAFE" / name
    band.write_bytes(band.read_bytes()[:-1] + b"x")
    before = len(bucket.asked("^/bucket/"))
    result = download(data, bucket)
    assert result.returncode == 0 and "missing or changed" in result.stderr
    assert product_is_right(data)
    assert len(bucket.asked("^/bucket/")) - before == 1


def test_a_folder_put_there_by_hand_is_used_if_whole_and_never_replaced(data: Path, bucket: BucketServer) -> None:
    folder = data / "products" / f"{NAME}.SAFE"
    for name, content in drive.product_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    result = download(data, bucket)
    assert result.returncode == 0 and "by hand" in result.stdout and bucket.log == []
    (folder / B05.removeprefix(FOLDER + "/")).unlink()
    result = download(data, bucket)
    assert result.returncode == 1 and "lacks B05; move it away" in result.stdout and bucket.log == []


def test_a_zip_put_there_by_hand_is_tested_once(data: Path, bucket: BucketServer) -> None:
    place = data / "products" / f"{NAME}.SAFE.zip"
    place.parent.mkdir(parents=True)
    content = drive.zipped(NAME, drive.product_files())
    place.write_bytes(content)
    result = download(data, bucket)
    assert result.returncode == 0 and "by hand" in result.stdout and bucket.log == []
    place.write_bytes(content[:5000] + b"?" + content[5001:])
    result = download(data, bucket)
    assert result.returncode == 1 and "move it away" in result.stdout and bucket.log == []
    assert place.exists()


def test_too_little_room_is_told_before_the_download(data: Path, bucket: BucketServer) -> None:
    result = download(data, bucket, "--DISK_MARGIN_GB", "1e9")
    assert result.returncode == 1 and "make room" in result.stderr and bucket.asked("^/bucket/") == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_under_way_ends_it_clearly(small_disk: Path, bucket: BucketServer) -> None:
    data, filler = small_disk / "data", small_disk / "filler"
    bucket.delay = 0.1
    process = drive.start(data, *words(bucket))
    drive.wait_for(lambda: bool(bucket.asked("^/bucket/")))
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1 and "No space left on device; make room" in err and "Traceback" not in err
    assert nothing_is_there(data)
    filler.unlink()
    bucket.delay = 0
    again = download(data, bucket)
    assert again.returncode == 0, again.stdout
    assert product_is_right(data)


def test_a_file_size_limit_ends_it_clearly(data: Path, bucket: BucketServer) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = download(data, bucket, preexec_fn=limit)
    assert result.returncode == 1 and "File too large; make room" in result.stderr
    assert nothing_is_there(data)
    assert download(data, bucket).returncode == 0
    assert product_is_right(data)


def test_a_folder_that_cannot_be_written_is_told(data: Path, bucket: BucketServer) -> None:
    data.mkdir()
    (data / "products").write_text("a file")
    result = download(data, bucket)
    assert result.returncode == 1 and "products" in result.stderr and len(result.stderr.splitlines()) == 1


# --- interruptions ----------------------------------------------------------------------------------------------------


def test_killed_again_and_again_it_goes_on_every_time(data: Path, bucket: BucketServer) -> None:
    bucket.delay, bucket.block = 0.01, 1024
    luck = random.Random(6)
    for _ in range(6):
        before = len(bucket.asked("^/bucket/"))
        process = drive.start(data, *words(bucket))
        drive.wait_for(lambda: len(bucket.asked("^/bucket/")) > before or process.poll() is not None)  # noqa: B023
        time.sleep(luck.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        record, product = f"{NAME}.SAFE.json", f"{NAME}.SAFE"
        assert drive.visible(data / "products") in ([], [record], [product, record])
        if product in drive.visible(data / "products"):
            assert product_is_right(data)
    assert sum("Range" in seen.headers for seen in bucket.log) > 6  # it went on, rather than began again
    bucket.delay = 0
    assert download(data, bucket).returncode == 0
    assert product_is_right(data)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_servers_are_silent_it_ends_at_once(signum: int, data: Path, bucket: BucketServer) -> None:
    bucket.faults = [Fault("B0[1-4]", 4, silent=True)]
    process = drive.start(data, *words(bucket), "--READ_TIMEOUT", "60")
    drive.wait_for(lambda: len(bucket.asked("^/bucket/")) == 4)
    seconds, err = drive.stop(process, signum)
    assert process.returncode == 130 and seconds < 5
    assert "Traceback" not in err and "stopped" in err
    assert nothing_is_there(data)
    assert download(data, bucket).returncode == 0
    assert product_is_right(data)


def test_stopped_in_mid_body_the_next_run_goes_on_from_there(data: Path, bucket: BucketServer) -> None:
    bucket.delay, bucket.block = 0.1, 1024
    process = drive.start(data, *words(bucket))
    drive.wait_for(lambda: any(seen.sent >= 2048 for seen in bucket.asked("^/bucket/")))
    drive.stop(process)
    bucket.delay = 0
    before = len(bucket.log)
    assert download(data, bucket).returncode == 0
    assert any("Range" in seen.headers for seen in bucket.log[before:])
    assert product_is_right(data)


def test_killed_just_after_a_file_got_its_name_nothing_of_the_way_there_stays_in_the_product(
    data: Path, bucket: BucketServer
) -> None:
    bucket.faults = [Fault("B12", silent=True)]
    process = drive.start(data, *words(bucket), "--READ_TIMEOUT", "60")
    unfinished = data / "products" / f".{NAME}.SAFE.partial"
    drive.wait_for(lambda: bool(list(unfinished.rglob("T*_B05.jp2"))))
    drive.stop(process)
    whole = next(unfinished.rglob("T*_B05.jp2"))
    for note in (f".{whole.name}.partial.json", f"..{whole.name}.partial.json.0123456789ab.partial"):
        (whole.parent / note).write_text("{}")
    bucket.faults = []
    assert download(data, bucket).returncode == 0
    assert product_is_right(data)


def test_two_runs_in_one_folder_at_once_are_refused(data: Path, bucket: BucketServer) -> None:
    data.mkdir()
    bucket.faults = [Fault("B05", silent=True)]
    first = drive.start(data, *words(bucket), "--READ_TIMEOUT", "60")
    drive.wait_for(lambda: bool(bucket.asked("B05")))
    second = download(data, bucket)
    assert second.returncode == 1 and "another run" in second.stderr
    drive.stop(first)


# --- what the user sees -----------------------------------------------------------------------------------------------


def test_bars_on_a_terminal_and_plain_lines_elsewhere(data: Path, bucket: BucketServer) -> None:
    plain = download(data, bucket)
    assert "16 of 16 files" in plain.stderr and "\r" not in plain.stderr
    shutil.rmtree(data / "products")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    bucket.delay = 0.05
    process = drive.start(data, *words(bucket), "--CONNECTIONS", "2", stderr=theirs)
    os.close(theirs)
    text = b""
    with contextlib.suppress(OSError):  # the other end was closed
        while select.select([ours], [], [], 20)[0]:
            text += os.read(ours, 65536)
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    assert b"total" in text and b"_B05.jp2" in text and b"\r" in text
    assert product_is_right(data)


# --- encryption -------------------------------------------------------------------------------------------------------


def test_a_certificate_must_be_trusted(data: Path, certificate: tuple[Path, Path]) -> None:
    with BucketServer(tls=certificate) as server:
        assert isinstance(server, BucketServer)
        server.put_product(FOLDER, drive.product_files())
        refused = download(data, server)
        assert refused.returncode == 1 and "certificate is not trusted" in refused.stdout
        assert "REQUESTS_CA_BUNDLE" in refused.stdout and server.log == []
        trusted = download(data, server, variables={"REQUESTS_CA_BUNDLE": str(certificate[0])})
        assert trusted.returncode == 0, trusted.stderr
        assert product_is_right(data)


def test_an_unencrypted_address_is_refused(data: Path) -> None:
    result = drive.run(data, "--WHAT", "products", "--PRODUCTS", NAME, "--GCS_URL", "http://storage.example.org")
    assert result.returncode == 1 and "only https is used" in result.stdout
