"""Independent jobs on a Dask cluster that is running already.

Workers need the packages of requirements.txt and requirements-cluster.txt, nothing of this project: with each job goes
the package's own code (some 100 kB), which a worker unpacks once a version beside its scratch folder, and the package's
other files that the job names (the ready-made maps). So every worker, also one that joins late or replaces one that was
lost, runs the code of whoever gave the address.
"""

import functools
import hashlib
import importlib
import io
import logging
import os
import pickle
import shutil
import sys
import tempfile
import threading
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client, Future, KilledWorker, get_worker, wait

import cloudsom
from cloudsom.errors import UserError
from cloudsom.files import places, stores
from cloudsom.processors import share
from cloudsom.progress import progress
from cloudsom.running.job import Job, Outcome, attempt

#: Seconds a scheduler has to answer, and to have a worker.
ANSWER_SECONDS = 10

#: Seconds without any worker after which a run gives up; lost workers that someone starts again are back before.
NO_WORKERS_SECONDS = 60

#: Jobs given to the scheduler at a time, for each of its workers: one at work, and the next.
JOBS_A_WORKER = 2

#: How often a job that could not even be begun (a worker without the packages has joined) is tried elsewhere.
RETRIES = 3

_ONE_AT_A_TIME = threading.Lock()  # jobs of a worker run one after the other, each with all its threads


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[Job], address: str, data_dir: str, what: str
) -> list[Outcome]:
    """Run `function(*job.arguments)` for every job on the workers of the scheduler at `address`, outcomes in job order.

    A job whose worker is lost runs again on another one; one that loses several workers becomes a failed outcome.
    Raises UserError where there is no such scheduler or it has no workers, where a worker is not fit for the work
    (other versions, no view of `data_dir`), and when the scheduler or all workers are lost under way.
    """
    waiting = iter(enumerate(jobs))
    futures: dict[Future, int] = {}  # what is on the cluster, no more than keeps it busy
    outcomes: dict[int, Outcome] = {}
    seconds_without_workers = 0
    with _client(address) as client, progress(len(jobs), what, "products") as bar:
        _check_workers(client, address, data_dir)
        try:
            while len(outcomes) < len(jobs):
                threads = sum(client.nthreads().values())
                room = max(JOBS_A_WORKER * threads, 1) - len(futures)
                for i, job in islice(waiting, max(room, 0)):
                    packed = _packed(run_one, function, job, stores.versions())
                    key = f"{job.name}-{uuid.uuid4().hex}"  # shown on the cluster's pages
                    futures[client.submit(_on_worker, *_code(), packed, key=key, pure=False, retries=RETRIES)] = i
                seconds_without_workers = 0 if threads else seconds_without_workers + 1
                if seconds_without_workers > NO_WORKERS_SECONDS:
                    raise UserError(
                        f"DASK_SCHEDULER: {address} has lost all its workers; what is finished is kept, start workers "
                        "and run the same command to go on"
                    )
                with suppress(TimeoutError):
                    for future in wait(list(futures), timeout=1, return_when="FIRST_COMPLETED").done:
                        i = futures.pop(future)
                        outcomes[i] = _outcome(jobs[i], future)
                        bar.update(1)
        except (OSError, CancelledError):  # raised when the scheduler is gone
            raise UserError(
                f"DASK_SCHEDULER: {address} was lost; what is finished is kept, run the same command to go on"
            ) from None
        finally:
            if futures and client.status == "running":  # a job at work goes on to its end, its product whole
                with suppress(OSError, CancelledError):  # the scheduler is gone
                    client.cancel(list(futures), force=True)
    return [outcomes[i] for i in range(len(jobs))]


@contextmanager
def _client(address: str) -> Iterator[Client]:
    """A connection to a scheduler that has at least one worker."""
    logging.disable(logging.ERROR)  # distributed's log; what matters of it is raised as a UserError
    warnings.filterwarnings("ignore", module="distributed")
    try:
        client = Client(address, timeout=ANSWER_SECONDS)
    except (OSError, ValueError, TypeError, ImportError, RuntimeError) as problem:  # TimeoutError is an OSError
        reason = str(problem.__cause__ or problem) or type(problem).__name__
        raise UserError(
            f"DASK_SCHEDULER: {address} does not answer ({reason}); start one (dask scheduler), or correct the address"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=ANSWER_SECONDS)
        except TimeoutError:
            raise UserError(
                f"DASK_SCHEDULER: {address} has no workers; start some: dask worker {address} --nthreads 1"
            ) from None
        yield client


# --- from here to the workers -----------------------------------------------------------------------------------------


