"""Progress of many files: bars on a terminal, plain lines in a log file."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from cloudsom.errors import printable

SECONDS_BETWEEN_LINES = 30  # of the total, in a log file


def human(count: int | None) -> str:
    """Bytes as a person reads them."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Display:
    """One total and one line for each file that is being fetched; used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._terminal = sys.stderr.isatty()
        self._last_line = time.monotonic()

    def line(self, text: str) -> None:
        """A line that does not disturb the bars."""
        if self._terminal:
            tqdm.write(printable(text), file=sys.__stderr__)
        else:
            print(text, file=sys.stderr)

    @contextmanager
    def counting(self, files: int, size: int | None) -> Iterator[None]:
        """The time during which `files` files of `size` bytes together are fetched."""
        self._files, self._size, self._bytes, self._done = files, size, 0, 0
        with self._bar("total", size, leave=True) as self._total:
            yield

    @contextmanager
    def file(self, name: str, size: int | None) -> Iterator[Callable[[int], None]]:
        """The time during which one file is fetched; yields what is told how many bytes of it are on disk by now."""
        there = 0
        with self._bar(name[-48:], size, leave=False) as bar:

            def at(count: int) -> None:
                nonlocal there
                change, there = count - there, count
                bar.update(change)
                self._add(change)

            yield at
            with self._lock:
                self._done += 1
                self._say(f": {name}, {human(there)}")

    def _add(self, change: int) -> None:
        with self._lock:
            self._bytes += change
            self._total.update(change)
            if time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
                self._say("")

    def _say(self, what: str) -> None:
        """The total as a line in a log file."""
        self._last_line = time.monotonic()
        if not self._terminal:
            self.line(f"  {self._done} of {self._files} files, {human(self._bytes)} of {human(self._size)}{what}")

    def _bar(self, what: str, size: int | None, leave: bool) -> "tqdm[Any]":
        return tqdm(
            total=size,
            desc=printable(what),
            unit="B",
            unit_scale=True,
            leave=leave,
            dynamic_ncols=True,
            disable=not self._terminal,
            file=sys.__stderr__,  # as it is: bars are drawn with characters that steer the terminal
        )
