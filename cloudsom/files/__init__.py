"""Files and where they are: folders and URLs, whole products with the settings that made them, pickles, npz and zips.

Comes in: paths, URLs, bytes of strangers. Goes out: files that are whole or not there, and plain arrays.
"""
