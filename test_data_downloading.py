"""Step 6: download the test data: reference cloud masks and the Sentinel-2 products they were drawn on.

The paper tests on the masks of Baetens et al. 2019 (Zenodo record 1460961) and the 37 L1C products they belong to. The
hub the paper fetched them from has closed; the products are fetched from a public bucket instead, byte for byte the
same ones. Interrupted at any moment, the same command goes on where it stopped.

    python test_data_downloading.py                                  masks, then the product of every mask
    python test_data_downloading.py --PRODUCTS NAME NAME             masks, then these products
    python test_data_downloading.py --WHAT products --SOURCE cdse    from Copernicus Data Space, with an account
    python test_data_downloading.py --SOURCE local                   no network: say what is there and what is missing
    python test_data_downloading.py --AREA area.geojson --FROM 2026-06-01 --TO 2026-06-30 --MOST_CLOUD 80
                                                                     list what there is of a place and time

reads   credentials for cdse from CDSE_USERNAME, CDSE_PASSWORD and, under two-factor login, CDSE_TOTP; for dhus from
        DHUS_USER and DHUS_PASSWORD; or for either from ~/.netrc
writes  REFERENCE_DIR/NAME/Classification/classification_map.tif ...
        PRODUCTS_DIR/NAME.SAFE/ or NAME.SAFE.zip, and beside it a JSON that says where it came from
        FOUND_LIST, and beside it a map (.png): the products that a search found
Exit status 0 means that everything is there. More on finding and fetching products: docs/own_products.md
"""

import cloudsom.start  # first: without its packages, a script starts again with .venv

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloudsom.downloads.catalogue import Listed, condition, newest_baselines, search
from cloudsom.downloads.cdse import DataSpace, Token
from cloudsom.downloads.client import Client, Limits
from cloudsom.downloads.dhus import Hub
from cloudsom.downloads.display import human
from cloudsom.downloads.engine import THERE, Fetched, Source, in_columns, obtain, table
from cloudsom.downloads.gcs import Bucket
from cloudsom.downloads.names import Product, is_product_name, wanted
from cloudsom.downloads.records import place_of
from cloudsom.downloads.zenodo import ReferenceMasks
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.places import existing, folder_here, under
from cloudsom.running.settings import run, snapshot

# --- constants: edit here, or set on the command line (--NAME value) --------------------------------------------------
# paths (relative to DATA_DIR)
DATA_DIR = "data"  # folder everything is read from and written to

# outputs (relative to DATA_DIR)
REFERENCE_DIR = "reference"  # the masks, one folder a scene
PRODUCTS_DIR = "products"  # the products, as NAME.SAFE folders or NAME.SAFE.zip
REFERENCE_ARCHIVE = "SENTINEL_2_reference_cloud_masks_Baetens_Hagolle.tgz"  # kept, so that it comes only once

# search (lists L1C products of Copernicus Data Space, each acquisition in its newest baseline; needs no account)
AREA: str | None = None  # "LONGITUDE LATITUDE", "WEST SOUTH EAST NORTH" (degrees), or a vector file (GeoJSON...)
# with it the products that touch the area are listed, and the masks and PRODUCTS left out
FROM: str | None = None  # first day, UTC, as 2026-06-01
TO: str | None = None  # last day; None: today
MOST_CLOUD = 100.0  # [0, 100] per cent of a product, as its own mask says
FOUND_LIST = "found_products.txt"  # of a search: a product a line, its name first, which PRODUCTS_FILE reads
DOWNLOAD = False  # fetch what was listed, from SOURCE: cdse has the newest baselines of all years, gcs not of all

# products
WHAT: Literal["all", "reference", "products"] = "all"  # what to fetch
SOURCE: Literal["gcs", "cdse", "dhus", "local"] = "gcs"
# gcs: public bucket, no account; cdse: Copernicus Data Space; dhus: a DHuS hub; local: no network, only look
PRODUCTS: list[str] = []  # product names; empty: the name of every folder in REFERENCE_DIR
# an old long name (before December 2016) may be followed by its tile: "NAME 31TFJ"
PRODUCTS_FILE: str | None = None  # a text file of such names, one a line
FIRST = 0  # [0, 100000] only the first so many of them, in the order named or else by name, for a trial; 0: all
MISSING: Literal["refuse", "skip"] = "refuse"
# what cannot be had: refuse ends with an error once the rest is there; skip names it and is content with the rest
WHOLE_PRODUCT = False  # gcs: take every file of a product, not just the 13 bands and the metadata
ALLOW_REPROCESSED = False  # cdse: for a deleted product, take the same acquisition in its newest baseline
# its radiometric offset and geometry differ from the paper's; the table and the JSON beside it say so

