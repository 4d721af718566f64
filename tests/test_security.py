"""Files, names and settings that mean harm: nothing is fetched, nothing is written elsewhere, nothing is run."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import ROOT, make_spectra, utm31, write_h5, write_scene
from osgeo import gdal
from packed_and_old import zip_safe
from safe_maker import NAME, constant_bands, make_safe, write_jp2, write_tiff

from cloudsom.downloads.records import find
from cloudsom.errors import UserError
from cloudsom.files.stores import Snapshot, finished, product, read_record, recipe, record_path
from cloudsom.images import products
from cloudsom.images.products import IMAGE_DRIVERS, MAX_XML_BYTES, find_products, read_metadata
from cloudsom.images.rasters import MAX_BLOCK_BYTES, Grid, open_raster, open_scene, read_layer
from cloudsom.images.vectors import pixels_marked, read_features
from cloudsom.running.pool import choose_products
from cloudsom.tables.spectra_database import open_spectra

#: A folder or file name with everything a shell or an option parser could take for something else.
HOSTILE = "-a b'\"$(touch x)`touch x`;touch x\n*?[a]\u4e91&"

DN = np.random.default_rng(0).integers(1, 9000, (48, 48)).astype(np.uint16)


class Ear:
    """A server on this machine that remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        ear = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ear.asked.append(self.path)
                self.send_error(404)

            do_HEAD = do_GET

            def log_message(self, format: str, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.server.shutdown()
    ear.server.server_close()


# --- images that name other files -------------------------------------------------------------------------------------


def tiff_with_overviews_at(path: Path, place: str) -> Path:
    """A GeoTIFF whose own metadata say that its reduced images are elsewhere."""
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), 48, 48, 1, gdal.GDT_UInt16)
    dataset.GetRasterBand(1).WriteArray(DN)
    dataset.SetMetadata({"OVERVIEW_FILE": place}, "OVERVIEWS")
    dataset = None
    return path


@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
@pytest.mark.parametrize("place", ["/vsicurl/{url}/x.tif", "other.tif", "<VRTDataset/>", ":::BASE:::other.tif"])
def test_an_image_with_overviews_elsewhere_is_refused(tmp_path: Path, ear: Ear, name: str, place: str) -> None:
    write_tiff(tmp_path / "other.tif", DN, 20)
    path = tiff_with_overviews_at(tmp_path / name, place.format(url=ear.url))
    with pytest.raises(UserError, match="names another file"):
        open_raster(path, IMAGE_DRIVERS)
    assert ear.asked == []


def test_a_jpeg_2000_with_overviews_or_a_system_elsewhere_fetches_nothing(tmp_path: Path, ear: Ear) -> None:
    write_jp2(tmp_path / "a.jp2", np.tile(DN, (4, 4)), 10)
    whole = (tmp_path / "a.jp2").read_bytes()
    system = b"urn:ogc:def:crs:EPSG::32631"
    assert system in whole
    for wrong in (f"{ear.url}/c".encode(), b"gmljp2://xml/x", b"/etc/hostname"):
        (tmp_path / "a.jp2").write_bytes(whole.replace(system, wrong.ljust(len(system))))
        dataset = open_raster(tmp_path / "a.jp2", IMAGE_DRIVERS)
        dataset.GetRasterBand(1).ReadAsArray(buf_xsize=12, buf_ysize=12)
    assert ear.asked == []


def test_files_beside_an_image_are_not_looked_at(tmp_path: Path, ear: Ear) -> None:
    """Neither reduced images, masks and metadata of its name, nor what those point to."""
    write_tiff(tmp_path / "a.tif", DN, 10)
    write_tiff(tmp_path / "a.tif.ovr", DN[:24, :24], 20)
    write_tiff(tmp_path / "a.tif.msk", DN, 10)
    elsewhere = f"<Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>/vsicurl/{ear.url}/x</MDI></Metadata>"
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{elsewhere}</PAMDataset>", encoding="utf-8")
    dataset = open_raster(tmp_path / "a.tif")
    band = dataset.GetRasterBand(1)
    assert band.GetOverviewCount() == 0 and band.GetMaskFlags() == gdal.GMF_ALL_VALID
    assert dataset.GetFileList() == [str(tmp_path / "a.tif")]
    assert ear.asked == []


