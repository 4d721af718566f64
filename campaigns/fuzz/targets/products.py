"""Products and archives: metadata as XML, zipped SAFE, and the reference masks' tar."""

import gzip
import io
import random
import re
import tarfile
import zipfile
from pathlib import Path

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Case, Seeds, Target
from cloudsom.downloads.archives import check_product_zip, unpack_reference
from cloudsom.downloads.transfer import Corrupt
from cloudsom.errors import UserError
from cloudsom.images.products import find_products, parse_xml, read_metadata

# --- metadata ---------------------------------------------------------------------------------------------------------


def read_product_xml(path: Path) -> None:
    assert len(read_metadata(path.name, path.read_bytes()).tags) >= 4


def read_tile_xml(path: Path) -> None:
    parse_xml(path.name, path.read_bytes())


def seed_xml(folder: Path) -> Seeds:
    from safe_maker import NAME, NAME_WITH_OFFSET, product_xml, tile_xml

    made = [product_xml(NAME), product_xml(NAME_WITH_OFFSET, [-1000] * 13)]
    found = {"product": [xml.encode() for xml in made], "tile": [tile_xml("L1C_T31TFH", {}).encode()]}
    for name, xml in kit.real_xml().items():
        found["product" if name == "MTD_MSIL1C.xml" else "tile"].append(xml)
    return found


_ELEMENT = re.compile(rb"<([A-Za-z_0-9:]+)[^<>/]*>[^<>]*</\1>|<[^<>]+>")


def build_xml(draw: random.Random, good: Seeds) -> Case:
    """XML whose elements are left out, doubled, moved or nested, or whose document type is hostile."""
    kind = draw.choice(sorted(good))
    xml = draw.choice(good[kind])
    for _ in range(draw.choice((1, 1, 2, 4))):
        found = list(_ELEMENT.finditer(xml))
        if not found:
            break
        one, other = draw.choice(found), draw.choice(found)
        match draw.randrange(6):
            case 0:
                xml = xml[: one.start()] + xml[one.end() :]
            case 1:
                xml = xml[: one.end()] + one[0] * draw.choice((1, 2, 300)) + xml[one.end() :]
            case 2:
                xml = xml[: other.end()] + one[0] + xml[other.end() :]
            case 3:
                xml = xml[: one.start()] + b"<a>" * 5000 + one[0] + b"</a>" * 5000 + xml[one.end() :]
            case 4:
                xml = re.sub(rb"<\?xml[^>]*>", b"", xml)
                xml = draw.choice(DOCUMENT_TYPES) + xml
            case _:
                encoding = draw.choice(
                    (b"utf-16", b"latin-1", b"utf-7", b"idna", b"rot13", b"cp037", b"x" * 99, b"punycode")
                )
                xml = re.sub(rb'encoding="[^"]*"', b'encoding="' + encoding + b'"', xml)
    return Case(kind, xml)


DOCUMENT_TYPES = (
    b'<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;&b;">]>',
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>',
    b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">',
    b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>',
    b'<!DOCTYPE a PUBLIC "a" "b">',
    b'<?xml-stylesheet href="http://127.0.0.1:9/"?>',
)

XML = Target(
    "xml",
    {"product": (".xml", read_product_xml), "tile": (".xml", read_tile_xml)},
    seed_xml,
    (b"<", b">", b"</", b"/>", b"&amp;", b"&#0;", b"&#x1b;", b"&#10;", b"&c;", b"<![CDATA[", b"]]>", b"<!--",
     b"<?xml", b"xmlns=",
     b"\xef\xbb\xbf", b"\xff\xfe", b"QUANTIFICATION_VALUE", b"RADIO_ADD_OFFSET", b'band_id="12"',
     b"SPECIAL_VALUE_INDEX",
     b"NODATA", b"SATURATED", b"Level-1C", b"PROCESSING_BASELINE", b"04.00", *DOCUMENT_TYPES),
    build_xml,
)  # fmt: skip


# --- archives ---------------------------------------------------------------------------------------------------------


def read_download(path: Path) -> None:
    from safe_maker import NAME

    try:
        check_product_zip(path, NAME)
    except Corrupt as problem:
        raise UserError(f"{path}: {problem}") from None


def read_reference(path: Path) -> None:
    unpack_reference(path, path.parent / "reference", 5_000_000, lambda line: None)


def read_product(path: Path) -> None:
    found, errors = find_products(path.parent)
    for error in errors.values():
        raise UserError(error)
    for product in found.values():
        for granule in product.granules():
            granule.metadata()
            for band in ("B01", "B10"):
                with granule.open_band(band) as dataset:
                    assert dataset.RasterXSize > 0