class _Pickler(cloudpickle.Pickler):
    """Relative paths travel as absolute ones: a worker stands in another folder. Files of the package travel whole."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Path) and obj.is_relative_to(package := Path(cloudsom.__file__).parent):
            return file_of_package, (obj.relative_to(package).as_posix(), obj.read_bytes())
        if isinstance(obj, Path) and not obj.is_absolute():
            return type(obj), (str(obj.absolute()),)
        return super().reducer_override(obj)


def _packed(*objects: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(objects)
    return buffer.getvalue()


@functools.cache
def _code() -> tuple[str, bytes]:
    """The package as a zip, and a name for it that changes with its contents."""
    package = Path(cloudsom.__file__).parent
    buffer, digest = io.BytesIO(), hashlib.sha256()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*.py")):
            name, text = file.relative_to(package.parent).as_posix(), file.read_bytes()
            archive.writestr(name, text)
            digest.update(f"{name} {len(text)}\n".encode() + text)
    return f"cloudsom-{digest.hexdigest()[:16]}", buffer.getvalue()


def _on_worker(name: str, code: bytes, packed: bytes, dask_worker: Any = None) -> Any:
    """On a worker: make `code` the package that is imported, unpack (function, arguments) with it, and call.

    It travels as its own code, as functions of `__main__` do: neither scheduler nor worker need this module to receive
    it.
    """
    beside = os.path.dirname((dask_worker or get_worker()).local_directory)
    folder = os.path.join(beside, name)
    if not os.path.isdir(folder):
        unpacked = tempfile.mkdtemp(prefix=name, dir=beside)
        zipfile.ZipFile(io.BytesIO(code)).extractall(unpacked)
        try:
            os.rename(unpacked, folder)
        except OSError:  # another worker of this machine was first
            shutil.rmtree(unpacked)
    if folder not in sys.path:
        for module in [m for m in sys.modules if m.partition(".")[0] == "cloudsom"]:  # of another version
            del sys.modules[module]
        sys.path[:] = [folder] + [p for p in sys.path if not os.path.basename(p).startswith("cloudsom-")]
        importlib.invalidate_caches()
    function, *arguments = pickle.loads(packed)
    return function(*arguments)


_on_worker.__module__ = "__main__"


# --- on the workers ---------------------------------------------------------------------------------------------------


def file_of_package(name: str, content: bytes) -> Path:
    """On a worker: where a file of the package is; put there if it is missing."""
    place = Path(cloudsom.__file__).parent / name
    if not place.exists() or place.read_bytes() != content:
        place.parent.mkdir(exist_ok=True)
        with stores.atomic(place) as partial:
            partial.write_bytes(content)
    return place


def worker_fault(versions: dict[str, str], seen: Path | None) -> str:
    """On a worker: why it is not fit for the work; empty if it is.

    versions  those of Python and packages that the worker must have too
    seen      a file that the worker must see
    """
    import numba  # noqa: F401 - the packages that the work takes can be imported
    import pandas  # noqa: F401
    from osgeo import gdal_array  # noqa: F401

    fault = _difference(versions, stores.versions())
    return fault or (_blindness(seen) if seen else "")


def _blindness(seen: Path) -> str:
    """On a worker: why it does not see a file; empty if it does."""
    try:
        if seen.exists():
            return ""
    except Exception as problem:  # each storage's package has exceptions of its own
        return f"cannot reach {seen.parent} ({places.refusal(problem) or problem}); see to its account and network"
    advice = "" if places.is_remote(seen) else "; mount that folder there under the same path"
    return f"does not see {seen.parent}{advice}"


def _difference(here: dict[str, str], there: dict[str, str]) -> str:
    """In words, which versions of a worker differ; of Python itself the third number may."""
    if here["python"].split(".")[:2] == there["python"].split(".")[:2]:
        there = there | {"python": here["python"]}
    names = sorted({name for name, _ in here.items() ^ there.items()})
    differing = [f"{name} {there.get(name, 'missing')} instead of {here.get(name, 'none')}" for name in names]
    return f"has {', '.join(differing)}; install the same versions there" if differing else ""


def run_one(function: Callable[..., Any], job: Job, versions: dict[str, str]) -> Outcome:
    """On a worker: run one job; UserError if the worker, which may have joined since the check, is not fit."""
    fault = worker_fault(versions, None)
    if fault:
        raise UserError(f"a worker {fault}")
    with _ONE_AT_A_TIME, share(get_worker().state.nthreads):
        return attempt(function, job)


# --- in this process --------------------------------------------------------------------------------------------------


def _check_workers(client: Client, address: str, data_dir: str) -> None:
    """UserError that names a worker that is not fit for the work, and says why."""
    found: Any = client.get_versions(check=False)
    for worker, other in found["workers"].items():  # before code is sent: it runs only on the same Python
        names = ("python", "distributed", "cloudpickle")
        ours, theirs = ({name: str(side["packages"][name]) for name in names} for side in (found["client"], other))
        _refuse(worker, _difference(ours, theirs))
    with _visible_file(places.named(data_dir)) as seen:
        packed = _packed(worker_fault, stores.versions(), seen)
        faults = client.run(_on_worker, *_code(), packed, on_error="return")
    for worker, fault in faults.items():
        if isinstance(fault, OSError):  # lost since
            continue
        if isinstance(fault, ImportError):
            fault = f"cannot import a package ({fault}); install requirements.txt and requirements-cluster.txt there"
        _refuse(worker, str(fault))


@contextmanager
def _visible_file(folder: Path) -> Iterator[Path | None]:
    """A file in a folder for workers to look for; None where the folder is not there, or nothing can be put there."""
    seen = folder / f".seen-by-workers-{uuid.uuid4().hex}"
    try:
        if places.is_remote(folder) or folder.is_dir():
            seen.write_bytes(b"seen")
    except OSError:  # a read-only folder: where that matters, the jobs' own errors say so
        pass
    try:
        yield seen if seen.exists() else None
    finally:
        with suppress(OSError):
            seen.unlink(missing_ok=True)


def _refuse(worker: str, fault: str) -> None:
    if fault:
        raise UserError(f"DASK_SCHEDULER: the worker {worker} {fault}")


def _outcome(job: Job, future: Future) -> Outcome:
    try:
        outcome: Outcome = future.result()
        return outcome
    except KilledWorker:
        reason = "lost several workers, one after the other: they were killed, or ran out of memory; see their logs"
        return Outcome(job.name, error=f"{job.name}: {reason}")
    except CancelledError:
        raise
    except Exception as problem:  # of a worker that could not begin the job: errors of the job are outcomes
        return Outcome(job.name, error=f"{job.name}: {problem}")
