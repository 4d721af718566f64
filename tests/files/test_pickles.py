"""Pickles of strangers: maps and scalers come out of them as numbers, everything else is refused and nothing runs."""

import functools
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import ROOT
from minisom import MiniSom
from sklearn.preprocessing import MinMaxScaler

from cloudsom.errors import UserError
from cloudsom.files import pickles, stores
from cloudsom.som import model

READERS: dict[str, Callable[[Path], Any]] = {
    "map": model.load_weights,
    "scaler": model.load_scaler,
    "susi map": model.load_susi_weights,
}
PROTOCOLS = range(6)


def trained_som() -> MiniSom:
    som = MiniSom(3, 2, 13, random_seed=1)
    som.train(np.random.default_rng(0).random((50, 13)), 20)
    return som


def fitted_scaler() -> MinMaxScaler:
    return MinMaxScaler().fit(np.random.default_rng(1).random((9, 13)))


def susi_som(kind: str = "SOMClustering") -> Any:
    return pickle.loads(trained_susi(kind))


@functools.cache
def trained_susi(kind: str) -> bytes:
    import susi

    spectra = np.random.default_rng(2).random((10, 13))
    more = {} if kind == "SOMClustering" else {"n_iter_supervised": 10}
    som = getattr(susi, kind)(n_rows=4, n_columns=3, n_iter_unsupervised=10, n_jobs=1, random_state=0, **more)
    return pickle.dumps(som.fit(spectra, (spectra[:, 0] > 0.5).astype(int)))


def read_error(read: Callable[[Path], Any], file: Path, content: bytes) -> str:
    """The one line that a reader refuses a file with."""
    file.write_bytes(content)
    with pytest.raises(UserError) as problem:
        read(file)
    message = str(problem.value)
    assert message.startswith(str(file)) and message.isprintable() and len(message) < 400 + len(str(file))
    return message


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_map_and_a_scaler_come_back(tmp_path: Path, protocol: int) -> None:
    file, som, scaler = tmp_path / "x.p", trained_som(), fitted_scaler()
    file.write_bytes(pickle.dumps(som, protocol))
    back = model.load_weights(file)
    assert back.dtype == np.float64 and np.array_equal(back, som.get_weights())
    file.write_bytes(pickle.dumps(scaler, protocol))
    numbers = model.load_scaler(file)
    for name, values in vars(numbers).items():
        assert np.array_equal(values, getattr(scaler, name)), name
    reflectance = np.random.default_rng(3).random((4, 13))
    assert np.array_equal(model.scale(reflectance.copy(), numbers), scaler.transform(reflectance))


@pytest.mark.parametrize("dtype", [">f8", "<f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_other_byte_orders_and_layouts(tmp_path: Path, dtype: str, order: Any) -> None:
    file, som = tmp_path / "x.p", trained_som()
    som._weights = np.asarray(som._weights, dtype, order)
    for protocol in PROTOCOLS:
        file.write_bytes(pickle.dumps(som, protocol))
        assert np.array_equal(model.load_weights(file), som._weights)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (b"sklearn.preprocessing._data", b"sklearn.preprocessing.data"),  # scikit-learn before 0.22
        (b"numpy._core.", b"numpy.core."),  # numpy before 2
    ],
)
def test_pickles_of_other_versions(tmp_path: Path, new: bytes, old: bytes) -> None:
    file, scaler = tmp_path / "x.p", fitted_scaler()
    written = pickle.dumps(scaler, 2)
    assert new in written
    file.write_bytes(written.replace(new, old))
    assert np.array_equal(model.load_scaler(file).scale_, scaler.scale_)


PythonsPickler: Any = vars(pickle)["_Pickler"]


class Python2Pickler(PythonsPickler):
    """Writes bytes as the strings of Python 2."""

    dispatch: ClassVar[Any] = dict(PythonsPickler.dispatch)

    def save_text(self, text: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(text)) + text)

    dispatch[bytes] = save_text


