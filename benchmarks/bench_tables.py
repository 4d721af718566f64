"""How long the CSV tables take to write and to read, beside numpy, pandas, pyarrow and polars.

    python -m benchmarks.bench_tables
    python -m benchmarks.bench_tables --rows 100000 1000000 10000000 --scenes scene.npz ...

Each case runs in a process of its own, so that peak memory is its own: what it needs beside Python,
its imports and the values to be written. Times are medians of up to five runs (one of the slow
ones) with the file in the page cache. Answers are checked: a written pixel table against the bytes
of np.savetxt, or else by reading it back; a table that was read against the values that were
written, as float32. `--scenes` takes npz files with an array `dn` (rows, columns, 13) of real
digital numbers, repeated to the number of rows; without it they are drawn at random, smoothly.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLASSES, N_BANDS
from cloudsom.processors import share
from cloudsom.tables import csv_tables

TILE_ROWS = 1830 * 1830  # pixels of one Sentinel-2 tile at 60 m
SECONDS_A_CASE = 5.0  # no further run is started after this
COLUMNS = [*BANDS, "label"]


class Values(NamedTuple):
    """What the tables hold."""

    reflectance: NDArray[np.float64]  # (rows, 13)
    spectra: NDArray[np.float32]  # (rows, 13), the same as float32
    labels: NDArray[np.int64]  # (rows,)


def make_values(rows: int, scenes: Sequence[Path]) -> Values:
    """Reflectance DN / 10000 of the scenes, repeated; without scenes, random with a slow trend."""
    if scenes:
        dn = np.concatenate([np.load(scene)["dn"].reshape(-1, N_BANDS) for scene in scenes])
    else:
        rng = np.random.default_rng(0)
        trend = 3000 + 2500 * np.sin(np.arange(100_000) / 3000)
        dn = np.clip(trend[:, None] + rng.normal(0, 600, (100_000, N_BANDS)), 1, 65_535)
    reflectance = np.resize(np.rint(dn), (rows, N_BANDS)) / 10_000
    return Values(reflectance, reflectance.astype(np.float32), np.resize(np.array(list(CLASSES)), rows))


# --- the cases ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One way of writing or reading one kind of table."""

    table: str  # pixels or spectra
    action: str  # write or read
    name: str
    run: Callable[[Path, Values], Any]  # a reader returns the matrix, (spectra, labels) or the rows
    needs: str = "numpy"


def _frame(v: Values) -> Any:
    import pandas as pd

    return pd.DataFrame(v.spectra, columns=list(BANDS)).assign(label=v.labels)


def _arrow(matrix: NDArray[Any], labels: NDArray[Any] | None = None) -> Any:
    import pyarrow as pa

    columns = dict(zip(BANDS, matrix.T, strict=True))
    return pa.table(columns if labels is None else columns | {"label": labels})


def _pandas_pixels(path: Path, v: Values) -> None:
    import pandas as pd

    frame = pd.DataFrame(v.reflectance, columns=list(BANDS))
    frame.to_csv(path, index=False, float_format="%10.4f")


def _arrow_write(path: Path, table: Any) -> None:
    from pyarrow import csv

    csv.write_csv(table, path, csv.WriteOptions(quoting_style="none"))


def _polars_write(path: Path, table: Any, decimals: int | None) -> None:
    import polars as pl

    pl.DataFrame(pl.from_arrow(table)).write_csv(path, float_precision=decimals)


def _pandas_read(path: Path, columns: Sequence[str]) -> NDArray[Any]:
    import pandas as pd

    return pd.read_csv(path, header=0, names=list(columns), dtype=np.float32).to_numpy()


def _arrow_read(path: Path, columns: Sequence[str]) -> NDArray[Any]:
    import pyarrow as pa
    from pyarrow import csv

    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=list(columns), skip_rows=1),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.float32())),
    )
    return np.column_stack([column.to_numpy() for column in table.columns])


def _polars_read(path: Path, columns: Sequence[str]) -> NDArray[Any]:
    import polars as pl

    schema = dict.fromkeys(columns, pl.Float32)
    return pl.read_csv(path, has_header=False, skip_rows=1, schema=schema).to_numpy()


