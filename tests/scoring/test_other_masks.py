"""Masks of other processors: their codes, their place, and that nothing of either is guessed."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import utm31, write_reference
from osgeo import gdal, osr
from packed_and_old import make_old_safe, zip_safe
from safe_maker import constant_bands, make_safe

import evaluation_metrics
from cloudsom.bands import CLEAR, CLOUD, MASK_NODATA
from cloudsom.errors import UserError
from cloudsom.images import mask_codes
from cloudsom.images.aligning import mask_on_grid
from cloudsom.images.mask_codes import UNKNOWN, read_preset
from cloudsom.images.pixels import find_sources
from cloudsom.images.rasters import Grid, read_mask, write_layer, write_mask
from cloudsom.scoring import bootstrap
from cloudsom.scoring.other_masks import fields_of, find, read, read_entries

NAME = "S2A_MSIL1C_20170430T103021_N0205_R108_T31TFH_20170430T103024"
SIZE = 12


def grid(pixel: float = 60.0, size: int = SIZE, left: float = 600000.0, projection: str | None = None) -> Grid:
    return Grid(size, size, (left, pixel, 0.0, 4900020.0, 0.0, -pixel), utm31() if projection is None else projection)


def write(path: Path, values: np.ndarray, at: Grid, nodata: float | None = None, driver: str = "GTiff") -> Path:
    """A layer (height, width) as another program writes it: no tags, a nodata only where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"u1": gdal.GDT_Byte, "u2": gdal.GDT_UInt16, "f4": gdal.GDT_Float32}[values.dtype.str[1:]]
    dataset = gdal.GetDriverByName(driver).Create(str(path), values.shape[1], values.shape[0], 1, kind)
    dataset.SetGeoTransform(at.transform)
    dataset.SetProjection(at.projection)
    dataset.GetRasterBand(1).WriteArray(values)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)
    return path


def masks(tmp_path: Path, entry: str, names: tuple[str, ...] = (NAME,)) -> dict[str, np.ndarray]:
    """The masks of one entry of OTHER_MASKS on the reference's grid."""
    found = find(read_entries([entry], ())[0], str(tmp_path), names)
    return {name: read(mask, grid(), 0.5) for name, mask in found.items()}


# --- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "cloud", "clear", "out"),
    [
        ("scl", {8, 9, 10}, {2, 3, 4, 5, 6, 7, 11}, {0, 1}),
        ("fmask", {2}, {1, 3, 4, 5}, {0}),
        ("s2cloudless", {1}, {0}, set()),
        ("ukis", {1}, {0, 2}, set()),
        ("omnicloudmask", {1, 2}, {0, 3}, set()),
        ("l1c", {1}, {0}, set()),
        ("binary", {1, 255}, {0}, set()),
        ("codes(cloud=2,3;out=0)", {2, 3}, set(range(1, 256)) - {2, 3}, {0}),
        ("codes(cloud=40-100;clear=0-39)", set(range(40, 101)), set(range(40)), set()),
        ("s2cloudless(40)", set(range(40, 101)), set(range(40)), set()),
    ],
)
def test_what_each_preset_makes_of_every_value(words: str, cloud: set[int], clear: set[int], out: set[int]) -> None:
    found = read_preset(words).classify(np.arange(256, dtype=np.uint8), None)
    for code, values in ((CLOUD, cloud), (CLEAR, clear), (MASK_NODATA, out)):
        assert set(np.flatnonzero(found == code).tolist()) == values
    assert set(np.flatnonzero(found == UNKNOWN).tolist()) == set(range(256)) - cloud - clear - out


def test_majas_bits() -> None:
    values = np.array([0, 1, 0b11, 0b101, 0b10000, 0b100001, 0b10000000, 0b1000001, 255], np.uint8)
    # nothing; bit 0 alone; + all clouds; mono-temporal; thinnest; shadows; high; a shadow from outside; everything
    expected = [CLEAR, CLEAR, CLOUD, CLEAR, CLEAR, CLEAR, CLOUD, CLEAR, CLOUD]
    assert read_preset("maja").classify(values, None).tolist() == expected


