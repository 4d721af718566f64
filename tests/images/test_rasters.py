"""Scenes, masks and layers on disk: what is read back, what is refused and in which words."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from osgeo import gdal
from safe_maker import in_memory, write_jp2

from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA, SAFE_BANDS
from cloudsom.errors import UserError
from cloudsom.images.rasters import (
    TILE,
    Grid,
    Metadata,
    nodata_pixels,
    open_raster,
    open_scene,
    raster_writer,
    read_layer,
    read_mask,
    reflectance,
    write_layer,
    write_mask,
)

WKT = in_memory(np.ones((1, 1), np.uint16), 60, (600000, 4900020)).GetProjection()
GRID = Grid(5, 4, (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), WKT)
TAGS = {"QUANTIFICATION_VALUE": "10000", "RADIO_ADD_OFFSET": "-1000"}


def scene_dn(rows: int = 4, columns: int = 5) -> NDArray[np.uint16]:
    """DN that tell row, column and band apart: 1000 * band + 10 * row + column, band from 1."""
    y, x, band = np.mgrid[:rows, :columns, 1:14]
    return (1000 * band + 10 * y + x).astype(np.uint16)


def write_scene(path: Path, dn: NDArray[Any] | None = None, **changes: Any) -> Path:
    dn = scene_dn() if dn is None else dn
    grid = Grid(dn.shape[1], dn.shape[0], GRID.transform, WKT)
    defaults: dict[str, Any] = {"nodata": 0, "descriptions": SAFE_BANDS, "tags": TAGS}
    write_layer(path, dn, grid, **defaults | changes)
    return path


def info(offset: float = 0.0, nodata: int = 0) -> Metadata:
    return Metadata(10000.0, (offset,) * 13, nodata, 65535, {})


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_a_scene_is_read_back_block_by_block(tmp_path: Path) -> None:
    dn = scene_dn(2 * TILE + 7, 3)
    with open_scene(write_scene(tmp_path / "NAME.tif", dn)) as scene:
        blocks = list(scene.blocks())
        assert [row for row, _ in blocks] == [0, TILE, 2 * TILE]
        assert (np.concatenate([block for _, block in blocks]) == dn).all()
        assert (scene.read(100, 300) == dn[100:400]).all()
        assert scene.info.offsets == (-1000.0,) * 13
        assert scene.info.quantification == 10000
        assert (scene.info.nodata, scene.info.saturated) == (0, 65535)
        assert scene.grid == Grid(3, len(dn), GRID.transform, WKT)
    with pytest.raises(AttributeError, match="dataset"):  # the file is closed
        scene.read(0, 1)


def test_an_offset_for_each_band(tmp_path: Path) -> None:
    offsets = ",".join(str(-100 * i) for i in range(13))
    with open_scene(write_scene(tmp_path / "a.tif", tags=TAGS | {"RADIO_ADD_OFFSET": offsets})) as scene:
        assert scene.info.offsets == tuple(-100.0 * i for i in range(13))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"descriptions": sorted(SAFE_BANDS)}, "band 9 is B09 instead of B8A, band 10 is B10 instead of B09"),
        ({"descriptions": ()}, "band 1 is unnamed instead of B01"),
        ({"tags": {"RADIO_ADD_OFFSET": "0"}}, "no tag QUANTIFICATION_VALUE"),
        ({"tags": {"QUANTIFICATION_VALUE": "10000"}}, "no tag RADIO_ADD_OFFSET"),
        ({"tags": TAGS | {"RADIO_ADD_OFFSET": "0,0"}}, "1 or 13 finite"),
        ({"tags": TAGS | {"RADIO_ADD_OFFSET": "many"}}, "'many'"),
        ({"tags": TAGS | {"QUANTIFICATION_VALUE": "nan"}}, "'nan'"),
        ({"tags": TAGS | {"QUANTIFICATION_VALUE": "0"}}, "must be positive"),
        ({"dn": scene_dn().astype(np.float32)}, "stores Float32"),
        ({"dn": scene_dn()[..., :12], "descriptions": SAFE_BANDS[:12]}, "has 12 bands"),
    ],
)
def test_a_scene_that_cannot_be_trusted_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = write_scene(tmp_path / "a.tif", **changes)
    with pytest.raises(UserError, match=r"a\.tif") as refused, open_scene(path):
        pass
    assert words in str(refused.value)


def test_a_scene_without_declared_nodata_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif")
    dataset = gdal.Open(str(path), gdal.GA_Update)
    for i in range(13):
        dataset.GetRasterBand(i + 1).DeleteNoDataValue()
    dataset = None
    with pytest.raises(UserError, match="no nodata value"), open_scene(path):
        pass


def test_a_damaged_scene_names_the_file(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.random.default_rng(0).integers(1, 9999, (300, 300, 13)).astype(np.uint16))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"a\.tif"), open_scene(path) as scene:
        list(scene.blocks())


# --- reflectance and nodata -------------------------------------------------------------------------------------------


def test_reflectance_by_hand() -> None:
    dn = np.full((1, 13), 3000, np.uint16)
    assert reflectance(dn, info()).tolist() == [[0.3] * 13]
    assert reflectance(dn, info(-1000)).tolist() == [[0.2] * 13]
    assert reflectance(np.full((1, 13), 500, np.uint16), info(-1000))[0, 0] == -0.05


def test_a_pixel_without_any_band_is_nodata_in_all() -> None:
    dn = np.full((3, 13), 3000, np.uint16)
    dn[0] = 0
    dn[1, 1] = 0  # B02, the first to end at a swath's edge
    values = reflectance(dn, info())
    assert np.isnan(values).all(axis=1).tolist() == [True, True, False]
    assert np.isfinite(values[2]).all()


def test_zero_in_b10_alone_is_a_dark_measurement_unless_there_is_an_offset() -> None:
    dn = np.full((1, 13), 3000, np.uint16)
    dn[0, 10] = 0
    assert not nodata_pixels(dn, info()).any()
    assert reflectance(dn, info())[0, 10] == 0
    assert nodata_pixels(dn, info(-1000)).all()


def test_another_nodata_value() -> None:
    dn = np.zeros((2, 13), np.uint16)
    dn[1, 10] = 9
    assert nodata_pixels(dn, info(nodata=9)).tolist() == [False, True]


def test_reflectance_of_an_image_keeps_its_shape() -> None:
    assert reflectance(scene_dn(), info()).shape == (4, 5, 13)


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_mask_is_read_back_with_its_place_colours_and_shares(tmp_path: Path) -> None:
    mask = np.full((4, 5), CLEAR, np.uint8)
    mask[0], mask[1, :3] = MASK_NODATA, CLOUD
    path = tmp_path / "a_mask.tif"
    write_mask(path, mask, GRID, tags={"METHOD": "SOM1"})
    found, grid = read_mask(path)
    assert (found == mask).all()
    assert grid == GRID
    dataset = gdal.Open(str(path))
    band, tags = dataset.GetRasterBand(1), dataset.GetMetadata()
    assert band.GetNoDataValue() == MASK_NODATA
    assert band.GetColorTable().GetColorEntry(CLOUD) == (255, 255, 255, 255)
    assert (tags["CLOUD_SHARE"], tags["NODATA_SHARE"], tags["METHOD"]) == ("0.200000", "0.250000", "SOM1")
    assert [p.name for p in tmp_path.iterdir()] == ["a_mask.tif"]  # nothing beside it


def test_the_bytes_of_a_mask_depend_on_its_content_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([CLOUD, CLEAR, MASK_NODATA], np.uint8), (3 * TILE + 10, 700))
    grid = Grid(700, len(mask), GRID.transform, WKT)
    for name in ("a", "b"):
        write_mask(tmp_path / name, mask, grid)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_shares_of_a_mask_without_valid_pixels(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.tif", np.full((4, 5), MASK_NODATA, np.uint8), GRID)
    tags = gdal.Open(str(tmp_path / "a.tif")).GetMetadata()
    assert tags["NODATA_SHARE"] == "1.000000" and "CLOUD_SHARE" not in tags


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((4, 5), 7, np.uint8), "holds 7; a mask of ours has 255"),
        (np.full((4, 5), 1, np.float32), "stores float32"),
        (np.full((4, 5, 2), 1, np.uint8), "has 2 bands"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, array: NDArray[Any], words: str) -> None:
    write_layer(tmp_path / "a.tif", array, GRID, nodata=0)
    with pytest.raises(UserError, match=r"a\.tif") as refused:
        read_mask(tmp_path / "a.tif")
    assert words in str(refused.value)


# --- other layers -----------------------------------------------------------------------------------------------------


def test_a_float_layer_with_nan_as_nodata(tmp_path: Path) -> None:
    layer = np.array([[0.25, np.nan]], np.float32)
    write_layer(tmp_path / "a.tif", layer, Grid(2, 1), nodata=np.nan, descriptions=["share"])
    found, grid = read_layer(tmp_path / "a.tif")
    assert np.array_equal(found, layer, equal_nan=True)
    assert grid.projection == ""
    dataset = gdal.Open(str(tmp_path / "a.tif"))
    assert np.isnan(dataset.GetRasterBand(1).GetNoDataValue())


def test_grids_are_compared_by_place() -> None:
    moved = Grid(5, 4, (600030.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), WKT)
    assert GRID.difference(GRID) == ""
    assert "5 x 4 pixels against 6 x 4" in GRID.difference(Grid(6, 4, GRID.transform, WKT))
    assert "transform" in GRID.difference(moved)
    assert GRID.difference(Grid(5, 4)) == ""  # without georeference there is only the size


# --- files from strangers ---------------------------------------------------------------------------------------------

VRT = """<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