def _savetxt_pixels(path: Path, v: Values) -> None:
    header = csv_tables.PIXEL_HEADER.removeprefix("# ")
    np.savetxt(path, v.reflectance, fmt="%10.4f", delimiter=",", header=header)


def _alone(run: Callable[[Path, Values], Any]) -> Callable[[Path, Values], Any]:
    """The same on one thread."""

    def on_one_thread(path: Path, values: Values) -> Any:
        with share(1):
            return run(path, values)

    return on_one_thread


CASES = [
    Case("pixels", "write", "np.savetxt", _savetxt_pixels),
    Case("pixels", "write", "ours", lambda p, v: csv_tables.write_pixels(p, [v.reflectance])),
    Case("pixels", "write", "ours, 1 thread", _alone(lambda p, v: csv_tables.write_pixels(p, [v.reflectance]))),
    Case("pixels", "write", "pandas", _pandas_pixels, "pandas"),
    Case(
        "pixels",
        "write",
        "pyarrow (shortest)",
        lambda p, v: _arrow_write(p, _arrow(v.reflectance)),
        "pyarrow",
    ),
    Case(
        "pixels",
        "write",
        "polars (4 decimals)",
        lambda p, v: _polars_write(p, _arrow(v.reflectance), 4),
        "polars",
    ),
    Case("pixels", "read", "np.loadtxt", lambda p, v: np.loadtxt(p, np.float32, delimiter=",")),
    Case("pixels", "read", "ours, in blocks", lambda p, v: sum(map(len, csv_tables.read_pixels(p)))),
    Case("pixels", "read", "ours, 1 thread", _alone(lambda p, v: sum(map(len, csv_tables.read_pixels(p))))),
    Case("pixels", "read", "pandas, float32", lambda p, v: _pandas_read(p, BANDS), "pandas"),
    Case("pixels", "read", "pyarrow", lambda p, v: _arrow_read(p, BANDS), "pyarrow"),
    Case("pixels", "read", "polars, schema", lambda p, v: _polars_read(p, BANDS), "polars"),
    Case("spectra", "write", "ours", lambda p, v: csv_tables.write_spectra(p, [(v.spectra, v.labels)])),
    Case("spectra", "write", "pandas", lambda p, v: _frame(v).to_csv(p, index=False), "pandas"),
    Case(
        "spectra",
        "write",
        "pyarrow",
        lambda p, v: _arrow_write(p, _arrow(v.spectra, v.labels)),
        "pyarrow",
    ),
    Case(
        "spectra",
        "write",
        "polars",
        lambda p, v: _polars_write(p, _arrow(v.spectra, v.labels), None),
        "polars",
    ),
    Case("spectra", "read", "ours, whole", lambda p, v: csv_tables.read_all_spectra(p)),
    Case(
        "spectra",
        "read",
        "ours, in blocks",
        lambda p, v: sum(len(b) for b, _ in csv_tables.read_spectra(p)),
    ),
    Case("spectra", "read", "pandas, float32", lambda p, v: _pandas_read(p, COLUMNS), "pandas"),
    Case("spectra", "read", "pyarrow", lambda p, v: _arrow_read(p, COLUMNS), "pyarrow"),
    Case("spectra", "read", "polars, schema", lambda p, v: _polars_read(p, COLUMNS), "polars"),
]


# --- measuring ----------------------------------------------------------------------------------


class Result(NamedTuple):
    """What one case took, and whether its answer is right."""

    median: float  # seconds
    best: float
    cpu: float  # median CPU seconds, of all threads
    peak: float  # bytes beyond what the process had before
    size: int  # bytes of the table
    answer: str


