"""The BMU search beside faiss, BLAS and MiniSom: speed, memory, and how many BMUs are wrong.

    python -m benchmarks.bench_bmu
    python -m benchmarks.bench_bmu --spectra spectra.h5 ... --scenes scene.npz ... --rows 1000000

A 20 x 15 map is trained by the published law on the spectra; then the BMUs of the spectra, and of each
scene repeated to the number of rows, are searched by every method in turn. Each method runs in a process
of its own: peak memory is what it needs beside Python, its imports and the spectra. Times are medians of
five runs; CPU time (of all threads) tells what they would be on a machine that does nothing else. Slow
methods get fewer rows. "wrong" are rows of a million whose BMU is not ours; ours are checked against
float64 distances by numpy on 100,000 rows. `--spectra` takes HDF5 files of the spectra database,
`--scenes` npz files with `dn` (rows, columns, 13); without them spectra are drawn at random, smoothly.
At the end: how the time grows with the rows and with the map, beside faiss.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler

from benchmarks.samples import Cost, alone, measured, read_scene, reflectance
from cloudsom.som.bmu import BMUSearch, processors
from cloudsom.som.training import TrainingLaw, train_som

Spectra = NDArray[np.float32]
RUNS = 5
CHECKED_ROWS = 100_000


# --- the methods ------------------------------------------------------------------------------------------------------


def _faiss(x: Spectra, w: NDArray[np.float64], threads: int) -> NDArray[Any]:
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(w.shape[1])
    index.add(w.astype(np.float32))
    return index.search(x, 1)[1].ravel()


def _blas(x: Spectra, w: NDArray[np.float64]) -> NDArray[Any]:
    """|w|**2 - 2 x.w in float32, 256 rows at a time."""
    double, square = np.asfortranarray(-2 * w.T.astype(np.float32)), (w**2).sum(axis=1).astype(np.float32)
    return np.concatenate([(x[i : i + 256] @ double + square).argmin(axis=1) for i in range(0, len(x), 256)])


def _som(w: NDArray[np.float64]) -> Any:
    from minisom import MiniSom

    som = MiniSom(len(w), 1, w.shape[1])
    som._weights = w[:, np.newaxis]
    return som


def _minisom_matrix(x: Spectra, w: NDArray[np.float64]) -> NDArray[Any]:
    som = _som(w)
    return np.concatenate([som._distance_from_weights(x[i : i + 1000]).argmin(axis=1) for i in range(0, len(x), 1000)])


def _minisom_winner(x: Spectra, w: NDArray[np.float64]) -> NDArray[Any]:
    som = _som(w)
    return np.array([som.winner(row)[0] for row in x])


def _susi(x: Spectra, w: NDArray[np.float64]) -> NDArray[Any]:
    import susi

    som = susi.SOMClustering(n_rows=len(w), n_columns=1)
    return np.array([som.get_bmu(row, w[:, np.newaxis])[0] for row in x])


PROCESSORS = processors()


@dataclass(frozen=True)
class Method:
    run: Callable[[Spectra, NDArray[np.float64]], NDArray[Any]]
    rows: int | None = None  # how many it gets, if not all


METHODS = {
    "ours": Method(lambda x, w: BMUSearch(w)(x).index),
    "ours, 1 thread": Method(lambda x, w: BMUSearch(w)(x, threads=1).index),
    "ours, with distances": Method(lambda x, w: BMUSearch(w)(x, distance=True).index),
    "ours, with second BMUs": Method(lambda x, w: BMUSearch(w)(x, second=True).index),
    "faiss IndexFlatL2": Method(lambda x, w: _faiss(x, w, PROCESSORS)),
    "faiss, 1 thread": Method(lambda x, w: _faiss(x, w, 1)),
    "BLAS, 256 rows a time": Method(_blas),
    "MiniSom's matrix, 1000 rows": Method(_minisom_matrix, rows=200_000),
    "MiniSom.winner": Method(_minisom_winner, rows=10_000),
    "susi": Method(_susi, rows=5_000),
}


# --- measuring --------------------------------------------------------------------------------------------------------


class SearchResult(NamedTuple):
    rows: int
    cost: Cost
    bmus: NDArray[np.int32]


def measure(name: str, spectra: Path, weights: Path) -> SearchResult:
    """Run one method in this process, which runs nothing else."""
    method = METHODS[name]
    x, w = np.load(spectra)[: method.rows], np.load(weights)
    method.run(x[:5000], w)  # imports, compiled code, threads
    index, cost = measured(lambda: method.run(x, w), RUNS if method.rows is None else 1)
    return SearchResult(len(x), cost, index.astype(np.int32))


def in_its_own_process(name: str, spectra: Path, weights: Path) -> SearchResult | None:
    """`measure` there; None where the method's package is not installed, which is said."""
    if name.startswith("BLAS"):
        os.environ["OPENBLAS_NUM_THREADS"] = "1"  # more do not help matrices this thin
    try:
        return alone(measure, name, spectra, weights)
    except ModuleNotFoundError as problem:
        print(f"  {name:28} skipped: {problem.name} is not installed", flush=True)
        return None


