"""The CSV tables between the steps, streamed in bounded memory, and the spectra database they begin with.

Comes in: spectra (n, 13), BMUs (n, 2), HDF5 files. Goes out: the same numbers as exact decimal text, and back.
"""
