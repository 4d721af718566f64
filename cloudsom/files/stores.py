"""Files on disk: whole or not there, with the settings that made them beside them, and pickles.

A product `NAME` is written as `.NAME.ATTEMPT.partial` (behind a URL: on this machine, and uploaded under such a name),
and its settings file `NAME.json` records what made it: the script, its constants, the checksums of its inputs and of
the product itself. That file answers three questions later: is the product finished and made by these settings (then it
is not made again); was it changed or put there by someone else (then it is not overwritten unasked); do two files come
from the same run (scaler and map, map and labels).
"""

import functools
import hashlib
import json
import os
import pickle
import platform
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from cloudsom import __version__
from cloudsom.errors import Damaged, UserError
from cloudsom.files import pickles, places

#: Packages whose version a settings file records: those that touch the numbers.
RECORDED_PACKAGES = ("numpy", "pandas", "h5py", "MiniSom", "numba", "scikit-learn", "scipy", "GDAL")

#: This process among all that may ever write to a folder.
_ATTEMPT = uuid.uuid4().hex[:12]

#: A model or scaler is some 40 kB; a pickle larger than this is not one. Bytes.
MAX_PICKLE_BYTES = 64 * 1024 * 1024


# --- whole files ------------------------------------------------------------------------------------------------------


def partial_path(path: Path) -> Path:
    """Where a download is kept until it is whole, and found again to go on with it; hidden as `attempt_path`."""
    return path.with_name(f".{path.name}.partial")


def attempt_path(path: Path) -> Path:
    """Where this process writes `path` until it is whole: beside it, hidden from the scripts' file patterns.

    No two processes share it: a cluster that takes a worker for lost may give its product to another one while the
    first still writes. For a place behind a URL the file is on this machine.
    """
    if places.is_remote(path):
        return places.new_file(path)
    return path.with_name(f".{path.name}.{_ATTEMPT}.partial")


def _uploaded_path(path: Path, checksum: str) -> Path:
    """What a product of this SHA-256 is called behind a URL until its settings file is there.

    The name follows from the content: the next run finds the upload without listing a folder of a million files.
    An upload that no run comes back to stays under this hidden name.
    """
    return path.with_name(f".{path.name}.{checksum[:12]}.partial")


def attempts(path: Path) -> list[Path]:
    """What attempts at `path` have left behind on this machine, or are writing."""
    if places.is_remote(path) or not path.parent.is_dir():
        return []
    name = re.compile(rf"\.{re.escape(path.name)}(\.[0-9a-f]{{12}})?\.partial")
    with os.scandir(path.parent) as entries:
        files = [entry.name for entry in entries if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]
    return [path.with_name(file) for file in files]


