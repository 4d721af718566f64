"""Masks of other processors: GeoTIFF, JPEG 2000 and ERDAS Imagine, and the polygons that ESA puts into products."""

from functools import partial
from pathlib import Path

import numpy as np
from osgeo import gdal

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Seeds, Target
from campaigns.fuzz.targets.rasters import grid
from cloudsom.images.mask_codes import PRESETS, read_preset
from cloudsom.images.products import Files
from cloudsom.scoring import other_masks
from cloudsom.scoring.other_masks import OtherMask

DRIVERS = {"tif": "GTiff", "img": "HFA", "jp2": "JP2OpenJPEG"}


def read(preset: str, path: Path) -> None:
    mask = OtherMask(read_preset(preset), path)
    other_masks.read(mask, grid(24, 20), 0.5)


def read_gml(path: Path) -> None:
    mask = OtherMask(PRESETS["l1c"], path, Files(path.parent), path.name)
    other_masks.read(mask, grid(24, 20), 0.5)


def seeds(folder: Path) -> Seeds:
    from safe_maker import in_memory, make_safe, write_clouds

    cloud = np.asarray(kit.digital_numbers()[..., 1] > 2000)
    cloud[3:9, 4:12] = True
    codes = np.kron(1 + cloud, np.ones((3, 3))).astype(np.uint16)
    source = gdal.GetDriverByName("MEM").CreateCopy("", in_memory(codes, 20, (600000, 4900020)))
    found: dict[str, list[bytes]] = {}
    for kind, driver in DRIVERS.items():
        options = ["REVERSIBLE=YES", "QUALITY=100"] if kind == "jp2" else []
        gdal.GetDriverByName(driver).CreateCopy(str(folder / f"a.{kind}"), source, options=options)
        found[kind] = [(folder / f"a.{kind}").read_bytes()]
    share = gdal.GetDriverByName("GTiff").Create(str(folder / "share"), 24, 20, 1, gdal.GDT_Float32)
    share.SetGeoTransform(grid(24, 20).transform)
    share.SetProjection(grid(24, 20).projection)
    share.GetRasterBand(1).WriteArray(np.where(cloud, 0.9, 0.1).astype(np.float32))
    del share
    found["probability"] = [(folder / "share").read_bytes()]
    safe = folder / "S2A_MSIL1C_20170430T103021_N0205_R108_T31TFH_20170430T103024.SAFE"
    if not safe.exists():
        make_safe(folder, {})
    write_clouds(safe, {"OPAQUE": cloud, "CIRRUS": ~cloud}, (600000, 4900020), 32631)
    found["gml"] = [next(safe.glob("GRANULE/*/QI_DATA/MSK_CLOUDS_B00.gml")).read_bytes()]
    return found


OTHER_MASK = Target(
    "other_mask",
    {kind: (f".{kind}", partial(read, "fmask")) for kind in DRIVERS}
    | {"gml": (".gml", read_gml), "probability": (".tif", partial(read, "s2cloudless(0.4)"))},
    seeds,
    (b"EHFA_HEADER_TAG", b"ExternalRasterDMS", b"DependentFile", b"RRDNamesList", b"/vsicurl/http://127.0.0.1:9/",
     b"II*\0", b"<gml:posList>", b"srsDimension=\"3\"", b"srsName", b"EPSG", b"32631", b"1e308", b"nan",
     b"OPAQUE", b"CIRRUS", b"<!DOCTYPE x [<!ENTITY a \"b\">]>", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xf0"),
)  # fmt: skip