def test_pickles_of_python_2(tmp_path: Path) -> None:
    file, scaler, written = tmp_path / "x.p", fitted_scaler(), BytesIO()
    Python2Pickler(written, 2).dump(scaler)
    file.write_bytes(written.getvalue())
    assert np.array_equal(model.load_scaler(file).min_, scaler.min_)


@pytest.mark.parametrize("kind", ["SOMClustering", "SOMClassifier", "SOMRegressor"])
def test_the_weights_of_a_susi_map(tmp_path: Path, kind: str) -> None:
    file, som = tmp_path / "x.p", susi_som(kind)
    som.scaler, som.generator = fitted_scaler(), np.random.RandomState(3)
    for protocol in PROTOCOLS:
        file.write_bytes(pickle.dumps(som, protocol))
        assert np.array_equal(model.load_susi_weights(file), som.unsuper_som_)
    with pytest.raises(UserError, match=f"holds a {kind}, not a MiniSom; have step 3 take its weights"):
        model.load_weights(file)
    file.write_bytes(pickle.dumps(trained_som()))
    with pytest.raises(UserError, match="holds a MiniSom, not a map of susi"):
        model.load_susi_weights(file)


def test_a_long_susi_map_is_read_up_to_its_weights(tmp_path: Path) -> None:
    """susi keeps the BMU of every training spectrum: millions of them on the paper's data."""
    file, som = tmp_path / "x.p", susi_som()
    som.bmus_ = [tuple(np.array(place)) for place in np.random.default_rng(0).integers(0, 3, (80_000, 2))]
    som.bmus_.append(Acts(os.system, f"touch {tmp_path / 'ran'}"))
    file.write_bytes(pickle.dumps(som, 3))
    assert np.array_equal(model.load_susi_weights(file), som.unsuper_som_)
    with pytest.raises(UserError, match="more than 1,000,000 steps"):
        model.load_weights(file)
    assert not (tmp_path / "ran").exists()


