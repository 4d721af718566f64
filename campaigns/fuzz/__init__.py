"""Damaged files for every reader: a result or a clear error, never a traceback, hang, crash or memory explosion."""
