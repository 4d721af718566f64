"""Sentinel-2 L1C products as the archives hand them out, as SAFE folders of any size.

What a product consists of here: the product's metadata, a granule's metadata, 13 lossless JPEG 2000 images with
georeference (5/3 wavelet, 15 bits, 5 resolutions, tiles as in real products) and the other things a reader has to
pass over (a true-colour image, quality masks, a manifest).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal, ogr, osr

from cloudsom.bands import SAFE_BANDS

gdal.UseExceptions()
ogr.UseExceptions()

Bands = Mapping[str, NDArray[np.uint16]]

PIXEL_M = dict.fromkeys(("B02", "B03", "B04", "B08"), 10)
PIXEL_M |= dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 20)
PIXEL_M |= dict.fromkeys(("B01", "B09", "B10"), 60)

#: Side of the JPEG 2000 tiles and code blocks of real products, by pixel size.
TILES = {10: (1024, 64), 20: (640, 8), 60: (192, 4)}

ORIGIN = (600000, 4900020)
EPSG = 32631
NAME = "S2A_MSIL1C_20170430T103021_N0205_R108_T31TFH_20170430T103024"
NAME_WITH_OFFSET = "S2A_MSIL1C_20170430T103021_N0500_R108_T31TFH_20230905T103024"


def constant_bands(size: int, values: Sequence[int] = tuple(range(1000, 2300, 100))) -> dict[str, NDArray[np.uint16]]:
    """13 bands at their native size for a granule of size x size pixels of 60 m, each of one value."""
    sides = {band: size * 60 // PIXEL_M[band] for band in SAFE_BANDS}
    return {b: np.full((sides[b], sides[b]), v, np.uint16) for b, v in zip(SAFE_BANDS, values, strict=True)}


def textured_bands(size: int, seed: int = 0) -> dict[str, NDArray[np.uint16]]:
    """13 bands of one imaginary landscape: rough at every scale, as real ones are, and alike in all bands."""
    rng = np.random.default_rng(seed)
    side = size * 6
    common, own = _rough(rng, side), [_rough(rng, side) for _ in range(3)]
    bands = {}
    for i, band in enumerate(SAFE_BANDS):
        scene = 4000 + 600 * common + 150 * np.tensordot(rng.uniform(-1, 1, 3), own, 1) + 40 * i
        bands[band] = np.clip(np.rint(block_mean(scene, PIXEL_M[band] // 10)), 1, 32767).astype(np.uint16)
    return bands


def block_mean(values: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Mean of blocks of size x size pixels."""
    rows, columns = values.shape
    return np.asarray(values.reshape(rows // size, size, columns // size, size).mean(axis=(1, 3)))


def _rough(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """A field of standard deviation 1 whose amplitude falls with frequency f as f ** -1.5."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    spectrum *= np.maximum(frequency, 1 / side) ** -1.5
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(side, side))
    return np.asarray(field / field.std())


# --- products ---------------------------------------------------------------------------------------------------------


def make_safe(
    folder: Path,
    bands: Bands,
    *,
    name: str = NAME,
    offsets: Sequence[float] | None = None,
    origin: tuple[int, int] = ORIGIN,
    epsg: int = EPSG,
) -> Path:
    """A SAFE folder in the new naming, with one granule; returns its path. `bands` may lack some of the 13."""
    tile, sensed = name.split("_")[5], name.split("_")[2]
    safe = folder / f"{name}.SAFE"
    granule = f"L1C_{tile}_A009686_{sensed}"
    write_granule(safe / "GRANULE" / granule, f"{tile}_{sensed}", bands, origin, epsg)
    (safe / "GRANULE" / granule / "MTD_TL.xml").write_text(tile_xml(granule, bands, origin, epsg), encoding="utf-8")
    (safe / "MTD_MSIL1C.xml").write_text(product_xml(name, offsets), encoding="utf-8")
    write_extras(safe)
    return safe


def write_granule(place: Path, stem: str, bands: Bands, origin: tuple[int, int], epsg: int = EPSG) -> None:
    """A granule's IMG_DATA with an image for each band, and QI_DATA."""
    for folder in ("IMG_DATA", "QI_DATA"):
        (place / folder).mkdir(parents=True)
    for band, dn in bands.items():
        write_jp2(place / "IMG_DATA" / f"{stem}_{band}.jp2", dn, PIXEL_M[band], origin, epsg=epsg)
    (place / "IMG_DATA" / f"{stem}_TCI.jp2").write_bytes(b"a picture for people, not for reading\n")
    (place / "QI_DATA" / "MSK_CLOUDS_B00.gml").write_text("<Mask/>\n", encoding="utf-8")


def write_clouds(safe: Path, clouds: Mapping[str, NDArray[np.bool_]], origin: tuple[int, int], epsg: int) -> None:
    """A product's cloud mask as it was before baseline 04.00: polygons by type (OPAQUE, CIRRUS), of pixels of 60 m."""
    members = []
    for kind, where in clouds.items():
        source = in_memory(where.astype(np.uint16), 60, origin, epsg)
        shapes = ogr.GetDriverByName("Memory").CreateDataSource("")
        layer = shapes.CreateLayer("", source.GetSpatialRef())
        band = source.GetRasterBand(1)
        gdal.Polygonize(band, band, layer, -1)
        members += [_cloud(f"{kind}.{i}", kind, feature.GetGeometryRef()) for i, feature in enumerate(layer)]
    listed = f"<eop:maskMembers>{''.join(members)}</eop:maskMembers>" if members else ""
    (next(safe.glob("GRANULE/*/QI_DATA")) / "MSK_CLOUDS_B00.gml").write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="CLOUDS_B00">
<gml:boundedBy><gml:Envelope srsName="urn:ogc:def:crs:EPSG:8.7:{epsg}"/></gml:boundedBy>
{listed}</eop:Mask>
""",
        encoding="utf-8",
    )


def _cloud(name: str, kind: str, shape: ogr.Geometry) -> str:
    """One polygon of such a mask."""
    rings = [shape.GetGeometryRef(i).GetPoints() for i in range(shape.GetGeometryCount())]
    lines = [" ".join(f"{x:.0f} {y:.0f}" for x, y in ring) for ring in rings]
    parts = [f'<gml:LinearRing><gml:posList srsDimension="2">{line}</gml:posList></gml:LinearRing>' for line in lines]
    outline = f"<gml:exterior>{parts[0]}</gml:exterior>"
    outline += "".join(f"<gml:interior>{part}</gml:interior>" for part in parts[1:])
    return (
        f'<eop:MaskFeature gml:id="{name}"><eop:maskType>{kind}</eop:maskType><eop:extentOf>'
        f'<gml:Polygon gml:id="{name}_P">{outline}</gml:Polygon></eop:extentOf></eop:MaskFeature>\n'
    )


def write_jp2(
    path: Path,
    dn: NDArray[np.uint16],
    pixel: int,
    origin: tuple[int, int] = ORIGIN,
    bits: int = 15,
    epsg: int = EPSG,
) -> None:
    """A lossless, georeferenced JPEG 2000 image, encoded like those of real products."""
    tile, block = TILES[pixel]
    options = ["CODEC=JP2", "REVERSIBLE=YES", "QUALITY=100", "RESOLUTIONS=5", f"NBITS={bits}"]
    options += [f"BLOCKXSIZE={tile}", f"BLOCKYSIZE={tile}", f"CODEBLOCK_WIDTH={block}", f"CODEBLOCK_HEIGHT={block}"]
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), in_memory(dn, pixel, origin, epsg), options=options)


def write_tiff(path: Path, dn: NDArray[np.uint16], pixel: int, origin: tuple[int, int] = ORIGIN) -> None:
    """The same image as a GeoTIFF, whatever the file is called."""
    gdal.GetDriverByName("GTiff").CreateCopy(str(path), in_memory(dn, pixel, origin))


def in_memory(dn: NDArray[np.uint16], pixel: int, origin: tuple[int, int], epsg: int = EPSG) -> gdal.Dataset:
    """An array as a georeferenced GDAL dataset."""
    dataset = gdal.GetDriverByName("MEM").Create("", dn.shape[1], dn.shape[0], 1, gdal.GDT_UInt16)
    dataset.SetProjection(osr.GetUserInputAsWKT(f"EPSG:{epsg}"))
    dataset.SetGeoTransform((origin[0], pixel, 0, origin[1], 0, -pixel))
    dataset.GetRasterBand(1).WriteArray(dn)
    return dataset


def write_extras(safe: Path) -> None:
    """Files and folders every product has besides."""
    (safe / "manifest.safe").write_text("<manifest/>\n", encoding="utf-8")
    (safe / "HTML").mkdir()
    (safe / "HTML" / "UserProduct_index.html").write_text("<html/>\n", encoding="utf-8")


# --- metadata ---------------------------------------------------------------------------------------------------------


def product_xml(name: str, offsets: Sequence[float] | None = None) -> str:
    """MTD_MSIL1C.xml, with the elements that readers look for; an old name does not tell the processing baseline."""
    baseline = re.search(r"_N(\d\d)(\d\d)_", name)
    listed = ""
    if offsets is not None:
        entries = (f'<RADIO_ADD_OFFSET band_id="{i}">{value:g}</RADIO_ADD_OFFSET>' for i, value in enumerate(offsets))
        listed = f"<Radiometric_Offset_List>{''.join(entries)}</Radiometric_Offset_List>"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-1C.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2017-04-30T10:30:21.026Z</PRODUCT_START_TIME>
      <PRODUCT_URI>{name}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI1C</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{".".join(baseline.groups()) if baseline else "02.02"}</PROCESSING_BASELINE>
      <Datatake datatakeIdentifier="GS2A_20170430T103021_009686_N02.05">
        <SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
      </Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>
      {listed}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-1C_User_Product>
"""


def tile_xml(granule: str, bands: Bands, origin: tuple[int, int] = ORIGIN, epsg: int = EPSG) -> str:
    """MTD_TL.xml: the granule's identity and geocoding."""
    sizes = {PIXEL_M[band]: dn.shape for band, dn in bands.items()}
    geocoding = "".join(
        f'<Size resolution="{r}"><NROWS>{rows}</NROWS><NCOLS>{columns}</NCOLS></Size>'
        f'<Geoposition resolution="{r}"><ULX>{origin[0]}</ULX><ULY>{origin[1]}</ULY><XDIM>{r}</XDIM><YDIM>-{r}</YDIM>'
        "</Geoposition>"
        for r, (rows, columns) in sorted(sizes.items())
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-1C_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-1C_Tile_Metadata.xsd">
  <n1:General_Info>
    <TILE_ID metadataLevel="Brief">{granule}</TILE_ID>
    <SENSING_TIME metadataLevel="Standard">2017-04-30T10:30:24.461Z</SENSING_TIME>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Tile_Geocoding metadataLevel="Brief">
      <HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>{geocoding}
    </Tile_Geocoding>
  </n1:Geometric_Info>
</n1:Level-1C_Tile_ID>
"""