def test_reading_imports_nothing_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "susi.p").write_bytes(pickle.dumps(susi_som(), 2))
    (tmp_path / "scaler.p").write_bytes(pickle.dumps(fitted_scaler(), 2))
    (tmp_path / "som.p").write_bytes(pickle.dumps(trained_som(), 2))
    code = """
import sys
from pathlib import Path
from cloudsom.files import pickles
from cloudsom.som import model
folder = Path(sys.argv[1])
assert model.load_susi_weights(folder / "susi.p").shape == (4, 3, 13)
assert model.load_scaler(folder / "scaler.p").scale_.shape == (13,)
assert pickles.read(folder / "som.p").name == "minisom.MiniSom"
print([name for name in sys.modules if name.split(".")[0] in ("susi", "sklearn", "minisom")])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout == "[]\n", done.stderr


# --- exploits ---------------------------------------------------------------------------------------------------------


class Acts:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]

    def __call__(self) -> None:
        """Never called; pickle wants the first of the two to be callable."""


class Sets:
    """Pickles as a call, and what is set as its state."""

    def __init__(self, state: Any, *call: Any) -> None:
        self.state, self.call = state, call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:], self.state


def put(mark: Path) -> str:
    return f"open({str(mark)!r}, 'w').close()"


def reduced(module: str, name: str, *words: str) -> bytes:
    """A pickle of protocol 0 that calls a function with texts."""
    return f"c{module}\n{name}\n(".encode() + b"".join(b"V" + word.encode() + b"\n" for word in words) + b"tR."


#: Each makes the file `mark` when it is unpickled.
EXPLOITS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda mark: Acts(os.system, f"touch {mark}"),
    "eval": lambda mark: Acts(eval, put(mark)),
    "exec": lambda mark: Acts(exec, put(mark)),
    "subprocess.check_call": lambda mark: Acts(subprocess.check_call, ["touch", str(mark)]),
    "open": lambda mark: Acts(open, str(mark), "w"),
    "np.save": lambda mark: Acts(np.save, str(mark), np.zeros(1)),
    "a chain": lambda mark: Acts(Acts(getattr, Acts(__import__, "os"), "system"), f"touch {mark}"),
    "in a set": lambda mark: {Acts(eval, put(mark))},
    "as a state": lambda mark: Sets({"x": Acts(eval, put(mark))}, MiniSom, 1, 1, 1),
    "pickle.loads": lambda mark: Acts(pickle.loads, pickle.dumps(Acts(eval, put(mark)))),
    "method of an array": lambda mark: Acts(Acts(getattr, np.zeros(1), "tofile"), str(mark)),
}


def in_object_array(payload: Any) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = payload
    return array


def in_map(payload: Any) -> Any:
    som = trained_som()
    som._weights = payload
    return som


def after_weights(payload: Any) -> Any:
    som = trained_som()
    som.later = payload
    return som


def in_scaler(payload: Any) -> Any:
    scaler = fitted_scaler()
    scaler.scale_ = in_object_array(payload)
    return scaler


def in_susi(payload: Any) -> Any:
    som = susi_som()
    som.bmus_ = [payload]
    return som


@pytest.mark.parametrize(
    "wrap", [lambda p: p, lambda p: [p], in_object_array, in_map, after_weights, in_scaler, in_susi]
)
@pytest.mark.parametrize("name", EXPLOITS)
def test_exploits_are_refused_before_anything_runs(tmp_path: Path, name: str, wrap: Callable[[Any], Any]) -> None:
    mark = tmp_path / "ran"
    for protocol in PROTOCOLS:
        content = pickle.dumps(wrap(EXPLOITS[name](mark)), protocol)
        for read in READERS.values():
            assert " is refused; " in read_error(read, tmp_path / "x.p", content)
            assert not mark.exists()


@pytest.mark.parametrize("name", EXPLOITS)
def test_the_exploits_are_real(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "ran"
    content = pickle.dumps(EXPLOITS[name](mark))
    with suppress(TypeError, AttributeError):  # what comes after the deed
        pickle.loads(content)
    assert list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (reduced("os", "system", "touch x"), "os.system is refused"),
        (reduced("posix", "system", "touch x"), "posix.system is refused"),
        (reduced("builtins", "eval", "1"), "builtins.eval is refused"),
        (reduced("__builtin__", "eval", "1"), "__builtin__.eval is refused"),
        (reduced("subprocess", "Popen", "touch"), "subprocess.Popen is refused"),
        (reduced("numpy", "load", "x.npy"), "numpy.load is refused"),
        (
            reduced("numpy.testing._private.utils", "runstring", "1"),
            "numpy.testing._private.utils.runstring is refused",
        ),
        (reduced("operator", "attrgetter", "x"), "operator.attrgetter is refused"),
        (reduced("functools", "partial", "x"), "functools.partial is refused"),
        (reduced("minisom", "MiniSom.__init__", "x"), "minisom.MiniSom.__init__ is refused"),
        (reduced("susi2", "SOM", "x"), "susi2.SOM is refused"),
        (reduced("cloudsom.files.stores", "load_pickle", "x"), "cloudsom.files.stores.load_pickle is refused"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cminisom\nMiniSom\n(I0\ntVb\ntR.", "_reconstruct of anything but"),
        (b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.", "subprocess.Popen is refused"),
        (b"c__builtin__\ngetattr\n(cminisom\nMiniSom\nV__class__\ntR.", "getattr of anything but"),
        (b"c__builtin__\ngetattr\n(cminisom\nMiniSom\n(tRV__init__\ntR.", "getattr of anything but"),
        (b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR.", "numpy.dtype('O8') is refused"),
        (b"(S'touch x'\nios\nsystem\n.", "the instruction INST is refused"),
        (b"(cos\nsystem\nS'touch x'\no.", "os.system is refused"),
        (b"(cminisom\nMiniSom\nI1\no.", "the instruction OBJ is refused"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1 is refused"),
        (b"Pevil\n.", "the instruction PERSID is refused"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER is refused"),
        (b"c\x1b[2Jevil\nname\n.", "?[2Jevil.name is refused"),
        (b"c" + b"a" * 100_000 + b"\nname\n.", "aaa... is refused"),
    ],
)
def test_pickles_by_hand_are_refused_by_name(tmp_path: Path, content: bytes, named: str) -> None:
    for read in READERS.values():
        assert named in read_error(read, tmp_path / "x.p", content)


# --- damaged and hostile files ----------------------------------------------------------------------------------------


def samples() -> dict[str, tuple[Callable[[Path], Any], Any, bytes]]:
    """A real file of each kind: its reader, how to get at the numbers, its bytes."""
    return {
        "map": (model.load_weights, lambda weights: weights, pickle.dumps(MiniSom(2, 2, 13, random_seed=1), 4)),
        "scaler": (model.load_scaler, lambda scaler: scaler.scale_, pickle.dumps(fitted_scaler(), 4)),
        "susi map": (model.load_susi_weights, lambda weights: weights, pickle.dumps(susi_som(), 2)),
    }


@pytest.mark.parametrize(("kind", "step"), [("map", 1), ("scaler", 1), ("susi map", 11)])
def test_a_file_cut_anywhere_is_a_users_error(tmp_path: Path, kind: str, step: int) -> None:
    read, _, content = samples()[kind]
    for length in range(0, len(content), step):
        read_error(read, tmp_path / "x.p", content[:length])


@pytest.mark.parametrize("kind", READERS)
def test_a_file_changed_anywhere_is_numbers_or_a_users_error(tmp_path: Path, kind: str) -> None:
    read, numbers, content = samples()[kind]
    file, draw = tmp_path / "x.p", np.random.default_rng(0)
    results = 0
    for _ in range(1000):
        changed = bytearray(content)
        for place in draw.integers(0, len(content), draw.integers(1, 4)):
            changed[place] = draw.integers(0, 256)
        file.write_bytes(changed)
        try:
            found = numbers(read(file))
        except UserError:
            continue
        results += 1
        assert found.dtype == np.float64 and found.shape[-1] == 13 and np.isfinite(found).all()
    assert results


@pytest.mark.parametrize(
    "content", [b"", b".", b"\x80", b"not a pickle", b"I1\n", b"I1\n.", b"(lp0\n.", b"0.", b"t.", b"g7\n.", b"Nb."]
)
def test_other_files_are_a_users_error(tmp_path: Path, content: bytes) -> None:
    for read in READERS.values():
        read_error(read, tmp_path / "x.p", content)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"_weights": np.zeros((2, 2, 12))}, "trained on 12 bands"),
        ({"_weights": np.zeros((2, 13))}, "the shape (2, 13)"),
        ({"_weights": np.full((2, 2, 13), np.nan)}, "not all finite"),
        ({"_weights": np.zeros((2, 2, 13), complex)}, "does not hold real numbers"),
        ({"_weights": [[[0.0] * 13]]}, "an array of numbers is missing"),
    ],
)
def test_maps_of_other_weights_are_refused(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    som = MiniSom(2, 2, 13, random_seed=1)
    vars(som).update(values)
    assert said in read_error(model.load_weights, tmp_path / "x.p", pickle.dumps(som))


def test_scalers_of_other_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.p"
    assert "not readable" not in read_error(model.load_scaler, file, pickle.dumps(MinMaxScaler()))
    assert "fitted on 12 bands" in read_error(
        model.load_scaler, file, pickle.dumps(MinMaxScaler().fit(np.random.default_rng(0).random((5, 12))))
    )
    scaler = fitted_scaler()
    scaler.min_[3] = np.inf
    assert "not all finite" in read_error(model.load_scaler, file, pickle.dumps(scaler))


def test_a_huge_pickle_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.p"
    with open(file, "wb") as handle:
        handle.truncate(stores.MAX_PICKLE_BYTES + 1)
    for read in (model.load_weights, model.load_scaler):
        with pytest.raises(UserError, match="too large"):
            read(file)


def claims_shape(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """A MiniSom of whose weights a giant shape is claimed; once as the array's state, once as it is made."""
    numbers = b"".join(b"L%dL\n" % n for n in shape)
    text = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + numbers + b"tVb\ntR"
    dtype = b"(I1\n(" + numbers + b"tcnumpy\ndtype\n(Vf8\nI0\nI1\ntRI00\nC\x08" + b"\x00" * 8 + b"tb"
    som = b"ccopy_reg\n_reconstructor\n(cminisom\nMiniSom\nc__builtin__\nobject\nNtR"
    return som + b"(dV_weights\n" + text + dtype + b"sb."


