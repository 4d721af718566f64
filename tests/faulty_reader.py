"""A reader with every fault there is, for the campaign's engine to survive; light to import, as workers do it often."""

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from campaigns.fuzz.engine import Case, Target
from cloudsom.errors import UserError

FAULTS = (b"hang", b"crash", b"grow", b"explode", b"silent", b"broken", b"7", b"seven")


def good_files(folder: Path) -> Mapping[str, Sequence[bytes]]:
    return {"number": [b"12", b"345"]}


def bad_files(folder: Path) -> Mapping[str, Sequence[bytes]]:
    return {"number": [b"seven"]}


def read_number(path: Path) -> None:
    """Read a number, or do what the file says."""
    text = path.read_bytes()
    if text == b"hang":
        time.sleep(600)
    if text == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if text == b"grow":
        assert bytearray(b"x") * 150_000_000
    if text == b"explode":
        filled = [bytearray(b"x") * 50_000_000 for _ in range(20)]
        time.sleep(600 + len(filled))
    if text == b"silent":
        raise UserError("something is wrong")
    if b"broken" in text:
        raise KeyError("no clear error")
    if not text.isdigit():
        raise UserError(f"{path}: is no number; write one")


def one_of_the_faults(draw: random.Random, seeds: Mapping[str, Sequence[bytes]]) -> Case:
    return Case("number", draw.choice(FAULTS))


FAULTY = Target("faulty", {"number": (".txt", read_number)}, good_files, (b"1", b"\xff"), one_of_the_faults)
UNREADABLE = Target("unreadable", {"number": (".txt", read_number)}, bad_files, (b"1",))