def test_probabilities_nodata_and_nan() -> None:
    values = np.array([0, 0.39, 0.4, 1, np.nan, -1, 1.5], np.float32)
    expected = [CLEAR, CLEAR, CLOUD, CLOUD, MASK_NODATA, MASK_NODATA, UNKNOWN]
    assert read_preset("s2cloudless(0.4)").classify(values, -1.0).tolist() == expected
    listed = np.array([0, 2, 255], np.uint8)
    assert read_preset("codes(cloud=2)").classify(listed, 255).tolist() == [CLEAR, CLOUD, MASK_NODATA]
    assert read_preset("codes(cloud=2;clear=0,255)").classify(listed, 255).tolist() == [CLEAR, CLOUD, CLEAR]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("Fmask", "is not NAME=PRESET:PATTERN"),
        ("Fmask=fmsk:{product}.img", "is no preset; give one of scl, fmask"),
        ("A=fmask:fmask/mask.img", "names no {product}"),
        ("A=fmask:{name}.img", "{name} is none of product, satellite"),
        ("SOM2=fmask:{product}.img", "is the name of other masks already"),
        ("A=codes(cloud=2;out=2):{product}.img", "the code 2 is in two lists"),
        ("A=codes(out=2):{product}.img", "no code is cloud"),
        ("A=codes(clouds=2):{product}.img", "is no list of codes"),
        ("A=codes(cloud=0-99999999):{product}.img", "too long a range"),
        ("A=s2cloudless(high):{product}.img", "the threshold is"),
    ],
)
def test_a_wrong_entry_is_told(entry: str, said: str) -> None:
    with pytest.raises(UserError, match="OTHER_MASKS: ") as problem:
        read_entries([entry], ("SOM2",))
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("preset", "values", "nodata", "said"),
    [
        ("fmask", [1, 7], None, "holds 1, 7, not all are fmask's; those of scl fit"),
        ("ukis", [0, 9, 99], None, "no preset fits, list them: codes("),
        ("binary", [0, 1], 0, "declares 0 to be no data, by the preset binary it is cloud or clear"),
        ("binary", [0, 1, 255], None, "holds both 1 and 255"),
        ("s2cloudless(40)", [0, 1], None, "holds nothing above 1, so no per cent"),
        ("s2cloudless(40)", [0, 1, 200], 200, "holds nothing above 1, so no per cent"),
        ("s2cloudless(0.4)", [0, 57], None, "holds 0, 57, not all are s2cloudless(0.4)'s"),
    ],
)
def test_values_without_a_meaning_are_refused(
    tmp_path: Path, preset: str, values: list[int], nodata: float | None, said: str
) -> None:
    layer = np.resize(np.array(values, np.uint8), (SIZE, SIZE))
    write(tmp_path / f"{NAME}.tif", layer, grid(), nodata)
    with pytest.raises(UserError, match=NAME) as problem:
        masks(tmp_path, f"A={preset}:{{product}}.tif")
    assert said in str(problem.value)


def test_our_own_masks_must_say_what_they_are(tmp_path: Path) -> None:
    layer = np.resize(np.array([0, 1], np.uint8), (SIZE, SIZE))
    with pytest.raises(UserError, match=r"holds 0, 1; nothing in it says .* those of s2cloudless, ukis, .*binary fit"):
        read_mask(write(tmp_path / "others.tif", layer, grid()))
    with pytest.raises(UserError, match="nothing in it says"):
        read_mask(write(tmp_path / "zero.tif", layer, grid(), 0))
    assert (read_mask(write(tmp_path / "declared.tif", layer, grid(), 1))[0] == layer).all()
    write_mask(tmp_path / "tagged.tif", layer, grid())
    assert (read_mask(tmp_path / "tagged.tif")[0] == layer).all()
    assert mask_codes.fitting({0, 1, 2}) == "those of fmask, ukis, omnicloudmask fit"
    assert mask_codes.fitting({7}) == "those of scl fit"