def nested(begin: bytes, end: bytes, depth: int) -> bytes:
    return begin * depth + end * depth + b"."


#: Small files that ask for much memory or time.
BOMBS = {
    "giant bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "giant bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
    "giant text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "4 GB of bytes": b"\x80\x03B" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
    "giant number": b"\x80\x02\x8b" + struct.pack("<i", 0x7FFFFFFF) + b"x.",
    "giant frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "giant place in the memo": b"\x80\x02Nr" + struct.pack("<I", 0xFFFFFFFF) + b".",
    "giant place in the memo, as text": b"Np99999999999999999999\n.",
    "giant decimal number": b"L" + b"9" * 5_000_000 + b"L\n.",
    "giant shape": claims_shape((10**9, 13)),
    "shape beyond 64 bits": claims_shape((2**40, 2**40, 13)),
    "shape with a zero": claims_shape((0, 10**18, 13)),
    "negative shape": claims_shape((-1, -1, 1)),
    "array made directly": b"cnumpy\nndarray\n((I1000000000\nI1000\nttR.",
    "bytes made directly": b"cbuiltins\nbytearray\n(I100000000000\ntR.",
    "deep tuples": nested(b"(", b"t", 400_000),
    "deep lists": nested(b"(", b"l", 400_000),
    "tuples that double": b"\x80\x02)" + b"2\x86" * 60 + b".",
    "tuples that double, by memo": b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b".",
    "doubling tuples as a key": b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Ns.",
    "doubling tuples in a set": b"\x80\x04\x8f()q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"\x90.",
    "doubling tuples as a name": b"\x80\x04)q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"h\x00\x93.",
    "doubling tuples as a call": b"\x80\x04cnumpy\ndtype\n)q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"\x85R.",
    "keys of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a%sN" % (k * (2**61 - 1)).to_bytes(10, "little") for k in range(99_999))
    + b"u.",
    "bytes encoded again and again": b"\x80\x02X"
    + struct.pack("<I", 10**6)
    + b"a" * 10**6
    + b"q\x000("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 3000
    + b"t.",
    "endless lists": b"\x80\x02" + b"]" * 3_000_000 + b".",
}


def test_small_files_cannot_ask_for_much(tmp_path: Path) -> None:
    """In a process that may take 400 MB more than it has when it starts to read."""
    for i, content in enumerate(BOMBS.values()):
        (tmp_path / f"{i}.p").write_bytes(content)
    code = """
import resource, sys
from pathlib import Path
from cloudsom.som import model
from cloudsom.errors import UserError
folder = Path(sys.argv[1])
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 400_000_000, now + 400_000_000))
for i in range(len(list(folder.iterdir()))):
    try:
        model.load_weights(folder / f"{i}.p")
    except UserError as problem:
        print(i, problem)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT, timeout=300)
    said = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [int(i) for i, _ in said] == list(range(len(BOMBS))), done.stdout + done.stderr
    assert not any("MemoryError" in line for _, line in said)


def test_names_are_shown_short_and_plain() -> None:
    assert pickles.shown("a\nb\x1b\u202e\udcff") == "a?b?\\u202e\\udcff"
    assert len(pickles.shown("x" * 10**6)) == 83
