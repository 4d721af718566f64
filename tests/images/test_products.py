"""Finding products and reading their metadata: every way they come in, and every way they come in broken."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_and_old import OLD_NAME, make_old_safe, zip_safe
from safe_maker import NAME, NAME_WITH_OFFSET, constant_bands, make_safe, product_xml

from cloudsom.bands import SAFE_BANDS
from cloudsom.downloads.archives import check_product_zip, lacking, sizes
from cloudsom.downloads.transfer import Corrupt
from cloudsom.errors import UserError
from cloudsom.images import products
from cloudsom.images.products import find_products, parse_xml, read_metadata

XML = product_xml(NAME)
XML_WITH_OFFSET = product_xml(NAME_WITH_OFFSET, [-1000] * 13)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one SAFE folder, to copy from."""
    folder = tmp_path_factory.mktemp("made")
    make_safe(folder, constant_bands(4))
    return folder


@pytest.fixture
def safe(made: Path, tmp_path: Path) -> Path:
    """A SAFE folder of one's own."""
    return Path(shutil.copytree(made / f"{NAME}.SAFE", tmp_path / "products" / f"{NAME}.SAFE"))


def only_granule(folder: Path) -> products.Granule:
    found, errors = find_products(folder)
    assert not errors
    (product,) = found.values()
    (granule,) = product.granules()
    return granule


def image(safe: Path, band: str) -> Path:
    return next(safe.glob(f"GRANULE/*/IMG_DATA/*_{band}.jp2"))


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_before_and_with_offset() -> None:
    old, new = read_metadata("a", XML.encode()), read_metadata("a", XML_WITH_OFFSET.encode())
    assert (old.quantification, old.offsets, old.nodata, old.saturated) == (10000, (0,) * 13, 0, 65535)
    assert new.offsets == (-1000,) * 13
    assert new.tags == {
        "QUANTIFICATION_VALUE": "10000",
        "RADIO_ADD_OFFSET": "-1000",
        "NODATA": "0",
        "SATURATED": "65535",
        "PROCESSING_BASELINE": "05.00",
        "PRODUCT_URI": f"{NAME_WITH_OFFSET}.SAFE",
        "SENSING_TIME": "2017-04-30T10:30:21.026Z",
        "SPACECRAFT": "Sentinel-2A",
    }


def test_offsets_go_by_band_id_not_by_position() -> None:
    lines = [f'<RADIO_ADD_OFFSET band_id="{i}">{-i}</RADIO_ADD_OFFSET>' for i in range(13)]
    ordered = product_xml(NAME_WITH_OFFSET, [-i for i in range(13)])
    assert "".join(lines) in ordered
    shuffled = ordered.replace("".join(lines), "".join(reversed(lines)))
    found = read_metadata("a", shuffled.encode())
    assert found.offsets == tuple(-float(i) for i in range(13))
    assert found.tags["RADIO_ADD_OFFSET"] == ",".join(f"{-i:g}" for i in range(13))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Level-1C</", "Level-2A</", "is Level-2A, which has no band B10"),
        ("QUANTIFICATION_VALUE", "OTHER", "has no QUANTIFICATION_VALUE"),
        (">10000<", ">ten<", "QUANTIFICATION_VALUE is 'ten'"),
        (">10000<", ">0<", "must be positive"),
        (">10000<", ">inf<", "QUANTIFICATION_VALUE is 'inf'"),
        ("NODATA", "OTHER", "no special value NODATA"),
        ("65535", "-1", "special value SATURATED is -1"),
        (">05.00<", "><", "has no PROCESSING_BASELINE"),
        ("</n1:General_Info>", "", "not readable as XML"),
        ('band_id="12"', 'band_id="13"', "0 to 12 are needed"),
        (">-1000<", ">a<", "RADIO_ADD_OFFSET is 'a'"),
        ("RADIO_ADD_OFFSET", "OTHER", "has no RADIO_ADD_OFFSET, which baseline 05.00 needs"),
    ],
)
def test_metadata_that_lack_or_distort_a_value_are_refused(old: str, new: str, words: str) -> None:
    xml = XML_WITH_OFFSET.replace(old, new)
    assert xml != XML_WITH_OFFSET
    with pytest.raises(UserError, match=r"^NAME: ") as refused:
        read_metadata("NAME", xml.encode())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


BILLION_LAUGHS = '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'
EXTERNAL_DTD = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>'