# --- place ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pixel", "shift"), [(10, 0), (20, 0), (60, 0), (20, 7), (180, 60), (45, -33)])
def test_a_mask_of_any_resolution_lands_where_it_lies(pixel: int, shift: int) -> None:
    """Against the same counted on a grid of 1 m, cut to the reference's area."""
    draw = np.random.default_rng(pixel)
    size = 6 * 60 // pixel + 3
    source, target = grid(pixel, size, 600000 + shift), grid(60, 6)
    codes = draw.choice(np.array([CLOUD, CLEAR, MASK_NODATA], np.uint8), (size, size), p=(0.45, 0.45, 0.1))
    fine = np.kron(codes, np.ones((pixel, pixel), np.uint8))
    if shift > 0:
        fine = np.pad(fine, ((0, 0), (shift, 0)), constant_values=MASK_NODATA)
    fine = fine[:, max(-shift, 0) :]
    fine = np.pad(fine, ((0, 400), (0, 400)), constant_values=MASK_NODATA)[:360, :360]
    blocks = fine.reshape(6, 60, 6, 60).swapaxes(1, 2).reshape(6, 6, 3600)
    cloud, data = (blocks == CLOUD).sum(2), (blocks != MASK_NODATA).sum(2)
    expected = np.where(data >= 1800, np.where(cloud >= 0.5 * data, CLOUD, CLEAR), MASK_NODATA)
    assert (mask_on_grid(lambda row, n: codes[row : row + n], source, target, 0.5, "a mask") == expected).all()


def test_half_of_a_pixel_is_enough_and_the_share_is_a_setting() -> None:
    codes = np.zeros((36, 36), np.uint8)
    codes[:, 3::6] = codes[:, 4::6] = codes[:, 5::6] = CLOUD  # the right half of every pixel of 60 m
    for share, expected in ((0.5, CLOUD), (0.51, CLEAR)):
        found = mask_on_grid(lambda row, n: codes[row : row + n], grid(10, 36), grid(60, 6), share, "a mask")
        assert (found == expected).all()


def test_a_mask_of_another_place_zone_or_none_is_refused(tmp_path: Path) -> None:
    zone = osr.SpatialReference()
    zone.ImportFromEPSG(32632)
    for at, said in (
        (grid(left=900000.0), "covers nothing of the reference"),
        (
            grid(projection=zone.ExportToWkt()),
            "another coordinate system than the reference (WGS 84 / UTM zone 32N and",
        ),
        (grid(projection=""), "has no coordinate system"),
    ):
        write(tmp_path / f"{NAME}.tif", np.zeros((SIZE, SIZE), np.uint8), at)
        with pytest.raises(UserError, match=NAME) as problem:
            masks(tmp_path, "A=binary:{product}.tif")
        assert said in str(problem.value)


def test_python_fmasks_format_and_one_that_names_another_file(tmp_path: Path) -> None:
    layer = np.resize(np.array([1, 2, 3, 0], np.uint8), (SIZE, SIZE))
    place = write(tmp_path / f"{NAME}.img", layer, grid(), 0, "HFA")
    expected = np.array([MASK_NODATA, CLEAR, CLOUD, CLEAR], np.uint8)[layer]
    assert (masks(tmp_path, "A=fmask:{product}.img")[NAME] == expected).all()
    spilled = tmp_path / "spilled" / f"{NAME}.img"
    spilled.parent.mkdir()
    gdal.GetDriverByName("HFA").CreateCopy(str(spilled), gdal.Open(str(place)), options=["USE_SPILL=YES"])
    with pytest.raises(UserError, match="keeps its pixels in another file"):
        masks(tmp_path, "A=fmask:spilled/{product}.img")


# --- finding ----------------------------------------------------------------------------------------------------------


def test_what_a_name_says() -> None:
    assert fields_of(NAME) == {
        "product": NAME, "satellite": "S2A", "sensed": "20170430T103021", "date": "20170430", "tile": "T31TFH"
    }  # fmt: skip
    old = "S2A_OPER_PRD_MSIL1C_PDMC_20160605T235059_R108_V20150813T102406_20150813T102406_T31TFH"
    assert fields_of(old)["sensed"] == "20150813T102406" and fields_of(old)["tile"] == "T31TFH"
    assert fields_of("SCENE") == {"product": "SCENE"}


