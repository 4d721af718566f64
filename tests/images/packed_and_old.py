"""SAFE products as they come besides folders in the new naming: in the naming before December 2016, and zipped."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

from safe_maker import ORIGIN, Bands, product_xml, tile_xml, write_extras, write_granule

OLD_NAME = "S2A_OPER_PRD_MSIL1C_PDMC_20160605T235059_R108_V20150813T102406_20150813T102406"


def make_old_safe(folder: Path, granules: Mapping[str, Bands]) -> Path:
    """A SAFE folder in the naming before December 2016, with a granule for each tile (`T31TFH`)."""
    safe = folder / f"{OLD_NAME}.SAFE"
    for i, (tile, bands) in enumerate(granules.items()):
        stem = f"S2A_OPER_MSI_L1C_TL_EPA__20160605T113933_A000734_{tile}"
        place = safe / "GRANULE" / f"{stem}_N02.02"
        write_granule(place, stem, bands, (ORIGIN[0] + 100_000 * i, ORIGIN[1]))
        metadata = stem.replace("_MSI_", "_MTD_") + ".xml"
        (place / metadata).write_text(tile_xml(stem, bands), encoding="utf-8")
    metadata = OLD_NAME.replace("_PRD_MSIL1C_", "_MTD_SAFL1C_") + ".xml"
    (safe / metadata).write_text(product_xml(OLD_NAME), encoding="utf-8")
    write_extras(safe)
    return safe


def zip_safe(safe: Path, archive: Path | None = None, *, macos: bool = False) -> Path:
    """Zip a SAFE folder to NAME.SAFE.zip beside it (or to `archive`), with what macOS adds if `macos`."""
    archive = archive or safe.with_name(safe.name + ".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(safe.rglob("*")):
            inside = file.relative_to(safe.parent)
            target.write(file, inside.as_posix())
            if macos and file.is_file():
                target.writestr(f"__MACOSX/{inside.parent.as_posix()}/._{file.name}", b"\0\5\26\7junk")
    return archive
