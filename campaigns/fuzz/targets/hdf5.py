"""The spectra database: HDF5 files as bytes, and valid ones with wrong datasets."""

import io
import random
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Case, Seeds, Target
from cloudsom.bands import BANDS, DATABASE_CLASSES
from cloudsom.tables.spectra_database import NEEDED, open_spectra


def read(drop_non_finite: bool, path: Path) -> None:
    with open_spectra(path, -0.2, 2.0, drop_non_finite) as file:  # as in read_h5file.py
        for spectra, labels in file.blocks(16):
            assert spectra.shape == (len(labels), 13)
            assert np.isfinite(spectra).all()


KINDS = {"refuse": (".h5", partial(read, False)), "drop": (".h5", partial(read, True))}


def seeds(folder: Path) -> Seeds:
    files = [stored(), stored(spectra={"compression": "gzip"}, classes={"chunks": (7,)})]
    return dict.fromkeys(KINDS, files)


def datasets() -> dict[str, Any]:
    """The datasets of a good file, ids unsorted as in the published one."""
    spectra, labels = kit.spectra()
    names = list(DATABASE_CLASSES)[::-1]
    return {
        "spectra": spectra,
        "classes": labels,
        "class_ids": np.array([DATABASE_CLASSES[name] for name in names], np.int32),
        "class_names": np.array([name.encode() for name in names]),
        "band": np.array([band[1:].encode() for band in BANDS]),
        "product_id": np.array([b"product"] * len(labels)),
    }


def stored(**options: dict[str, Any]) -> bytes:
    """The bytes of an HDF5 file; `options` go to h5py for each dataset."""
    out = io.BytesIO()
    with h5py.File(out, "w") as handle:
        for name, values in datasets().items():
            handle.create_dataset(name, data=values, **options.get(name, {}))
    return out.getvalue()


def build(draw: random.Random, good: Seeds) -> Case:
    """A valid file in which one to three things are wrong."""
    content = datasets()
    out = io.BytesIO()
    with h5py.File(out, "w") as handle:
        for name, values in content.items():
            handle[name] = values
        for _ in range(draw.choice((1, 1, 2, 3))):
            name = draw.choice(list(NEEDED))
            values = content[name]
            if name in handle:
                del handle[name]
            draw.choice(WRONGS)(draw, handle, name, values)
    return Case(draw.choice(sorted(KINDS)), out.getvalue())


def _other_type(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    kind = draw.choice(("f2", "f4", "f8", "i1", "i8", "u1", "u8", ">f4", "c8", "S5", "?"))
    plain = values if values.dtype.kind != "S" else np.arange(len(values))
    handle[name] = plain.astype(kind)


def _other_shape(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    shape = draw.choice(
        ((0,), (), (0, 13), (13,), (1, 1), (60, 13, 1), (13, 60), (60, 12), (60, 14), (6,), (5,), (59,))
    )
    handle[name] = np.resize(values, shape)


def _other_values(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    changed = values.copy().reshape(-1)
    at = draw.randrange(len(changed))
    if values.dtype.kind == "f":
        changed[at] = draw.choice((np.nan, np.inf, -np.inf, 1e38, -1, 7, 1e-40))
    elif values.dtype.kind == "i":
        changed[at] = draw.choice((0, -1, 2**31 - 1, -(2**31), 11, 10, 60))
    else:
        changed = changed.astype("S60")
        changed[at] = draw.choice((b"", b"\xff\xfe", b"Fog\nand mist", b"\x1b[2J", b"x" * 60, b"Cloud", b"8A"))
    handle[name] = changed.reshape(values.shape)


def _absent(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    if draw.random() < 0.3:
        handle.create_group(name)


def _variable_text(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    handle.create_dataset(name, data=[str(v) for v in np.ravel(values)], dtype=h5py.string_dtype())


def _huge(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    """A dataset that claims far more than the file holds."""
    rows = draw.choice((10**5, 10**7, 10**9, 10**12, 2**60))
    shape = (rows, *values.shape[1:])
    chunks = (min(rows, draw.choice((1, 1000, 10**6, 2 * 10**7))), *values.shape[1:])
    compression = draw.choice((None, "gzip"))
    fill = {"f": 0.5, "i": 10}.get(values.dtype.kind)
    handle.create_dataset(name, shape, values.dtype, chunks=chunks, compression=compression, fillvalue=fill)


def _elsewhere(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    """A dataset that is in another file, or is made of pieces of others."""
    match draw.randrange(4):
        case 0:
            handle[name] = h5py.ExternalLink("/etc/hostname", "/" + name)
        case 1:
            handle[name] = h5py.SoftLink(draw.choice(("/nowhere", "/" + name, "/product_id")))
        case 2:
            storage = [("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
            handle.create_dataset(name, values.shape, values.dtype, external=storage)
        case _:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[:] = h5py.VirtualSource("other.h5", name, values.shape)
            handle.create_virtual_dataset(name, layout)


def _compound(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    handle[name] = np.zeros(len(values), [("a", "f4"), ("b", "i4")])


def _reference(draw: random.Random, handle: Any, name: str, values: Any) -> None:
    handle.create_dataset(name, data=np.array([handle.ref] * len(values), h5py.ref_dtype), dtype=h5py.ref_dtype)


WRONGS = (_other_type, _other_shape, _other_values, _absent, _variable_text, _huge, _elsewhere, _compound, _reference)

HDF5 = Target(
    "hdf5",
    KINDS,
    seeds,
    (b"\x89HDF\r\n\x1a\n", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"spectra", b"classes", b"\xff" * 8, b"\0" * 8),
    build,
)
