"""Step 7 as users run it: `bash gdal_commands.sh` on products made for the test, and on the real one."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from osgeo import gdal
from packed_and_old import OLD_NAME, make_old_safe, zip_safe
from safe_maker import (
    NAME,
    NAME_WITH_OFFSET,
    ORIGIN,
    PIXEL_M,
    TILES,
    Bands,
    constant_bands,
    make_safe,
    textured_bands,
    write_jp2,
    write_tiff,
)
from scipy import ndimage
from scripts import step_7

from cloudsom.bands import SAFE_BANDS
from cloudsom.downloads import records
from cloudsom.errors import UserError
from cloudsom.images import rasters, safe_to_tiff
from cloudsom.images.products import Granule, find_products
from cloudsom.images.rasters import open_scene, reflectance

ROOT = Path(__file__).parents[2]
REAL = "S2A_MSIL1C_20170430T103021_N0205_R108_T32UPV_20170430T103024"
REAL_ZIP = ROOT.parent / "shared" / "data" / f"{REAL}.SAFE.zip"

Array = NDArray[Any]


def granule_of(safe: Path) -> Granule:
    (found,) = (p for p in find_products(safe.parent)[0].values() if p.path == safe)
    return found.granules()[0]


def convert(
    safe: Path, pixel_size: int = 60, resampling: str = "exact", threads: int = 2
) -> tuple[Array, dict[str, str]]:
    """The DN (height, width, 13) and tags that a product comes out with."""
    target = safe.parent / f"{safe.stem}_{pixel_size}_{resampling}.tif"
    safe_to_tiff.convert_granule(granule_of(safe), target, pixel_size, resampling, threads)
    with open_scene(target) as scene:
        return scene.read(0, scene.grid.height), scene.info.tags


def image(safe: Path, band: str) -> Path:
    return next(safe.glob(f"GRANULE/*/IMG_DATA/*_{band}.jp2"))


def block_means(bands: Bands) -> Array:
    """The unrounded means over 60 m, (height, width, 13)."""
    side = len(bands["B01"])
    layers = [bands[b].reshape(side, 60 // PIXEL_M[b], side, 60 // PIXEL_M[b]).mean(axis=(1, 3)) for b in SAFE_BANDS]
    return np.stack(layers, axis=-1)


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_every_kind_of_product_in_one_run(tmp_path: Path) -> None:
    products = tmp_path / "products"
    make_safe(products, constant_bands(32))
    with_offset = constant_bands(32, range(2000, 3300, 100))
    to_zip = make_safe(tmp_path, with_offset, name=NAME_WITH_OFFSET, offsets=[-1000] * 13)
    zip_safe(to_zip, products / "a.zip", macos=True)
    make_old_safe(products, {"T31TFH": constant_bands(8), "T31TGH": constant_bands(8, [7] * 13)})
    before = sorted(p.name for p in products.rglob("*"))
    done = step_7(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{NAME}.tif: 32 x 32 pixels of 60 m; 0.00% without data; offset 0, quantification 10000" in done.stdout
    expected = {NAME, NAME_WITH_OFFSET, f"{OLD_NAME}_T31TFH", f"{OLD_NAME}_T31TGH"}
    assert {p.stem for p in (tmp_path / "tiff").glob("*.tif")} == expected
    assert sorted(p.name for p in products.rglob("*")) == before  # nothing extracted, no sidecar

    with open_scene(tmp_path / "tiff" / f"{NAME}.tif") as scene:
        assert scene.read(0, 32)[7, 9].tolist() == list(range(1000, 2300, 100))  # B8A is the ninth
        assert reflectance(scene.read(0, 1), scene.info)[0, 0, 8] == 0.18
        assert scene.grid.transform == (ORIGIN[0], 60, 0, ORIGIN[1], 0, -60)
        assert "UTM zone 31N" in scene.grid.projection
        assert scene.info.tags["SPACECRAFT"] == "Sentinel-2A"
    with open_scene(tmp_path / "tiff" / f"{NAME_WITH_OFFSET}.tif") as scene:
        assert scene.info.offsets == (-1000,) * 13
        assert reflectance(scene.read(0, 1), scene.info)[0, 0, 8] == 0.18
    with open_scene(tmp_path / "tiff" / f"{OLD_NAME}_T31TGH.tif") as scene:
        assert (scene.read(0, 8) == 7).all()
        assert scene.grid.transform[0] == ORIGIN[0] + 100_000

    again = step_7(tmp_path, "--WORKERS", "1")
    assert again.returncode == 0
    assert again.stdout.count("is up to date") == 4


def test_called_by_a_link_or_with_cdpath_it_finds_itself(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "step_7").symlink_to(ROOT / "gdal_commands.sh")
    (tmp_path / "elsewhere" / ROOT.name).mkdir(parents=True)  # where cd would go by CDPATH
    for words, cwd in (("bin/step_7", tmp_path), (f"{ROOT.name}/gdal_commands.sh", ROOT.parent)):
        env = os.environ | {"DATA_DIR": str(tmp_path), "CDPATH": str(tmp_path / "elsewhere")}
        done = subprocess.run(["bash", words], capture_output=True, text=True, timeout=120, env=env, cwd=cwd)
        assert done.returncode == 1 and "products: no such folder" in done.stderr, done.stderr


def test_every_shell_script_finds_itself_in_the_same_way() -> None:
    scripts = [*ROOT.glob("*.sh"), *ROOT.glob("campaigns/*.sh")]
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert '$(readlink -f -- "${BASH_SOURCE[0]}")' in text and '-- "${BASH_SOURCE[0]}")" &&' not in text, script


def test_one_old_granule_needs_no_suffix(tmp_path: Path) -> None:
    make_old_safe(tmp_path / "products", {"T31TFH": constant_bands(4)})
    done = step_7(tmp_path, "--TIFF_DIR", "elsewhere", PIXEL_SIZE="20")
    assert done.returncode == 0, done.stderr
    with open_scene(tmp_path / "elsewhere" / f"{OLD_NAME}.tif") as scene:
        assert (scene.grid.width, scene.grid.transform[1]) == (12, 20)


def test_folders_with_any_name(tmp_path: Path) -> None:
    data = tmp_path / "-a b'\"$(touch x)\n\u4e91"
    make_safe(data / "the products", constant_bands(4))
    done = step_7(data, PRODUCTS_DIR="the products")
    assert done.returncode == 0, done.stderr
    assert (data / "tiff" / f"{NAME}.tif").is_file()


# --- exact ------------------------------------------------------------------------------------------------------------


def test_exact_is_the_block_mean_rounded(tmp_path: Path) -> None:
    bands = textured_bands(40)
    dn, tags = convert(make_safe(tmp_path, bands))
    assert np.abs(dn - block_means(bands)).max() <= 0.5
    assert tags["RESAMPLING"] == "exact"


def test_nodata_and_saturation_stay_out_of_the_mean(tmp_path: Path) -> None:
    bands = constant_bands(8, [4000] * 13)
    bands["B02"][:3, :6] = 0  # the upper half of the first block
    bands["B02"][6:12, 6:12] = 0  # all of a block
    bands["B05"][0, 0] = 65535
    safe = make_safe(tmp_path, bands)
    write_jp2(image(safe, "B05"), bands["B05"], 20, bits=16)
    dn, _ = convert(safe)
    assert dn[0, 0].tolist() == [4000] * 13
    assert dn[1, 1].tolist() == [4000, 0] + [4000] * 11
    assert (dn == 4000).sum() == dn.size - 1


def test_every_strip_lands_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_to_tiff, "STRIP_ROWS", 50)  # strips end inside tiles, and the last is short
    bands = textured_bands(40)
    dn, _ = convert(make_safe(tmp_path, bands))
    assert np.abs(dn - block_means(bands)).max() <= 0.5


@pytest.mark.parametrize("pixel_size", [10, 20])
def test_finer_grids_average_what_is_finer_and_repeat_what_is_coarser(tmp_path: Path, pixel_size: int) -> None:
    bands = textured_bands(8)
    dn, _ = convert(make_safe(tmp_path, bands), pixel_size)
    assert dn.shape == (480 // pixel_size, 480 // pixel_size, 13)
    repeated = 60 // pixel_size
    assert (dn[..., 0] == bands["B01"].repeat(repeated, 0).repeat(repeated, 1)).all()
    if pixel_size == 10:
        assert (dn[..., 1] == bands["B02"]).all()
        assert (dn[..., 8] == bands["B8A"].repeat(2, 0).repeat(2, 1)).all()
    else:
        assert np.abs(dn[..., 1] - bands["B02"].reshape(24, 2, 24, 2).mean(axis=(1, 3))).max() <= 0.5
        assert (dn[..., 8] == bands["B8A"]).all()


def test_images_that_are_geotiffs_by_content(tmp_path: Path) -> None:
    bands = textured_bands(8)
    safe = make_safe(tmp_path, bands)
    for band in SAFE_BANDS:
        image(safe, band).unlink()
        write_tiff(image_path(safe, band), bands[band], PIXEL_M[band])
    dn, _ = convert(safe, resampling="fast")
    assert np.abs(dn - block_means(bands)).max() <= 0.5


def image_path(safe: Path, band: str) -> Path:
    return next(safe.glob("GRANULE/*/IMG_DATA")) / f"T31TFH_20170430T103021_{band}.jp2"


# --- published and fast -----------------------------------------------------------------------------------------------


def displacement(layer: Array, truth: Array) -> Array:
    """How far `layer` lies to the right of and below `truth`, in its pixels: fitted to the smoothed layers' slopes."""
    off, smooth = (ndimage.uniform_filter(a.astype(float), 9) for a in (truth - layer, truth))
    down, right = (slope[9:-9, 9:-9].ravel() for slope in np.gradient(smooth))
    found, *_ = np.linalg.lstsq(np.stack([right, down], axis=1), off[9:-9, 9:-9].ravel(), rcond=None)
    return np.asarray(found)


