"""Running the real script as a user does, against servers on loopback; and small products for them to serve."""

import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "test_data_downloading.py"
SAFE_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

#: Waits that suit loopback; everything else is as users have it. A busy machine may keep a transfer waiting for a
#: second, which is no stall: tests of stalled transfers say `STALLED` too.
QUICK = ["--BACKOFF", "0.02", "--BACKOFF_MAX", "0.1", "--CONNECT_TIMEOUT", "5", "--READ_TIMEOUT", "5"]
QUICK += ["--STALL_SECONDS", "10", "--RETRIES", "4", "--DISK_MARGIN_GB", "0"]
STALLED = ["--STALL_SECONDS", "1"]

NAME = "S2A_MSIL1C_20170917T104021_N0205_R008_T31TFH_20170917T104018"
OTHER = "S2B_MSIL1C_20180208T104149_N0206_R008_T31TFH_20180208T125031"
OLD = "S2A_OPER_PRD_MSIL1C_PDMC_20160107T001924_R049_V20160102T075903_20160102T075903"
OLD_IN_BUCKET = "S2A_MSIL1C_20160102T075903_N0201_R049_T37RDN_20160107T001924"


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The environment of a user whose home folder is `home`: no proxies, no credentials but those given."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")}
    return kept | {"HOME": str(home), "NO_PROXY": "*"} | variables


def start(data_dir: Path, *words: str, **options: object) -> "subprocess.Popen[str]":
    """The script, started; `variables` are added to its environment."""
    variables = options.pop("variables", {})
    assert isinstance(variables, dict)
    command = [sys.executable, str(SCRIPT), "--DATA_DIR", str(data_dir), *QUICK, *words]
    env = environment(data_dir.parent, **variables)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=env, **options)  # type: ignore[call-overload]


def run(data_dir: Path, *words: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """The script, run to its end; no traceback may come out of it."""
    process = start(data_dir, *words, **options)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def stop(process: "subprocess.Popen[str]", signum: int = signal.SIGINT) -> tuple[float, str]:
    """Send a signal; the seconds until the process has ended, and what it wrote to stderr."""
    process.send_signal(signum)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    return time.monotonic() - began, err


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so; fail if it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about in time"
        time.sleep(0.01)


def product_files(name: str = NAME, size: int = 30_000) -> dict[str, bytes]:
    """The files of a made-up product by path in its SAFE folder: 13 bands of about `size` bytes, metadata, extras."""
    noise = random.Random(name)
    tile, when = name[38:44], name[11:26]
    granule = f"GRANULE/L1C_{tile}_A011685_{when}"
    files = {
        "MTD_MSIL1C.xml": f"<product>{name}</product>".encode(),
        "manifest.safe": b"<manifest/>",
        "INSPIRE.xml": b"<inspire/>",
        f"{granule}/MTD_TL.xml": f"<tile>{tile}</tile>".encode(),
        f"{granule}/QI_DATA/MSK_CLOUDS_B00.gml": b"<clouds/>",
        f"{granule}/IMG_DATA/{tile}_{when}_TCI.jp2": noise.randbytes(size),
    }
    for i, band in enumerate(SAFE_BANDS):
        files[f"{granule}/IMG_DATA/{tile}_{when}_{band}.jp2"] = noise.randbytes(size + i)
    return files


def old_product_files(tile: str = "37RDN", size: int = 2_000) -> dict[str, bytes]:
    """The files of a made-up product of before December 2016, as the bucket holds it."""
    noise = random.Random(tile)
    granule = f"S2A_OPER_MSI_L1C_TL_SGS__20160106T200351_A002781_T{tile}_N02.01"
    images = f"GRANULE/{granule}/IMG_DATA/S2A_OPER_MSI_L1C_TL_SGS__20160106T200351_A002781_T{tile}"
    files = {
        "S2A_OPER_MTD_SAFL1C_PDMC_20160107T001924_R049_V20160102T075903_20160102T075903.xml": b"<product/>",
        f"GRANULE/{granule}/S2A_OPER_MTD_L1C_TL_SGS__20160106T200351_A002781_T{tile}.xml": b"<tile/>",
    }
    return files | {f"{images}_{band}.jp2": noise.randbytes(size) for band in SAFE_BANDS}


def needed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Those of a product's files that the pipeline reads."""
    return {
        name: data
        for name, data in files.items()
        if not name.endswith(("_TCI.jp2", ".gml")) and not name.startswith("INSPIRE")
    }


def zipped(name: str, files: dict[str, bytes]) -> bytes:
    """A product as a zip, as Copernicus and the hubs hand it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as product:
        for path, data in files.items():
            product.writestr(zipfile.ZipInfo(f"{name}.SAFE/{path}", (2018, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def on_disk(folder: Path) -> dict[str, bytes]:
    """The files in a folder with their bytes, locks left out."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def visible(folder: Path) -> list[str]:
    """What a user or a later step sees in a folder: names that are not hidden."""
    return sorted(p.name for p in folder.glob("*") if not p.name.startswith(".")) if folder.exists() else []