def test_another_format_called_tif_is_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "real.tif", np.zeros((4, 5), np.uint8), GRID)
    (tmp_path / "vrt.tif").write_text(VRT.format(source=tmp_path / "real.tif"), encoding="utf-8")
    (tmp_path / "wms.tif").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>", encoding="utf-8")
    (tmp_path / "empty.tif").touch()
    write_jp2(tmp_path / "jp2.jp2", np.ones((192, 192), np.uint16), 10)
    (tmp_path / "jp2.jp2").rename(tmp_path / "jp2.tif")
    for name in ("vrt.tif", "wms.tif", "empty.tif", "jp2.tif"):
        with pytest.raises(UserError, match=name):
            open_raster(tmp_path / name)
    assert open_raster(tmp_path / "jp2.tif", ["JP2OpenJPEG"]).RasterXSize == 192


@pytest.mark.parametrize(
    "name",
    ["/vsicurl/http://127.0.0.1:9/a.tif", "/vsimem/a.tif", "GTIFF_DIR:1:a.tif", "<VRTDataset/>", "missing.tif"],
)
def test_names_that_mean_something_to_gdal_are_only_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mask(Path("a.tif"), np.zeros((4, 5), np.uint8), GRID)
    gdal.FileFromMemBuffer("/vsimem/a.tif", Path("a.tif").read_bytes())
    with pytest.raises(UserError):
        open_raster(Path(name))
    gdal.Unlink("/vsimem/a.tif")


