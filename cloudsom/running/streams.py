"""What scripts print: whole lines, in any encoding, that do not steer the terminal."""

import io
import os
import sys
import threading

from cloudsom.errors import printable


class Lines(io.TextIOWrapper):
    """A text stream that hands on whole lines, however many threads print, made printable and fit for its encoding.

    Names of files and what settings files hold end up in what is printed, and may hold what steers a terminal.
    """

    def __init__(self, number: int, encoding: str) -> None:
        super().__init__(open(number, "wb", closefd=False), encoding, "backslashreplace", line_buffering=True)  # noqa: SIM115
        self._begun = threading.local()

    def write(self, text: str) -> int:
        *lines, begun = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = begun
        if lines:
            super().write("".join(f"{printable(line)}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        begun, self._begun.text = getattr(self._begun, "text", ""), ""
        super().write(printable(begun))
        super().flush()


def set_up() -> None:
    """Have this process print by `Lines`; what goes to a stream that is closed is lost."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would take its place
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, Lines(number, getattr(getattr(sys, name), "encoding", None) or "utf-8"))
