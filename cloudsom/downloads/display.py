"""Progress of many files: bars on a terminal, plain lines in a log file."""

import sys
import threading
import time
from collections.abc import Iterator
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
        self._bar: tqdm[Any] | None = None
        self._bytes = self._files = self._done = 0
        self._total: int | None = None
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
        self._files, self._total, self._bytes, self._done = files, size, 0, 0
        self._bar = _bar("total", size, leave=True) if self._terminal else None
        try:
            yield
        finally:
            if self._bar:
                self._bar.close()

    @contextmanager
    def file(self, name: str, size: int | None) -> Iterator["FileCount"]:
        """The time during which one file is fetched."""
        bar = _bar(name[-48:], size, leave=False) if self._terminal else None
        count = FileCount(self, bar)
        try:
            yield count
            self._finished(name, count.bytes)
        finally:
            if bar:
                bar.close()

    def add(self, change: int) -> None:
        """Count bytes of the total."""
        with self._lock:
            self._bytes += change
            if self._bar:
                self._bar.update(change)
            elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
                self._say("")

    def _finished(self, name: str, size: int) -> None:
        with self._lock:
            self._done += 1
            if not self._terminal:
                self._say(f": {name}, {human(size)}")

    def _say(self, what: str) -> None:
        self._last_line = time.monotonic()
        self.line(f"  {self._done} of {self._files} files, {human(self._bytes)} of {human(self._total)}{what}")


class FileCount:
    """How much of one file is on disk."""

    def __init__(self, display: Display, bar: "tqdm[Any] | None") -> None:
        self.bytes = 0
        self._display, self._bar = display, bar

    def at(self, count: int) -> None:
        """`count` bytes are on disk now, more or fewer than before."""
        change, self.bytes = count - self.bytes, count
        if change:
            self._display.add(change)
            if self._bar:
                self._bar.update(change)


def _bar(what: str, size: int | None, leave: bool) -> "tqdm[Any]":
    return tqdm(
        total=size,
        desc=printable(what),
        unit="B",
        unit_scale=True,
        leave=leave,
        dynamic_ncols=True,
        file=sys.__stderr__,  # as it is: bars are drawn with characters that steer the terminal
    )