@pytest.mark.parametrize("name", ["-a.tif", "a b'\"$(x).tif", "GTIFF_DIR:1:a.tif", "\u00e9\u4e91.tif", "new\nline.tif"])
def test_any_file_name_can_be_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    mask = np.full((4, 5), CLOUD, np.uint8)
    write_mask(Path(name), mask, GRID)
    assert os.listdir() == [name]
    assert (read_mask(Path(name))[0] == mask).all()


def test_tags_that_are_no_utf8(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif")
    path.write_bytes(path.read_bytes().replace(b">10000<", b">\xff0000<"))
    with pytest.raises(UserError, match="QUANTIFICATION_VALUE is '\ufffd0000'"), open_scene(path):
        pass


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_scenes_give_a_result_or_a_clear_error(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_scene(Path(folder) / "a.tif")
        tiff = bytearray(path.read_bytes())
        header = len(tiff) if data.draw(st.booleans()) else 800
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, min(header, len(tiff)) - 1))
            tiff[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(min_size=1, max_size=4))
        path.write_bytes(tiff)
        try:
            with open_scene(path) as scene:
                blocks = [reflectance(dn, scene.info) for _, dn in scene.blocks()]
            assert sum(len(block) for block in blocks) == scene.grid.height
        except UserError as problem:
            assert str(problem).startswith(str(path))


def test_sidecar_files_change_nothing(tmp_path: Path) -> None:
    """An .aux.xml could declare another nodata value, an .ovr other pixels, a .tfw another place."""
    path = write_scene(tmp_path / "a.tif")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><Metadata><MDI key='RADIO_ADD_OFFSET'>7</MDI></Metadata></PAMDataset>", encoding="utf-8"
    )
    (tmp_path / "a.tfw").write_text("1\n0\n0\n-1\n5\n5\n", encoding="utf-8")
    with open_scene(path) as scene:
        assert scene.info.offsets[0] == -1000
        assert scene.grid.transform == GRID.transform


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    """The system's limit on file size stands in for a full disk: writes fail half-way either way."""
    code = """
import resource, signal, sys
import numpy as np
from cloudsom.errors import UserError
from cloudsom.images.rasters import Grid, write_layer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 65535, (600, 600)).astype(np.uint16)
try:
    write_layer(sys.argv[1], noise, Grid(600, 600), nodata=0)
except UserError as problem:
    print(problem)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": "."})
    assert done.stdout.startswith(str(tmp_path / "a.tif"))
    assert done.stdout.count("\n") == 1
    assert "see that the disk has room" in done.stdout


@pytest.mark.parametrize("step", [1, 7, 1000, 60000])
def test_pixels_in_pieces_make_the_image_that_a_whole_makes(tmp_path: Path, step: int) -> None:
    values = np.random.default_rng(0).random((600, 90, 2)).astype(np.float32)
    grid = Grid(90, 600)
    flat = values.reshape(-1, 2)
    with raster_writer(tmp_path / "pieces.tif", grid, np.float32, 2, nodata=np.nan) as writer:
        for start in range(0, len(flat), step):
            writer.append(flat[start : start + step])
        with pytest.raises(ValueError, match="more pixels"):
            writer.append(flat[:1])
    write_layer(tmp_path / "whole.tif", values, grid, nodata=np.nan)
    assert (tmp_path / "pieces.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