@pytest.mark.parametrize("xml", [BILLION_LAUGHS, EXTERNAL, EXTERNAL_DTD])
def test_entities_and_external_references_are_refused(xml: str) -> None:
    with pytest.raises(UserError, match="DTD or entities"):
        parse_xml("a", xml.encode())


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_metadata_give_a_result_or_a_clear_error(data: st.DataObject) -> None:
    xml = bytearray(XML_WITH_OFFSET.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(xml) - 1))
        length = data.draw(st.integers(0, 40))
        xml[at : at + length] = data.draw(st.one_of(st.binary(max_size=20), st.just(bytes(xml[:200]))))
    try:
        found = read_metadata("NAME", bytes(xml))
        assert len(found.offsets) == 13
    except UserError as problem:
        assert str(problem).startswith("NAME: ")


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_safe_folder(safe: Path) -> None:
    granule = only_granule(safe.parent)
    assert granule.name == NAME
    assert list(granule.images) == list(SAFE_BANDS)
    assert all(name.endswith(f"_{band}.jp2") for band, name in granule.images.items())
    assert len(granule.input_files()) == 14
    with granule.open_band("B8A") as dataset:
        assert (dataset.ReadAsArray() == 1800).all()  # the ninth of 1000, 1100...


@pytest.mark.parametrize("archive", [f"{NAME}.SAFE.zip", "other name.zip", "-a'b\".ZIP"])
def test_a_zip_is_read_without_extracting(safe: Path, archive: str) -> None:
    folder = safe.parent
    zip_safe(safe, folder / archive, macos=True)
    shutil.rmtree(safe)
    granule = only_granule(folder)
    assert granule.name == NAME  # of the archive if it ends in .SAFE.zip, else of the folder inside
    assert granule.metadata().quantification == 10000
    assert granule.input_files() == {archive: folder / archive}
    with granule.open_band("B8A") as dataset:
        assert (dataset.ReadAsArray() == 1800).all()
    assert [p.name for p in folder.iterdir()] == [archive]


def test_a_zip_of_the_contents_alone_takes_the_zips_name(safe: Path) -> None:
    archive = safe.parent / "S2A_X.SAFE.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in safe.rglob("*"):
            target.write(file, file.relative_to(safe))
    shutil.rmtree(safe)
    assert only_granule(archive.parent).name == "S2A_X"


@pytest.mark.parametrize("linked", ["GRANULE", "GRANULE/*", "GRANULE/*/IMG_DATA/*_B8A.jp2", "MTD_MSIL1C.xml", "."])
def test_what_a_product_links_to_is_of_the_product(safe: Path, linked: str) -> None:
    (place,) = [safe] if linked == "." else safe.glob(linked)
    moved = safe.parents[1] / "another disk" / place.name
    moved.parent.mkdir()
    place.rename(moved)
    place.symlink_to(moved)
    (moved if moved.is_dir() else safe).joinpath("round").symlink_to(safe)  # goes in circles
    granule = only_granule(safe.parent)
    with granule.open_band("B8A") as dataset:
        assert (dataset.ReadAsArray() == 1800).all()
    assert granule.metadata().quantification == 10000
    assert not lacking(sizes(safe))


@pytest.mark.parametrize("root", [f"./{NAME}.SAFE/", "./", "./a/../"])
def test_a_zip_whose_names_begin_with_a_dot(safe: Path, root: str) -> None:
    archive = safe.parents[1] / "zipped" / f"{NAME}.SAFE.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("./", b"")
        for file in filter(Path.is_file, safe.rglob("*")):
            target.writestr(zipfile.ZipInfo(root + file.relative_to(safe).as_posix()), file.read_bytes())
    granule = only_granule(archive.parent)
    assert granule.name == NAME and granule.metadata().quantification == 10000
    with granule.open_band("B8A") as dataset:
        assert (dataset.ReadAsArray() == 1800).all()
    if NAME in root:
        check_product_zip(archive, NAME)


def test_a_folder_goes_before_the_zip_of_the_same_product(safe: Path) -> None:
    zip_safe(safe)
    assert len(only_granule(safe.parent).input_files()) == 14


def test_a_folder_in_a_folder_and_what_is_no_product(safe: Path) -> None:
    folder = safe.parent
    (folder / NAME).mkdir()
    safe.rename(folder / NAME / safe.name)
    (folder / "notes.txt").touch()
    (folder / "empty").mkdir()
    (folder / ".hidden.SAFE").mkdir()
    (folder / f".{NAME}.zip.partial").touch()
    assert only_granule(folder).name == NAME