def check_replaceable(path: Path) -> None:
    """UserError unless nothing is at `path`, or a plain file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no plain file but a folder, device or pipe; move it away, or give another name")


def remove(path: Path) -> None:
    """Remove a file, a link itself, or a folder and what is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def own_folder(path: Path) -> None:
    """Have a folder at `path` in which there are only folders and plain files, those that are there already."""
    if path.is_symlink() or not path.is_dir():
        remove(path)
        path.mkdir(parents=True)
    for folder, folders, files in os.walk(path):
        for place in (Path(folder, name) for name in (*folders, *files)):
            if place.is_symlink() or not (place.is_dir() or place.is_file()):
                place.unlink()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Write a file beside `path` and rename it into place when it is whole.

    Yields the path to write to. On any exception that file is removed and `path` stays as it was. Raises UserError
    where what is there is no plain file.
    """
    check_replaceable(path)
    for left in attempts(path):
        left.unlink(missing_ok=True)
    places.make_folder(path.parent)
    partial = attempt_path(path)
    try:
        yield partial
        _to_disk(partial)
        places.rename(_beside(partial, path, _ATTEMPT), path)
    finally:
        partial.unlink(missing_ok=True)


def _beside(partial: Path, path: Path, tag: str) -> Path:
    """A whole file in the folder of `path`, to be renamed: `partial` itself, behind a URL what it is uploaded to."""
    if not places.is_remote(path):
        return partial
    uploaded = _uploaded_path(path, tag)
    places.upload(partial, uploaded)
    return uploaded


def _to_disk(path: Path) -> None:
    """Have the operating system write the file's bytes out; after a power cut a renamed file is whole too."""
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with places.to_hash(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


# --- settings files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Snapshot:
    """A script's name and the values of its constants that change what it writes; fit to send to a worker."""

    script: str
    constants: dict[str, Any]


@dataclass(frozen=True)
class InputFile:
    """An input file and its checksum; `stamp` is what shows, without reading it again, that it is still the same."""

    path: Path
    sha256: str
    stamp: tuple[int | str, ...]

    @classmethod
    def of(cls, path: Path) -> "InputFile":
        """The file as it is now. The stamp is taken first, so that no later change escapes it."""
        stamp = places.stamp(path)
        return cls(path, sha256(path), stamp)

    def changed(self) -> bool:
        """Whether the file holds other bytes now; only where the stamp differs is it read again."""
        try:
            if places.stamp(self.path) == self.stamp:
                return False
            places.forget(self.path)
            return sha256(self.path) != self.sha256
        except FileNotFoundError:
            return True


@dataclass(frozen=True)
class Recipe:
    """What makes a product: script, constants with an effect, input files by role (name, checksum), their lineage.

    A role in capitals (TRAINING_CSV, SCALER_FILE, SOM_FILE...) stands for one file in a whole run. `lineage` carries
    the checksums of those roles on from input to product, so that masks still know the scaler of the map behind their
    labels. Other roles, a product's own files by name, end with the product.
    """

    script: str
    constants: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    lineage: dict[str, str] = field(default_factory=dict)
    files: tuple["InputFile", ...] = field(default=(), compare=False)  # the inputs as they were when they were hashed

    def only(self, roles: Collection[str]) -> "Recipe":
        """The recipe of what is made of some of the inputs, where others turned out bad."""
        return replace(self, inputs={role: entry for role, entry in self.inputs.items() if role in roles})

    def check_inputs(self) -> None:
        """UserError if an input is no longer the file that was hashed: what was read then may be half old, half new."""
        for file in self.files:
            if file.changed():
                raise UserError(f"{file.path}: was changed while it was read; nothing was made of it: run again")

    def as_json(self) -> dict[str, Any]:
        """The part of a settings file that must be equal for a product to be up to date."""
        plain = {
            "script": self.script,
            "cloudsom": __version__,
            "constants": self.constants,
            "inputs": self.inputs,
            "lineage": self.lineage,
        }
        as_read: dict[str, Any] = json.loads(json.dumps(plain, sort_keys=True, default=str))
        return as_read


def recipe(settings: Snapshot, inputs: Mapping[str, Path], model: Mapping[str, Path] | None = None) -> Recipe:
    """The recipe of what a script is about to write, from its settings and its input files by role.

    model  further inputs, the files of labelled maps. Roles that are one name with numbers (MODEL_NPZ, MODEL_NPZ 2)
           are maps of their own, which need not descend from the same files
    Raises UserError when two inputs descend from different files of the same role: a map trained with another scaler
    than the one given, labels of another map.
    """
    model = model or {}
    files = {role: InputFile.of(place) for role, place in {**inputs, **model}.items()}
    several = {role for role in model if f"{role.split()[0]} 2" in model}
    known = {role: (file.sha256, file.path) for role, file in files.items()}
    lineage: dict[str, str] = {}
    for file in (file for role, file in files.items() if role not in several):
        for ancestor, checksum in _lineage_of(file).items():
            lineage[ancestor], other = known.setdefault(ancestor, (checksum, file.path))
            if lineage[ancestor] != checksum:
                raise UserError(
                    f"{file.path}: was made with another {ancestor} than {other}; "
                    "the files are from different runs: give those of one run, or run the steps between them again"
                )
    own = {role: file.sha256 for role, file in files.items() if role.isupper() and role not in several}
    found = {role: {"name": file.path.name, "sha256": file.sha256} for role, file in files.items()}
    return Recipe(settings.script, settings.constants, found, lineage | own, tuple(files.values()))


def _lineage_of(file: InputFile) -> dict[str, str]:
    """The lineage a file's settings file records; empty for a file of unknown origin or changed since."""
    record = _settings_file(file.path)
    return dict(record["lineage"]) if record and record["product"]["sha256"] == file.sha256 else {}


def record_path(path: Path) -> Path:
    """The settings file of a product."""
    return path.with_name(path.name + ".json")


#: What readers rely on in a settings file or a download's record: the kinds of its parts, `...` for those of any other
#: name. A list holds values of one kind.
_KINDS: dict[Any, Any] = {
    "script": str,
    "constants": {
        "N_ITER": int,
        "OTHER_MASKS": [str],
        "CLOUD_CODES": [int],
        "LEFT_OUT_CODES": [int],
        "CLOUD_SHARE": float | int,
        ...: object,
    },
    "results": {
        **dict.fromkeys(("summary", "labels", "title", "alt"), str),
        **dict.fromkeys(("quantization_error", "topographic_error"), float | int),
        ...: object,
    },
    "inputs": {...: dict},
    **{key: {...: object} for key in ("versions", "product", "files")},
    **dict.fromkeys(("sha256", "md5"), str),
    "lineage": {...: str},
    "scenes": {...: {"files": {...: int}, ...: object}},
    "size": int,
    ...: object,
}


def _fitting(value: Any, kind: Any) -> Any:
    """A value without the parts of it that are of other kinds than expected; None for one that is so itself."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return None
        kinds = {name: kind.get(name, kind.get(...)) for name in value}
        fitting = {name: _fitting(part, kinds[name]) for name, part in value.items()}
        return {name: part for name, part in fitting.items() if part is not None or kinds[name] is object}
    if isinstance(kind, list):
        return value if isinstance(value, list) and all(isinstance(item, kind[0]) for item in value) else None
    return value if isinstance(value, kind) else None


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object beside a file: a product's settings file, or a download's record; None where there is none.

    It may be anybody's: parts that are of another kind than readers take them for are left out.
    """
    try:
        place = record_path(path)
        record = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return _fitting(record, _KINDS) if isinstance(record, dict) else None


def _settings_file(path: Path) -> dict[str, Any] | None:
    """A product's settings file; None where there is none, or something else has its name."""
    record = read_record(path) or {}
    product, lineage = record.get("product"), record.get("lineage")
    whole = isinstance(product, dict) and isinstance(product.get("sha256"), str) and isinstance(lineage, dict)
    return record | {"results": {"summary": ""} | record.get("results", {})} if whole else None


def finished(path: Path, made_by: Recipe, overwrite: bool = False) -> dict[str, Any] | None:
    """The settings file of a product that is finished and made by exactly this recipe; None if it is to be made.

    Raises UserError if `path` holds something this pipeline did not make, or that was changed since: it may be
    somebody's work, and only OVERWRITE replaces it. An input, a file that another script made and what is no plain
    file are never replaced.
    """
    places.forget(path)
    check_replaceable(path)
    if any(places.one_name(file.path) == places.one_name(path) for file in made_by.files):
        raise UserError(f"{path}: is read and would be written too; give another name")
    _finish_interrupted(path)
    record = _settings_file(path) if path.exists() else None
    if record and record.get("script") not in (None, made_by.script):
        raise UserError(f"{path}: was made by {record['script']}, which alone replaces it; give another name")
    if overwrite or not path.exists():
        return None
    if record is None:
        raise UserError(f"{path}: is there already and was not made by this script; move it away, or use --OVERWRITE")
    if record["product"]["sha256"] != sha256(path):
        raise UserError(f"{path}: was changed after it was made; move it away, or use --OVERWRITE to make it again")
    wanted = made_by.as_json()
    return record if {key: record.get(key) for key in wanted} == wanted else None


def up_to_date(files: Sequence[Path], made_by: Recipe, overwrite: bool = False) -> str | None:
    """A line that says so where all of a script's products are finished; None if they are to be made.

    The line names the first of `files` and its summary. Every file is looked at: raises UserError as `finished`.
    """
    records = [finished(file, made_by, overwrite) for file in files]
    if records[0] is None or None in records:
        return None
    summary = records[0]["results"]["summary"]
    return f"{files[0]}: is up to date{summary and f'; {summary}'}"


def _finish_interrupted(path: Path) -> None:
    """Rename a product whose run ended after its settings file was in place, but before the product was.

    What other attempts have left is removed. Should one still be at work, on a worker that was taken for lost, it fails
    for want of its file, and nobody waits for it.
    """
    if places.is_remote(path):
        record = _settings_file(path)
        if record and (uploaded := _uploaded_path(path, record["product"]["sha256"])).exists():
            _rename_if_recorded(uploaded, path)
        return
    for partial in attempts(path):
        if not _rename_if_recorded(partial, path):
            partial.unlink(missing_ok=True)
    for left in attempts(record_path(path)):
        left.unlink(missing_ok=True)


def _rename_if_recorded(partial: Path, path: Path) -> bool:
    """Rename a whole product whose settings file is in place already; whether it was one."""
    record = _settings_file(path)
    try:
        if not record or record["product"]["sha256"] != sha256(partial):
            return False
        places.rename(partial, path)
    except FileNotFoundError:  # not written yet, or that attempt has just ended
        return False
    return True


@dataclass
class Draft:
    """A product being written: the path to write to, and the figures to keep in its settings file."""

    partial: Path
    results: dict[str, Any] = field(default_factory=dict)


@contextmanager
def product(path: Path, made_by: Recipe) -> Iterator[Draft]:
    """Write a product and its settings file; both appear when the block ends without an exception.

    The settings file goes first: a run that ends between the two leaves a whole partial file with its settings, which
    is renamed on the way out, or by the next run (`finished`). Raises UserError if an input was changed meanwhile.
    """
    check_replaceable(path)
    check_replaceable(record_path(path))
    places.make_folder(path.parent)
    partial = attempt_path(path)
    item, whole = Draft(partial), partial
    try:
        yield item
        with ThreadPoolExecutor(1) as beside:  # the disk is written while the checksum is made
            checksum = beside.submit(sha256, partial)
            _to_disk(partial)
        made_by.check_inputs()
        whole = _beside(partial, path, checksum.result())
        summary = {
            "product": {"bytes": partial.stat().st_size, "sha256": checksum.result()},
            "results": item.results,
            "versions": versions(),
        }
        with atomic(record_path(path)) as record:
            text = json.dumps(made_by.as_json() | summary, indent=1, default=_plain)
            record.write_text(text + "\n", encoding="utf-8")
        places.rename(whole, path)
    except BaseException:
        if places.is_remote(path) and whole is partial:  # not uploaded
            raise
        if not _rename_if_recorded(whole, path):
            whole.unlink(missing_ok=True)
        raise
    finally:
        if places.is_remote(path):
            partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that touch the numbers."""
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


# --- pickles ----------------------------------------------------------------------------------------------------------


def load_pickle(path: Path, what: str, pending: str | None = None) -> Any:
    """What a pickle holds, read as data by `cloudsom.files.pickles`: nothing in it is run, foreign names are refused.

    what     the file's content for messages ("map", "scaler")
    pending  for files of any size: the one attribute that is wanted of the object in them (see `pickles.read`)
    Raises UserError.
    """
    size = path.stat().st_size
    if pending is None and size > MAX_PICKLE_BYTES:
        raise UserError(f"{path}: {size:,} bytes is too large for a {what}; give the right file")
    try:
        return pickles.read(path, pending)
    except pickles.Refused as problem:
        raise UserError(
            f"{path}: not a {what} this pipeline reads, or not safe to load: {problem} is refused; "
            "give the file that the pipeline's own step wrote"
        ) from None
    except Damaged as problem:
        raise UserError(f"{path}: not a readable {what} ({problem}); it is damaged or of another kind") from None


def dump_pickle(obj: Any, path: Path) -> None:
    """Pickle `obj` to `path`, in a protocol every supported Python reads."""
    with open(path, "wb") as handle:
        pickle.dump(obj, handle, protocol=4)
