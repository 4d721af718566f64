"""The one exception a user is meant to see."""


class UserError(Exception):
    """A mistake the user can mend.

    The message is one line: the file or setting, what is wrong with it, what to do. Scripts print it without a
    traceback and end with exit status 1.
    """
