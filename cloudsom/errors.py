"""Exceptions that mean more than one module: what a user is told, and what a file of a stranger is."""


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line: the file or setting, what is wrong with it, what to do. Scripts print it without a
    traceback and end with exit status 1. What it quotes from a file is made harmless to the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` as one printable line: any blanks as a single one, control characters as `\\x1b`."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class Damaged(Exception):
    """A file of a stranger is not what it should be; whoever reads it tells the user which file that is."""
