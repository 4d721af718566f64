"""What step 6 downloads from: products in a bucket, reference masks in an archive on Zenodo."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.bucket import BucketServer
from servers.drive import on_disk
from servers.zenodo import ZenodoServer

ARCHIVE = "masks.tgz"


@contextmanager
def served(folder: Path, page_size: int = 7) -> Iterator[tuple[BucketServer, list[str]]]:
    """Serve products/ and reference/ of a folder on loopback; the bucket, and the words that make step 6 use them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder / "reference", "SENTINEL_2_reference/Reference_dataset")
    with ZenodoServer() as zenodo, BucketServer(page_size=page_size) as bucket:
        assert isinstance(zenodo, ZenodoServer) and isinstance(bucket, BucketServer)
        zenodo.files[ARCHIVE] = packed.getvalue()
        for safe in sorted((folder / "products").glob("*.SAFE")):
            zone, band, square = safe.name[39:41], safe.name[41], safe.name[42:44]
            bucket.put_product(f"tiles/{zone}/{band}/{square}/{safe.name}", on_disk(safe))
        md5 = hashlib.md5(zenodo.files[ARCHIVE]).hexdigest()
        words = ["--ZENODO_URL", zenodo.url, "--REFERENCE_ARCHIVE", ARCHIVE, "--REFERENCE_MD5", md5]
        words += ["--ZENODO_RECORD", zenodo.record, "--GCS_URL", bucket.url, "--GCS_BUCKET", bucket.bucket]
        yield bucket, [*words, "--DISK_MARGIN_GB", "0"]