def test_fast_lies_where_exact_lies_and_published_does_not(tmp_path: Path) -> None:
    bands = textured_bands(128, seed=1)
    safe, truth = make_safe(tmp_path, bands), block_means(bands)
    fast, tags = convert(safe, resampling="fast")
    published, _ = convert(safe, resampling="published")
    assert tags["RESAMPLING"] == "fast"
    for i in range(13):
        assert np.abs(displacement(fast[..., i], truth[..., i])).max() < 0.02
        assert np.sqrt(((fast[..., i] - truth[..., i]) ** 2).mean()) < 25
    assert displacement(published[..., 1], truth[..., 1]) == pytest.approx([0.25, 0.25], abs=0.05)
    assert np.sqrt(((published[..., 1] - truth[..., 1]) ** 2).mean()) > 25


def test_published_is_what_gdal_translate_gives(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, textured_bands(64))
    dn, _ = convert(safe, resampling="published")
    for i, band in enumerate(SAFE_BANDS):
        there = gdal.Translate("", str(image(safe, band)), format="MEM", width=64, height=64)
        assert (dn[..., i] == there.ReadAsArray()).all()


def test_fast_is_exact_along_the_edge_of_the_swath(tmp_path: Path) -> None:
    """A slanting edge, at another place in each band, as in real products."""
    bands = textured_bands(96)
    for i, band in enumerate(SAFE_BANDS):
        y, x = np.mgrid[: len(bands[band]), : len(bands[band])] * PIXEL_M[band]
        bands[band][x + 0.3 * y > 3000 + 20 * i] = 0
    safe = make_safe(tmp_path, bands)
    exact, _ = convert(safe)
    fast, _ = convert(safe, resampling="fast")
    assert ((fast == 0) == (exact == 0)).all()
    left = np.pad(exact == 0, ((0, 0), (0, 2), (0, 0)), constant_values=True)[:, 2:]  # two pixels from the edge
    near = left & (exact > 0)
    assert near.sum() > 13 * 90
    assert (fast[near] == exact[near]).all()
    assert np.sqrt(((fast.astype(float) - exact) ** 2).mean()) < 25


