"""The JSON beside files: products' settings files, downloads' records, a reference mask's parameters."""

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

from campaigns.fuzz.engine import Case, Seeds, Target
from cloudsom.downloads import names, records
from cloudsom.errors import UserError
from cloudsom.files import stores
from cloudsom.files.stores import Snapshot

SETTINGS = Snapshot("script.py", {"SIZE": 3, "NAMES": ["a"], "SHARE": 0.5})


def read_settings(path: Path) -> None:
    """As a script does that finds a product there, and as the next one does that takes it for input."""
    source, product = path.with_suffix(".source"), path.with_suffix("")
    source.write_bytes(b"input")
    product.write_bytes(b"product")
    path.rename(stores.record_path(product))
    made_by = stores.recipe(SETTINGS, {"INPUT": source})
    stores.recipe(SETTINGS, {"LABELS": product, "INPUT": source})
    try:
        record = stores.finished(product, made_by)
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from None
    if record:
        f"{record['results']['summary']}"


def read_download(path: Path) -> None:
    """As the record of a product on disk."""
    folder = path.parent / "products"
    image = folder / "NAME.SAFE" / "a.jp2"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    path.rename(folder / "NAME.SAFE.json")
    found = records.find(folder, "NAME")
    assert found is not None and isinstance(found.source, str)
    if found.fault:
        raise UserError(f"{path}: {found.fault}")


def read_parameters(path: Path) -> None:
    scene = path.parent / "SCENE"
    (scene / "Classification").mkdir(parents=True)
    path.rename(scene / "Classification" / "used_parameters.json")
    names.tile_of_reference(scene)


def seeds(folder: Path) -> Seeds:
    (folder / "input").write_bytes(b"input")
    made_by = stores.recipe(SETTINGS, {"INPUT": folder / "input"})
    with stores.product(folder / "product", made_by) as item:
        item.partial.write_bytes(b"product")
        item.results["summary"] = "3 rows"
    image = folder / "NAME.SAFE" / "a.jp2"
    image.parent.mkdir()
    image.write_bytes(b"image")
    os.utime(image, (0, 0))  # the record holds the time
    records.write(folder / "NAME.SAFE", {"name": "NAME", "source": "gcs"}, {})
    return {
        "settings": [stores.record_path(folder / "product").read_bytes()],
        "download": [(folder / "NAME.SAFE.json").read_bytes()],
        "parameters": [b'{"tile": "31TFH", "date": "20170430"}', b'{"tile": "T31TFH"}'],
    }


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**30, 10**300, "", "x", "\x1b[2J", "a\nb", [], {}, [[]], [None], {"sha256": 3},
    {"": {}},
    "../../etc/passwd", "/dev/zero", "a\0b",
)  # fmt: skip


def build(draw: random.Random, good: Seeds) -> Case:
    """Valid JSON with something else in one to three places, or nested without end."""
    kind = draw.choice(sorted(good))
    content = json.loads(draw.choice(good[kind]))
    if draw.random() < 0.03:
        opening = draw.choice((b"[", b'{"a":', b'{"product":', b'{"files":'))
        return Case(kind, opening * draw.choice((500, 100_000)))
    for _ in range(draw.choice((1, 1, 2, 3))):
        _change(draw, content)
    text = json.dumps(content) if draw.random() < 0.9 else json.dumps(content).replace('"', "'")
    return Case(kind, text.encode("utf-8", "surrogatepass"))


def _change(draw: random.Random, content: Any) -> None:
    """Change, rename or remove one entry somewhere in nested dictionaries."""
    while True:
        key = draw.choice(sorted(content, key=str)) if content else "new"
        inner = content.get(key)
        if not isinstance(inner, dict) or draw.random() < 0.3:
            break
        content = inner
    match draw.randrange(3):
        case 0:
            content.pop(key, None)
        case 1:
            content[draw.choice(("", "../x", "/dev/zero", "a\0b", "other", "\ud800"))] = content.pop(key, None)
        case _:
            content[key] = copy.deepcopy(draw.choice(ODD))


JSON = Target(
    "json",
    {
        "settings": (".json", read_settings),
        "download": (".json", read_download),
        "parameters": (".json", read_parameters),
    },
    seeds,
    (b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"true", b"NaN", b"Infinity", b"\\u0000", b"\\ud800",
     b"\\n", b"\xff",
     b'"files"', b'"size"', b'"md5"', b'"product"', b'"sha256"', b'"lineage"', b'"results"', b'"summary"'),
    build,
)  # fmt: skip