def members(folder: Path) -> dict[str, bytes]:
    """The files of a small product by their path, its metadata those of the real one where they are there."""
    from safe_maker import NAME, constant_bands, make_safe

    safe = make_safe(folder, constant_bands(1), name=NAME)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(safe.rglob("*")) if p.is_file()}
    real = kit.real_xml().get("MTD_MSIL1C.xml")
    return {name: real if real and name.endswith("MTD_MSIL1C.xml") else content for name, content in files.items()}


def zipped(files: dict[str, bytes], method: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


METHODS = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
TOP = "SENTINEL_2_reference_cloud_masks/Reference_dataset/SCENE"


def seed_archives(folder: Path) -> Seeds:
    files = members(folder)
    masks = {
        f"{TOP}/Classification/classification_map.tif": b"mask" * 99,
        f"{TOP}/Classification/used_parameters.json": b'{"tile": "31TFH"}',
    }
    packed = [gzip.compress(tarred(masks, kind), mtime=0) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    every = [zipped(files, method) for method in METHODS]
    return {"safe": every, "download": every, "reference": packed}


def tarred(files: dict[str, bytes], kind: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


NAMES = (
    "../x", "/etc/x", "a/../../x", "C:\\x", "\x1b[2J", "", "x" * 300, ".", "a\0b", "\u4e91",
    "MTD_MSIL1C.xml", "GRANULE/",
)  # fmt: skip


def build_archive(draw: random.Random, good: Seeds) -> Case:
    """An archive with members renamed, doubled, left out, linked, or damaged before they are packed."""
    kind = draw.choice(sorted(good))
    if kind == "reference":
        return Case(kind, _other_tar(draw, good))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(draw.choice(good[kind]))) as archive, zipfile.ZipFile(out, "w") as target:
        chosen = draw.sample(archive.infolist(), k=draw.randint(1, 3))
        for entry in archive.infolist():
            content, name, wrong = archive.read(entry), entry.filename, draw.randrange(5) if entry in chosen else -1
            if wrong == 0:
                continue
            new = zipfile.ZipInfo(draw.choice(NAMES) if wrong == 1 else name)
            new.external_attr = 0o120777 << 16 if wrong == 2 else 0o100644 << 16
            content = content[: len(content) // 2] if wrong == 3 else content
            if wrong == 4:
                new.flag_bits |= draw.choice((1, 1 << 11))
            target.writestr(new, content, draw.choice(METHODS))
    return Case(kind, _damaged_data(draw, out.getvalue()))


def _damaged_data(draw: random.Random, archive: bytes) -> bytes:
    """In half of the cases, a few bits of the packed data are others, not of the directory."""
    changed = bytearray(archive)
    if draw.random() < 0.5:
        for _ in range(draw.randint(1, 20)):
            changed[draw.randrange(archive.rindex(b"PK\1\2"))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _other_tar(draw: random.Random, good: Seeds) -> bytes:
    """The tar inside the gzip is damaged, and packed again with a right checksum."""
    content = bytearray(gzip.decompress(draw.choice(good["reference"])))
    for _ in range(draw.randint(1, 4)):
        block = 512 * draw.randrange(len(content) // 512)
        match draw.randrange(4):
            case 0:
                content[block + draw.randrange(512)] ^= 1 << draw.randrange(8)
            case 1:
                content[block : block + 100] = draw.choice(NAMES).encode()[:100].ljust(100, b"\0")
            case 2:
                content[block + 156] = draw.choice(b"0125637LKxgSVM\0\xff")
            case _:
                content[block + 124 : block + 136] = draw.choice(
                    (b"77777777777\0", b"\x80" + b"\xff" * 11, b"00000000009\0")
                )
        if draw.random() < 0.8:  # a header whose own checksum is right
            total = sum(content[block : block + 148]) + 8 * 32 + sum(content[block + 156 : block + 512])
            content[block + 148 : block + 156] = b"%06o\0 " % total
    return gzip.compress(bytes(content), mtime=0)


ZIP = Target(
    "zip",
    {
        "safe": (".SAFE.zip", read_product),
        "download": (".SAFE.zip", read_download),
        "reference": (".tgz", read_reference),
    },
    seed_archives,
    (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08", b"\xff\xff\xff\xff",
     b"\0\0\0\0",
     b"\x01\x00", b"\x0c\x00", b"\x0e\x00", b"../", b"GRANULE/", b"IMG_DATA", b"MTD_MSIL1C.xml", b".SAFE/",
     b"\x1f\x8b\x08"),
    build_archive,
    names=("S2A_MSIL1C_20170430T103021",),
)  # fmt: skip
