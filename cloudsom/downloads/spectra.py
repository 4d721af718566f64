"""The spectra database's files (Hollstein et al. 2016), from GFZ's GitLab.

Neither sizes nor checksums of them are published. The first download records both beside the file, and whatever comes
later under that name must have the same.
"""

from pathlib import Path

from cloudsom.downloads.client import Client, DownloadError, Limits
from cloudsom.downloads.records import write_record
from cloudsom.downloads.transfer import Corrupt, Remote, fetch
from cloudsom.errors import UserError
from cloudsom.files import stores

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def download_spectra(url: str, path: Path, limits: Limits | None = None) -> bool:
    """Bring an HDF5 file to `path` unless it is there; True if it was fetched.

    `PATH.json` keeps its URL, size and SHA-256 from the first time on. Raises UserError if the file, on disk or as it
    comes, is another one than recorded, or cannot be had.
    """
    record = stores.read_record(path) or {}
    known = record.get("sha256")
    advice = f"; if the new file is wanted, remove {stores.record_path(path)}"
    there = path.exists()
    if there and known and stores.sha256(path) != known:
        raise UserError(f"{path}: is not the file that was downloaded first (its SHA-256 differs){advice}")
    if not there:
        client = Client(limits)
        remote = Remote(url, path.name, record.get("size"), f"sha256:{known}" if known else None)
        try:
            with client.display.counting(1, remote.size):
                fetch(client, remote, path, check=_check_hdf5)
        except DownloadError as problem:
            raise UserError(f"{path}: {problem}{advice if known else ''}") from None
    if not known:
        write_record(path, {"url": url, "size": path.stat().st_size, "sha256": stores.sha256(path)})
    return not there


def _check_hdf5(path: Path) -> None:
    """A login page comes with status 200 as well."""
    with open(path, "rb") as handle:
        if handle.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            raise Corrupt("what came is not an HDF5 file")