# servers
ZENODO_URL = "https://zenodo.org"  # where the reference masks are
ZENODO_RECORD = "1460961"  # the reference masks
REFERENCE_MD5 = "ee035e0d22a441086cfaabcface3cf24"  # of REFERENCE_ARCHIVE, as published
REFERENCE_MAX_GB = 10.0  # [0, 10000] the archive is refused if it unpacks to more
GCS_URL = "https://storage.googleapis.com"  # public bucket, no account
GCS_BUCKET = "gcp-public-data-sentinel-2"  # L1C products by tile, the old baselines too
CDSE_CATALOGUE_URL = "https://catalogue.dataspace.copernicus.eu"  # names to ids
CDSE_DOWNLOAD_URL = "https://download.dataspace.copernicus.eu"  # the products themselves
CDSE_TOKEN_URL = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
# gives an access token for ten minutes
CDSE_HOSTS = [".dataspace.copernicus.eu"]  # hosts (or .suffixes of hosts) that may see the access token
DHUS_URL: str | None = None  # a DHuS hub, for SOURCE dhus; SciHub itself closed in October 2023

# running
CONNECTIONS = 4  # [1, 64] files at once; no more than the source allows (cdse 4, dhus 2)
CONNECT_TIMEOUT = 20.0  # [0.01, 86400] seconds
READ_TIMEOUT = 60.0  # [0.01, 86400] seconds without a byte
STALL_SECONDS = 60.0  # [0.01, 86400] a transfer slower than STALL_RATE for so long is given up and resumed
STALL_RATE = 1000.0  # [0, 1e12] bytes a second
RETRIES = 6  # [0, 1000] tries after the first that brought nothing
BACKOFF = 1.0  # [0, 86400] seconds before the first retry at most; doubles each time, and a random part of it is waited
BACKOFF_MAX = 60.0  # [0, 86400] seconds
WAIT_MAX = 600.0  # [0, 604800] seconds; a server that asks for a longer wait (Retry-After) is not waited for
DISK_MARGIN_GB = 1.0  # [0, 1e9] to stay free on the disk
OVERWRITE = False  # replace a list or map of a search that was changed by hand
# --- end of constants -------------------------------------------------------------------------------------------------


def main() -> None:
    limits = Limits(CONNECT_TIMEOUT, READ_TIMEOUT, STALL_SECONDS, STALL_RATE, RETRIES, BACKOFF, BACKOFF_MAX, WAIT_MAX)
    client = Client(limits)
    if AREA is not None:
        listed = found_products(client, AREA)
        if DOWNLOAD and listed:
            report(fetch([entry.product for entry in listed], client))
        return
    outcomes = [] if WHAT == "products" else [reference_masks(client)]
    masks_failed = outcomes and outcomes[0].state not in THERE
    if WHAT != "reference" and (PRODUCTS or PRODUCTS_FILE or SOURCE == "local" or not masks_failed):
        outcomes += fetch(products_wanted(client), client)
    report(outcomes)


def fetch(products: list[Product], client: Client) -> list[Fetched]:
    """Bring products from SOURCE."""
    margin = int(DISK_MARGIN_GB * 1e9)
    return obtain(products, products_dir(), source(client), client, CONNECTIONS, margin, ALLOW_REPROCESSED)


def report(outcomes: list[Fetched]) -> None:
    """Print what became of everything; UserError if anything is not there."""
    print(table(outcomes))
    missing = [outcome for outcome in outcomes if outcome.state not in THERE]
    if missing and (MISSING == "refuse" or len(missing) == len(outcomes)):
        raise UserError(f"{len(missing)} of {len(outcomes)} are not there; the table says why")


def found_products(client: Client, area_text: str) -> list[Listed]:
    """Search the catalogue, print what it has as a table, and write it as FOUND_LIST with a map beside it."""
    from cloudsom.images.areas import read_area  # GDAL, which downloads go without

    area, days = read_area(DATA_DIR, area_text), (day("FROM", FROM), day("TO", TO or str(datetime.now(UTC).date())))
    if days[0] > days[1] or not 0 <= MOST_CLOUD <= 100:
        raise UserError(f"FROM {days[0]}, TO {days[1]}, MOST_CLOUD {MOST_CLOUD:g}: nothing can meet them; correct them")
    listed_file = folder_here(under(DATA_DIR, FOUND_LIST), "FOUND_LIST")
    made_by = stores.recipe(snapshot(globals()), {})
    for file in (listed_file, listed_file.with_suffix(".png")):
        stores.finished(file, made_by, OVERWRITE)  # raises where it is not ours to replace
    found = search(client, CDSE_CATALOGUE_URL, condition(area.hull(), *days))
    near = newest_baselines(entry for entry in found if not entry.rings or area.meets(entry.rings))
    listed = [entry for entry in near if entry.cloud is None or entry.cloud <= MOST_CLOUD]  # in its newest baseline
    if not listed:
        print(f"no L1C product of {days[0]} to {days[1]} with at most {MOST_CLOUD:g} % cloud touches the area")
        return []
    text = listing(listed)
    print(text)
    with stores.product(listed_file, made_by) as product:
        product.partial.write_text("#" + text.replace("\n", "\n ") + "\n", encoding="utf-8")
    draw_map(listed, area.outlines(), listed_file, made_by)
    print(f"{listed_file}: fetch them by --DOWNLOAD, or those you leave in by --PRODUCTS_FILE {FOUND_LIST}")
    return listed


