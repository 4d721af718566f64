"""Training beside MiniSom and susi: time a step, the same weights or not, memory.

    python -m benchmarks.bench_training
    python -m benchmarks.bench_training --spectra spectra.h5 ... --steps 1000000 --peer_steps 20000

Maps are trained by the published law, each library in a process of its own. Ours runs all the steps, the
others `--peer_steps`, as their time a step does not change; for the comparison of the weights ours then
runs as many. Times are medians of three runs; "memory" is what training needs beside Python, its imports
and the spectra. `--spectra` takes HDF5 files of the spectra database; without, spectra are drawn at random.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import MinMaxScaler

from benchmarks.samples import Cost, alone, measured, reflectance
from cloudsom.som.training import TrainingLaw, train_som

Weights = NDArray[np.float64]
RUNS = 3
MAPS = ((10, 10), (20, 15), (30, 30), (60, 60))


def _minisom(x: NDArray[np.float64], law: TrainingLaw) -> Weights:
    """MiniSom itself on rows drawn beforehand."""
    from minisom import MiniSom

    draw = np.random.RandomState(law.seed)
    decay, _ = law.decays()
    som = MiniSom(law.n_rows, law.n_columns, x.shape[1], law.radius_start, law.learning_rate_start, decay,
                  sigma_decay_function="linear_decay_to_one")  # fmt: skip
    som._weights = draw.rand(law.n_rows, law.n_columns, x.shape[1])
    som.train(x[draw.randint(0, len(x), law.n_iter)], law.n_iter)
    return som.get_weights()


def _susi(x: NDArray[np.float64], law: TrainingLaw) -> Weights:
    """susi without its search for the BMUs of all spectra after the training."""
    import susi

    som = susi.SOMClustering(law.n_rows, law.n_columns, n_iter_unsupervised=law.n_iter, random_state=law.seed,
                              n_jobs=1)  # fmt: skip
    som._set_bmus = lambda X: None
    return som.fit(x).unsuper_som_


TRAINERS: dict[str, Callable[[NDArray[np.float64], TrainingLaw], Weights]] = {
    "ours": lambda x, law: train_som(x, law).get_weights(),
    "minisom": _minisom,
    "susi": _susi,
}


def measure(name: str, spectra: Path, law: TrainingLaw) -> tuple[Weights, Cost]:
    """Train in this process, which does nothing else."""
    warnings.simplefilter("ignore")  # of radii larger than a small map
    x, train = np.load(spectra), TRAINERS[name]
    train(x[:100], TrainingLaw(n_iter=10))  # imports, compiled code
    return measured(lambda: train(x, law), RUNS)


def compare(spectra: Path, shape: tuple[int, int], steps: int, peer_steps: int) -> None:
    """One line a library for one map."""

    def run(name: str, n: int) -> tuple[Weights, float, float]:
        """The weights, microseconds a step, and MB."""
        law = TrainingLaw(*shape, n_iter=n, radius_start=max(shape) / 2)
        weights, cost = alone(measure, name, spectra, law)
        return weights, 1e6 * cost.seconds / n, cost.peak / 1e6

    (_, ours, megabytes), (expected, _, _) = run("ours", steps), run("ours", peer_steps)
    print(f"\n{shape[0]} x {shape[1]} neurons{'us a step':>22}{'x ours':>9}{'memory MB':>11}   weights", flush=True)
    print(f"  ours, {steps:>10,} steps {ours:13.2f}{1:9.1f}{megabytes:11.0f}", flush=True)
    for name in ("minisom", "susi"):
        try:
            weights, theirs, megabytes = run(name, peer_steps)
        except ModuleNotFoundError:
            print(f"  {name}: skipped, it is not installed")
            continue
        apart = np.abs(weights - expected).max()
        same = "the same bits" if (weights == expected).all() else f"at most {apart:.0e} apart"
        print(f"  {name:7}{peer_steps:>9,} steps {theirs:13.2f}{theirs / ours:9.1f}{megabytes:11.0f}   {same}",
              flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--spectra", type=Path, nargs="*", default=[], help="HDF5 files of the spectra database")
    parser.add_argument("--rows", type=int, default=1_000_000, help="spectra drawn, without files")
    parser.add_argument("--steps", type=int, default=1_000_000, help="training steps of ours")
    parser.add_argument("--peer_steps", type=int, default=20_000, help="training steps of the others")
    arguments = parser.parse_args()
    x = MinMaxScaler().fit_transform(reflectance(arguments.spectra, arguments.rows))
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "spectra.npy", x)
        print(f"{len(x):,} spectra of {x.shape[1]} bands")
        for shape in MAPS:
            compare(Path(folder) / "spectra.npy", shape, arguments.steps, arguments.peer_steps)


if __name__ == "__main__":
    main()