def test_files_are_found_by_name_parts_and_twins_of_macos_are_none(tmp_path: Path) -> None:
    layer = np.zeros((SIZE, SIZE), np.uint8)
    place = tmp_path / "maja" / "SENTINEL2A_20170430-103024-461_L2A_T31TFH_C_V1-0" / "MASKS" / "a_CLM_R2.tif"
    write(place, layer, grid())
    (place.parent / "._a_CLM_R2.tif").write_bytes(b"junk")
    pattern = "maja/SENTINEL2?_{date}-*_L2A_{tile}_*/MASKS/*_CLM_R2.tif"
    assert (masks(tmp_path, f"MAJA=maja:{pattern}")[NAME] == CLEAR).all()
    shutil.copy(place, place.with_name("b_CLM_R2.tif"))
    with pytest.raises(UserError, match="are both of"):
        masks(tmp_path, f"MAJA=maja:{pattern}")
    with pytest.raises(UserError, match="is no mask of any product to score"):
        masks(tmp_path, "MAJA=maja:elsewhere/{product}.tif")


@pytest.mark.parametrize("zipped", [False, True])
def test_l2a_products_are_found_by_the_l1c_name(tmp_path: Path, zipped: bool) -> None:
    name = "S2A_MSIL2A_20170430T103021_N0500_R108_T31TFH_20230905T120000"
    layer = np.repeat(np.arange(12, dtype=np.uint8), 3)[None].repeat(3 * SIZE, 0)  # each class three columns of 20 m
    scl = write(tmp_path / "scl.tif", layer, grid(20, 3 * SIZE))
    safe = tmp_path / "l2a" / f"{name}.SAFE"
    place = safe / "GRANULE" / "L2A_T31TFH_A009686_20170430T103024" / "IMG_DATA" / "R20m"
    place.mkdir(parents=True)
    options = ["REVERSIBLE=YES", "QUALITY=100"]
    target = place / "T31TFH_20170430T103021_SCL_20m.jp2"
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(target), gdal.Open(str(scl)), options=options)
    (safe / "MTD_MSIL2A.xml").write_text("<x/>")
    if zipped:
        zip_safe(safe, macos=True)
        shutil.rmtree(safe)
    found = masks(tmp_path, "Sen2Cor=scl:l2a")[NAME]
    assert found[0].tolist() == [MASK_NODATA] * 2 + [CLEAR] * 6 + [CLOUD] * 3 + [CLEAR]
    other = NAME.replace("T103021_N", "T103022_N")
    with pytest.raises(UserError, match="is no mask of any product"):
        masks(tmp_path, "Sen2Cor=scl:l2a", (other,))


# --- ESA's own --------------------------------------------------------------------------------------------------------

GML = """<?xml version="1.0"?>
<eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" xmlns:gml="http://www.opengis.net/gml/3.2"><gml:boundedBy>
<gml:Envelope srsName="urn:ogc:def:crs:EPSG:8.7:{epsg}"/></gml:boundedBy><eop:maskMembers>{members}</eop:maskMembers>
</eop:Mask>"""
MEMBER = """<eop:MaskFeature><eop:maskType>{kind}</eop:maskType><eop:extentOf><gml:Polygon><gml:exterior>
<gml:LinearRing><gml:posList srsDimension="2">{outer}</gml:posList></gml:LinearRing></gml:exterior>
{inner}</gml:Polygon></eop:extentOf></eop:MaskFeature>"""
HOLE = "<gml:interior><gml:LinearRing><gml:posList>{}</gml:posList></gml:LinearRing></gml:interior>"