@pytest.mark.parametrize("name", ["a.tif", "a.jp2"])
@pytest.mark.parametrize(
    "text",
    [
        "<VRTDataset rasterXSize='1' rasterYSize='1'><VRTRasterBand band='1' dataType='Byte'><SimpleSource>"
        "<SourceFilename>/vsicurl/{url}/x</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
        "<GDAL_WMS><Service name='TMS'><ServerUrl>{url}/${{z}}</ServerUrl></Service></GDAL_WMS>",
        "<GDAL_WCS><ServiceURL>{url}/?</ServiceURL></GDAL_WCS>",
        "/vsicurl/{url}/x.tif",
        "{url}/x.tif",
    ],
)
def test_formats_that_fetch_are_not_read_under_any_name(tmp_path: Path, ear: Ear, name: str, text: str) -> None:
    (tmp_path / name).write_text(text.format(url=ear.url), encoding="utf-8")
    with pytest.raises(UserError, match=name):
        open_raster(tmp_path / name, IMAGE_DRIVERS)
    assert ear.asked == []


def test_an_image_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    """A file of a few hundred bytes may declare anything."""
    options = ["SPARSE_OK=TRUE", "COMPRESS=DEFLATE"]
    for name, size, kind, more, words in (
        ("layer.tif", 20000, gdal.GDT_Float64, ["TILED=YES"], "more than a layer"),
        ("block.tif", 10980, gdal.GDT_UInt16, ["BLOCKYSIZE=10980"], "pieces too large to unpack"),
        ("side.tif", 40000, gdal.GDT_Byte, ["TILED=YES"], "is no Sentinel-2 image"),
    ):
        gdal.GetDriverByName("GTiff").Create(str(tmp_path / name), size, size, 1, kind, options + more)
        with pytest.raises(UserError, match=words):
            read_layer(tmp_path / name)
    assert MAX_BLOCK_BYTES > 10 * 10980 * 13 * 2  # ten rows of a 10 m scene, all bands together


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.resize(DN, (4, 5, 13)), ("\x9b2J\u202eB01",) * 13)
    with pytest.raises(UserError) as refused, open_scene(path):
        pass
    assert r"\x9b2J\u202eB01" in str(refused.value)
    assert str(refused.value).isprintable()


# --- vector files -----------------------------------------------------------------------------------------------------


def geojson(path: Path, crs: Any, key: str = "crs", inside_geometry: bool = False) -> Path:
    point: dict[str, Any] = {"type": "Point", "coordinates": [1, 2]}
    collection: dict[str, Any] = {"type": "FeatureCollection"}
    (point if inside_geometry else collection)[key] = crs
    collection["features"] = [{"type": "Feature", "properties": {"type": "link"}, "geometry": point}]
    path.write_text(json.dumps(collection), encoding="utf-8")
    return path


@pytest.mark.parametrize("inside_geometry", [False, True])
@pytest.mark.parametrize("key", ["crs", "CRS"])
@pytest.mark.parametrize("kind", ["link", "LINK", "url", "Url"])
def test_a_coordinate_system_on_a_network_is_not_fetched(
    tmp_path: Path, ear: Ear, kind: str, key: str, inside_geometry: bool
) -> None:
    place = {"href": f"{ear.url}/crs", "url": f"{ear.url}/crs"}
    path = geojson(tmp_path / "a.geojson", {"type": kind, "properties": place}, key, inside_geometry)
    with pytest.raises(UserError, match=r"a\.geojson: its coordinate system is on a network"):
        read_features(path)
    assert ear.asked == []


def test_a_link_that_is_named_twice_or_hidden_from_json_is_not_fetched(tmp_path: Path, ear: Ear) -> None:
    text = geojson(tmp_path / "a.geojson", {"type": "name", "properties": {}}).read_text(encoding="utf-8")
    link = f'{{"type": "link", "properties": {{"href": "{ear.url}/crs"}}}}'
    for hidden in (
        text.replace('"crs":', f'"crs": {link}, "crs":'),
        text.replace('"type": "name", "properties": {}', f'"type": "name", {link[1:-1]}'),
        text.replace('"crs": {"type": "name", "properties": {}}', f"'crs': {link}"),
        text.replace('"crs":', f'/* */ "crs": {link}, "crs":'),
        text.replace('"crs":', f'"c\\u0072s": {link}, "x":'),
        "loadGeoJSON(" + text.replace('"crs":', f'"crs": {link}, "x":') + ")",
    ):
        (tmp_path / "a.geojson").write_text(hidden, encoding="utf-8")
        with pytest.raises(UserError, match=r"a\.geojson: "):
            read_features(tmp_path / "a.geojson")
    assert ear.asked == []