def draw_map(
    listed: list[Listed], outlines: list[NDArray[np.float64]], listed_file: Path, made_by: stores.Recipe
) -> None:
    """Write the map of what a search found, beside its list."""
    from cloudsom.drawing.figures import Portfolio  # takes a second that downloads go without
    from cloudsom.drawing.footprints import footprints

    shapes = [[np.array(ring) for ring in entry.rings] for entry in listed]
    cloud = [np.nan if entry.cloud is None else entry.cloud for entry in listed]
    figure = footprints([entry.product.tile or "" for entry in listed], shapes, cloud, outlines)
    title = f"footprints of the {len(listed)} products"
    Portfolio(listed_file.parent, made_by).write(listed_file.stem, figure, title, f"A map of the {title}")


def listing(listed: list[Listed]) -> str:
    """A table of the products that a search found."""
    rows = [("product", "# time (UTC)", "tile", "cloud %", "size", "here")]
    for entry in listed:
        cloud = "?" if entry.cloud is None else f"{entry.cloud:.1f}"
        here = "yes" if place_of(products_dir(), entry.product.name) else "no"
        tile = entry.product.tile or ""
        rows.append((entry.product.name, f"# {entry.time}", tile, cloud.rjust(7), human(entry.size).rjust(6), here))
    return in_columns(rows)


def day(name: str, text: str | None) -> date:
    """The day that a constant gives."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise UserError(f"{name}: {text!r} is no day; give one as 2026-06-01") from None


def reference_dir() -> Path:
    """The folder of the masks."""
    return folder_here(under(DATA_DIR, REFERENCE_DIR), "REFERENCE_DIR")


def products_dir() -> Path:
    """The folder of the products."""
    return folder_here(under(DATA_DIR, PRODUCTS_DIR), "PRODUCTS_DIR")


def reference_masks(client: Client) -> Fetched:
    """Fetch and unpack the reference masks, unless they are there; for `local`, only look."""
    archive = folder_here(under(DATA_DIR, REFERENCE_ARCHIVE), "REFERENCE_ARCHIVE")
    max_bytes = int(REFERENCE_MAX_GB * 1e9)
    masks = ReferenceMasks(ZENODO_URL, ZENODO_RECORD, archive, REFERENCE_MD5, max_bytes)
    if SOURCE == "local":
        return masks.look(reference_dir())
    return masks.obtain(reference_dir(), client, int(DISK_MARGIN_GB * 1e9))


def products_wanted(client: Client) -> list[Product]:
    """The products named by PRODUCTS and PRODUCTS_FILE, or else those of the reference masks.

    For `local`, those in PRODUCTS_DIR as well. Folders that are not named as a product is are passed over.
    """
    entries = list(PRODUCTS)
    if PRODUCTS_FILE:
        names_file = existing(DATA_DIR, PRODUCTS_FILE, "a text file with one product name a line is needed")
        entries += names_file.read_text(encoding="utf-8", errors="replace").splitlines()
    if not entries:
        found = [place.name for place in reference_dir().glob("[!.]*") if place.is_dir()]
        if SOURCE == "local":
            found += [place.name for place in products_dir().glob("[!.]*") if place.suffix in (".SAFE", ".zip")]
        entries = [name for name in sorted(found) if is_product_name(name)]
        for name in sorted(set(found) - set(entries)):
            client.tell(f"{name}: is not the name of an L1C product; passed over")
    if not entries:
        raise UserError(f"{reference_dir()}: no masks there and no PRODUCTS named; name some, or fetch the masks")
    return wanted(entries, reference_dir())[: FIRST or None]


def source(client: Client) -> Source | None:
    """Where products come from; None for `local`."""
    if SOURCE == "gcs":
        return Bucket(client, GCS_URL, GCS_BUCKET, WHOLE_PRODUCT)
    if SOURCE == "cdse":
        token = Token(client, CDSE_TOKEN_URL, CDSE_HOSTS)
        return DataSpace(client, CDSE_CATALOGUE_URL, CDSE_DOWNLOAD_URL, token, ALLOW_REPROCESSED)
    if SOURCE == "dhus":
        if not DHUS_URL:
            raise UserError("SOURCE dhus needs DHUS_URL: the address of a DHuS hub you have an account on")
        return Hub(client, DHUS_URL)
    return None


if __name__ == "__main__":
    run(main, globals())
