"""Many products as a list of independent jobs, on processes or a Dask cluster: a bad one never stops the others."""

import difflib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudsom.errors import UserError
from cloudsom.processors import processors, set_share, share
from cloudsom.progress import progress


@dataclass(frozen=True)
class Job:
    """One product's work: its name, and the arguments of the function that does it."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: its result, or the one line that says why there is none."""

    name: str
    result: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Engine:
    """Where jobs run: the script's WORKERS, DASK_SCHEDULER and DATA_DIR.

    On `workers` processes of this machine, which share its processors (0: one a processor); or, where the address of a
    scheduler is given, on its Dask cluster, whose workers see `data_dir` under the same path.
    """

    workers: int = 0
    scheduler: str | None = None
    data_dir: str = ""


def run_jobs(function: Callable[..., Any], jobs: Sequence[Job], engine: Engine, what: str) -> list[Outcome]:
    """Run `function(*job.arguments)` for every job on `engine`, outcomes in job order.

    One worker, or one job, runs in this process. `function` is a module-level function of the script or the package
    and takes all it needs as arguments: constants changed on the command line do not reach other processes.
    """
    if engine.workers < 0:
        raise UserError(f"WORKERS: {engine.workers} is negative; give a number of processes, or 0 for one a core")
    if engine.scheduler:
        try:
            from cloudsom import cluster
        except ImportError as problem:
            raise UserError(
                f"DASK_SCHEDULER: needs a package more ({problem}); pip install -r requirements-cluster.txt"
            ) from None
        return cluster.run_jobs(function, jobs, engine.scheduler, engine.data_dir, what)
    available = engine.workers or processors()
    workers = min(available, len(jobs))
    if workers <= 1:
        with share(available):
            return _run_here(function, jobs, what)
    context = multiprocessing.get_context("spawn")
    each = max(1, available // workers)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(each,)) as pool:
        return _collect(pool, function, jobs, what)


def _run_here(function: Callable[..., Any], jobs: Sequence[Job], what: str) -> list[Outcome]:
    outcomes = []
    with progress(len(jobs), what, "products") as bar:
        for job in jobs:
            outcomes.append(attempt(function, job))
            bar.update(1)
    return outcomes


def _collect(pool: Executor, function: Callable[..., Any], jobs: Sequence[Job], what: str) -> list[Outcome]:
    futures: dict[Future[Outcome], int] = {pool.submit(attempt, function, job): i for i, job in enumerate(jobs)}
    outcomes: dict[int, Outcome] = {}
    with progress(len(jobs), what, "products") as bar:
        try:
            for future in as_completed(futures):
                i = futures[future]
                try:
                    outcomes[i] = future.result()
                except BrokenProcessPool:
                    reason = "a worker process was killed, or ran out of memory; run again, or lower WORKERS"
                    outcomes[i] = Outcome(jobs[i].name, error=f"{jobs[i].name}: {reason}")
                bar.update(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _stop_processes(pool)
            raise
    return [outcomes[i] for i in range(len(jobs))]


def _begin(n_processors: int) -> None:
    """Ctrl-C goes to the whole process group; the parent decides what becomes of the workers."""
    set_share(n_processors)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(signum: int, frame: Any) -> None:
    raise SystemExit(143)  # unwinds, so that partial files are removed


def _stop_processes(pool: Executor) -> None:
    for process in (getattr(pool, "_processes", None) or {}).values():
        process.terminate()


def attempt(function: Callable[..., Any], job: Job) -> Outcome:
    """Run one job; a user's mistake or the system's refusal becomes its outcome."""
    try:
        return Outcome(job.name, function(*job.arguments))
    except UserError as problem:
        return Outcome(job.name, error=str(problem))
    except MemoryError:
        return Outcome(job.name, error=f"{job.name}: out of memory; lower WORKERS")
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        return Outcome(job.name, error=f"{job.name}: {place}{problem.strerror or problem}")


def results_or_errors(outcomes: Sequence[Outcome]) -> list[Any]:
    """Print one line for each failed job on stderr; the results of the others, in order."""
    for outcome in outcomes:
        if outcome.error:
            print(f"failed: {' '.join(outcome.error.split())}", file=sys.stderr)
    return [outcome.result for outcome in outcomes if not outcome.error]


def raise_if_any_failed(outcomes: Sequence[Outcome]) -> None:
    """A UserError that names every product that failed, once the others are done."""
    failed = [outcome.name for outcome in outcomes if outcome.error]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(outcomes)} products failed ({', '.join(failed)}), the others are done; "
            "mend what the lines above say and run the same command again"
        )


def choose_products(found: dict[str, Path], wanted: Sequence[str], folder: Path, what_to_do: str) -> dict[str, Path]:
    """The files to work on by product name, sorted: those of `wanted`, or all where none is named.

    Raises UserError if a named product is not among `found`, or nothing was found in `folder`.
    """
    if not found:
        raise UserError(f"{folder}: holds no products to work on; {what_to_do}")
    missing = [name for name in wanted if name not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], found, n=1)
        hint = f"; the nearest name there is {near[0]}" if near else ""
        raise UserError(f"{folder}: has no product {missing[0]}{hint}; {what_to_do}, or correct PRODUCTS")
    return {name: found[name] for name in sorted(wanted or found)}