def box(left: float, top: float, right: float, bottom: float) -> str:
    """A ring, in pixels of 60 m from the reference's corner."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return " ".join(f"{600000 + 60 * x:g} {4900020 - 60 * y:g}" for x, y in corners)


def l1c(tmp_path: Path) -> Path:
    """An L1C product; its folder QI_DATA."""
    safe = make_safe(tmp_path / "products", constant_bands(SIZE), name=NAME)
    return next(safe.glob("GRANULE/*/QI_DATA"))


def test_polygons_of_old_products(tmp_path: Path) -> None:
    quality = l1c(tmp_path)
    members = MEMBER.format(kind="OPAQUE", outer=box(1, 1, 6, 6), inner=HOLE.format(box(2, 2, 4, 4)))
    members += MEMBER.format(kind="CIRRUS", outer=box(8, 8, 10.5, 9.4), inner="")
    (quality / "MSK_CLOUDS_B00.gml").write_text(GML.format(epsg=32631, members=members))
    expected = np.full((SIZE, SIZE), CLEAR)
    expected[1:6, 1:6] = CLOUD
    expected[2:4, 2:4] = CLEAR
    expected[8, 8:11] = CLOUD  # half of the pixel in column 10 is enough, four tenths of the row below are not
    assert (masks(tmp_path, "ESA=l1c:products")[NAME] == expected).all()
    (quality / "MSK_CLOUDS_B00.gml").write_text("<Mask/>")
    assert (masks(tmp_path, "ESA=l1c:products")[NAME] == CLEAR).all()


@pytest.mark.parametrize(
    ("epsg", "kind", "outer", "said"),
    [
        (32632, "OPAQUE", box(1, 1, 2, 2), "another coordinate system than the reference"),
        (4326, "OPAQUE", box(1, 1, 2, 2), "names no UTM zone"),
        (32699, "OPAQUE", box(1, 1, 2, 2), "names no UTM zone"),
        (32631, "SNOW", box(1, 1, 2, 2), "a polygon of type 'SNOW'"),
        (32631, "OPAQUE", "1 2 3", "no list of coordinates"),
        (32631, "OPAQUE", "nan 2 3 4", "no list of coordinates"),
    ],
)
def test_polygons_that_cannot_be_placed_are_refused(
    tmp_path: Path, epsg: int, kind: str, outer: str, said: str
) -> None:
    text = GML.format(epsg=epsg, members=MEMBER.format(kind=kind, outer=outer, inner=""))
    (l1c(tmp_path) / "MSK_CLOUDS_B00.gml").write_text(text)
    with pytest.raises(UserError, match=r"MSK_CLOUDS_B00\.gml") as problem:
        masks(tmp_path, "ESA=l1c:products")
    assert said in str(problem.value)


def test_the_image_of_new_products_goes_before_polygons(tmp_path: Path) -> None:
    quality = l1c(tmp_path)
    bands = np.zeros((SIZE, SIZE, 3), np.uint8)
    bands[1, :, 0], bands[2, :, 1], bands[3, :, 2] = 1, 1, 1
    write_layer(tmp_path / "classi.tif", bands, grid(), nodata=255)
    target = str(quality / "MSK_CLASSI_B00.jp2")
    options = ["REVERSIBLE=YES", "QUALITY=100"]
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(target, gdal.Open(str(tmp_path / "classi.tif")), options=options)
    found = masks(tmp_path, "ESA=l1c:products")[NAME]
    assert (found[[1, 2]] == CLOUD).all() and (np.delete(found, [1, 2], 0) == CLEAR).all()  # snow is clear


def test_each_granule_of_an_old_product_has_its_own_mask(tmp_path: Path) -> None:
    bands = constant_bands(SIZE)
    safe = make_old_safe(tmp_path / "products", {"T31TFH": bands, "T31TGH": bands})
    members = MEMBER.format(kind="OPAQUE", outer=box(0, 0, SIZE, SIZE), inner="")
    name = safe.name.removesuffix(".SAFE")
    place = next(safe.glob("GRANULE/*T31TFH*/QI_DATA"))
    (place / "MSK_CLOUDS_B00.gml").unlink()
    own = "S2A_OPER_MSK_CLOUDS_EPA__20160605T113933_A000734_T31TFH_B00_MSIL1C.gml"
    (place / own).write_text(GML.format(epsg=32631, members=members))
    found = masks(tmp_path, "ESA=l1c:products", (f"{name}_T31TFH", f"{name}_T31TGH"))
    assert (found[f"{name}_T31TFH"] == CLOUD).all() and (found[f"{name}_T31TGH"] == CLEAR).all()


# --- step 10 ----------------------------------------------------------------------------------------------------------


def score(monkeypatch: pytest.MonkeyPatch, data: Path, *entries: str) -> pd.DataFrame:
    monkeypatch.setattr(evaluation_metrics, "DATA_DIR", str(data))
    monkeypatch.setattr(evaluation_metrics, "WORKERS", 1)
    monkeypatch.setattr(evaluation_metrics, "OTHER_MASKS", list(entries))
    evaluation_metrics.main()
    return pd.read_csv(data / "results" / "processors.csv").set_index(["processor", "product"])


def test_all_are_scored_on_the_pixels_that_all_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    codes = draw.choice([1, 2, 3, 4, 5, 6, 7], (SIZE, SIZE))
    write_reference(tmp_path, NAME, codes)
    own = draw.choice(np.array([0, 255, 1], np.uint8), (SIZE, SIZE), p=(0.5, 0.4, 0.1))
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks" / f"{NAME}_mask.tif", own, grid())
    other = draw.choice(np.array([0, 1, 2], np.uint8), (SIZE, SIZE))
    write(tmp_path / "other" / f"{NAME}.tif", other, grid())
    table = score(monkeypatch, tmp_path, "Theirs=codes(cloud=1;clear=0;out=2):other/{product}.tif")
    scored = (codes != 1) & (own != 1) & (other != 2)
    truth = np.isin(codes, (2, 3))
    for name, cloud in (("SOM1", own == 255), ("Theirs", other == 1)):
        for product in (NAME, "pooled"):
            row = table.loc[(name, product)]
            pairs = {"TP": truth & cloud, "FN": truth & ~cloud, "FP": ~truth & cloud, "TN": ~truth & ~cloud}
            assert {key: row[key] for key in pairs} == {key: (pair & scored).sum() for key, pair in pairs.items()}
            assert row["pixels"] == scored.sum() and row["excluded"] == (~scored).sum()
            assert row["recall_low"] <= row["recall"] <= row["recall_high"]
    alone = pd.read_csv(tmp_path / "results" / "confusion_matrix.csv")
    assert alone["excluded"].tolist() == [((codes == 1) | (own == 1)).sum()]


def test_another_processors_mask_in_place_of_ours_is_no_perfect_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reference(tmp_path, NAME, np.resize([2, 5], (SIZE, SIZE)))
    wrong = np.resize(np.array([1, 0], np.uint8), (SIZE, SIZE))
    for layer in (wrong, np.zeros_like(wrong)):
        write(tmp_path / "masks" / f"{NAME}_mask.tif", layer, grid())
        with pytest.raises(UserError, match="1 of 1 products failed"):
            score(monkeypatch, tmp_path)
        assert "OTHER_MASKS" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_twins_of_macos_and_masks_without_a_reference_are_no_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reference(tmp_path, NAME, np.resize([2, 5], (SIZE, SIZE)))
    write_reference(tmp_path, "OTHER", np.resize([2, 5], (SIZE, SIZE)))
    (tmp_path / "masks").mkdir()
    for name in (NAME, "MINE"):
        write_mask(tmp_path / "masks" / f"{name}_mask.tif", np.zeros((SIZE, SIZE), np.uint8), grid())
    (tmp_path / "masks" / f"._{NAME}_mask.tif").write_bytes(b"junk")
    shutil.copytree(tmp_path / "reference" / NAME, tmp_path / "reference" / f"._{NAME}")
    table = score(monkeypatch, tmp_path)
    assert table.index.tolist() == [("SOM1", NAME), ("SOM1", "mean"), ("SOM1", "pooled")]
    said = capsys.readouterr().err
    assert said.count("unpaired: ") == 2 and "MINE_mask.tif: has no reference" in said and "OTHER" in said
    monkeypatch.setattr(evaluation_metrics, "UNPAIRED", "refuse")
    with pytest.raises(UserError, match="2 masks or references stand alone"):
        score(monkeypatch, tmp_path)


def test_hidden_files_are_no_images_and_no_tables(tmp_path: Path) -> None:
    for name in ("A.tif", "._A.tif", "A_converted.csv", "._A_converted.csv"):
        (tmp_path / name).touch()
    for kind in ("tiff", "csv"):
        assert list(find_sources(kind, tmp_path, tmp_path, [])) == ["A"]


def test_others_are_scored_without_masks_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reference(tmp_path, NAME, np.full((SIZE, SIZE), 2))
    write(tmp_path / f"{NAME}.tif", np.full((SIZE, SIZE), 255, np.uint8), grid())
    table = score(monkeypatch, tmp_path, "Theirs=binary:{product}.tif")
    assert table.loc[("Theirs", "pooled"), "recall"] == 1
    assert not (tmp_path / "results" / "metrics.csv").exists()


# --- intervals --------------------------------------------------------------------------------------------------------


def test_values_are_looked_at_to_the_last_row_of_a_large_mask(tmp_path: Path) -> None:
    side = 60 * SIZE  # pixels of 1 m: more than are read at once, and no multiple of it
    values = np.ones((side, side), np.uint8)
    write(tmp_path / f"{NAME}.tif", values, grid(1.0, side))
    assert (masks(tmp_path, "A=fmask:{product}.tif")[NAME] == CLEAR).all()
    values[-1, -1] = 7
    write(tmp_path / f"{NAME}.tif", values, grid(1.0, side))
    with pytest.raises(UserError, match="holds 1, 7, not all are fmask's"):
        masks(tmp_path, "A=fmask:{product}.tif")


def test_a_mean_over_drawn_scenes_leaves_out_those_without_a_value() -> None:
    values = np.array([[0.2], [np.nan], [0.8]])
    draws = np.array([[1.0, 1, 1], [3, 0, 1], [0, 3, 0]])
    np.testing.assert_allclose(bootstrap._weighted_mean(draws, values), [[0.5], [0.35], [np.nan]])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Scenes whose clouds are found with a chance of their own around 0.8, as often as there are draws of the data."""
    draw, inside, trials = np.random.default_rng(3), 0, 200
    for _ in range(trials):
        chances = draw.beta(8, 2, 30)
        found = draw.binomial(400, chances)
        scenes = [np.array([[[n, 400 - n, 0, 100, 0, 0]]], np.int64) for n in found]
        pooled, mean = bootstrap.pooled_and_mean(scenes)
        low, high = pooled.interval()[:, 0, 2]
        inside += low <= 0.8 <= high
        assert np.isclose(pooled.values[0, 2], found.sum() / 12000) and np.isclose(
            mean.values[0, 2], found.mean() / 400
        )
    assert 0.87 <= inside / trials <= 0.99