@pytest.mark.parametrize("name", ["{url}/crs", "+proj=longlat +nadgrids={url}/g.gsb", "+init=/etc/hostname:1"])
def test_other_coordinate_systems_fetch_nothing(tmp_path: Path, ear: Ear, name: str) -> None:
    path = geojson(tmp_path / "a.geojson", {"type": "name", "properties": {"name": name.format(url=ear.url)}})
    grid = Grid(5, 5, (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), utm31())
    with suppress(UserError):  # for the grid that is not on disk
        assert pixels_marked(read_features(path), grid, "scene").size == 0
    assert ear.asked == []


@pytest.mark.parametrize("name", ["a.geojson", "a.shp", "a.kml", "a.gpkg"])
@pytest.mark.parametrize(
    "text",
    [
        "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/vsicurl/{url}/x</SrcDataSource></OGRVRTLayer>"
        "</OGRVRTDataSource>",
        "<kml xmlns='http://www.opengis.net/kml/2.2'><NetworkLink><Link><href>{url}/x</href></Link></NetworkLink></kml>",
        "<!DOCTYPE a [<!ENTITY b SYSTEM '{url}/e'>]><kml xmlns='http://www.opengis.net/kml/2.2'><name>&b;</name></kml>",
        "<wfs:FeatureCollection xmlns:wfs='http://www.opengis.net/wfs' schemaLocation='{url}/s {url}/s.xsd'/>",
        "{url}/x.geojson",
    ],
)
def test_vector_formats_that_fetch_are_not_read(tmp_path: Path, ear: Ear, name: str, text: str) -> None:
    (tmp_path / name).write_text(text.format(url=ear.url), encoding="utf-8")
    with pytest.raises(UserError, match=name):
        read_features(tmp_path / name)
    assert ear.asked == []


