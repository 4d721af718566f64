"""What two or more of the pipeline's scripts share: functions from arrays to arrays, thin readers and writers."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`cloud_mask`, imported when it is asked for: the scripts need not wait for it."""
    if name == "cloud_mask":
        return import_module("cloudsom.masking.arrays").cloud_mask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
