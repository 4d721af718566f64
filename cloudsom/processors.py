"""How many processors a process may keep busy, so that processes side by side do not take each other's."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_share: int | None = None


def processors() -> int:
    """Processors for this process: its share where one was given to it, else all that the system lets it use."""
    if _share:
        return _share
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_share(number: int | None) -> None:
    """Give this process `number` processors from now on; None: all."""
    global _share
    _share = number


@contextmanager
def share(number: int) -> Iterator[None]:
    """Give this process `number` processors for the length of a block."""
    before = _share
    set_share(number)
    try:
        yield
    finally:
        set_share(before)


def in_order(
    pool: ThreadPoolExecutor, threads: int, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """work(item) of every item, in order, on the `threads` of a pool, with one item waiting beside those at work."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > threads:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
