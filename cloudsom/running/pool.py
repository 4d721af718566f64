"""Many products as a list of independent jobs, on processes or a Dask cluster: a bad one never stops the others."""

import ctypes
import difflib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from cloudsom.errors import UserError
from cloudsom.processors import processors, set_share, share
from cloudsom.progress import progress
from cloudsom.running import stops, streams
from cloudsom.running.job import Job, Outcome, attempt

#: Linux: the signal a process gets when the thread that started it ends (prctl(2)).
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Engine:
    """Where jobs run: the script's WORKERS, DASK_SCHEDULER and DATA_DIR.

    On `workers` processes of this machine, which share its processors (0: one a processor); or, where the address of a
    scheduler is given, on its Dask cluster, whose workers reach `data_dir` under the same path or URL; or `here`, in
    this process, for what takes the script's constants or draws on the screen.
    """

    workers: int = 0
    scheduler: str | None = None
    data_dir: str = ""
    here: bool = False


def run_jobs(function: Callable[..., Any], jobs: Sequence[Job], engine: Engine, what: str) -> list[Outcome]:
    """Run `function(*job.arguments)` for every job on `engine`, outcomes in job order.

    A single job runs in this process; of several, each that crashes its process fails alone, also with one worker.
    `function` is a module-level function of the script or the package and takes all it needs as arguments: constants
    changed on the command line do not reach other processes.
    """
    if engine.scheduler:
        try:
            from cloudsom.running import cluster
        except ImportError as problem:
            raise UserError(
                f"DASK_SCHEDULER: needs a package more ({problem}); pip install -r requirements-cluster.txt"
            ) from None
        return cluster.run_jobs(function, jobs, engine.scheduler, engine.data_dir, what)
    available = engine.workers or processors()
    workers = min(available, len(jobs))
    if engine.here or len(jobs) <= 1:
        here = []
        with share(available), progress(len(jobs), what, "products") as bar:
            for job in jobs:
                here.append(attempt(function, job))
                bar.update(1)
        return here
    return _run_in_pools(function, jobs, workers, max(1, available // workers), what)


# --- processes --------------------------------------------------------------------------------------------------------


def _run_in_pools(
    function: Callable[..., Any], jobs: Sequence[Job], workers: int, processors_each: int, what: str
) -> list[Outcome]:
    """`run_jobs` on worker processes. A killed one takes its pool along: the jobs left go on in another.

    It may have been killed for want of memory. So each job that was under way then is tried once more with no other
    beside it, and fails if that kills its worker again.
    """
    outcomes: dict[int, Outcome] = {}
    with progress(len(jobs), what, "products") as bar:
        left = list(range(len(jobs)))
        while left:
            _run_in_pool(function, jobs, left, (workers, processors_each), outcomes, bar)
            left = [i for i in left if i not in outcomes]
            for i in left[:workers]:  # jobs are begun in order: those that were under way come first
                _run_in_pool(function, jobs, [i], (1, processors_each), outcomes, bar)
                if i not in outcomes:
                    reason = "its worker process was killed, and again when tried alone; free memory, run again"
                    outcomes[i] = Outcome(jobs[i].name, error=f"{jobs[i].name}: {reason}")
                    bar.update(1)
            left = left[workers:]
    return [outcomes[i] for i in range(len(jobs))]


def _run_in_pool(
    function: Callable[..., Any],
    jobs: Sequence[Job],
    left: Sequence[int],
    size: tuple[int, int],
    outcomes: dict[int, Outcome],
    bar: Any,
) -> None:
    """Run the jobs `left` and note their outcomes, until a worker is killed. `size`: processes, processors for each."""
    # In workers the script is the module __mp_main__. Of several scripts in one process (all_figures.py) Python knows
    # the first one by that name, and could not read what workers of another one return.
    sys.modules["__mp_main__"] = sys.modules["__main__"]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(size[0], len(left)), context, _prepare_worker, (os.getpid(), size[1])) as pool:
        futures: dict[Future[Outcome], int] = {}
        try:
            # A stop request waits until all processes are started, so that none is missed when they are ended.
            # OSError, ValueError: a process that ended early has closed the pipe that the next one was to get.
            with stops.held_back(), suppress(BrokenProcessPool, OSError, ValueError):
                for i in left:
                    futures[pool.submit(_attempt_here, function, jobs[i])] = i
            for future in as_completed(futures):
                if not isinstance(future.exception(), BrokenProcessPool):
                    outcomes[futures[future]] = future.result()
                    bar.update(1)
        except BaseException:
            for process in list(pool._processes.values()):  # leaving the `with` block waits until they have ended
                process.terminate()
            raise


def _prepare_worker(parent: int, n_processors: int) -> None:
    """A stop request unwinds the job, and no worker outlives its parent to write where another run is at work.

    The request comes from the parent, as SIGTERM. Ctrl-C stays blocked.
    """
    streams.set_up()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # one that came before ends the worker here
    set_share(n_processors)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent had ended before it could be watched
        os._exit(1)


def _attempt_here(function: Callable[..., Any], job: Job) -> Outcome:
    """`attempt` in a worker process."""
    stops.unwind_at([signal.SIGTERM], SystemExit(143))
    try:
        return attempt(function, job)
    finally:
        if stops.requested():
            os._exit(143)  # else the pool would give this worker the next job
        stops.no_longer([signal.SIGTERM])  # nothing is left to unwind; raised at Python's end, it would be a traceback


def results_or_errors(outcomes: Sequence[Outcome]) -> list[Any]:
    """Print one line for each failed job on stderr; the results of the others, in order."""
    for outcome in outcomes:
        if outcome.error:
            print(f"failed: {' '.join(outcome.error.split())}", file=sys.stderr)
    return [outcome.result for outcome in outcomes if not outcome.error]


def one_each(*rounds: Sequence[Outcome]) -> list[Outcome]:
    """One outcome for each product that took part in several rounds of jobs: its first error, if there was any."""
    found: dict[str, Outcome] = {}
    for outcome in chain.from_iterable(rounds):
        if outcome.name not in found or not found[outcome.name].error:
            found[outcome.name] = outcome
    return list(found.values())


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