def measure(number: int, path: Path, rows: int, scenes: Sequence[Path]) -> Result:
    """Run case `number` in this process, which runs nothing else."""
    case = CASES[number]
    values = make_values(rows, scenes)
    small = make_values(100, scenes)
    warm = path.with_suffix(".warm")
    csv_tables.write_pixels(warm, [small.reflectance])  # compile, import
    if case.table == "spectra":
        csv_tables.write_spectra(warm, [small[1:]])
    case.run(warm, small)
    seconds: list[float] = []
    cpu: list[float] = []
    before, peak = _memory("VmRSS"), 0.0
    while not seconds or (len(seconds) < 5 and sum(seconds) < SECONDS_A_CASE):
        if case.action == "write":
            path.unlink(missing_ok=True)
        answer = None
        _reset_peak()
        start, start_cpu = time.perf_counter(), time.process_time()
        answer = case.run(path, values)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        peak = max(peak, _memory("VmHWM") - before)
    check = check_written(case, path, values) if case.action == "write" else check_read(answer, values)
    median = statistics.median
    return Result(median(seconds), min(seconds), median(cpu), peak, path.stat().st_size, check)


def check_written(case: Case, path: Path, values: Values) -> str:
    """Whether a pixel table is the one np.savetxt writes, or holds the same values."""
    if case.table == "pixels":
        reference = path.with_name("savetxt.sha256")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if case.name == "np.savetxt":
            reference.write_text(digest)
        if reference.read_text() == digest:
            return "the bytes of savetxt"
        return check_read(np.concatenate([*csv_tables.read_pixels(path)]), values)
    return check_read(csv_tables.read_all_spectra(path), values)


def check_read(answer: Any, values: Values) -> str:
    """Whether what was read is what was written, as float32."""
    if isinstance(answer, int):
        return "all rows" if answer == len(values.labels) else f"{answer:,} rows"
    matrix, labels = answer if isinstance(answer, tuple) else (answer, None)
    if matrix.shape[1] > N_BANDS:
        matrix, labels = matrix[:, :N_BANDS], matrix[:, N_BANDS]
    wrong = int((matrix != values.spectra).sum())
    if labels is not None:
        wrong += int((labels != values.labels).sum())
    return f"{wrong:,} values differ" if wrong else "every value"


def _memory(what: str) -> float:
    """VmRSS or VmHWM (its peak) of this process in bytes; NaN where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(what))


def _reset_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def bench(rows: int, scenes: Sequence[Path], folder: Path) -> None:
    """Print one table: every case with this many rows."""
    paths = {table: folder / f"{table}.csv" for table in ("pixels", "spectra")}
    values = make_values(rows, scenes)
    csv_tables.write_pixels(paths["pixels"], [values.reflectance])
    csv_tables.write_spectra(paths["spectra"], [(values.spectra, values.labels)])
    del values
    spawn = multiprocessing.get_context("spawn")
    for group in dict.fromkeys((case.table, case.action) for case in CASES):
        print(f"\n{group[1]} {group[0]}, {rows:,} rows", flush=True)
        results: dict[str, Result] = {}
        for number, case in enumerate(CASES):
            if (case.table, case.action) != group:
                continue
            if importlib.util.find_spec(case.needs) is None:
                print(f"  {case.name:22} skipped: {case.needs} is not installed")
                continue
            path = folder / "written.csv" if case.action == "write" else paths[case.table]
            with spawn.Pool(1) as pool:
                try:
                    results[case.name] = pool.apply(measure, (number, path, rows, scenes))
                except Exception as error:  # another library's: say so and go on
                    print(f"  {case.name:22} failed: {str(error).splitlines()[0]}")
        print_results(results)


def print_results(results: dict[str, Result]) -> None:
    """One line a case: seconds, times ours, CPU seconds, MB of file a second, memory, answer."""
    ours = next(result.median for name, result in results.items() if name.startswith("ours"))
    print(f"  {'':20}        s    best  x ours   CPU s   MB/s  peak MB  answer")
    for name, r in results.items():
        times = f"{r.median:9.3f} {r.best:7.3f} {r.median / ours:7.1f} {r.cpu:7.2f}"
        print(f"  {name:20}{times} {r.size / r.median / 1e6:6.0f} {r.peak / 1e6:8.0f}  {r.answer}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, TILE_ROWS], help="table lengths")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="npz files with `dn`")
    arguments = parser.parse_args()
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            bench(rows, arguments.scenes, Path(folder))


if __name__ == "__main__":
    main()