def compare(title: str, spectra: Path, weights: Path) -> None:
    print(f"\n{title}\n  {'':28}M rows/s  x ours  CPU ns a row  peak MB  wrong a million", flush=True)
    ours: SearchResult | None = None
    for name in METHODS:
        result = in_its_own_process(name, spectra, weights)
        if result is None:
            continue
        ours = ours or result
        wrong = 1e6 * np.mean(result.bmus != ours.bmus[: result.rows])
        cost = result.cost
        speed, cpu = result.rows / cost.seconds, 1e9 * cost.cpu / result.rows
        slower = speed / (ours.rows / ours.cost.seconds)
        print(f"  {name:28}{speed / 1e6:8.2f} {slower:7.3f} {cpu:13.0f} {cost.peak / 1e6:8.0f} {wrong:11.1f}",
              flush=True)  # fmt: skip
    assert ours is not None
    x, w = np.load(spectra, mmap_mode="r"), np.load(weights)
    rows = np.random.default_rng(0).choice(len(x), min(CHECKED_ROWS, len(x)), replace=False)
    wrong = sum(
        int((np.linalg.norm(x[part][:, np.newaxis] - w, axis=-1).argmin(axis=1) != ours.bmus[part]).sum())
        for part in np.array_split(np.sort(rows), 100)
    )
    print(f"  ours against float64 distances by numpy: {wrong} of {len(rows):,} BMUs differ")


def growth(folder: Path, x: Spectra, row_numbers: Sequence[int], maps: Sequence[tuple[int, int]]) -> None:
    """Time by number of rows on a 20 x 15 map, and by map with the middle number of rows."""
    print(f"\nhow it grows\n  {'map':>8}{'rows':>12}{'ours s':>10}{'faiss s':>10}{'times faster':>14}", flush=True)
    middle = sorted(row_numbers)[len(row_numbers) // 2]
    for shape, n in [((20, 15), n) for n in row_numbers] + [(shape, middle) for shape in maps]:
        radius = max(2.0, max(shape) / 2)
        som = train_som(x, TrainingLaw(*shape, n_iter=200_000, radius_start=radius))
        np.save(folder / "weights.npy", som.get_weights().reshape(-1, x.shape[1]))
        np.save(folder / "spectra.npy", np.resize(x, (n, x.shape[1])))
        ours, faiss = (
            in_its_own_process(name, folder / "spectra.npy", folder / "weights.npy")
            for name in ("ours", "faiss IndexFlatL2")
        )
        assert ours is not None
        line = f"  {shape[0]:>4} x{shape[1]:>2}{n:>12,}{ours.cost.seconds:>10.3f}"
        if faiss:
            line += f"{faiss.cost.seconds:>10.3f}{faiss.cost.seconds / ours.cost.seconds:>14.1f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="spectra in each comparison")
    parser.add_argument("--spectra", type=Path, nargs="*", default=[], help="HDF5 files of the spectra database")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="npz files with `dn`")
    parser.add_argument("--growth", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000], help="rows")
    arguments = parser.parse_args()
    spectra = reflectance(arguments.spectra, arguments.rows)
    scaler = MinMaxScaler().fit(spectra)
    x = scaler.transform(spectra).astype(np.float32)
    weights = train_som(x, TrainingLaw()).get_weights().reshape(-1, x.shape[1])
    cases = {"training spectra": x, "training spectra, shuffled": np.random.default_rng(0).permutation(x)}
    cases |= {file.stem: scaler.transform(read_scene(file).spectra) for file in arguments.scenes}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "map.npy", weights)
        for title, values in cases.items():
            np.save(folder / "case.npy", np.resize(values, (arguments.rows, x.shape[1])).astype(np.float32))
            compare(f"{title}: {arguments.rows:,} rows, 20 x 15 neurons, {x.shape[1]} bands, {PROCESSORS} processors",
                    folder / "case.npy", folder / "map.npy")  # fmt: skip
        if arguments.growth:
            growth(folder, x, arguments.growth, [(10, 10), (30, 30), (60, 60)])


if __name__ == "__main__":
    main()