def test_what_macos_leaves_in_a_folder_is_passed_over(safe: Path) -> None:
    b01 = image(safe, "B01")
    b01.with_name("._" + b01.name).write_bytes(b"junk")
    (safe / "._MTD_MSIL1C.xml").write_bytes(b"junk")
    assert only_granule(safe.parent).images["B01"] == b01.relative_to(safe).as_posix()


def test_old_naming_with_one_and_with_several_granules(tmp_path: Path) -> None:
    bands = constant_bands(4)
    make_old_safe(tmp_path / "one", {"T31TFH": bands})
    make_old_safe(tmp_path / "two", {"T31TGH": bands, "T31TFH": bands})
    assert only_granule(tmp_path / "one").name == OLD_NAME
    (product,) = find_products(tmp_path / "two")[0].values()
    granules = product.granules()
    assert [g.name for g in granules] == [f"{OLD_NAME}_T31TFH", f"{OLD_NAME}_T31TGH"]
    assert all("T31TGH" in name for name in granules[1].images.values())


# --- broken products --------------------------------------------------------------------------------------------------


def rename_to_l2a(safe: Path) -> None:
    (safe / "MTD_MSIL1C.xml").rename(safe / "MTD_MSIL2A.xml")


def double(safe: Path) -> None:
    b05 = image(safe, "B05")
    shutil.copy(b05, b05.with_name(f"other_{b05.name}"))


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (rename_to_l2a, "Level-2A product, which has no band B10"),
        (lambda safe: (safe / "MTD_MSIL1C.xml").unlink(), "no metadata file"),
        (lambda safe: image(safe, "B10").unlink(), "band B10 is missing"),
        (double, "band B05 is there 2 times"),
        (lambda safe: shutil.rmtree(safe / "GRANULE"), "no granule"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_an_incomplete_product_is_named(
    safe: Path, breaking: Callable[[Path], object], words: str, zipped: bool
) -> None:
    breaking(safe)
    if zipped:
        zip_safe(safe)
        shutil.rmtree(safe)
    found, errors = find_products(safe.parent)
    assert not errors
    with pytest.raises(UserError, match=f"^{NAME}: ") as refused:
        found[NAME].granules()
    assert words in str(refused.value)


def test_granules_that_share_a_tile_are_refused(safe: Path) -> None:
    granule = next((safe / "GRANULE").iterdir())
    shutil.copytree(granule, granule.with_name(granule.name + "_again"))
    with pytest.raises(UserError, match="share tiles"):
        find_products(safe.parent)[0][NAME].granules()


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_truncated_zip_is_named(safe: Path, size: int) -> None:
    archive = zip_safe(safe)
    shutil.rmtree(safe)
    archive.write_bytes(archive.read_bytes()[:size])
    found, errors = find_products(archive.parent)
    assert not found
    assert archive.name in errors[archive.name]
    assert "damaged zip" in errors[archive.name]


def test_a_flipped_bit_in_a_zipped_image_is_found(safe: Path) -> None:
    """JPEG 2000 itself has no checksum: the decoder would deliver other pixels without a word."""
    archive = zip_safe(safe)
    with zipfile.ZipFile(archive) as opened:
        entry = next(e for e in opened.infolist() if e.filename.endswith("_B02.jp2"))
    shutil.rmtree(safe)
    data = bytearray(archive.read_bytes())
    data[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 4
    archive.write_bytes(data)
    granule = only_granule(archive.parent)
    with pytest.raises(UserError, match=f"^{NAME}: band B02: .*damaged zip"), granule.open_band("B02"):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_image_is_found_however_it_is_packed(safe: Path, method: int) -> None:
    """Each packing method of zip has errors of its own."""
    with zipfile.ZipFile(safe.with_name(f"{NAME}.SAFE.zip"), "w", method) as target:
        for file in safe.rglob("*"):
            target.write(file, file.relative_to(safe.parent))
    shutil.rmtree(safe)
    archive = safe.with_name(f"{NAME}.SAFE.zip")
    whole = archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        entry = next(e for e in opened.infolist() if e.filename.endswith("_B02.jp2"))
    start = entry.header_offset + 30 + len(entry.filename)
    for at in range(0, entry.compress_size, 37):
        data = bytearray(whole)
        data[start + at : start + at + 3] = b"\xff\xff\xff"
        archive.write_bytes(data)
        with pytest.raises(UserError, match=f"^{NAME}: band B02: "), only_granule(archive.parent).open_band("B02"):
            pass
        with pytest.raises(Corrupt):
            check_product_zip(archive, NAME)


def test_a_zip_without_or_with_two_products_is_refused(safe: Path) -> None:
    folder = safe.parent
    with zipfile.ZipFile(folder / "none.zip", "w") as target:
        target.writestr("readme.txt", "hello")
    with zipfile.ZipFile(folder / "two.zip", "w") as target:
        target.writestr("A.SAFE/MTD_MSIL1C.xml", XML)
        target.writestr("B.SAFE/MTD_MSIL1C.xml", XML)
    errors = find_products(folder)[1]
    assert "holds no Sentinel-2 product" in errors["none.zip"]
    assert "holds 2 products" in errors["two.zip"]


@pytest.mark.parametrize("root", ["..", "../..", "/etc", "a/..", "a\\..\\b", "\x1b[2J", "..SAFE", ". ."])
def test_a_name_from_a_zip_never_leaves_the_output_folder(tmp_path: Path, root: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr(f"{root}/MTD_MSIL1C.xml", XML)
    found, errors = find_products(tmp_path)
    assert found or errors
    for name in found:
        assert (tmp_path / f"{name}.tif").parent == tmp_path
        assert name not in ("", ".", "..") and name.isprintable()


def test_metadata_of_unreasonable_size_are_refused(safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zip_safe(safe, safe.parent.parent / "zips.zip")
    monkeypatch.setattr(products, "MAX_XML_BYTES", 1000)
    with pytest.raises(UserError, match="too large for metadata"):
        only_granule(safe.parent).metadata()
    shutil.rmtree(safe)
    shutil.move(safe.parent.parent / "zips.zip", safe.parent)
    with pytest.raises(UserError, match="far more than a real product has"):
        only_granule(safe.parent).metadata()


def test_an_image_of_unreasonable_size_is_refused(safe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zip_safe(safe)
    shutil.rmtree(safe)
    monkeypatch.setattr(products, "MAX_IMAGE_BYTES", 100)
    granule = only_granule(safe.parent)
    with pytest.raises(UserError, match=f"^{NAME}: band B02: .*far more than"), granule.open_band("B02"):
        pass


def test_a_zip_with_a_nameless_entry_is_refused(safe: Path) -> None:
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""  # newer versions of Python make no such entry from the name
    with zipfile.ZipFile(zip_safe(safe), "a") as target:
        target.writestr(nameless, b"")
    shutil.rmtree(safe)
    assert "damaged zip" in str(find_products(safe.parent)[1])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_zips_give_a_product_or_a_clear_error(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    archive = tmp_path / "a.zip"
    content = bytearray(zip_safe(made / f"{NAME}.SAFE", archive).read_bytes())
    directory = content.rindex(b"PK\1\2")
    for _ in range(data.draw(st.integers(1, 4))):
        first = data.draw(st.sampled_from([0, directory - 500, directory]))
        at = data.draw(st.integers(first, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(min_size=1, max_size=4))
    archive.write_bytes(content)
    found, errors = find_products(tmp_path)
    for product in found.values():
        try:
            for granule in product.granules():
                granule.metadata()
                with granule.open_band("B02"):
                    pass
        except UserError as problem:
            errors[product.name] = str(problem)
    assert all("\n" not in error for error in errors.values())


def test_an_image_that_is_none_is_named(safe: Path) -> None:
    image(safe, "B03").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>", encoding="utf-8")
    with pytest.raises(UserError, match=f"^{NAME}: band B03: .*B03.jp2"), only_granule(safe.parent).open_band("B03"):
        pass


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_products(tmp_path / "nowhere")


def test_a_zip_goes_by_its_own_name_if_that_is_a_products(tmp_path: Path) -> None:
    safe = make_safe(tmp_path / "made", constant_bands(4), name=NAME_WITH_OFFSET)
    folder = tmp_path / "products"
    folder.mkdir()
    zip_safe(safe, folder / f"{NAME}.SAFE.zip")
    zip_safe(safe, folder / "scene.zip")
    found, errors = find_products(folder)
    assert not errors
    assert {name: place.path.name for name, place in found.items()} == {
        NAME: f"{NAME}.SAFE.zip",
        NAME_WITH_OFFSET: "scene.zip",
    }
