"""Whether a product's files are still what they were: a damaged JPEG 2000 image often decodes without complaint.

Two lists of checksums may be there: the record that a download has left beside the product (`NAME.SAFE.json`), and the
product's own `manifest.safe`. The record comes first: it holds what came over the network and was checked then.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.images.products import Granule, parse_xml

RECORD, MANIFEST = "download's record", "manifest.safe"

#: What a manifest calls the algorithms, MD5 at first and SHA3-256 later; hashlib's names.
ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256", "SHA-256": "sha256"}


def compare(granule: Granule, threads: int = 1) -> str:
    """Compare a granule's 13 images and the product's metadata with their checksums; says in words with which.

    Raises UserError naming the first file that differs. A file without a checksum is not counted, nor refused.
    """
    names = [granule.metadata_file, *granule.images.values()]
    whose, wanted, every = RECORD, list(granule.files.on_disk(names)), recorded(granule)
    if not every.keys() & wanted:
        whose, wanted, every = MANIFEST, names, listed(granule)
    known = {name: every[name] for name in wanted if name in every}
    if not known:
        return "no checksums to compare with"
    with ThreadPoolExecutor(threads) as pool:
        digests = pool.map(lambda name: granule.files.digest(name, known[name][0]), known)
        for (name, (algorithm, promised)), digest in zip(known.items(), digests, strict=True):
            if digest != promised.lower():
                raise UserError(
                    f"{granule.name}: {name}: damaged, its {algorithm.upper()} is not the one in the {whose}; get the "
                    "product again, or set VERIFY to False to take it as it is"
                )
    return f"{len(known)} of {len(wanted)} checksums as in the {whose}"


def recorded(granule: Granule) -> dict[str, tuple[str, str]]:
    """Algorithm and checksum of each file in the record of the product's download; empty without one."""
    files = (stores.read_record(granule.files.root) or {}).get("files")
    entries = files.items() if isinstance(files, Mapping) else ()
    return {n: ("md5", str(e["md5"])) for n, e in entries if isinstance(e, Mapping) and e.get("md5")}


def listed(granule: Granule) -> dict[str, tuple[str, str]]:
    """Algorithm and checksum of each file in the product's own manifest; empty without one."""
    files = granule.files
    if MANIFEST not in files.names():
        return {}
    found: dict[str, tuple[str, str]] = {}
    root = parse_xml(f"{granule.name}: {MANIFEST}", files.read(MANIFEST))
    for stream in root.iterfind(".//{*}byteStream"):
        place, checksum = stream.find(".//{*}fileLocation"), stream.find(".//{*}checksum")
        algorithm = ALGORITHMS.get(checksum.get("checksumName", "").upper()) if checksum is not None else None
        if place is not None and checksum is not None and algorithm:
            found[place.get("href", "").removeprefix("./")] = algorithm, (checksum.text or "").strip()
    return found