def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, textured_bands(64))
    for resampling in ("exact", "fast"):
        made = []
        for threads in (1, 3):
            convert(safe, resampling=resampling, threads=threads)
            made.append((tmp_path / f"{NAME}_60_{resampling}.tif").read_bytes())
        assert made[0] == made[1]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_each_bad_product_is_named_and_the_good_one_is_done(tmp_path: Path) -> None:
    products = tmp_path / "products"
    bad: dict[str, Path] = {}

    def another(kind: str) -> Path:
        bad[kind] = make_safe(products, constant_bands(4), name=NAME.replace("R108", f"R{len(bad):03}"))
        return bad[kind]

    make_safe(products, constant_bands(4))
    safe = another("L2A")
    (safe / "MTD_MSIL1C.xml").rename(safe / "MTD_MSIL2A.xml")
    image(another("B10 missing"), "B10").unlink()
    b05 = image(another("B05 twice"), "B05")
    shutil.copy(b05, b05.with_name(f"x{b05.name}"))
    (another("no metadata") / "MTD_MSIL1C.xml").unlink()
    shutil.rmtree(another("no granule") / "GRANULE")
    b8a = image(another("cut B8A"), "B8A")
    b8a.write_bytes(b8a.read_bytes()[:-50])
    write_jp2(image(another("moved B11"), "B11"), constant_bands(4)["B11"], 20, (ORIGIN[0] + 20, ORIGIN[1]))
    write_jp2(image(another("small B04"), "B04"), constant_bands(2)["B04"], 10)
    (products / "cut.zip").write_bytes(zip_safe(products / f"{NAME}.SAFE", tmp_path / "a.zip").read_bytes()[:999])
    words = {
        "L2A": "Level-2A product, which has no band B10",
        "B10 missing": "band B10 is missing",
        "B05 twice": "band B05 is there 2 times",
        "no metadata": "no metadata file",
        "no granule": "no granule",
        "cut B8A": "band B8A: ",
        "moved B11": "band B11: 12 x 12 pixels at",
        "small B04": "band B04: 12 x 12 pixels at",
    }
    done = step_7(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(bad) + 2  # one each, the zip, and the list at the end
    for kind, safe in bad.items():
        (line,) = (line for line in lines[:-1] if safe.stem in line)
        assert words[kind] in line
        assert safe.stem in lines[-1]
    assert any("cut.zip: damaged zip" in line for line in lines)
    assert "9 of 10 products failed" in lines[-1]
    written = {p.name for p in (tmp_path / "tiff").iterdir() if p.suffix != ".lock"}
    assert written == {f"{NAME}.tif", f"{NAME}.tif.json"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--PIXEL_SIZE", "30"], "PIXEL_SIZE: 30 m is not supported; 10, 20, 60 are"),
        (["--PIXEL_SIZE", "20", "--RESAMPLING", "fast"], "fast makes 60 m pixels"),
        (["--RESAMPLING", "bicubic"], "invalid choice: 'bicubic'"),
        (["--PIXELSIZE", "60"], "nearest setting is --PIXEL_SIZE"),
        (["--PRODUCTS", "NAME"], "has no product NAME"),
        (["--PRODUCTS_DIR", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_settings_end_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    make_safe(tmp_path / "products", {})
    done = step_7(tmp_path, *words)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "tiff").exists()


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "products").mkdir()
    done = step_7(tmp_path)
    assert done.returncode == 1
    assert "holds no products to work on" in done.stderr


@pytest.mark.parametrize("resampling", ["exact", "fast", "published"])
def test_a_damaged_image_leaves_nothing_behind(tmp_path: Path, resampling: str) -> None:
    bands = textured_bands(64)
    safe = make_safe(tmp_path, bands)
    damaged = image(safe, "B11")
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(UserError, match=f"^{NAME}: band B11: "):
        convert(safe, resampling=resampling)


def write_manifest(safe: Path, name: str, algorithm: str) -> None:
    """The manifest of a product as ESA writes it, with the checksums of all its files."""
    files = [p for p in sorted(safe.rglob("*")) if p.is_file() and p.name != "manifest.safe"]
    objects = "".join(
        f'<dataObject ID="D{i}"><byteStream mimeType="application/octet-stream" size="{file.stat().st_size}">'
        f'<fileLocation locatorType="URL" href="./{file.relative_to(safe).as_posix()}"/>'
        f'<checksum checksumName="{name}">'
        f"{hashlib.new(algorithm, file.read_bytes()).hexdigest().upper()}</checksum></byteStream></dataObject>"
        for i, file in enumerate(files)
    )
    (safe / "manifest.safe").write_text(f'<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1">{objects}</xfdu:XFDU>')


def test_damage_that_decodes_is_found_by_the_checksums_there_are(tmp_path: Path) -> None:
    products, bands = tmp_path / "products", textured_bands(32)
    names = [NAME[:-1] + digit for digit in "0123"]
    by_md5, by_sha3, recorded = (make_safe(products, bands, name=name) for name in names[:3])
    write_manifest(by_md5, "MD5", "md5")
    write_manifest(by_sha3, "SHA3-256", "sha3_256")
    records.write(recorded, {"source": "gcs"}, {})
    zipped = zip_safe(make_safe(tmp_path, bands, name=names[3]), products / f"{names[3]}.SAFE.zip")
    records.write(zipped, {"source": "cdse"}, {})
    done = step_7(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("; 14 of 14 checksums as in the manifest.safe") == 2
    assert "; 14 of 14 checksums as in the download's record" in done.stdout
    assert "; 1 of 1 checksums as in the download's record" in done.stdout
    for safe in (by_md5, by_sha3, recorded):  # a byte of the image's data: it decodes, to something else
        data, place = bytearray(image(safe, "B04").read_bytes()), -400
        data[place] ^= 1
        image(safe, "B04").write_bytes(data)
    with open(zipped, "r+b") as handle:
        handle.write(b"PK\3\5")
    done = step_7(tmp_path)
    assert done.returncode == 1 and "4 of 4 products failed" in done.stderr
    assert len(re.findall(r"_B04\.jp2: damaged, its (?:MD5|SHA3_256) is not the one in the", done.stderr)) == 3
    assert f"{names[3]}.SAFE.zip: damaged, its MD5" in done.stderr
    facts = safe_to_tiff.convert_granule(granule_of(by_md5), tmp_path / "t.tif", 60, "exact", 2, verify=False)
    assert facts["verified"] == "checksums not looked at"


def test_an_enormous_image_is_refused_before_memory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safe = make_safe(tmp_path, constant_bands(4))
    monkeypatch.setattr(rasters, "MAX_SIDE", 20)
    with pytest.raises(UserError, match=r"band B02: .*: 24 x 24 pixels is no Sentinel-2 image"):
        convert(safe)


# --- the real product -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not REAL_ZIP.is_file(), reason="the real product is not there (../shared/data)")
def test_the_real_product(tmp_path: Path) -> None:
    (tmp_path / "products").mkdir()
    (tmp_path / "products" / REAL_ZIP.name).symlink_to(REAL_ZIP)
    done = step_7(tmp_path, "--RESAMPLING", "fast")
    assert done.returncode == 0, done.stderr
    with open_scene(tmp_path / "tiff" / f"{REAL}.tif") as scene:
        assert (scene.grid.width, scene.grid.height) == (1830, 1830)
        assert scene.grid.transform == (600000, 60, 0, 5500020, 0, -60)
        assert scene.info.tags["PROCESSING_BASELINE"] == "02.05"
        dn = scene.read(0, 1830)
        valid = np.isfinite(reflectance(dn, scene.info)).all(axis=-1)
    assert valid.sum() == 39139  # pixels with all 13 bands, counted independently
    band = f"{REAL}.SAFE/GRANULE/L1C_T32UPV_A009686_20170430T103024/IMG_DATA/T32UPV_20170430T103021_B8A.jp2"
    full = gdal.Open(f"/vsizip/{REAL_ZIP}/{band}").ReadAsArray(0, 0, 3 * 200, 3 * 600).astype(float)
    blocks = full.reshape(600, 3, 200, 3)
    with np.errstate(invalid="ignore"):
        truth = blocks.sum(axis=(1, 3)) / (blocks > 0).sum(axis=(1, 3))
    error = (dn[:600, :200, 8] - truth)[np.asarray(valid)[:600, :200]]
    assert np.sqrt((error**2).mean()) < 25
    assert abs(error.mean()) < 0.5


def test_the_makers_tiles_are_those_of_real_products(tmp_path: Path) -> None:
    """The figures above hold for tiles as they are in real files; a 10 m image of 1100 pixels has two."""
    write_jp2(tmp_path / "a.jp2", np.ones((1100, 1100), np.uint16), 10)
    dataset = gdal.Open(str(tmp_path / "a.jp2"))
    assert dataset.GetRasterBand(1).GetBlockSize() == [TILES[10][0]] * 2
    assert dataset.GetRasterBand(1).GetMetadataItem("NBITS", "IMAGE_STRUCTURE") == "15"
