"""What the benchmarks measure with: spectra and labelled scenes, time and memory, processes that do nothing else."""

from __future__ import annotations

import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import CLOUD_CLASSES, N_BANDS

KIT = Path(__file__).resolve().parents[2] / "shared" / "data"

Result = TypeVar("Result")


# --- spectra and scenes -----------------------------------------------------------------------------------------------


def drawn_reflectance(rows: int) -> NDArray[np.float64]:
    """Random spectra that change slowly from row to row, in four directions, with noise."""
    random = np.random.default_rng(0)
    mixture = random.normal(size=(4, N_BANDS)) * [[3], [1], [0.8], [0.5]]
    drift = np.cumsum(random.normal(0, 0.1, (rows, 4)), axis=0)
    return 0.2 + 0.1 * np.sin(drift) @ mixture + random.normal(0, 0.01, (rows, N_BANDS))


def reflectance(files: Sequence[Path], rows: int) -> NDArray[np.float64]:
    """Spectra (n, 13) of HDF5 files in their order, or without files `rows` drawn ones."""
    if not files:
        return drawn_reflectance(rows)
    import h5py

    parts = []
    for path in files:
        with h5py.File(path) as file:
            parts.append(file["spectra"][:])
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True)
class LabelledScene:
    """A labelled scene, row by row: reflectance (n, 13), labels (n,) 10..60 (0 unknown), what peers call cloud."""

    name: str
    place: str
    shape: tuple[int, int]
    spectra: NDArray[np.float64]
    labels: NDArray[np.integer]
    peers: dict[str, NDArray[np.bool_]]

    @property
    def cloud(self) -> NDArray[np.bool_]:
        return np.isin(self.labels, CLOUD_CLASSES)

    @property
    def clear(self) -> NDArray[np.bool_]:
        return (self.labels > 0) & ~self.cloud


def read_scene(file: Path) -> LabelledScene:
    """A scene of the kit: npz with `dn` (rows, columns, 13; reflectance x 10000) and `labels`, else all of it land."""
    arrays = np.load(file)
    name = file.stem.removeprefix("scene_")
    words = re.match(r"sen12mscr_(ROIs\d+_[a-z]+?)_(?:s2_)?(?:cloudy_)?(\d+)_p", name)
    place = f"{words[1]}_{words[2]}" if words else "rome" if "rome" in name else name.split("_")[0]
    peers = {peer: arrays[peer].ravel() == 1 for peer in ("s2cloudless", "ukis") if peer in arrays}
    dn = arrays["dn"]
    rows, columns, _ = dn.shape
    labels = arrays["labels"] if "labels" in arrays else np.full((rows, columns), 10, np.uint8)
    return LabelledScene(name, place, (rows, columns), dn.reshape(-1, N_BANDS) / 10_000, labels.ravel(), peers)


# --- time and memory --------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What something took in this process: seconds (median, best), CPU seconds of all threads (median), bytes more."""

    seconds: float
    best: float
    cpu: float
    peak: float


def measured(
    run: Callable[[], Result], runs: int, enough: float = math.inf, prepare: Callable[[], object] | None = None
) -> tuple[Result, Cost]:
    """Call a function `runs` times, not again after `enough` seconds; its last result.

    `prepare` is called before each run, and not measured.
    """
    before, peak, seconds, cpu = memory("VmRSS"), 0.0, list[float](), list[float]()
    while not seconds or (len(seconds) < runs and sum(seconds) < enough):
        result: Any = None  # the last one's memory is no part of this one's
        if prepare:
            prepare()
        reset_peak()
        start, start_cpu = time.perf_counter(), time.process_time()
        result = run()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        peak = max(peak, memory("VmHWM") - before)
    return result, Cost(statistics.median(seconds), min(seconds), statistics.median(cpu), peak)


def alone(function: Callable[..., Result], *words: object) -> Result:
    """Call a function in a new process, where nothing else runs; peak memory is what it needs itself.

    Raises ModuleNotFoundError where the package of a peer is not installed.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, words)


def memory(what: str, process: int | str = "self") -> float:
    """VmRSS or VmHWM (its peak) of a process in bytes; NaN where the system does not say, or the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return math.nan
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(what)), math.nan)


def reset_peak() -> None:
    """Let VmHWM start again from what is in use now."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
