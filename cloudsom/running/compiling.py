"""Compiled functions: their machine code is kept on disk, and made while stop requests wait."""

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event

from cloudsom.running import stops


class _StopsWait(event.Listener):
    """Stop requests wait while numba's lock is held: while it compiles a function, or loads one from disk.

    LLVM then calls back into Python. An exception raised there never arrives: ctypes prints it and hands LLVM an empty
    answer, which may crash it.
    """

    def on_start(self, event: event.Event) -> None:
        stops.hold_back()

    def on_end(self, event: event.Event) -> None:
        stops.let_come()


event.register("numba:compiler_lock", _StopsWait())


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`njit` without the GIL; the machine code is kept on disk, where a folder for it can be written."""
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # neither beside the function's file nor in the user's cache
        return njit(nogil=True, **options)(function)
