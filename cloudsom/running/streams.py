"""What scripts print: whole lines, in any encoding, that do not steer the terminal."""

import io
import os
import sys
import threading

from cloudsom.errors import printable


class Lines(io.TextIOWrapper):
    """A text stream that hands on whole lines, however many threads print, made printable and fit for its encoding.

    Names of files and what settings files hold end up in what is printed, and may hold what steers a terminal.
    Where nothing more can be written (a full disk, `| head`), the OSError names `shown`, and what follows is lost.
    """

    def __init__(self, number: int, encoding: str, shown: str = "output") -> None:
        super().__init__(open(number, "wb", closefd=False), encoding, "backslashreplace", line_buffering=True)  # noqa: SIM115
        self._begun, self._shown = threading.local(), shown

    def write(self, text: str) -> int:
        *lines, begun = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = begun
        if lines:
            self._hand_on("".join(f"{printable(line)}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        begun, self._begun.text = getattr(self._begun, "text", ""), ""
        self._hand_on(printable(begun))

    def _hand_on(self, text: str) -> None:
        try:
            super().write(text)
            super().flush()
        except OSError as problem:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # else Python tries once more at its end, and says so in lines of its own
            os.close(nowhere)
            problem.filename = self._shown
            raise


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
    for name, number, shown in (("stdout", 1, "standard output"), ("stderr", 2, "standard error")):
        setattr(sys, name, Lines(number, getattr(getattr(sys, name), "encoding", None) or "utf-8", shown))
