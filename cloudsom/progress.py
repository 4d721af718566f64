"""Progress bars: nothing for what is quick, nothing in a log file."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int | None, what: str, unit: str = "rows") -> "tqdm[Any]":
    """A bar on stderr that appears after two seconds, and only where a person is looking (a terminal)."""
    return tqdm(
        total=total,
        desc=what,
        unit=" " + unit,
        unit_scale=True,
        delay=2,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
        file=sys.__stderr__,  # as it is: bars are drawn with characters that steer the terminal
    )
