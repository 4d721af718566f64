"""Step 6 by place and time: the catalogue's list, a table, a map, and the products themselves."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import Fault, drive
from servers.bucket import BucketServer
from servers.cdse import CatalogueServer, described

from cloudsom.downloads.catalogue import Listed, condition, newest_baselines
from cloudsom.downloads.catalogue import search as catalogue_list
from cloudsom.downloads.client import Client, Limits
from cloudsom.downloads.names import parse
from cloudsom.errors import UserError
from cloudsom.images.areas import read_area

PLACE = ["--FROM", "2026-06-01", "--TO", "2026-06-30"]


def name(day: int, tile: str = "31TFH", baseline: str = "0511", made: str = "20260720T101010") -> str:
    return f"S2B_MSIL1C_202606{day:02}T104021_N{baseline}_R008_T{tile}_{made}"


@pytest.fixture
def catalogue() -> Iterator[CatalogueServer]:
    with CatalogueServer() as server:
        assert isinstance(server, CatalogueServer)
        yield server


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def search(data: Path, catalogue: CatalogueServer, area: str, *more: str) -> Any:
    return drive.run(data, "--CDSE_CATALOGUE_URL", catalogue.url, "--AREA", area, *PLACE, *more)


def names_in(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip().startswith("S2")]


def test_a_place_and_time_are_listed_drawn_and_fetched(data: Path, catalogue: CatalogueServer) -> None:
    for number in range(1, 24):  # more than a page of the catalogue's own length
        catalogue.add(name(number), b"", **described(4.0 * number, 4.0, 43.0))
    catalogue.add(name(9, baseline="0510"), b"", **described(36.5, 4.0, 43.0))  # the same acquisition before
    catalogue.add(name(21, baseline="0510"), b"", **described(1.0, 4.0, 43.0))  # less cloud than the newer one says
    catalogue.add(name(9, "31TGH"), b"", **described(12.0, 5.0, 43.0))
    catalogue.add(name(9, "31TDH"), b"", **described(1.0, 2.0, 43.0))  # elsewhere
    catalogue.add(name(30).replace("202606", "202607"), b"", **described(1.0, 4.0, 43.0))  # another month
    catalogue.add(name(10).replace("MSIL1C", "MSIL2A"), b"", **described(1.0, 4.0, 43.0))
    corners = [[4.2, 43.2], [5.4, 43.2], [5.4, 43.6], [4.2, 43.6], [4.2, 43.2]]
    (data / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    (data / "products" / f"{name(2)}.SAFE").mkdir(parents=True)
    result = search(data, catalogue, "area.geojson", "--MOST_CLOUD", "80")
    assert result.returncode == 0, result.stderr
    expected = [*map(name, range(1, 10)), name(9, "31TGH"), *map(name, range(10, 21))]
    assert names_in(result.stdout) == expected
    rows = {line.split()[0]: line.split()[2:] for line in result.stdout.splitlines() if line.startswith("S2")}
    assert rows[name(2)] == ["2026-06-02", "10:40:21", "31TFH", "8.0", "?", "yes"]
    assert not [seen for seen in catalogue.log if "Authorization" in seen.headers]
    picture = np.asarray(Image.open(data / "found_products.png").convert("RGB")).astype(int)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 60)
    assert red.any(axis=1).sum() > 200 and red.any(axis=0).sum() > 300  # the area's outline
    listed = data / "found_products.txt"
    assert names_in(listed.read_text()) == expected and "# 2026-06-02 10:40:21" in listed.read_text()

    listed.write_text("mine")
    refused = search(data, catalogue, "4.5 43.5")
    assert refused.returncode == 1 and "was changed after it was made" in refused.stderr
    with BucketServer() as bucket:
        assert isinstance(bucket, BucketServer)
        for tile, square in (("31TFH", "FH"), ("31TGH", "GH")):
            files = drive.product_files(name(9, tile), 100)
            bucket.put_product(f"tiles/31/T/{square}/{name(9, tile)}.SAFE", files)
        words = ["--TO", "2026-06-09", "--FROM", "2026-06-09", "--OVERWRITE", "--DOWNLOAD", "--GCS_URL", bucket.url]
        fetched = search(data, catalogue, "4.5, 43.1, 5.5, 43.5", *words, "--GCS_BUCKET", bucket.bucket)
    assert fetched.returncode == 0 and fetched.stdout.count(" fetched ") == 2
    assert (data / "products" / f"{name(9, '31TGH')}.SAFE").is_dir()
    local = drive.run(data, "--WHAT", "products", "--SOURCE", "local", "--PRODUCTS_FILE", "found_products.txt")
    assert local.returncode == 0 and local.stdout.count(" there ") == 2


def test_a_list_of_several_pages_is_whole(catalogue: CatalogueServer) -> None:
    tiles = [f"31T{a}{b}" for a in "ABCDEFGHJKLMNPQRST" for b in "ABCDEFGHJKLM"]
    for tile in tiles:
        catalogue.add(name(9, tile), b"xx", **described(10.0, 4.0, 43.0))
    catalogue.faults = [Fault("skip=200", status=503)]
    client, what = Client(Limits(backoff=0.02)), condition("POINT(4.5 43.5)", date(2026, 6, 9), date(2026, 6, 9))
    found = catalogue_list(client, catalogue.url, what)
    assert {entry.product.tile for entry in found} == set(tiles) and len(found) == len(tiles)
    assert found[0].size == 2 and found[0].cloud == 10.0 and len(found[0].rings[0]) == 5


def test_what_cannot_be_searched_is_told(data: Path, catalogue: CatalogueServer) -> None:
    none = search(data, catalogue, "4.5 43.5")
    assert none.returncode == 0 and "no L1C product of 2026-06-01 to 2026-06-30" in none.stdout
    assert not (data / "found_products.txt").exists()
    wrong = search(data, catalogue, "4.5 43.5", "--FROM", "June")
    assert wrong.returncode == 1 and "FROM: 'June' is no day" in wrong.stderr
    catalogue.faults = [Fault("Products", -1, status=422, body=b'{"detail": [{"msg": "Input should be less"}]}')]
    asked = search(data, catalogue, "4.5 43.5")
    assert asked.returncode == 1 and "status 422: Input should be less" in asked.stderr


def test_areas_are_read_from_text_and_files(tmp_path: Path) -> None:
    assert read_area("", "-9.5 38.7").hull() == "POINT(-9.500000 38.700000)"
    box = read_area("", "-9.5,38.7,-9.0,39.0")
    assert box.hull().count(",") == 4 and box.outlines()[0].shape == (5, 2)
    ring = [(-9.2, 38.8), (-9.1, 38.8), (-9.1, 38.9), (-9.2, 38.8)]
    assert box.meets([ring]) and not box.meets([[(x + 5, y) for x, y in ring]])
    angles = np.linspace(0, 2 * np.pi, 500)
    circle = [[float(x), float(y)] for x, y in zip(np.cos(angles), np.sin(angles), strict=True)]
    points = {"type": "MultiPoint", "coordinates": [[4, 43], [4.1, 43.1]]}
    for geometry, corners in (({"type": "Polygon", "coordinates": [[*circle[:-1], circle[0]]]}, 5), (points, 60)):
        (tmp_path / "a.geojson").write_text(json.dumps(geometry))
        assert 5 <= read_area(str(tmp_path), "a.geojson").hull().count(" ") <= max(corners, 5)
    with pytest.raises(UserError, match=r"no such file; give 'LONGITUDE LATITUDE'"):
        read_area(str(tmp_path), "nowhere.gpkg")
    for wrong in ("1 2 3", "200 10", "10 95", "5 5 4 6", "nan 5", "5 5 6 4"):
        with pytest.raises(UserError, match="is no point or box"):
            read_area("", wrong)


def test_the_newest_baseline_of_each_acquisition_is_taken() -> None:
    left = (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)),)
    right = (((1.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 0.0)),)
    entries = [
        Listed(parse(name(1, baseline="0510")), rings=left),
        Listed(parse(name(1)), rings=left),  # newer
        Listed(parse(name(1, made="20260721T000000")), rings=left),  # made once more
        Listed(parse(name(1, made="20260719T000000")), rings=right),  # the rest of the tile, of the next data strip
        Listed(parse(name(2, baseline="0510")), rings=left),
    ]
    found = newest_baselines(reversed(entries))
    assert {e.product.name for e in found} == {entries[i].product.name for i in (2, 3, 4)}
