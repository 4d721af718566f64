"""Names of Sentinel-2 L1C products, and the list of those that are wanted.

S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024                      since December 2016
S2A_OPER_PRD_MSIL1C_PDMC_20160107T001924_R049_V20160102T075903_20160102T075903    before; many tiles in one
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cloudsom.errors import UserError

_NEW = re.compile(
    r"(?P<satellite>S2[A-D])_MSIL1C_(?P<sensing>\d{8}T\d{6})_N(?P<baseline>\d{4})_(?P<orbit>R\d{3})"
    r"_T(?P<tile>\d{2}[A-Z]{3})_(?P<made>\d{8}T\d{6})"
)
_OLD = re.compile(
    r"(?P<satellite>S2[A-D])_OPER_PRD_MSIL1C_[A-Z0-9_]{4}_(?P<made>\d{8}T\d{6})_(?P<orbit>R\d{3})"
    r"_V(?P<sensing>\d{8}T\d{6})_\d{8}T\d{6}"
)


@dataclass(frozen=True)
class Product:
    """A product's name and what it says: satellite, sensing start, relative orbit, tile, processing baseline and time.

    Old long names have no tile (it may be given beside them) and no baseline.
    """

    name: str
    satellite: str
    sensing: str
    orbit: str
    made: str
    tile: str | None = None
    baseline: str | None = None

    @property
    def old(self) -> bool:
        """Whether this is a name of before December 2016."""
        return self.baseline is None


def parse(text: str) -> Product:
    """A product from its name, with or without `.SAFE`, `.zip` or a folder in front; raises UserError."""
    name = text.strip().rstrip("/").rsplit("/", 1)[-1].removesuffix(".zip").removesuffix(".SAFE")
    found = _NEW.fullmatch(name) or _OLD.fullmatch(name)
    if found:
        return Product(name, **found.groupdict())
    if "MSIL2A" in name:
        raise UserError(f"{name[:100]}: is an L2A product, which has no band B10; name the L1C product")
    raise UserError(
        f"{name[:100]!r}: is not the name of a Sentinel-2 L1C product; "
        "names look like S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024"
    )


def is_product_name(text: str) -> bool:
    """Whether `parse` would take it."""
    try:
        parse(text)
    except UserError:
        return False
    return True


def wanted(entries: Iterable[str], reference_dir: Path) -> list[Product]:
    """Products from entries `NAME` or `NAME TILE`, each once and in order.

    The tile matters for old long names only; where none is given it is taken from the reference mask of that name.
    Empty entries and those that begin with # are passed over. Raises UserError.
    """
    found: dict[str, Product] = {}
    for entry in entries:
        words = entry.split("#", 1)[0].split()
        if not words:
            continue
        product = parse(words[0])
        tile = words[1].removeprefix("T") if len(words) == 2 else None
        if len(words) > 2 or (tile and not re.fullmatch(r"\d{2}[A-Z]{3}", tile)):
            raise UserError(f"{entry.strip()[:100]!r}: give a product name, and its tile after it if need be")
        if not product.tile:
            product = replace(product, tile=tile or tile_of_reference(reference_dir / product.name))
        found.setdefault(product.name, product)
    return list(found.values())


def tile_of_reference(scene: Path) -> str | None:
    """The tile a reference mask was made on, from the parameters its authors left beside it; None if not to be had."""
    try:
        parameters = json.loads((scene / "Classification" / "used_parameters.json").read_text(encoding="utf-8"))
        tile = str(parameters["tile"]).removeprefix("T")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return tile if re.fullmatch(r"\d{2}[A-Z]{3}", tile) else None
