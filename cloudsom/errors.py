"""Exceptions that mean more than one module: what a user is told, and what a file of a stranger is."""

import errno

#: What the system says where there is no more room for a file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line: the file or setting, what is wrong with it, what to do. Scripts print it without a
    traceback and end with exit status 1. What it quotes from a file is made harmless to the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` as one printable line: any blanks as a single one, control characters as `\\x1b`."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """`text` with control characters and what has no form as `\\x1b`: it does not steer the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Damaged(Exception):
    """A file of a stranger is not what it should be; whoever reads it tells the user which file that is."""
