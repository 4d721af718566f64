"""Names of SAFE products and of the metadata files within them, new and old (before December 2016)."""

import re

#: A product's own metadata file, beside GRANULE: Level-1C, or Level-2A, which is told apart only to refuse it.
PRODUCT_XML = re.compile(r"(MTD_MSIL(1C|2A)|S2\w_OPER_MTD_SAFL(1C|2A)_[^/]*)\.xml", re.IGNORECASE)

#: A granule's metadata file.
TILE_XML = re.compile(r"(MTD_TL|S2\w_OPER_MTD_L1C_TL_[^/]*)\.xml", re.IGNORECASE)

#: Satellite, sensing time and tile in a Level-1C product's name; an old one's tile is the granule's.
_NEW = re.compile(r"(S2[A-D])_MSIL1C_(\d{8}T\d{6})_.*_(T\d\d[A-Z]{3})(?:_.*)?")
_OLD = re.compile(r"(S2[A-D])_OPER_PRD_MSIL1C_.*_V(\d{8}T\d{6})_.*_(T\d\d[A-Z]{3})")


def fields_of(name: str) -> dict[str, str]:
    """What a product's name says: the name itself, and of an L1C product satellite, sensing time, date and tile."""
    found = _NEW.fullmatch(name) or _OLD.fullmatch(name)
    if not found:
        return {"product": name}
    satellite, sensed, tile = found.groups()
    return {"product": name, "satellite": satellite, "sensed": sensed, "date": sensed[:8], "tile": tile}


def is_product_metadata(name: str) -> bool:
    """Whether a file name is that of a Level-1C product's own metadata."""
    found = PRODUCT_XML.fullmatch(name)
    return found is not None and "2A" not in found.groups()


def is_tile_metadata(name: str) -> bool:
    """Whether a file name is that of a granule's metadata."""
    return bool(TILE_XML.fullmatch(name))
