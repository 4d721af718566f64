"""One product's work, and what became of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudsom.errors import UserError
from cloudsom.files import places


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


def attempt(function: Callable[..., Any], job: Job) -> Outcome:
    """Run one job; a user's mistake or the system's refusal becomes its outcome."""
    try:
        with places.working_copies():
            return Outcome(job.name, function(*job.arguments))
    except UserError as problem:
        return Outcome(job.name, error=str(problem))
    except MemoryError:
        return Outcome(job.name, error=f"{job.name}: out of memory; lower WORKERS")
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        return Outcome(job.name, error=f"{job.name}: {place}{problem.strerror or problem}")
    except Exception as problem:
        if not (reason := places.refusal(problem)):
            raise
        return Outcome(job.name, error=f"{job.name}: {reason}")
