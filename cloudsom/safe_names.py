"""Names of the metadata files within a SAFE product, new and old (before December 2016)."""

import re

#: A product's own metadata file, beside GRANULE: Level-1C, or Level-2A, which is told apart only to refuse it.
PRODUCT_XML = re.compile(r"(MTD_MSIL(1C|2A)|S2\w_OPER_MTD_SAFL(1C|2A)_[^/]*)\.xml", re.IGNORECASE)

#: A granule's metadata file.
TILE_XML = re.compile(r"(MTD_TL|S2\w_OPER_MTD_L1C_TL_[^/]*)\.xml", re.IGNORECASE)


def is_product_metadata(name: str) -> bool:
    """Whether a file name is that of a Level-1C product's own metadata."""
    found = PRODUCT_XML.fullmatch(name)
    return found is not None and "2A" not in found.groups()


def is_tile_metadata(name: str) -> bool:
    """Whether a file name is that of a granule's metadata."""
    return bool(TILE_XML.fullmatch(name))
