"""What two or more of the pipeline's scripts share: functions from arrays to arrays, thin readers and writers."""

__version__ = "0.1.0"
