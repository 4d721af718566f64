"""Spectra to measure with, scaled as for training, and how much memory a process takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import N_BANDS

Scaler = tuple[NDArray[np.float64], NDArray[np.float64]]  # least and largest reflectance of each band


def drawn_reflectance(rows: int) -> NDArray[np.float64]:
    """Random spectra that change slowly from row to row, in four directions, with noise."""
    random = np.random.default_rng(0)
    mixture = random.normal(size=(4, N_BANDS)) * [[3], [1], [0.8], [0.5]]
    drift = np.cumsum(random.normal(0, 0.1, (rows, 4)), axis=0)
    return 0.2 + 0.1 * np.sin(drift) @ mixture + random.normal(0, 0.01, (rows, N_BANDS))


def scaled_spectra(files: Sequence[Path], rows: int) -> tuple[NDArray[np.float32], Scaler]:
    """Spectra of HDF5 files in their order, or `rows` drawn ones, min-max scaled, and the scaler."""
    if files:
        import h5py

        parts = []
        for path in files:
            with h5py.File(path) as file:
                parts.append(file["spectra"][:])
        reflectance = np.concatenate(parts).astype(np.float64)
    else:
        reflectance = drawn_reflectance(rows)
    low, high = reflectance.min(axis=0), reflectance.max(axis=0)
    return ((reflectance - low) / (high - low)).astype(np.float32), (low, high)


def scaled_scenes(files: Sequence[Path], scaler: Scaler) -> dict[str, NDArray[np.float32]]:
    """The pixels of scenes (npz files with `dn`, reflectance x 10000), row by row, scaled likewise."""
    low, high = scaler
    scenes = {path.stem: np.load(path)["dn"].reshape(-1, N_BANDS) / 10_000 for path in files}
    return {name: ((scene - low) / (high - low)).astype(np.float32) for name, scene in scenes.items()}


def memory(what: str) -> float:
    """VmRSS or VmHWM (its peak) of this process in bytes; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return next(1024.0 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(what))


def reset_peak() -> None:
    """Let VmHWM start again from what is in use now."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