# --- the spectra database ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "link to a link", "storage", "virtual"])
def test_spectra_in_another_file_are_refused(tmp_path: Path, kind: str) -> None:
    spectra, labels = make_spectra(60)
    write_h5(tmp_path / "other.h5", spectra, labels)
    path = write_h5(tmp_path / "a.h5", spectra, labels, spectra=None)
    with h5py.File(path, "a") as handle:
        if kind == "link":
            handle["spectra"] = h5py.ExternalLink("other.h5", "/spectra")
        elif kind == "link to a link":
            handle["there"] = h5py.ExternalLink("other.h5", "/spectra")
            handle["spectra"] = h5py.SoftLink("/there")
        elif kind == "storage":
            place = str(tmp_path / "other.h5")
            handle.create_dataset("spectra", spectra.shape, "f4", external=[(place, 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout(spectra.shape, "f4")
            layout[:] = h5py.VirtualSource("other.h5", "spectra", spectra.shape)
            handle.create_virtual_dataset("spectra", layout)
    with pytest.raises(UserError, match="lies in another file"), open_spectra(path, 0, 2, False):
        pass


@pytest.mark.parametrize("twice", ["class_ids", "class_names"])
def test_a_class_that_is_listed_twice_is_refused(tmp_path: Path, twice: str) -> None:
    path = write_h5(tmp_path / "a.h5", *make_spectra(60))
    with h5py.File(path, "a") as handle:
        handle[twice][4] = handle[twice][2]
    with pytest.raises(UserError, match="is listed twice"), open_spectra(path, 0, 2, False):
        pass


def test_a_full_disk_where_the_table_goes_is_not_the_spectras_fault(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", *make_spectra(60))
    said, full = pytest.raises(OSError, match="No space left"), open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with full, said, open_spectra(path, 0, 2, False):
        full.write(b"a table")


@pytest.mark.parametrize(
    ("name", "shape", "chunks"),
    [
        ("spectra", (10**9, 13), (1000, 13)),
        ("spectra", (60, 13), (10**7, 13)),
        ("class_ids", (10**9,), (1000,)),
        ("band", (10**9,), (10**8,)),
    ],
)
def test_a_small_file_that_claims_much_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    path = write_h5(tmp_path / "a.h5", *make_spectra(60), **{name: None})
    with h5py.File(path, "a") as handle:
        handle.create_dataset(name, shape, "f4", chunks=chunks, maxshape=(None, *shape[1:]), compression="gzip")
    with pytest.raises(UserError, match=f"'{name}' "), open_spectra(path, 0, 2, False):
        pass


# --- names that lead elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../a", "a\0b", "a ", ""])
def test_a_product_is_a_name_among_those_found_and_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="has no product"):
        choose_products({"a": tmp_path / "a"}, [name], tmp_path, "run step 7")


def test_names_in_metadata_lead_nowhere(tmp_path: Path) -> None:
    """Files are found by looking, not by what the metadata call them; what is copied from there are tags."""
    safe = make_safe(tmp_path / "products", constant_bands(4))
    metadata = safe / "MTD_MSIL1C.xml"
    files = "".join(f"<IMAGE_FILE>{name}</IMAGE_FILE>" for name in ("../../evil", "/etc/passwd", "/vsicurl/http://x"))
    xml = metadata.read_text(encoding="utf-8").replace(f"{NAME}.SAFE", "../../../evil/\u202e")
    metadata.write_text(xml.replace("</Product_Info>", f"{files}</Product_Info>"), encoding="utf-8")
    zip_safe(safe, tmp_path / "products" / f"{NAME[:-1]}5.SAFE.zip")
    script = ["bash", str(ROOT / "gdal_commands.sh"), "--DATA_DIR", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.rglob("*.tif")) == [f"{NAME}.tif", f"{NAME[:-1]}5.tif"]
    assert {p.parent for p in tmp_path.rglob("*.tif")} == {tmp_path / "tiff"}


def test_links_out_of_a_product_are_followed_no_further_than_a_product_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = make_safe(tmp_path / "products", constant_bands(4))
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (safe / "AUX_DATA").mkdir(exist_ok=True)
    for name in ("x", "y"):  # each of these links alone would go round for ever
        (tmp_path / "outside" / "inner" / name).symlink_to(tmp_path / "outside")
    (safe / "AUX_DATA" / "more").symlink_to(tmp_path / "outside")
    (product,) = find_products(tmp_path / "products")[0].values()
    assert [granule.name for granule in product.granules()] == [NAME]
    monkeypatch.setattr(products, "MAX_ENTRIES", 40)
    for i in range(40):
        (tmp_path / "outside" / str(i)).touch()
    with pytest.raises(UserError, match="holds more than 40 files"):
        product.granules()


def test_metadata_as_large_as_is_read_fit_into_memory() -> None:
    """Elements take a hundred times their text."""
    xml = b"<r>" + b"<a/>" * (MAX_XML_BYTES // 4 - 2) + b"</r>"
    assert len(xml) <= MAX_XML_BYTES <= 4 * 1024**2
    for deep in (xml, b"<a>" * (MAX_XML_BYTES // 8) + b"</a>" * (MAX_XML_BYTES // 8)):
        with pytest.raises(UserError, match="x: "):
            read_metadata("x", deep)


def test_json_nested_without_end_is_no_record(tmp_path: Path) -> None:
    record_path(tmp_path / "a").write_text("[" * 200_000, encoding="utf-8")
    assert read_record(tmp_path / "a") is None


@pytest.mark.parametrize("results", [None, 3, "text", {}, {"summary": None}])
def test_a_settings_file_without_its_figures_is_still_one(tmp_path: Path, results: Any) -> None:
    settings = Snapshot("script.py", {"SEED": 1})
    (tmp_path / "in").write_bytes(b"1")
    made_by = recipe(settings, {"INPUT": tmp_path / "in"})
    with product(tmp_path / "out", made_by) as item:
        item.partial.write_bytes(b"2")
    record = json.loads(record_path(tmp_path / "out").read_text(encoding="utf-8"))
    record_path(tmp_path / "out").write_text(json.dumps(record | {"results": results}), encoding="utf-8")
    found = finished(tmp_path / "out", made_by)
    assert found is not None and "summary" in found["results"]


@pytest.mark.parametrize("name", ["../secret", "/dev/zero", "a\0b"])
def test_a_downloads_record_is_about_its_own_files(tmp_path: Path, name: str) -> None:
    """Another's size and checksum are not asked for; /dev/zero has no end."""
    safe = make_safe(tmp_path, constant_bands(1))
    (tmp_path / "secret").write_bytes(b"secret")
    fact = {"size": 6 if "secret" in name else 0, "mtime_ns": 0, "md5": "5ebe2294ecd0e0f08eab7690d2a6ee69"}
    record_path(safe).write_text(json.dumps({"files": {name: fact}}), encoding="utf-8")
    found = find(tmp_path, NAME)
    assert found is not None and found.fault is not None
    assert "missing or changed" in found.fault and found.fault.isprintable()


# --- shell scripts ----------------------------------------------------------------------------------------------------

#: In the place of the demo's first step: says what it was given, and ends the demo.
FIRST_STEP = "import sys\nprint(sys.argv)\nsys.exit(7)\n"


@pytest.mark.parametrize("by_variable", [False, True])
def test_step_7_in_a_folder_of_a_hostile_name(tmp_path: Path, by_variable: bool) -> None:
    """The folder is named relative to where one stands, so that its name begins with a dash."""
    checkout = tmp_path / "code" / HOSTILE
    checkout.mkdir(parents=True)
    (checkout / "cloudsom").symlink_to(ROOT / "cloudsom")
    shutil.copy(ROOT / "gdal_commands.sh", checkout)
    make_safe(tmp_path / HOSTILE / HOSTILE, constant_bands(4), name=f"{NAME}")
    names = {"DATA_DIR": HOSTILE, "PRODUCTS_DIR": HOSTILE, "TIFF_DIR": f"out {HOSTILE}"}
    words = [] if by_variable else [f"--{key}={value}" for key, value in names.items()]
    env = os.environ | {"VIRTUAL_ENV": sys.prefix} | (names if by_variable else {})
    done = subprocess.run(
        ["bash", str(checkout / "gdal_commands.sh"), *words],
        capture_output=True, text=True, timeout=120, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / HOSTILE / f"out {HOSTILE}").glob("*.tif")] == [f"{NAME}.tif"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([HOSTILE, "code"])


def test_the_demo_and_set_up_in_a_folder_of_a_hostile_name(tmp_path: Path) -> None:
    """Everything up to the first step: the checkout, the environment, the data and the cache all have such names."""
    checkout = tmp_path / HOSTILE
    checkout.mkdir()
    for file in ("run_demo.sh", "setup_environment.sh", "requirements.txt", "requirements.lock"):
        shutil.copy(ROOT / file, checkout)
    (checkout / HOSTILE).symlink_to(sys.prefix)  # the environment that is there already
    (checkout / "demo").mkdir()
    (checkout / "demo" / "make_sample_data.py").write_text(FIRST_STEP, encoding="utf-8")
    env = os.environ | {"VENV": HOSTILE, "DATA_DIR": f"data {HOSTILE}", "CACHE": HOSTILE}
    done = subprocess.run(
        ["bash", str(checkout / "run_demo.sh"), "--offline"],
        capture_output=True, text=True, timeout=300, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 7, done.stdout + done.stderr
    assert repr(f"data {HOSTILE}") in done.stdout
    assert not list(tmp_path.rglob("x"))


def test_a_demo_folder_that_begins_with_a_dash(tmp_path: Path) -> None:
    for file in ("run_demo.sh", "setup_environment.sh", "requirements.txt", "requirements.lock"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "make_sample_data.py").write_text(FIRST_STEP, encoding="utf-8")
    env = os.environ | {"VENV": sys.prefix, "DATA_DIR": "-p", "CACHE": "-p"}
    done = subprocess.run(["bash", "run_demo.sh", "--offline"], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 7, done.stdout + done.stderr
    assert (tmp_path / "-p").is_dir() and "'./-p'" in done.stdout
