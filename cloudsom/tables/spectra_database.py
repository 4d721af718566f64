"""The labelled spectra database's HDF5 files (Hollstein et al. 2016, doi 10.3390/rs8080666), checked as read."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from cloudsom.bands import BANDS, CLASSES, DATABASE_CLASSES, N_BANDS
from cloudsom.errors import FULL, UserError
from cloudsom.files.places import local

#: (n, 13) reflectances and (n,) class codes 10..60.
SpectraBlock: TypeAlias = tuple[NDArray[np.floating], NDArray[np.int64]]

#: The datasets of a file, and the kinds of numpy's types that their values may have.
NEEDED = {"spectra": "f", "classes": "iu", "class_ids": "iu", "class_names": "SO", "band": "SO"}

#: The three small ones have 6 and 13 entries.
MAX_ENTRIES = 1000

#: A piece that is unpacked as a whole, bytes: real ones have 40 kB.
MAX_CHUNK_BYTES = 64 * 1024**2

#: Bytes that deflate can make of one: spectra that claim more than the file could hold are a mistake, or an attack.
LARGEST_RATIO = 1032


class SpectraFile:
    """An open database file; its blocks come with the pipeline's class codes, and counts grow as they are read."""

    def __init__(self, path: Path, handle: Any, low: float, high: float, drop_non_finite: bool) -> None:
        self.path = path
        self.low, self.high, self.drop_non_finite = low, high, drop_non_finite
        for name in NEEDED:
            # a soft link may lead to an external one
            if isinstance(handle.get(name, getlink=True), h5py.SoftLink | h5py.ExternalLink):
                raise UserError(f"{path}: '{name}' lies in another file, which is not read; give the file itself")
            if not isinstance(handle.get(name), h5py.Dataset):
                raise UserError(f"{path}: has no dataset '{name}'; give a file of the spectra database")
            self._check_storage(name, handle[name])
        self.spectra, self.classes = handle["spectra"], handle["classes"]
        self._check_shapes()
        for name, kinds in NEEDED.items():
            if handle[name].dtype.kind not in kinds:
                raise UserError(f"{path}: '{name}' holds {handle[name].dtype}, not values of the kind needed")
        self._check_bands(handle["band"])
        self.codes = self._codes_by_id(handle["class_ids"], handle["class_names"])
        self.n_rows = len(self.spectra)
        self.non_finite = 0
        self.class_counts = dict.fromkeys(CLASSES, 0)

    def _check_storage(self, name: str, dataset: Any) -> None:
        """UserError for a dataset that lies in another file, or would take far more memory than the file has bytes."""
        if dataset.external or dataset.is_virtual:
            raise UserError(f"{self.path}: '{name}' lies in another file, which is not read; give the file itself")
        piece = math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize
        small = dataset.size is not None and dataset.size <= MAX_ENTRIES
        if piece > MAX_CHUNK_BYTES or not (small or name in ("spectra", "classes")):
            raise UserError(f"{self.path}: '{name}' is far larger than in the spectra database; the file is damaged")
        if not small and dataset.size * dataset.dtype.itemsize > LARGEST_RATIO * local(self.path).stat().st_size:
            raise UserError(f"{self.path}: '{name}' claims {dataset.shape[0]:,} rows, more than the file can hold")

    def _check_shapes(self) -> None:
        shape = self.spectra.shape
        if len(shape) != 2 or shape[1] != N_BANDS:
            raise UserError(f"{self.path}: 'spectra' has the shape {shape}, {N_BANDS} bands a row are needed")
        if self.classes.shape != shape[:1]:
            raise UserError(f"{self.path}: 'classes' has the shape {self.classes.shape}, 'spectra' {shape[0]:,} rows")
        if shape[0] == 0:
            raise UserError(f"{self.path}: holds no spectra; give a file of the spectra database")

    def _check_bands(self, band: Any) -> None:
        names = tuple("B" + text for text in _texts(band[:]))
        if tuple(name.upper() for name in names) != tuple(name.upper() for name in BANDS):
            found, wanted = ", ".join(names)[:100], ", ".join(BANDS)
            raise UserError(f"{self.path}: its bands are {found}; needed, in this order: {wanted}")

    def _codes_by_id(self, class_ids: Any, class_names: Any) -> dict[int, int]:
        """The file's class ids -> the pipeline's class codes, by position: the 2016 file stores them unsorted."""
        ids, names = [int(i) for i in np.ravel(class_ids[:])], _texts(class_names[:])
        if len(ids) != len(names):
            raise UserError(f"{self.path}: {len(ids)} 'class_ids' but {len(names)} 'class_names'; the file is damaged")
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise UserError(f"{self.path}: a class is listed twice in 'class_ids' and 'class_names'; correct them")
        unknown = [name for name in names if name not in DATABASE_CLASSES]
        if unknown:
            known = ", ".join(DATABASE_CLASSES)
            raise UserError(f"{self.path}: class {unknown[0]!r} is not one of the six ({known})")
        return {i: DATABASE_CLASSES[name] for i, name in zip(ids, names, strict=True)}

    def blocks(self, rows: int) -> Iterator[SpectraBlock]:
        """Blocks of at most `rows` rows, in the file's order; UserError at the first row that cannot be right."""
        for start in range(0, self.n_rows, rows):
            spectra = self.spectra[start : start + rows]
            labels = self._labels(self.classes[start : start + rows], start)
            finite = np.isfinite(spectra).all(axis=1)
            if not finite.all():
                if not self.drop_non_finite:
                    raise UserError(
                        f"{self.path}: row {start + np.argmin(finite)} holds a NaN or infinite reflectance; "
                        "correct the file, or leave such rows out with --NON_FINITE drop"
                    )
                self.non_finite += int((~finite).sum())
                spectra, labels = spectra[finite], labels[finite]
            self._check_range(spectra, start)
            for code in CLASSES:
                self.class_counts[code] += int((labels == code).sum())
            yield spectra, labels

    def _labels(self, ids: NDArray[np.integer], start: int) -> NDArray[np.int64]:
        labels = np.zeros(len(ids), dtype=np.int64)
        for class_id, code in self.codes.items():
            labels[ids == class_id] = code
        wrong = np.flatnonzero(labels == 0)
        if len(wrong):
            first = wrong[0]
            raise UserError(
                f"{self.path}: row {start + first} has the label {ids[first]}, which is not one of the six class ids "
                f"{sorted(self.codes)}; correct or remove such rows"
            )
        return labels

    def _check_range(self, spectra: NDArray[np.floating], start: int) -> None:
        outside = (spectra < self.low) | (spectra > self.high)
        if outside.any():
            row, band = np.argwhere(outside)[0]
            raise UserError(
                f"{self.path}: row {start + row} has {BANDS[band]} = {spectra[row, band]:g}, outside {self.low:g}.."
                f"{self.high:g}; reflectance is needed as a fraction (DN / 10000), or widen REFLECTANCE_MIN and _MAX"
            )


@contextmanager
def open_spectra(path: Path, low: float, high: float, drop_non_finite: bool) -> Iterator[SpectraFile]:
    """Open a database file and check its layout.

    low, high        reflectances outside this range (fraction) are an error
    drop_non_finite  leave rows with NaN or infinity out instead of refusing them
    Raises UserError for anything that is not a database file, and for a damaged one, also while blocks are read.
    """
    try:
        with h5py.File(local(path), "r") as handle:
            yield SpectraFile(path, handle, low, high, drop_non_finite)
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as problem:
        if isinstance(problem, OSError) and (problem.errno in FULL or (problem.errno and problem.filename)):
            raise  # the disk's problem, not the file's: perhaps where the table is written
        raise UserError(
            f"{path}: cannot be read as HDF5 ({' '.join(str(problem).split())[:120]}); "
            "it is damaged, cut short or of another kind: get it again"
        ) from None


def _texts(values: NDArray[Any]) -> list[str]:
    """Byte strings, or strings, as str without padding."""
    return [v.decode("utf-8", "replace").strip() if isinstance(v, bytes) else str(v).strip() for v in np.ravel(values)]
