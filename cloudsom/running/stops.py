"""Stop requests: Ctrl-C and SIGTERM raise an exception, so that what is half done is cleared up on the way out."""

import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals that ask a script to stop.
REQUESTS = (signal.SIGINT, signal.SIGTERM)

#: Seconds until a stop request is looked at again that came where no exception may be raised.
WAIT_SECONDS = 0.02

_requested = False
_holds = 0  # of the main thread, which handlers run in


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _requested


def unwind_at(numbers: Collection[int], raised: BaseException) -> None:
    """Have the signals `numbers` raise `raised` in the main thread; those that follow are ignored."""

    def handler(signum: int, frame: FrameType | None) -> None:
        global _requested
        if _holds:  # it is looked at again
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
            return
        _requested = True
        for number in numbers:
            signal.signal(number, _ignore)
        raise raised

    for number in numbers:
        signal.signal(number, handler)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """A request after the first one. SIG_IGN would not do: Python prints an OSError where one was just coming in."""


def no_longer(numbers: Collection[int]) -> None:
    """The signals `numbers` end the process at once again: nothing is left to clear up."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # one that has come in already is seen to here
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Stop requests wait until the block is over, and in the processes started in it until they allow them.

    Children inherit what is blocked. That alone does not hold a request back here: it may come to another thread, and
    its handler runs in the main one all the same.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    hold_back()
    try:
        yield
    finally:
        let_come()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hold_back() -> None:
    """Stop requests wait for a `let_come`, of several calls for as many; other threads than the main one need none."""
    global _holds
    _holds += threading.current_thread() is threading.main_thread()


def let_come() -> None:
    """Stop requests may come again."""
    global _holds
    _holds -= threading.current_thread() is threading.main_thread()
