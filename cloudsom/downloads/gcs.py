"""The public Sentinel-2 bucket on Google Cloud Storage: products as plain objects, no account needed.

    tiles/31/T/FH/NAME.SAFE/GRANULE/.../IMG_DATA/..._B01.jp2

Products with old long names stand there under new short ones, one tile each.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from cloudsom.downloads.archives import MAX_MEMBERS, lacking, safe_path
from cloudsom.downloads.client import Client, DownloadError
from cloudsom.downloads.engine import Delivery, Source
from cloudsom.downloads.names import Product
from cloudsom.downloads.transfer import Remote
from cloudsom.safe_names import is_product_metadata, is_tile_metadata

MAX_PAGES = 1000


@dataclass
class Bucket(Source):
    """The bucket `bucket` at `url`; `whole` takes every object of a product and not just bands and metadata."""

    client: Client
    url: str
    bucket: str
    whole: bool = False
    name: str = "gcs"
    most_connections: int = 32
    answer: str = "the bucket's listing"

    def find(self, product: Product) -> Delivery:
        """The objects of a product."""
        for prefix in self._candidates(product):
            objects = self._objects(prefix, product)
            if objects:
                chosen = objects if self.whole else [remote for remote in objects if _needed(remote.name)]
                missing = lacking(remote.name for remote in chosen)
                if missing:
                    raise DownloadError(f"in the bucket, but without {', '.join(missing)}", "missing")
                delivered = prefix.rstrip("/").rsplit("/", 1)[-1].removesuffix(".SAFE")
                url = self._url(prefix)
                return Delivery(product, self.name, chosen, False, delivered, url, whole=self.whole)
        raise DownloadError("not in the bucket", "missing")

    def _candidates(self, product: Product) -> list[str]:
        """The prefixes a product may stand under, with a slash at the end."""
        if not product.tile:
            raise DownloadError(
                "an old long name, under which the bucket has one product a tile: give the tile after the name, "
                "as in PRODUCTS 'NAME 31TFJ'"
            )
        zone, band, square = product.tile[:2], product.tile[2], product.tile[3:]
        folders = [f"tiles/{zone}/{band}/{square}/"]
        if zone.startswith("0"):
            folders.append(f"tiles/{zone[1]}/{band}/{square}/")
        if not product.old:
            return [f"{folder}{product.name}.SAFE/" for folder in folders]
        return [prefix for folder in folders for prefix in self._same_acquisition(folder, product)]

    def _same_acquisition(self, folder: str, product: Product) -> list[str]:
        """The short-named product of an old long name: same satellite, sensing time, orbit and tile.

        Where there are several, the one that was made at the time in the long name.
        """
        start = f"{folder}{product.satellite}_MSIL1C_{product.sensing}_"
        found = [
            str(prefix)
            for page in self._pages(prefix=start, delimiter="/")
            for prefix in page.get("prefixes", [])
            if f"_{product.orbit}_T{product.tile}_" in str(prefix) and str(prefix).startswith(start)
        ]
        if len(found) > 1:
            names = ", ".join(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in found)
            found = [prefix for prefix in found if prefix.endswith(f"_{product.made}.SAFE/")]
            if len(found) != 1:
                raise DownloadError(f"several products of this acquisition, name the one you want: {names}", "missing")
        return found

    def _objects(self, prefix: str, product: Product) -> list[Remote]:
        """Every object under a product's prefix."""
        remotes: list[Remote] = []
        for page in self._pages(prefix=prefix):
            for entry in page.get("items", []):
                path = str(entry["name"])
                if path.endswith(("/", "_$folder$")):
                    continue
                if not path.startswith(prefix):
                    raise DownloadError("the listing holds objects that were not asked for")
                name = str(safe_path(path.removeprefix(prefix), self.name))
                size = int(entry["size"])
                if size < 0 or len(remotes) >= MAX_MEMBERS:
                    raise ValueError
                remotes.append(Remote(self._url(path), name, size, _md5(entry)))
        granules = {name for name in (_granule(remote.name) for remote in remotes) if name}
        ours = {granule for granule in granules if f"_T{product.tile}_" in granule}
        if len(granules) > 1 and ours:  # an old product that kept all its tiles
            remotes = [remote for remote in remotes if _granule(remote.name) in ours | {None}]
        return remotes

    def _url(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{quote(self.bucket)}/{quote(path)}"

    def _pages(self, **query: str) -> Iterator[dict[str, Any]]:
        """The pages of a listing."""
        url = f"{self.url.rstrip('/')}/storage/v1/b/{quote(self.bucket)}/o"
        params = {**query, "fields": "items(name,size,md5Hash),prefixes,nextPageToken"}
        for _ in range(MAX_PAGES):
            page = self.client.json("GET", url, params=params)
            yield page
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]
        raise DownloadError("the bucket's listing makes no sense")


def _needed(name: str) -> bool:
    """Whether the pipeline reads this file: a band, or metadata of the product or its granule."""
    path = PurePosixPath(name)
    if path.suffix == ".jp2":
        return path.parent.name == "IMG_DATA" and not path.stem.endswith("_TCI")
    in_granule = "GRANULE" in path.parts and is_tile_metadata(path.name)
    return in_granule or (len(path.parts) == 1 and (is_product_metadata(path.name) or name == "manifest.safe"))


def _granule(name: str) -> str | None:
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) > 2 and parts[0] == "GRANULE" else None


def _md5(entry: dict[str, Any]) -> str | None:
    """An object's MD5, which the listing gives in base64; None for the rare composite object that has none."""
    try:
        return "md5:" + base64.b64decode(entry["md5Hash"], validate=True).hex()
    except (KeyError, ValueError):
        return None
