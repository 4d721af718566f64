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
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.samples import Cost, alone, measured
from cloudsom.bands import BANDS, CLASSES, N_BANDS
from cloudsom.processors import share
from cloudsom.tables import csv_tables

TILE_ROWS = 1830 * 1830  # pixels of one Sentinel-2 tile at 60 m
SECONDS_A_CASE = 5.0  # no further run is started after this
COLUMNS = [*BANDS, "label"]


class Values(NamedTuple):
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


# --- the cases --------------------------------------------------------------------------------------------------------

#: Writes values to a file, or reads it: a reader returns the matrix, (spectra, labels) or the number of rows.
Run = Callable[[Path, Values], Any]


def _frame(matrix: NDArray[Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(matrix, columns=list(BANDS))


def _arrow(matrix: NDArray[Any], labels: NDArray[Any] | None = None) -> Any:
    import pyarrow as pa

    columns = dict(zip(BANDS, matrix.T, strict=True))
    return pa.table(columns if labels is None else columns | {"label": labels})


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


def _write_pixels(path: Path, v: Values) -> None:
    csv_tables.write_pixels(path, [v.reflectance])


def _count_pixels(path: Path, v: Values) -> int:
    return sum(map(len, csv_tables.read_pixels(path)))


def _on_one_thread(run: Run) -> Run:
    def on_one(path: Path, values: Values) -> Any:
        with share(1):
            return run(path, values)

    return on_one


CASES: dict[tuple[str, str], dict[str, Run]] = {
    ("write", "pixels"): {
        "np.savetxt": _savetxt_pixels,
        "ours": _write_pixels,
        "ours, 1 thread": _on_one_thread(_write_pixels),
        "pandas": lambda p, v: _frame(v.reflectance).to_csv(p, index=False, float_format="%10.4f"),
        "pyarrow (shortest)": lambda p, v: _arrow_write(p, _arrow(v.reflectance)),
        "polars (4 decimals)": lambda p, v: _polars_write(p, _arrow(v.reflectance), 4),
    },
    ("read", "pixels"): {
        "np.loadtxt": lambda p, v: np.loadtxt(p, np.float32, delimiter=","),
        "ours, in blocks": _count_pixels,
        "ours, 1 thread": _on_one_thread(_count_pixels),
        "pandas, float32": lambda p, v: _pandas_read(p, BANDS),
        "pyarrow": lambda p, v: _arrow_read(p, BANDS),
        "polars, schema": lambda p, v: _polars_read(p, BANDS),
    },
    ("write", "spectra"): {
        "ours": lambda p, v: csv_tables.write_spectra(p, [(v.spectra, v.labels)]),
        "pandas": lambda p, v: _frame(v.spectra).assign(label=v.labels).to_csv(p, index=False),
        "pyarrow": lambda p, v: _arrow_write(p, _arrow(v.spectra, v.labels)),
        "polars": lambda p, v: _polars_write(p, _arrow(v.spectra, v.labels), None),
    },
    ("read", "spectra"): {
        "ours, whole": lambda p, v: csv_tables.read_all_spectra(p),
        "ours, in blocks": lambda p, v: sum(len(b) for b, _ in csv_tables.read_spectra(p)),
        "pandas, float32": lambda p, v: _pandas_read(p, COLUMNS),
        "pyarrow": lambda p, v: _arrow_read(p, COLUMNS),
        "polars, schema": lambda p, v: _polars_read(p, COLUMNS),
    },
}


# --- measuring --------------------------------------------------------------------------------------------------------


class CaseResult(NamedTuple):
    """What one case took, the bytes of the table, and whether the answer is right."""

    cost: Cost
    size: int
    answer: str


def measure(action: str, table: str, name: str, path: Path, rows: int, scenes: Sequence[Path]) -> CaseResult:
    """Run one case in this process, which runs nothing else."""
    run, small = CASES[action, table][name], make_values(100, scenes)
    warm = path.with_suffix(".warm")
    csv_tables.write_pixels(warm, [small.reflectance])  # compile, import
    if table == "spectra":
        csv_tables.write_spectra(warm, [small[1:]])
    run(warm, small)
    values = make_values(rows, scenes)
    writes = action == "write"
    prepare = (lambda: path.unlink(missing_ok=True)) if writes else None
    answer, cost = measured(lambda: run(path, values), 5, SECONDS_A_CASE, prepare)
    check = check_written(table, name, path, values) if writes else check_read(answer, values)
    return CaseResult(cost, path.stat().st_size, check)


def check_written(table: str, name: str, path: Path, values: Values) -> str:
    """Whether a pixel table is the one np.savetxt writes, or holds the same values."""
    if table == "pixels":
        reference = path.with_name("savetxt.sha256")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if name == "np.savetxt":
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


def bench(rows: int, scenes: Sequence[Path], folder: Path) -> None:
    """Print one table: every case with this many rows."""
    paths = {table: folder / f"{table}.csv" for table in ("pixels", "spectra")}
    values = make_values(rows, scenes)
    csv_tables.write_pixels(paths["pixels"], [values.reflectance])
    csv_tables.write_spectra(paths["spectra"], [(values.spectra, values.labels)])
    del values
    for (action, table), cases in CASES.items():
        print(f"\n{action} {table}, {rows:,} rows", flush=True)
        results: dict[str, CaseResult] = {}
        for name in cases:
            path = folder / "written.csv" if action == "write" else paths[table]
            try:
                results[name] = alone(measure, action, table, name, path, rows, scenes)
            except ModuleNotFoundError as problem:
                print(f"  {name:22} skipped: {problem.name} is not installed")
            except Exception as error:  # another library's: say so and go on
                print(f"  {name:22} failed: {str(error).splitlines()[0]}")
        print_results(results)


def print_results(results: dict[str, CaseResult]) -> None:
    """One line a case: seconds, times ours, CPU seconds, MB of file a second, memory, answer."""
    ours = next(result.cost.seconds for name, result in results.items() if name.startswith("ours"))
    print(f"  {'':20}        s    best  x ours   CPU s   MB/s  peak MB  answer")
    for name, (cost, size, answer) in results.items():
        times = f"{cost.seconds:9.3f} {cost.best:7.3f} {cost.seconds / ours:7.1f} {cost.cpu:7.2f}"
        print(f"  {name:20}{times} {size / cost.seconds / 1e6:6.0f} {cost.peak / 1e6:8.0f}  {answer}")


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