def test_differences_are_drawn_together() -> None:
    """Two processors that miss the same clouds but for one in a hundred differ surely, whatever the scenes."""
    draw = np.random.default_rng(4)
    found = draw.integers(100, 900, 20)
    scenes = [np.array([[[n, 1000 - n, 0, 9, 0, 0]], [[n - 10, 1010 - n, 0, 9, 0, 0]]], np.int64) for n in found]
    pooled, _ = bootstrap.pooled_and_mean(scenes)
    low, high = pooled.interval()[:, :, 2]
    values, ends = pooled.differences(0)
    assert low[0] < high[1] and np.isclose(values[1, 2], 0.01) and np.allclose(ends[:, 1, 2], 0.01)
    assert (values[0][np.isfinite(values[0])] == 0).all()


def test_few_scenes_are_drawn_by_blocks_and_empty_ones_do_no_harm() -> None:
    scene = np.zeros((1, 9, 6), np.int64)
    scene[0, :, 0], scene[0, :, 1] = np.arange(9), 8 - np.arange(9)
    pooled, _ = bootstrap.pooled_and_mean([scene, np.zeros((1, 0, 6), np.int64)])
    low, high = pooled.interval()[:, 0, 2]
    assert pooled.values[0, 2] == 0.5 and 0.2 < low < 0.4 and 0.6 < high < 0.8
    assert np.isnan(pooled.interval()[0, 0, 6])
