"""The map, the scaler and the fine-tuned map: pickles and npz."""

import io
import pickle
import random
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from minisom import MiniSom

from campaigns.fuzz import kit
from campaigns.fuzz.engine import Case, Seeds, Target
from cloudsom.bands import N_BANDS
from cloudsom.som import labelled_map, model, submaps
from cloudsom.som.bmu import BMUSearch
from cloudsom.som.labelled_map import LabelledMap
from cloudsom.som.labels import NeuronLabels

ROWS, COLS = 4, 3

#: What Python 3 writes by itself is 4 or 5; the text forms 0 and 1 are not read.
PROTOCOLS = (2, 3, 4, 5)


def read_som(path: Path) -> None:
    BMUSearch(model.load_weights(path))(np.zeros((5, N_BANDS)))


def read_scaler(path: Path) -> None:
    model.scale(np.zeros((5, N_BANDS)), model.load_scaler(path))


def read_tuned(path: Path) -> None:
    tuned = labelled_map.load(path)
    cloud = tuned.cloud(np.zeros((5, N_BANDS)), np.arange(5, dtype=np.int32) % len(tuned.labels.cloud))
    assert cloud.shape == (5,)


# --- pickles ----------------------------------------------------------------------------------------------------------


def pickles(folder: Path) -> Seeds:
    som, scaler = _som(), _scaler()
    return {
        "som": [pickle.dumps(som, protocol) for protocol in PROTOCOLS],
        "scaler": [pickle.dumps(scaler, protocol) for protocol in PROTOCOLS],
    }


def _som() -> Any:
    som = MiniSom(ROWS, COLS, N_BANDS, sigma=1.0, learning_rate=0.5, random_seed=0)
    som.random_weights_init(kit.spectra()[0].astype(np.float64))
    return som


def _scaler() -> Any:
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler().fit(kit.spectra()[0].astype(np.float64))


def wrong_arrays(draw: random.Random, array: Any) -> Any:
    """Something in the place of an array."""
    shapes: Any = ((), (0,), (13,), (12,), (1, 13), (4, 3, 12), (4, 3, 13, 1), (3, 4, 13), (0, 3, 13))
    kinds = ("f4", "f2", "i8", "u1", "c16", "?", "S3", "U3", "O", "M8[s]", ">f8", "f8,i4")
    changed = np.array(array, copy=True)
    match draw.randrange(6):
        case 0:
            return np.resize(changed, draw.choice(shapes))
        case 1:
            return np.zeros(changed.shape, draw.choice(kinds))
        case 2 if changed.size and changed.dtype.kind == "f":
            changed.flat[draw.randrange(changed.size)] = draw.choice((np.nan, np.inf, 1e300, -1e300, 5e-324))
            return changed
        case 2 if changed.size and changed.dtype.kind in "iu":
            changed.flat[draw.randrange(changed.size)] = draw.choice((0, 1, 7, 12, 100, 127))
            return changed
        case 3:
            return draw.choice((None, 1, "weights", [], [1.0] * 13, {}, 1 + 2j, b"13", set()))
        case 4:
            return np.asfortranarray(changed)
        case _:
            return np.broadcast_to(np.float64(0.5), draw.choice(((4, 3, 13), (13,)))).copy()


def build_pickle(draw: random.Random, good: Seeds) -> Case:
    """A pickle of a map or scaler some of whose attributes are others."""
    kind = draw.choice(("som", "scaler"))
    thing = _som() if kind == "som" else _scaler()
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(("_weights",) * 4 + tuple(vars(thing))) if kind == "som" else draw.choice(list(vars(thing)))
        value = getattr(thing, name, None)
        if draw.random() < 0.1:
            vars(thing).pop(name, None)
        else:
            vars(thing)[name] = wrong_arrays(draw, value if isinstance(value, np.ndarray) else np.ones(13))
    if draw.random() < 0.1:
        thing = draw.choice((vars(thing), [thing], np.ones((4, 3, 13)), None, _som(), _scaler()))
    return Case(kind, pickle.dumps(thing, draw.choice(PROTOCOLS)))


# --- npz --------------------------------------------------------------------------------------------------------------


def npz(folder: Path) -> Seeds:
    tuned = _tuned()
    labelled_map.save(folder / "tuned", tuned)
    labelled_map.save(folder / "plain", replace(tuned, submaps={}))
    return {"tuned": [(folder / "tuned").read_bytes(), (folder / "plain").read_bytes()]}


def _tuned() -> LabelledMap:
    draw, n = np.random.default_rng(0), ROWS * COLS
    labels = NeuronLabels(
        ROWS, COLS, np.full(n, 50, np.uint8), np.full(n, 255, np.uint8), np.linspace(0, 1, n, dtype=np.float64)
    )
    sub = submaps.SubMap(draw.random(13), draw.random((13, 13)), draw.random((2, 2, 13)), np.zeros(4, np.uint8))
    return LabelledMap(
        draw.random((ROWS, COLS, 13)), draw.random(13), draw.random(13), labels, submaps={1: sub, 4: sub}
    )


def build_npz(draw: random.Random, good: Seeds) -> Case:
    """An npz some of whose arrays are others, absent, objects, or not arrays at all."""
    with np.load(io.BytesIO(draw.choice(good["tuned"]))) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    for _ in range(draw.choice((1, 1, 2))):
        name = draw.choice(sorted(arrays))
        if draw.random() < 0.1:
            del arrays[name]
        else:
            arrays[name] = wrong_arrays(draw, arrays[name])
    out = io.BytesIO()
    save = draw.choice((np.savez, np.savez_compressed))
    save(out, **arrays)
    if draw.random() < 0.2:
        _add_member(draw, out, draw.choice(("weights.npy", "cloud", "x.npy")))
    return Case("tuned", out.getvalue())


def _add_member(draw: random.Random, out: io.BytesIO, name: str) -> None:
    """One more member: text, or the header of an array that claims any size."""
    shape = draw.choice(((10**12, 13), (10**9,), (2**62, 4), (-1,), (0,)))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(out, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # two members of one name are meant
        file.writestr(name, draw.choice((array, b"text", b"", array + bytes(1000))))


PICKLE = Target(
    "pickle",
    {"som": (".p", read_som), "scaler": (".p", read_scaler)},
    pickles,
    (b"cminisom\nMiniSom\n", b"cos\nsystem\n", b"numpy", b"_reconstruct", b"\x80\x04", b".", b"R", b"b", b"\x93",
     b"i1", b"O8",
     b"cnumpy\nndarray\n", b"\x8c\x05numpy", b"(", b"t", b"cbuiltins\ngetattr\n", b"\x81", b"0", b"2"),
    build_pickle,
)  # fmt: skip

NPZ = Target(
    "npz",
    {"tuned": (".npz", read_tuned)},
    npz,
    (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"'descr': '|O'", b"'<f8'", b"'|u1'", b"(4, 3, 13)",
     b"(999999999, 13)", b"fortran_order", b"True", b"weights.npy", b"\xff\xff\xff\xff", b"\0\0\0\0"),
    build_npz,
)  # fmt: skip
