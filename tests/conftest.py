"""What many tests need: running a script as a user does, made data, and the kit of real data where it is there."""

import inspect
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import h5py
import numpy as np
import pytest
from browser import Browser, chromium
from scripts import run_script

from cloudsom.bands import SAFE_BANDS

ROOT = Path(__file__).resolve().parents[1]
KIT = ROOT.parent / "shared" / "data"

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# --- which tests are quick --------------------------------------------------------------------------------------------

#: Modules whose functions and classes start a process, a server, a cluster or a browser.
STARTERS = {"subprocess", "multiprocessing", "concurrent.futures.process", "http.server", "socketserver", "distributed"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts something: tests that do themselves, or through a fixture or a helper."""
    known: dict[object, bool] = {}
    for item in items:
        assert isinstance(item, pytest.Function)
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        functions = [item.function, *(definition.func for chain in fixtures for definition in chain)]
        if any(starts_something(function, known) for function in functions):
            item.add_marker(pytest.mark.slow)


def starts_something(thing: object, known: dict[object, bool]) -> bool:
    """Whether a function or class of the tests uses one of `STARTERS`, or another one of the tests that does."""
    if inspect.ismodule(thing):
        return thing.__name__ in STARTERS
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return False
    if thing in known:
        return known[thing]
    known[thing] = thing.__module__ in STARTERS  # until it is known: functions may call each other in a circle
    if inspect.isclass(thing):
        parts: list[object] = [*thing.__bases__, *vars(thing).values()]
    else:
        file = Path(thing.__code__.co_filename)
        ours = file.is_relative_to(ROOT / "tests") or file.is_relative_to(ROOT / "campaigns")
        parts = [thing.__globals__.get(name) for name in names_in(thing.__code__)] if ours else []
    known[thing] = known[thing] or any(starts_something(part, known) for part in parts)
    return known[thing]


def names_in(code: CodeType) -> set[str]:
    """The global names that some code and the functions within it use."""
    inner = [names_in(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


# --- a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if not program:
        pytest.skip("no chromium runs here (apt-get install chromium); the pages are not tried in a browser")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


# --- running scripts --------------------------------------------------------------------------------------------------


@pytest.fixture
def ok() -> Callable[..., str]:
    """Run a script that must succeed; its stdout."""

    def run(script: str, *words: object) -> str:
        done = run_script(script, *words)
        assert done.returncode == 0, f"{script} {words}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def refused() -> Callable[..., str]:
    """Run a script that must end with exit status 1 or 2 and one line on stderr, no traceback; that line."""

    def run(script: str, *words: object) -> str:
        done = run_script(script, *words)
        assert done.returncode in (1, 2), f"{script} {words}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith(f"{Path(script).name}: error: "), done.stderr
        return line

    return run


@pytest.fixture
def kit() -> Path:
    """The folder of real sample data that may lie beside the checkout; skips where it does not."""
    if not KIT.is_dir():
        pytest.skip(f"the kit of real sample data is not there ({KIT.name} beside the checkout)")
    return KIT


def make_spectra(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n made spectra (n, 13) float32 on the grid of DN/10000, and their labels: six classes of other brightness."""
    draw = np.random.default_rng(seed)
    labels = draw.choice([10, 20, 30, 40, 50, 60], n)
    brightness = np.array([0.2, 0.05, 0.02, 0.35, 0.7, 0.9])[labels // 10 - 1]
    shape = np.where((labels == 60)[:, None], np.linspace(1.0, 0.2, 13), np.linspace(1.0, 0.8, 13))
    spectra = brightness[:, None] * shape * draw.normal(1, 0.05, (n, 13))
    return np.round(np.clip(spectra, 0.0001, None), 4).astype(np.float32), labels


def write_h5(path: Path, spectra: np.ndarray, labels: np.ndarray, /, **changes: object) -> Path:
    """A file in the spectra database's schema, class ids unsorted as in 2016; `changes` replace datasets."""
    datasets: dict[str, object] = {
        "spectra": spectra,
        "classes": labels.astype(np.int32),
        "class_ids": np.array([10, 20, 60, 40, 50, 30], np.int32),
        "class_names": np.array([b"Clear", b"Water", b"Snow", b"Cirrus", b"Cloud", b"Shadow"]),
        "band": np.array([b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"8a", b"9", b"10", b"11", b"12"]),
    }
    with h5py.File(path, "w") as handle:
        for name, value in (datasets | changes).items():
            if value is not None:
                handle[name] = value
    return path


def write_scene(path: Path, dn: np.ndarray, names: tuple[str, ...] = SAFE_BANDS, offset: str = "0") -> Path:
    """A 13-band GeoTIFF as step 7 writes it, from dn (height, width, bands) uint16."""
    from cloudsom.images.rasters import Grid, write_layer

    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(dn.shape[1], dn.shape[0], (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), utm31())
    tags = {"QUANTIFICATION_VALUE": "10000", "RADIO_ADD_OFFSET": offset}
    write_layer(path, dn, grid, nodata=0, descriptions=names, tags=tags)
    return path


def write_reference(data_dir: Path, name: str, codes: np.ndarray) -> Path:
    """A reference class map (height, width) uint8 in the published layout."""
    from cloudsom.images.rasters import Grid, write_layer

    path = data_dir / "reference" / name / "Classification" / "classification_map.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(codes.shape[1], codes.shape[0], (600000.0, 60.0, 0.0, 4900020.0, 0.0, -60.0), utm31())
    write_layer(path, codes.astype(np.uint8), grid, nodata=0)
    return path


def write_vectors(path: Path, driver: str, shapes: list[str], system: str | None = None, product: str = "") -> Path:
    """A vector file of shapes (WKT in the grid's metres), brought to `system` (EPSG code or none at all)."""
    from osgeo import ogr, osr

    utm = osr.SpatialReference()
    utm.ImportFromWkt(utm31())
    target = None
    if system:
        target = osr.SpatialReference()
        target.ImportFromEPSG(int(system))
    for reference in (utm, target):
        if reference:
            reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    source = ogr.GetDriverByName(driver).CreateDataSource(str(path))
    layer = source.CreateLayer("sand", target)
    if product:
        layer.CreateField(ogr.FieldDefn("product", ogr.OFTString))
    for wkt in shapes:
        geometry = ogr.CreateGeometryFromWkt(wkt)
        if target:
            geometry.Transform(osr.CoordinateTransformation(utm, target))
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometryDirectly(geometry)
        if product:
            feature.SetField("product", product)
        layer.CreateFeature(feature)
    source = None
    return path


def square(left: float, top: float, right: float, bottom: float) -> str:
    """A rectangle in pixels of GRID as WKT in metres."""
    x, y = [600000 + 60 * v for v in (left, right)], [4900020 - 60 * v for v in (top, bottom)]
    return f"POLYGON (({x[0]} {y[0]}, {x[1]} {y[0]}, {x[1]} {y[1]}, {x[0]} {y[1]}, {x[0]} {y[0]}))"


def mask_scenes(data_dir: Path) -> None:
    """Steps 8 and 9 on the images of a data folder that has a trained map."""
    for script in ("convert_image_to_csv.py", "create_cloudmasks.py"):
        done = run_script(script, "--DATA_DIR", data_dir, "--WORKERS", 1)
        assert done.returncode == 0, done.stderr


def utm31() -> str:
    from osgeo import osr

    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32631)
    return str(reference.ExportToWkt())


@pytest.fixture
def spectra_h5(tmp_path: Path) -> Path:
    """A data folder with one small spectra file, spectra.h5."""
    return write_h5(tmp_path / "spectra.h5", *make_spectra(600))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which steps 1 to 5 have run on made spectra with a small map. Tests copy what they change."""
    folder = tmp_path_factory.mktemp("trained")
    write_h5(folder / "spectra.h5", *make_spectra(3000))
    for script, *words in (
        ("read_h5file.py", "--H5_FILES", "spectra.h5", "--SPECTRA_CSVS", "spectra.csv"),
        ("data_preprocessing.py", "--SPECTRA_CSVS", "spectra.csv"),
        ("SOM_training.py", "--N_ROWS", 6, "--N_COLUMNS", 5, "--N_ITER", 3000),
        ("BMUs_detection.py",),
        ("labeling.py",),
    ):
        done = run_script(script, "--DATA_DIR", folder, *words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for a server on loopback, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*words.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key
