"""One run of a script at a time in each folder that it writes to."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cloudsom.errors import UserError, one_line
from cloudsom.files import places


@contextmanager
def only_run(folders: Iterable[Path], script: str) -> Iterator[None]:
    """Hold a lock in each of the folders, so that the same script does not write in one of them twice at once.

    The locks are the operating system's and go with the process, however it ends. A folder that is not there yet is
    made for its lock, and removed again if nothing was put there (a wrong DATA_DIR). One where no lock can be had
    (read-only, or on a network drive without locks) is told. A URL has no locks: two runs there do the same work
    twice, and the same bytes win. Raises UserError where another run holds a lock, or something else has its name.
    """
    here = {os.path.realpath(folder): folder for folder in folders if not places.is_remote(folder)}
    with ExitStack() as held:
        for _, folder in sorted(here.items()):
            held.enter_context(_only_run_in(folder, script))
        yield


@contextmanager
def _only_run_in(folder: Path, script: str) -> Iterator[None]:
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    place = folder / f".{script}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _lock(place, script)
    except (OSError, ImportError) as problem:
        if os.path.isdir(folder):  # where it cannot be made nothing can be written either; whoever tries says so
            reason = getattr(problem, "strerror", None) or problem
            warning = f"warning: {folder}: cannot be locked ({reason}); let no other run of {script} write there"
            print(f"{script}: {one_line(warning)}", file=sys.stderr)
        _remove_if_empty(made)
        yield
        return
    try:
        yield
    finally:
        if made and os.listdir(folder) == [place.name]:
            place.unlink()
            _remove_if_empty(made)
        os.close(handle)


def _lock(place: Path, script: str) -> int:
    """The descriptor of the lock file, locked; UserError if another run has it."""
    import fcntl

    while True:
        with ExitStack() as until_locked:
            handle = _opened(place)
            until_locked.callback(os.close, handle)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(f"{place}: is no plain file, which a lock is; remove it")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fault = f"{place.parent}: another run of {script} is at work there; wait for it or stop it"
                raise UserError(fault) from None
            # the run before this one may just have removed the file together with its empty folder
            if place.exists() and os.path.samestat(os.fstat(handle), place.lstat()):
                until_locked.pop_all()
                return handle


def _opened(place: Path) -> int:
    """The lock file, open as it is: no link is followed, nothing is waited for, nothing in it changes."""
    if place.is_symlink() or (place.exists() and not place.is_file()):
        raise UserError(f"{place}: is no plain file, which a lock is; remove it")
    how = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(place, os.O_RDWR | os.O_CREAT | how, 0o666)
    except PermissionError:  # another user's, in a folder of a group: it is locked all the same
        if not place.exists():
            raise
        return os.open(place, os.O_RDONLY | how)


def _remove_if_empty(folders: list[Path]) -> None:
    """Remove folders, inner ones first, as far as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
